//! Rules for source files: The Stack and SantaCoder, StarCoder, StarCoder2.
//!
//! The first two follow bigcode-dataset's `preprocessing/filtering.py`, the third the paper of StarCoder2 and The
//! Stack v2 (arXiv 2402.19173, section 3). Rules that speak of languages go by the document's language.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::stats::{Stats, ratio};
use super::{Extensions, Toggle, Verdict, demand};
use crate::document::Meta;

/// The Stack and SantaCoder, and before them Codex: lines and characters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Stack {
    /// Characters of the longest line at most; 1000.
    pub max_line_length: usize,
    /// Characters of a line on average at most; 100.
    pub max_mean_line_length: f64,
    /// Share of letters and numbers at least; 0.25.
    pub min_alphanumeric: f64,
    /// Share of comments and docstrings among the characters, at least and at most. Off; SantaCoder has 0.01 and 0.8.
    /// Known for Python, and for languages whose comments are `//` and `/* */`; others pass.
    pub comments: Option<[f64; 2]>,
    /// Characters per token of the recipe's tokenizer at least, by language; other languages pass. Off; `true` takes
    /// SantaCoder's numbers, which were chosen for its own tokenizer.
    #[serde(skip_serializing_if = "Toggle::is_off")]
    pub chars_per_token: Toggle<CharsPerToken>,
    /// Stars of the repository at least; where they are not known, they are 0. Off; SantaCoder has 6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_stars: Option<u64>,
}

/// Language to least characters per token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CharsPerToken(pub BTreeMap<String, f64>);

impl Default for CharsPerToken {
    fn default() -> Self {
        let all = [("python", 2.5), ("java", 2.9), ("javascript", 2.6)];
        Self(all.into_iter().map(|(language, least)| (language.to_owned(), least)).collect())
    }
}

impl CharsPerToken {
    /// Of a text of this language with so many tokens.
    pub(super) fn judge(&self, text: &str, language: &str, tokens: usize) -> Verdict {
        let Some(&least) = self.0.get(language) else { return Ok(()) };
        let share = ratio(text.chars().count(), tokens);
        demand(share >= least, "stack/chars-per-token", || {
            format!("{share:.3} characters per token, at least {least}")
        })
    }
}

impl Default for Stack {
    fn default() -> Self {
        Self {
            max_line_length: 1000,
            max_mean_line_length: 100.0,
            min_alphanumeric: 0.25,
            comments: None,
            chars_per_token: Toggle::default(),
            min_stars: None,
        }
    }
}

impl Stack {
    pub(super) fn judge(&self, text: &str, language: &str, meta: &Meta, stats: &Stats) -> Verdict {
        if let Some(least) = self.min_stars {
            let stars = meta.stars.unwrap_or(0);
            demand(stars >= least, "stack/min-stars", || format!("{stars} stars, at least {least}"))?;
        }
        longest("stack/max-line-length", stats, self.max_line_length)?;
        mean("stack/max-mean-line-length", stats, self.max_mean_line_length)?;
        let share = ratio(stats.alphanumeric, stats.chars);
        demand(share >= self.min_alphanumeric, "stack/min-alphanumeric", || {
            format!("letters and numbers {share:.3}, at least {}", self.min_alphanumeric)
        })?;
        if let (Some([least, most]), Some(comments)) = (self.comments, comment_chars(text, language)) {
            let share = ratio(comments, stats.chars);
            demand((least..=most).contains(&share), "stack/comments", || {
                format!("comments {share:.3}, expected {least} to {most}")
            })?;
        }
        Ok(())
    }
}

/// StarCoder, the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StarCoder {
    /// Characters of the longest line at most; 1000.
    pub max_line_length: usize,
    /// Characters of a line on average at most; 100.
    pub max_mean_line_length: f64,
    /// Share of letters at least; 0.25.
    pub min_alphabetic: f64,
    /// Languages that the rules on lines leave alone.
    pub long_lines: Vec<String>,
    /// BigCode's table of rules by language and extension, `visual_inspection.csv`: instead of the three above, which
    /// languages the rules on lines leave alone, and the least share of letters. Off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_extension: Option<PathBuf>,
    /// Drop files with `<?xml version=` in their first 100 characters; yes.
    pub no_xml: bool,
    /// HTML: share of the visible text, more than; 0.2.
    pub min_html_visible: f64,
    /// HTML: characters of visible text, more than; 100.
    pub min_html_text: usize,
    /// JSON and YAML: characters at least and at most; 50 and 5000.
    pub data_chars: [usize; 2],
    /// JSON and YAML: share of letters, more than; 0.5.
    pub min_data_alphabetic: f64,
}

