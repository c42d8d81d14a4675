//! Prose of a crate: its Markdown files and its doc comments, as plain paragraphs.
//!
//! A paragraph that came before anywhere in the source (licence notes, sentences that macros repeat) is left
//! out: said twice it would stand in training and in validation.

use std::collections::HashSet;

use super::markdown::{self, Block};
use super::rust_file;
use crate::document::Loss;

/// A document with less prose than this is left out.
const MIN_DOCUMENT_BYTES: usize = 200;
/// A paragraph or list item shorter than this says nothing by itself.
const MIN_BLOCK_BYTES: usize = 40;
const MIN_BLOCK_WORDS: usize = 6;

/// Whether the file is one of those that are written for readers: README, CHANGELOG, *.md, but no licences.
pub(super) fn is_prose_file(id: &str) -> bool {
    let name = id.rsplit('/').next().unwrap_or(id).to_ascii_lowercase();
    let stem = name.split('.').next().unwrap_or(&name);
    let unwanted =
        ["licen", "copying", "code_of_conduct", "code-of-conduct", "copyright", "unlicense", "patents"];
    if unwanted.iter().any(|prefix| stem.starts_with(prefix)) {
        return false;
    }
    let text =
        name.ends_with(".md") || name.ends_with(".txt") || name.ends_with(".rst") || !name.contains('.');
    name.ends_with(".md") || text && (stem.starts_with("readme") || stem.starts_with("changelog"))
}

/// Cleans the files of one source, in order, and remembers every paragraph.
#[derive(Default)]
pub(super) struct Cleaner {
    seen: HashSet<u64>,
}

impl Cleaner {
    /// The prose of one file.
    pub(super) fn document(&mut self, id: &str, text: &str) -> Result<String, Loss> {
        let mut out = Assembly::default();
        if rust_file::is_rust(id) {
            for run in rust_file::split(text).docs {
                // Headings of doc comments ("# Examples") announce the code that is left out.
                for block in markdown::blocks(&run) {
                    self.add(block, false, &mut out);
                }
                out.heading = None;
            }
        } else {
            for block in markdown::blocks(text) {
                self.add(block, true, &mut out);
            }
        }
        if out.text.len() < MIN_DOCUMENT_BYTES {
            return Err(Loss::NoProse);
        }
        out.text.push('\n');
        Ok(out.text)
    }

    fn add(&mut self, block: Block, headings: bool, out: &mut Assembly) {
        match block {
            Block::Heading(text) => out.heading = headings.then_some(text),
            Block::Paragraph(text) => {
                if reads_as_prose(&text) && self.is_new(&text) {
                    out.push(&text, false);
                }
            }
            Block::Item(text) => {
                if reads_as_prose(&text) && self.is_new(&text) {
                    out.push(&text, true);
                }
            }
        }
    }

    fn is_new(&mut self, text: &str) -> bool {
        let mut key = [0; 8];
        key.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..8]);
        self.seen.insert(u64::from_le_bytes(key))
    }
}

/// The plain text under construction.
#[derive(Default)]
struct Assembly {
    text: String,
    /// A heading that waits for something to stand over.
    heading: Option<String>,
    after_item: bool,
}

impl Assembly {
    fn push(&mut self, block: &str, item: bool) {
        if let Some(heading) = self.heading.take() {
            self.separate("\n\n");
            self.text.push_str(&heading);
            self.after_item = false;
        }
        self.separate(if item && self.after_item { "\n" } else { "\n\n" });
        self.text.push_str(block);
        self.after_item = item;
    }

    fn separate(&mut self, separator: &str) {
        if !self.text.is_empty() {
            self.text.push_str(separator);
        }
    }
}

/// Long enough, of words, and mostly letters: no tables, signatures, lists of numbers or bare links. Licence
/// notes stand in nearly every README, each a little different.
fn reads_as_prose(text: &str) -> bool {
    if text.to_ascii_lowercase().contains("licens") {
        return false;
    }
    let wordy = text.chars().filter(|c| c.is_alphabetic() || *c == ' ').count();
    let words = text.split(' ').filter(|word| word.chars().any(char::is_alphabetic)).count();
    text.len() >= MIN_BLOCK_BYTES
        && words >= MIN_BLOCK_WORDS
        && wordy * 100 >= text.chars().count() * 75
        && !text.split(' ').any(|word| word.len() > 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_for_readers_are_told_by_name() {
        for id in ["README.md", "README", "sub/Readme.rst", "CHANGELOG.md", "CHANGELOG", "docs/guide.md"] {
            assert!(is_prose_file(id), "{id}");
        }
        for id in ["LICENSE.md", "COPYING", "CODE_OF_CONDUCT.md", "readme.html", "data.txt", "src/lib.rs"] {
            assert!(!is_prose_file(id), "{id}");
        }
    }

    #[test]
    fn doc_comments_become_paragraphs_and_repetitions_go() {
        let sentence = "This function adds two numbers and returns the sum of both of them.";
        let other = "It never overflows, because the arithmetic is done with wider integers inside.";
        let third = "The caller keeps both arguments, which are copied when the function is entered.";
        let source = format!(
            "/// {sentence}\n///\n/// # Examples\n///\n/// ```\n/// let x = add(1, 2);\n/// ```\n///\n/// {other}\nfn add() {{}}\n\
             /// {sentence}\nfn sub() {{}}\n/// {third}\nfn mul() {{}}\n"
        );
        let mut cleaner = Cleaner::default();
        assert_eq!(
            cleaner.document("a/src/lib.rs", &source).unwrap(),
            format!("{sentence}\n\n{other}\n\n{third}\n")
        );
        assert_eq!(cleaner.document("b/src/lib.rs", &source), Err(Loss::NoProse));
    }
}
