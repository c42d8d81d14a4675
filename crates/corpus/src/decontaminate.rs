//! Documents that hold a piece of a benchmark are dropped, and the report shows the piece.
//!
//! Text is compared word by word: a word is a run of letters, numbers and `_`, in lower case; what is between words
//! does not count. A document is contaminated if it has n consecutive words of a benchmark's text (10 for code, 13
//! for prose, after GPT-3 and its successors), or all words of a text that has fewer. Texts of very few words are
//! passed over: `return x + y` is in every corpus.

mod benchmark;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::document::Document;
use crate::error::{Error, Result};
use crate::readers::lookup;
use crate::source::Environment;

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Decontaminate {
    /// Words in a row for benchmarks of code; 10.
    #[serde(default = "ten")]
    pub code_words: usize,
    /// Words in a row for benchmarks of prose and mathematics; 13.
    #[serde(default = "thirteen")]
    pub text_words: usize,
    /// Texts of fewer words are not looked for; 5.
    #[serde(default = "five")]
    pub min_words: usize,
    /// Texts that are not looked for, by their words: solutions that anyone would write.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// The benchmarks.
    pub benchmarks: Vec<Benchmark>,
}

/// One benchmark file: JSON lines, a JSON array of objects, or .csv; plain, .gz or .zst.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Benchmark {
    /// Its name in the report.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Fields whose texts are looked for; a list counts as all its texts. Dots lead into objects.
    pub fields: Vec<String>,
    /// Whether the first row of a .csv names its columns; yes. Without, they are "1", "2" and so on.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub header: bool,
    /// The field that names an item in the report. Default: its line, or its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// "code" or "text".
    pub kind: Kind,
}

/// Decides how many words make a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `code-words`.
    Code,
    /// `text-words`.
    Text,
}

/// A piece of a benchmark in a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match {
    /// The benchmark.
    pub benchmark: String,
    /// Its item.
    pub item: String,
    /// Words that match, at least.
    pub words: usize,
    /// The document's text from the first to the last of them.
    pub text: String,
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_yes(value: &bool) -> bool {
    *value
}

const fn ten() -> usize {
    10
}

const fn thirteen() -> usize {
    13
}

const fn five() -> usize {
    5
}

impl Decontaminate {
    /// The same with the names of files in place of paths: where they lie decides nothing, how they end does.
    pub(crate) fn without_places(&self) -> Self {
        let mut same = self.clone();
        for benchmark in &mut same.benchmarks {
            benchmark.path = benchmark.path.file_name().map_or_else(PathBuf::new, PathBuf::from);
        }
        same
    }

    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |key, message| Err(Error::Setting { key, message });
        for (key, words) in [
            ("decontaminate.code-words", self.code_words),
            ("decontaminate.text-words", self.text_words),
            ("decontaminate.min-words", self.min_words),
        ] {
            if !(1..=1000).contains(&words) {
                return refuse(key, format!("expected 1 to 1000 words, found {words}"));
            }
        }
        match self.benchmarks.iter().find(|benchmark| benchmark.fields.is_empty()) {
            None if self.benchmarks.is_empty() => {
                refuse("decontaminate.benchmarks", "expected at least one benchmark".to_owned())
            }
            None => Ok(()),
            Some(benchmark) => {
                refuse("fields", format!("benchmark `{}`: expected at least one field", benchmark.name))
            }
        }
    }
}

/// Bits of the table that most words are turned away by; 128 KiB.
const BITS: usize = 1 << 20;

/// The pieces of all benchmarks.
pub(crate) struct Decontaminator {
    /// Lengths in words that occur.
    lengths: Vec<usize>,
    /// Powers of the base of the rolling hash, by length.
    powers: Vec<u64>,
    bits: Vec<u64>,
    /// Hash of a piece to the item that has it first.
    pieces: HashMap<u64, u32>,
    /// Benchmark and item.
    items: Vec<(String, String)>,
    digest: String,
}

impl Decontaminator {
    /// Reads the benchmarks.
    pub(crate) fn load(recipe: &Decontaminate, environment: &Environment) -> Result<Self> {
        let mut loader = Loader {
            ignore: recipe
                .ignore
                .iter()
                .map(|text| hashes(text).into_iter().map(|w| w.hash).collect())
                .collect(),
            lengths: BTreeSet::new(),
            pieces: Vec::new(),
            items: Vec::new(),
            min_words: recipe.min_words,
        };
        let mut digest = blake3::Hasher::new();
        let parameters = serde_json::to_vec(&recipe.without_places())
            .map_err(|source| Error::Json { what: "the recipe", source })?;
        digest.update(&parameters);
        for benchmark in &recipe.benchmarks {
            let n = match benchmark.kind {
                Kind::Code => recipe.code_words,
                Kind::Text => recipe.text_words,
            };
            let path = environment.resolve(&benchmark.path);
            loader.read(benchmark, &path, n)?;
            digest.update(&crate::prepare::file_digest(&path)?);
        }
        let longest = loader.lengths.last().copied().unwrap_or(0);
        let mut powers = vec![1u64];
        (0..longest).for_each(|i| powers.push(powers[i].wrapping_mul(BASE)));
        let mut all = Self {
            lengths: loader.lengths.into_iter().rev().collect(),
            powers,
            bits: vec![0; BITS / 64],
            pieces: HashMap::with_capacity(loader.pieces.len()),
            items: loader.items,
            digest: digest.finalize().to_hex().to_string(),
        };
        for (hash, item) in loader.pieces {
            all.bits[hash as usize % BITS / 64] |= 1 << (hash % 64);
            all.pieces.entry(hash).or_insert(item);
        }
        Ok(all)
    }