impl Default for StarCoder {
    fn default() -> Self {
        Self {
            max_line_length: 1000,
            max_mean_line_length: 100.0,
            min_alphabetic: 0.25,
            long_lines: words("html json markdown text tex xml"),
            per_extension: None,
            no_xml: true,
            min_html_visible: 0.2,
            min_html_text: 100,
            data_chars: [50, 5000],
            min_data_alphabetic: 0.5,
        }
    }
}

impl StarCoder {
    pub(super) fn judge(
        &self,
        text: &str,
        language: &str,
        path: Option<&str>,
        stats: &Stats,
        extensions: Option<&Extensions>,
    ) -> Verdict {
        let share = ratio(stats.alphabetic, stats.chars);
        if let Some(table) = extensions {
            table.judge(language, path, stats, self.max_mean_line_length)?;
        } else {
            if !self.long_lines.iter().any(|name| name == language) {
                longest("starcoder/max-line-length", stats, self.max_line_length)?;
                mean("starcoder/max-mean-line-length", stats, self.max_mean_line_length)?;
            }
            demand(share >= self.min_alphabetic, "starcoder/min-alphabetic", || {
                format!("letters {share:.3}, at least {}", self.min_alphabetic)
            })?;
        }
        let head: String = text.chars().take(100).collect();
        demand(!(self.no_xml && head.contains("<?xml version=")), "starcoder/no-xml", || {
            "an XML file".to_owned()
        })?;
        if language == "html" {
            let visible = html_text_chars(text);
            let share = ratio(visible, stats.chars);
            demand(share > self.min_html_visible && visible > self.min_html_text, "starcoder/html", || {
                format!("{visible} characters of visible text, {share:.3} of all")
            })?;
        }
        if matches!(language, "json" | "yaml" | "yml") {
            let [least, most] = self.data_chars;
            demand((least..=most).contains(&stats.chars), "starcoder/data-chars", || {
                format!("{} characters, expected {least} to {most}", stats.chars)
            })?;
            demand(share > self.min_data_alphabetic, "starcoder/min-data-alphabetic", || {
                format!("letters {share:.3}, more than {}", self.min_data_alphabetic)
            })?;
        }
        Ok(())
    }
}

/// StarCoder2 and The Stack v2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StarCoder2 {
    /// Lines at most; 100,000.
    pub max_lines: usize,
    /// Characters of a line on average at most; 100.
    pub max_mean_line_length: f64,
    /// Characters of the longest line at most; 1000.
    pub max_line_length: usize,
    /// Languages for which the two rules above have `long-line-length` in their place.
    pub long_lines: Vec<String>,
    /// Characters of the longest line of those languages at most; 100,000.
    pub long_line_length: usize,
    /// Share of letters at least; 0.25.
    pub min_alphabetic: f64,
    /// Languages for which letters and numbers count, not letters alone.
    pub alphanumeric: Vec<String>,
    /// Lines at most of languages that are mostly data; 512.
    pub max_data_lines: usize,
    /// Languages that are mostly data.
    pub data: Vec<String>,
}

impl Default for StarCoder2 {
    fn default() -> Self {
        Self {
            max_lines: 100_000,
            max_mean_line_length: 100.0,
            max_line_length: 1000,
            long_lines: words("html json markdown roff smt tex text xml"),
            long_line_length: 100_000,
            min_alphabetic: 0.25,
            alphanumeric: words("assembly webassembly"),
            max_data_lines: 512,
            data: words("text json yaml owl graphviz"),
        }
    }
}

