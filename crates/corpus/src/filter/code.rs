//! Rules for source files: The Stack and SantaCoder, StarCoder, StarCoder2.
//!
//! The first two follow bigcode-dataset's `preprocessing/filtering.py`, the third the paper of StarCoder2 and The
//! Stack v2 (arXiv 2402.19173, section 3). Rules that speak of languages go by the document's language.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::stats::{Stats, ratio};
use super::visible::{comment_chars, html_text_chars};
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
    /// Drop files with `<?xml version=` in their first 100 characters; yes.
    pub no_xml: bool,
    /// JSON and YAML: characters at least and at most; 100 and 5000.
    pub data_chars: [usize; 2],
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
            no_xml: true,
            data_chars: [100, 5000],
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
        not_xml("stack/no-xml", text, self.no_xml)?;
        data_size("stack/data-chars", language, stats, self.data_chars)?;
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
            long_lines: names("html, json, markdown, text, tex, xml"),
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
            if !among(&self.long_lines, language) {
                longest("starcoder/max-line-length", stats, self.max_line_length)?;
                mean("starcoder/max-mean-line-length", stats, self.max_mean_line_length)?;
            }
            demand(share >= self.min_alphabetic, "starcoder/min-alphabetic", || {
                format!("letters {share:.3}, at least {}", self.min_alphabetic)
            })?;
        }
        not_xml("starcoder/no-xml", text, self.no_xml)?;
        if language == "html" {
            let visible = html_text_chars(text);
            let share = ratio(visible, stats.chars);
            demand(share > self.min_html_visible && visible > self.min_html_text, "starcoder/html", || {
                format!("{visible} characters of visible text, {share:.3} of all")
            })?;
        }
        data_size("starcoder/data-chars", language, stats, self.data_chars)?;
        if is_data(language) {
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
            long_lines: names("html, json, markdown, roff, roff manpage, smt, tex, text, xml"),
            long_line_length: 100_000,
            min_alphabetic: 0.25,
            alphanumeric: names("motorola 68k assembly, webassembly"),
            max_data_lines: 512,
            data: names("text, json, yaml, web ontology language, owl, graphviz (dot), graphviz"),
        }
    }
}

impl StarCoder2 {
    pub(super) fn judge(&self, language: &str, stats: &Stats) -> Verdict {
        demand(stats.lines <= self.max_lines, "starcoder2/max-lines", || {
            format!("{} lines, at most {}", stats.lines, self.max_lines)
        })?;
        if among(&self.long_lines, language) {
            longest("starcoder2/long-line-length", stats, self.long_line_length)?;
        } else {
            mean("starcoder2/max-mean-line-length", stats, self.max_mean_line_length)?;
            longest("starcoder2/max-line-length", stats, self.max_line_length)?;
        }
        let counted = if among(&self.alphanumeric, language) { stats.alphanumeric } else { stats.alphabetic };
        let share = ratio(counted, stats.chars);
        demand(share >= self.min_alphabetic, "starcoder2/min-alphabetic", || {
            format!("letters {share:.3}, at least {}", self.min_alphabetic)
        })?;
        demand(
            !among(&self.data, language) || stats.lines <= self.max_data_lines,
            "starcoder2/max-data-lines",
            || format!("{} lines of {language}, at most {}", stats.lines, self.max_data_lines),
        )
    }
}

fn names(text: &str) -> Vec<String> {
    text.split(", ").map(str::to_owned).collect()
}

/// Whether a language is one of these. Folders of The Stack have hyphens for spaces.
fn among(names: &[String], language: &str) -> bool {
    names.iter().any(|name| *name == language || name.replace(' ', "-") == language)
}

fn not_xml(rule: &'static str, text: &str, is_on: bool) -> Verdict {
    let is_xml = || text.chars().take(100).collect::<String>().contains("<?xml version=");
    demand(!(is_on && is_xml()), rule, || "an XML file".to_owned())
}

fn is_data(language: &str) -> bool {
    matches!(language, "json" | "yaml" | "yml")
}

fn data_size(rule: &'static str, language: &str, stats: &Stats, [least, most]: [usize; 2]) -> Verdict {
    demand(!is_data(language) || (least..=most).contains(&stats.chars), rule, || {
        format!("{} characters, expected {least} to {most}", stats.chars)
    })
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
