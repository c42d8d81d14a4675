//! Rules for prose: Gopher's quality, C4, FineWeb, OpenWebMath. Parameters are datatrove's and OpenWebMath's.
//!
//! A word is a run of what is no white space. A symbol word is one of nothing but punctuation; it counts neither for
//! the number of words nor for their length.

use serde::{Deserialize, Serialize};

use super::stats::ratio;
use super::{Against, Verdict, demand};

/// Gopher's quality rules (arXiv 2112.11446, table A1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct GopherQuality {
    /// Words at least and at most; 50 and 100,000.
    pub words: [usize; 2],
    /// Characters of a word on average, at least and at most; 3 and 10.
    pub word_length: [f64; 2],
    /// `#` and `...` (or `…`) per word at most; 0.1.
    pub max_symbols: f64,
    /// Share of lines that begin with `•` or `-` at most; 0.9.
    pub max_bullets: f64,
    /// Share of lines that end in an ellipsis at most; 0.3.
    pub max_ellipsis: f64,
    /// Share of words with a letter at least; 0.8.
    pub min_alphabetic: f64,
    /// Of the, be, to, of, and, that, have, with: different ones at least; 2.
    pub min_stop_words: usize,
}

impl Default for GopherQuality {
    fn default() -> Self {
        Self {
            words: [50, 100_000],
            word_length: [3.0, 10.0],
            max_symbols: 0.1,
            max_bullets: 0.9,
            max_ellipsis: 0.3,
            min_alphabetic: 0.8,
            min_stop_words: 2,
        }
    }
}

const STOP_WORDS: [&str; 8] = ["the", "be", "to", "of", "and", "that", "have", "with"];

impl GopherQuality {
    pub(super) fn judge(&self, text: &str) -> Verdict {
        let (mut all, mut words, mut chars, mut alphabetic, mut stops) = (0, 0, 0, 0, 0u32);
        for word in text.split_whitespace() {
            all += 1;
            let bare = word.trim_matches(is_punctuation);
            if !bare.is_empty() {
                words += 1;
                chars += word.chars().count();
            }
            alphabetic += usize::from(word.chars().any(char::is_alphabetic));
            if let Some(stop) = STOP_WORDS.iter().position(|stop| *stop == bare) {
                stops |= 1 << stop;
            }
        }
        let [least, most] = self.words;
        demand((least..=most).contains(&words), "gopher-quality/words", || {
            format!("{words} words, expected {least} to {most}")
        })?;
        let ([least, most], mean) = (self.word_length, ratio(chars, words));
        demand((least..=most).contains(&mean), "gopher-quality/word-length", || {
            format!("words of {mean:.2} characters on average, expected {least} to {most}")
        })?;
        let hashes = ratio(text.matches('#').count(), all);
        let dots = ratio(text.matches("...").count() + text.matches('…').count(), all);
        let symbols = hashes.max(dots);
        demand(symbols <= self.max_symbols, "gopher-quality/max-symbols", || {
            format!("{symbols:.3} symbols per word, at most {}", self.max_symbols)
        })?;
        let (mut lines, mut bullets, mut ellipses) = (0, 0, 0);
        for line in text.lines() {
            lines += 1;
            bullets += usize::from(line.trim_start().starts_with(['•', '-']));
            ellipses += usize::from(line.trim_end().ends_with("...") || line.trim_end().ends_with('…'));
        }
        let share = ratio(bullets, lines);
        demand(share <= self.max_bullets, "gopher-quality/max-bullets", || {
            format!("bullet lines {share:.3}, at most {}", self.max_bullets)
        })?;
        let share = ratio(ellipses, lines);
        demand(share <= self.max_ellipsis, "gopher-quality/max-ellipsis", || {
            format!("lines that end in an ellipsis {share:.3}, at most {}", self.max_ellipsis)
        })?;
        let share = ratio(alphabetic, all);
        demand(share >= self.min_alphabetic, "gopher-quality/min-alphabetic", || {
            format!("words with a letter {share:.3}, at least {}", self.min_alphabetic)
        })?;
        let stops = stops.count_ones() as usize;
        demand(stops >= self.min_stop_words, "gopher-quality/min-stop-words", || {
            format!("{stops} different stop words, at least {}", self.min_stop_words)
        })
    }
}