impl StarCoder2 {
    pub(super) fn judge(&self, language: &str, stats: &Stats) -> Verdict {
        let among = |names: &[String]| names.iter().any(|name| name == language);
        demand(stats.lines <= self.max_lines, "starcoder2/max-lines", || {
            format!("{} lines, at most {}", stats.lines, self.max_lines)
        })?;
        if among(&self.long_lines) {
            longest("starcoder2/long-line-length", stats, self.long_line_length)?;
        } else {
            mean("starcoder2/max-mean-line-length", stats, self.max_mean_line_length)?;
            longest("starcoder2/max-line-length", stats, self.max_line_length)?;
        }
        let counted = if among(&self.alphanumeric) { stats.alphanumeric } else { stats.alphabetic };
        let share = ratio(counted, stats.chars);
        demand(share >= self.min_alphabetic, "starcoder2/min-alphabetic", || {
            format!("letters {share:.3}, at least {}", self.min_alphabetic)
        })?;
        demand(!among(&self.data) || stats.lines <= self.max_data_lines, "starcoder2/max-data-lines", || {
            format!("{} lines of {language}, at most {}", stats.lines, self.max_data_lines)
        })
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

pub(super) fn longest(rule: &'static str, stats: &Stats, most: usize) -> Verdict {
    demand(stats.longest_line <= most, rule, || {
        format!("longest line {} characters, at most {most}", stats.longest_line)
    })
}

pub(super) fn mean(rule: &'static str, stats: &Stats, most: f64) -> Verdict {
    let mean = stats.mean_line();
    demand(mean <= most, rule, || format!("lines of {mean:.1} characters on average, at most {most}"))
}

/// Characters of HTML outside tags, scripts, styles and comments, runs of white space as one.
fn html_text_chars(text: &str) -> usize {
    let mut count = 0;
    let mut rest = text;
    let mut in_space = true;
    while let Some(c) = rest.chars().next() {
        if c == '<' {
            let skip = |end: &str| rest.find(end).map_or(rest.len(), |at| at + end.len());
            let name: String = rest[1..].chars().take(6).collect::<String>().to_ascii_lowercase();
            let to = if name.starts_with("!--") {
                skip("-->")
            } else if name.starts_with("script") {
                skip("</script>")
            } else if name.starts_with("style") {
                skip("</style>")
            } else {
                skip(">")
            };
            rest = &rest[to..];
            continue;
        }
        let space = c.is_whitespace();
        count += usize::from(!(space && in_space));
        in_space = space;
        rest = &rest[c.len_utf8()..];
    }
    count
}

/// Characters in comments, and in Python in strings of three quotes that begin a line; `None` for a language whose
/// comments are not known here.
fn comment_chars(text: &str, language: &str) -> Option<usize> {
    match language {
        "python" => Some(python_comments(text)),
        "c" | "c++" | "java" | "javascript" | "typescript" | "go" | "rust" | "c#" | "php" | "scala"
        | "kotlin" => Some(slash_comments(text)),
        _ => None,
    }
}

fn python_comments(text: &str) -> usize {
    let mut count = 0;
    let mut docstring: Option<&str> = None;
    for line in text.split('\n') {
        let trimmed = line.trim_start();
        if let Some(quotes) = docstring {
            count += line.chars().count();
            docstring = if line.contains(quotes) { None } else { Some(quotes) };
        } else if let Some(quotes) = ["\"\"\"", "'''"].into_iter().find(|quotes| trimmed.starts_with(quotes))
        {
            count += trimmed.chars().count();
            docstring = if trimmed[3..].contains(quotes) { None } else { Some(quotes) };
        } else if let Some(at) = outside_strings(line, "#") {
            count += line[at..].chars().count();
        }
    }
    count
}

fn slash_comments(text: &str) -> usize {
    let mut count = 0;
    let mut block = false;
    for line in text.split('\n') {
        let mut rest = line;
        loop {
            if block {
                let end = rest.find("*/");
                let to = end.map_or(rest.len(), |at| at + 2);
                count += rest[..to].chars().count();
                rest = &rest[to..];
                block = end.is_none();
                if block {
                    break;
                }
            }
            match (outside_strings(rest, "//"), outside_strings(rest, "/*")) {
                (Some(line), block) if block.is_none_or(|block| line < block) => {
                    count += rest[line..].chars().count();
                    break;
                }
                (_, Some(at)) => {
                    count += 2;
                    rest = &rest[at + 2..];
                    block = true;
                }
                _ => break,
            }
        }
    }
    count
}

/// Where `mark` first stands in a line outside strings of one or two quotes.
fn outside_strings(line: &str, mark: &str) -> Option<usize> {
    let bytes = line.as_bytes();
    let mut quote = None;
    let mut at = 0;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, _) if bytes[at..].starts_with(mark.as_bytes()) => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}