    /// Over the benchmarks and the parameters.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// The first piece of a benchmark in a document; of those that begin at one word the longest.
    pub(crate) fn find(&self, document: &Document) -> Option<Match> {
        let words = hashes(&document.text);
        let mut sums = Vec::with_capacity(words.len() + 1);
        let mut sum = 0u64;
        sums.push(sum);
        for word in &words {
            sum = sum.wrapping_mul(BASE).wrapping_add(word.hash);
            sums.push(sum);
        }
        for start in 0..words.len() {
            for &n in &self.lengths {
                let Some(&end) = sums.get(start + n) else { continue };
                let hash = piece(end.wrapping_sub(sums[start].wrapping_mul(self.powers[n])), n);
                if self.bits[hash as usize % BITS / 64] >> (hash % 64) & 1 == 1
                    && let Some(&item) = self.pieces.get(&hash)
                {
                    let (benchmark, item) = self.items[item as usize].clone();
                    let text = &document.text[words[start].start..words[start + n - 1].end];
                    return Some(Match { benchmark, item, words: n, text: text.chars().take(400).collect() });
                }
            }
        }
        None
    }
}

struct Loader {
    ignore: Vec<Vec<u64>>,
    lengths: BTreeSet<usize>,
    pieces: Vec<(u64, u32)>,
    items: Vec<(String, String)>,
    min_words: usize,
}

impl Loader {
    fn read(&mut self, benchmark: &Benchmark, path: &std::path::Path, n: usize) -> Result<()> {
        let mut found = vec![0u64; benchmark.fields.len()];
        benchmark::items(benchmark, path, &mut |number, object| {
            let id = match benchmark.id.as_ref().and_then(|id| lookup(&object, id)) {
                Some(Value::String(id)) => id.clone(),
                Some(other) => other.to_string(),
                None => number.to_string(),
            };
            let item = self.items.len() as u32;
            self.items.push((benchmark.name.clone(), id));
            for (field, found) in benchmark.fields.iter().zip(&mut found) {
                match lookup(&object, field) {
                    Some(Value::String(text)) => self.add(text, n, item),
                    Some(Value::Array(texts)) => {
                        texts.iter().filter_map(Value::as_str).for_each(|text| self.add(text, n, item));
                    }
                    _ => continue,
                }
                *found += 1;
            }
        })?;
        // One that is misspelt would leave half of the benchmark in the corpus, unseen.
        let without = benchmark.fields.iter().zip(&found).filter(|(_, found)| **found == 0);
        let without: Vec<&str> = without.map(|(field, _)| field.as_str()).collect();
        if !without.is_empty() {
            let fields = without.join(", ");
            let message = format!(
                "benchmark `{}`: no item of {} has a text or list {fields}",
                benchmark.name,
                path.display()
            );
            return Err(Error::Setting { key: "fields", message });
        }
        Ok(())
    }

    fn add(&mut self, text: &str, n: usize, item: u32) {
        let words: Vec<u64> = hashes(text).into_iter().map(|word| word.hash).collect();
        if words.len() < self.min_words || self.ignore.contains(&words) {
            return;
        }
        let n = n.min(words.len());
        self.lengths.insert(n);
        for window in words.windows(n) {
            let sum = window.iter().fold(0u64, |sum, word| sum.wrapping_mul(BASE).wrapping_add(*word));
            self.pieces.push((piece(sum, n), item));
        }
    }
}

/// Any odd number.
const BASE: u64 = 0xd6e8_feb8_6659_fd93;

/// A rolling hash with its length, mixed.
fn piece(sum: u64, words: usize) -> u64 {
    let x = (sum ^ words as u64).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let x = (x ^ (x >> 32)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 29)
}

struct Word {
    hash: u64,
    start: usize,
    end: usize,
}

/// The words of a text.
fn hashes(text: &str) -> Vec<Word> {
    let mut words = Vec::with_capacity(text.len() / 6);
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut hash = 0u64;
    let mut start = 0;
    let mut inside = false;
    while at < bytes.len() {
        let byte = bytes[at];
        let (is_word, value, length) = if byte.is_ascii() {
            (byte.is_ascii_alphanumeric() || byte == b'_', u64::from(byte.to_ascii_lowercase()), 1)
        } else {
            let c = text[at..].chars().next().unwrap_or_default();
            let lower = c.to_lowercase().fold(0, |all, c| (all << 21) ^ c as u64);
            (c.is_alphanumeric(), lower, c.len_utf8())
        };
        if is_word {
            if !inside {
                (hash, start, inside) = (0x1234_5678_9abc_def1, at, true);
            }
            hash = (hash ^ value).wrapping_mul(0x9fb2_1c65_1e98_df25);
            hash ^= hash >> 32;
        } else if inside {
            words.push(Word { hash, start, end: at });
            inside = false;
        }
        at += length;
    }
    if inside {
        words.push(Word { hash, start, end: at });
    }
    words
}

#[cfg(test)]
mod tests;