/// C4 (arXiv 1910.10683, section 2.2): takes lines out of pages, and pages with too few sentences left. Destroys code
/// and LaTeX.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct C4 {
    /// Take out lines that do not end in a sentence mark; yes (FineWeb switches it off).
    pub terminal_punctuation: bool,
    /// Words of a line at least; 3.
    pub min_line_words: usize,
    /// Characters of a word at most, or its line goes; 1000.
    pub max_word_length: usize,
    /// Take out lines about JavaScript; yes.
    pub no_javascript: bool,
    /// Take out lines about policies and cookies; yes.
    pub no_policy: bool,
    /// Drop pages with "lorem ipsum"; yes.
    pub no_lorem_ipsum: bool,
    /// Drop pages with `{`; yes.
    pub no_curly_bracket: bool,
    /// Sentences at least; 5.
    pub min_sentences: usize,
}

impl Default for C4 {
    fn default() -> Self {
        Self {
            terminal_punctuation: true,
            min_line_words: 3,
            max_word_length: 1000,
            no_javascript: true,
            no_policy: true,
            no_lorem_ipsum: true,
            no_curly_bracket: true,
            min_sentences: 5,
        }
    }
}

const POLICIES: [&str; 6] =
    ["terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"];

impl C4 {
    pub(super) fn judge(&self, text: &str) -> Result<String, Against> {
        let lower = text.to_lowercase();
        demand(!(self.no_lorem_ipsum && lower.contains("lorem ipsum")), "c4/no-lorem-ipsum", || {
            "has \"lorem ipsum\"".to_owned()
        })?;
        demand(!(self.no_curly_bracket && text.contains('{')), "c4/no-curly-bracket", || {
            "has \"{\"".to_owned()
        })?;
        let mut kept = Vec::new();
        let mut sentences = 0;
        for line in text.lines().map(str::trim) {
            let words = || line.split_whitespace();
            if words().any(|word| word.chars().count() > self.max_word_length)
                || words().count() < self.min_line_words
                || (self.terminal_punctuation && !ends_sentence(line))
            {
                continue;
            }
            let lower = line.to_lowercase();
            if (self.no_javascript && lower.contains("javascript"))
                || (self.no_policy && POLICIES.iter().any(|policy| lower.contains(policy)))
            {
                continue;
            }
            sentences += count_sentences(line);
            kept.push(line);
        }
        demand(sentences >= self.min_sentences, "c4/min-sentences", || {
            format!("{sentences} sentences left, at least {}", self.min_sentences)
        })?;
        Ok(kept.join("\n"))
    }
}

fn ends_sentence(line: &str) -> bool {
    line.ends_with(['.', '?', '!', '"', '\'']) && !line.ends_with("...")
}

/// Marks of the end of a sentence that white space or the end of the line follows, and one for a rest.
fn count_sentences(line: &str) -> usize {
    let mut sentences = 0;
    let mut rest = false;
    for word in line.split_whitespace() {
        let bare = word.trim_end_matches(['"', '\'', ')', ']']);
        rest = !bare.ends_with(['.', '?', '!']);
        sentences += usize::from(!rest);
    }
    sentences + usize::from(rest)
}

/// FineWeb's own rules (arXiv 2406.17557).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct FineWeb {
    /// Share of lines that end in `.`, `'`, `"`, `!` or `?` at least; 0.12.
    pub min_punctuated: f64,
    /// Share of lines of at most `short-line` characters at most; 0.67.
    pub max_short: f64,
    /// Characters of a short line; 30.
    pub short_line: usize,
    /// Share of characters in lines that came before at most; 0.01.
    pub max_duplicate: f64,
    /// Line feeds per word at most; 0.3.
    pub max_newlines: f64,
}

