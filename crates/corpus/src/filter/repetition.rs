//! Gopher's repetition rules (arXiv 2112.11446, table A1) with datatrove's parameters.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::stats::ratio;
use super::{Verdict, demand};

/// Shares of a page that repeat something in it, at most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct GopherRepetition {
    /// Lines that came before; 0.30.
    pub duplicate_lines: f64,
    /// Paragraphs that came before; 0.30.
    pub duplicate_paragraphs: f64,
    /// Characters in lines that came before; 0.20.
    pub duplicate_line_chars: f64,
    /// Characters in paragraphs that came before; 0.20.
    pub duplicate_paragraph_chars: f64,
    /// Characters of the most frequent 2-, 3- and 4-gram of words; 0.20, 0.18, 0.16.
    pub top: [f64; 3],
    /// Characters in 5- to 10-grams of words that came before; 0.15 to 0.10.
    pub duplicate: [f64; 6],
}

impl Default for GopherRepetition {
    fn default() -> Self {
        Self {
            duplicate_lines: 0.30,
            duplicate_paragraphs: 0.30,
            duplicate_line_chars: 0.20,
            duplicate_paragraph_chars: 0.20,
            top: [0.20, 0.18, 0.16],
            duplicate: [0.15, 0.14, 0.13, 0.12, 0.11, 0.10],
        }
    }
}

impl GopherRepetition {
    pub(super) fn judge(&self, text: &str) -> Verdict {
        let chars = text.chars().count();
        let paragraphs = text.trim().split("\n\n").map(|p| p.trim_matches('\n')).filter(|p| !p.is_empty());
        let lines = text.trim().split('\n').filter(|line| !line.is_empty());
        let (share, chars_share) = repeated(paragraphs, chars);
        at_most("gopher-repetition/duplicate-paragraphs", share, self.duplicate_paragraphs)?;
        at_most("gopher-repetition/duplicate-paragraph-chars", chars_share, self.duplicate_paragraph_chars)?;
        let (share, chars_share) = repeated(lines, chars);
        at_most("gopher-repetition/duplicate-lines", share, self.duplicate_lines)?;
        at_most("gopher-repetition/duplicate-line-chars", chars_share, self.duplicate_line_chars)?;

        let words: Vec<&str> = text.split_whitespace().collect();
        let ids = Ids::of(&words);
        const TOP: [&str; 3] =
            ["gopher-repetition/top-2-gram", "gopher-repetition/top-3-gram", "gopher-repetition/top-4-gram"];
        for (n, (rule, most)) in (2..).zip(TOP.into_iter().zip(self.top)) {
            at_most(rule, ratio(ids.top(n), chars), most)?;
        }
        const DUPLICATE: [&str; 6] = [
            "gopher-repetition/duplicate-5-grams",
            "gopher-repetition/duplicate-6-grams",
            "gopher-repetition/duplicate-7-grams",
            "gopher-repetition/duplicate-8-grams",
            "gopher-repetition/duplicate-9-grams",
            "gopher-repetition/duplicate-10-grams",
        ];
        for (n, (rule, most)) in (5..).zip(DUPLICATE.into_iter().zip(self.duplicate)) {
            at_most(rule, ratio(ids.duplicate(n), chars), most)?;
        }
        Ok(())
    }
}

fn at_most(rule: &'static str, share: f64, most: f64) -> Verdict {
    demand(share <= most, rule, || format!("{share:.3}, at most {most}"))
}

/// Share of the pieces that came before, and their characters as a share of the text's.
fn repeated<'a>(pieces: impl Iterator<Item = &'a str>, chars: usize) -> (f64, f64) {
    let mut seen = HashSet::new();
    let (mut all, mut again, mut again_chars) = (0, 0, 0);
    for piece in pieces {
        all += 1;
        if !seen.insert(piece) {
            again += 1;
            again_chars += piece.chars().count();
        }
    }
    (ratio(again, all), ratio(again_chars, chars))
}

/// Words as numbers, so that an n-gram is compared by its words and not by a hash.
struct Ids {
    ids: Vec<u32>,
    /// Characters of the words before each, without what is between them.
    before: Vec<usize>,
}

impl Ids {
    fn of(words: &[&str]) -> Self {
        let mut known = HashMap::new();
        let mut before = vec![0];
        let mut sum = 0;
        let ids = words.iter().map(|word| {
            sum += word.chars().count();
            before.push(sum);
            let next = known.len() as u32;
            *known.entry(*word).or_insert(next)
        });
        let ids = ids.collect();
        Self { ids, before }
    }

    /// Characters of the most frequent n-gram, all its occurrences, spaces between its words included; 0 if none comes
    /// twice. Of equally frequent ones, the longest.
    fn top(&self, n: usize) -> usize {
        let mut counts: HashMap<&[u32], (usize, usize)> = HashMap::new();
        for (at, gram) in self.ids.windows(n).enumerate() {
            let chars = self.before[at + n] - self.before[at] + n - 1;
            let entry = counts.entry(gram).or_insert((0, chars));
            entry.0 += 1;
        }
        let top = counts.into_values().max().unwrap_or((0, 0));
        if top.0 > 1 { top.0 * top.1 } else { 0 }
    }

    /// Characters of words in n-grams that came before, counted once: after one is found, search goes on behind it.
    fn duplicate(&self, n: usize) -> usize {
        let mut seen: HashSet<&[u32]> = HashSet::new();
        let mut chars = 0;
        let mut at = 0;
        while at + n <= self.ids.len() {
            if seen.insert(&self.ids[at..at + n]) {
                at += 1;
            } else {
                chars += self.before[at + n] - self.before[at];
                at += n;
            }
        }
        chars
    }
}