impl Default for FineWeb {
    fn default() -> Self {
        Self { min_punctuated: 0.12, max_short: 0.67, short_line: 30, max_duplicate: 0.01, max_newlines: 0.3 }
    }
}

/// What datatrove took for the end of a sentence when FineWeb was made, of a line as it stands.
const TERMINAL: [char; 5] = ['.', '\'', '"', '!', '?'];

impl FineWeb {
    pub(super) fn judge(&self, text: &str) -> Verdict {
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        demand(!lines.is_empty(), "fineweb/empty", || "no line".to_owned())?;
        let count =
            |f: &dyn Fn(&str) -> bool| ratio(lines.iter().filter(|line| f(line)).count(), lines.len());
        let share = count(&|line| line.ends_with(TERMINAL));
        demand(share >= self.min_punctuated, "fineweb/min-punctuated", || {
            format!("lines that end in punctuation {share:.3}, at least {}", self.min_punctuated)
        })?;
        let share = count(&|line| line.chars().count() <= self.short_line);
        demand(share <= self.max_short, "fineweb/max-short", || {
            format!("short lines {share:.3}, at most {}", self.max_short)
        })?;
        let mut seen = std::collections::HashSet::new();
        let repeated = lines.iter().filter(|line| !seen.insert(**line));
        let repeated: usize = repeated.map(|line| line.chars().count()).sum();
        let line_feeds = memchr::memchr_iter(b'\n', text.as_bytes()).count();
        let share = ratio(repeated, text.chars().count() - line_feeds);
        demand(share <= self.max_duplicate, "fineweb/max-duplicate", || {
            format!("characters in repeated lines {share:.3}, at most {}", self.max_duplicate)
        })?;
        let per_word = ratio(line_feeds, text.split_whitespace().count());
        demand(per_word <= self.max_newlines, "fineweb/max-newlines", || {
            format!("{per_word:.3} line feeds per word, at most {}", self.max_newlines)
        })
    }
}

/// OpenWebMath's rules on extracted text (arXiv 2310.06786); its classifier and language models are not here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct OpenWebMath {
    /// Characters at least; 100.
    pub min_chars: usize,
    /// Share of letters with accents at most; 0.015.
    pub max_accented: f64,
    /// Take out lines with more `newcommand`s than this; 1.
    pub max_newcommands: usize,
}

impl Default for OpenWebMath {
    fn default() -> Self {
        Self { min_chars: 100, max_accented: 0.015, max_newcommands: 1 }
    }
}

impl OpenWebMath {
    pub(super) fn judge(&self, text: &str) -> Result<String, Against> {
        let macros = |line: &&str| line.matches("newcommand").count() > self.max_newcommands;
        let text = if text.contains("newcommand") {
            text.split('\n').filter(|line| !macros(line)).collect::<Vec<_>>().join("\n")
        } else {
            text.to_owned()
        };
        let chars = text.chars().count();
        demand(chars >= self.min_chars, "openwebmath/min-chars", || {
            format!("{chars} characters, at least {}", self.min_chars)
        })?;
        // Latin letters beyond ASCII: the blocks Latin-1 Supplement, Latin Extended-A, -B and Additional.
        let accented =
            |c: &char| matches!(c, '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}') && c.is_alphabetic();
        let share = ratio(text.chars().filter(accented).count(), chars);
        demand(share <= self.max_accented, "openwebmath/max-accented", || {
            format!("letters with accents {share:.4}, at most {}", self.max_accented)
        })?;
        Ok(text)
    }
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || matches!(c, '–' | '—' | '‘' | '’' | '“' | '”' | '…' | '•' | '«' | '»')
}
