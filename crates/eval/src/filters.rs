//! From a generated text to an answer, and whether the answer is the reference: Python's `re` rules.

use regex::Regex;

use crate::tasks::{ExactMatch, FilterSpec};
use crate::{Error, Result};

/// What stands for an answer that was not found.
const INVALID: &str = "[invalid]";

/// A compiled filter.
pub(crate) struct Filter {
    pub(crate) name: String,
    pattern: Option<Regex>,
    select: i64,
}

impl Filter {
    /// The filters of a task; without any, the text itself under the name `none`.
    pub(crate) fn all(specs: &[FilterSpec]) -> Result<Vec<Self>> {
        if specs.is_empty() {
            return Ok(vec![Self { name: "none".to_owned(), pattern: None, select: 0 }]);
        }
        let filter = |spec: &FilterSpec| {
            let pattern = spec.regex_pattern.as_deref().map(compile).transpose()?;
            Ok(Self { name: spec.name.clone(), pattern, select: spec.group_select })
        };
        specs.iter().map(filter).collect()
    }

    /// The answer in a text: the selected one of all matches, and of its groups the first that is not empty.
    pub(crate) fn apply(&self, text: &str) -> String {
        let Some(pattern) = &self.pattern else { return text.to_owned() };
        let matches: Vec<_> = pattern.captures_iter(text).collect();
        let place = if self.select < 0 { matches.len() as i64 + self.select } else { self.select };
        let Some(found) = usize::try_from(place).ok().and_then(|place| matches.get(place)) else {
            return INVALID.to_owned();
        };
        // findall gives the match where there are no groups, the group where there is one, even if it is empty.
        let answer = match found.len() {
            1 => found.get(0).map(|m| m.as_str()),
            2 => Some(found.get(1).map_or("", |m| m.as_str())),
            _ => found.iter().skip(1).flatten().map(|m| m.as_str()).find(|group| !group.is_empty()),
        };
        answer.map_or_else(|| INVALID.to_owned(), |answer| answer.trim().to_owned())
    }
}

/// How two answers are compared.
pub(crate) struct Matcher {
    ignored: Vec<Regex>,
    ignore_case: bool,
    ignore_punctuation: bool,
}

impl Matcher {
    pub(crate) fn new(spec: Option<&ExactMatch>) -> Result<Self> {
        let spec = spec.cloned().unwrap_or_default();
        Ok(Self {
            ignored: spec.regexes_to_ignore.iter().map(|p| compile(p)).collect::<Result<_>>()?,
            ignore_case: spec.ignore_case,
            ignore_punctuation: spec.ignore_punctuation,
        })
    }

    /// Whether both sides are the same once what does not count is taken out of both.
    pub(crate) fn same(&self, answer: &str, reference: &str) -> bool {
        self.plain(answer) == self.plain(reference)
    }

    fn plain(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for pattern in &self.ignored {
            text = pattern.replace_all(&text, "").into_owned();
        }
        if self.ignore_case {
            text = text.to_lowercase();
        }
        if self.ignore_punctuation {
            text.retain(|c| !c.is_ascii_punctuation());
        }
        text
    }
}

/// A pattern of Python's `re`. Its `$` also matches before a line end that closes the text.
fn compile(pattern: &str) -> Result<Regex> {
    let ours = pattern.strip_suffix('$').filter(|head| !head.ends_with('\\'));
    // A look-ahead is not to be had; for the one use, a full stop at the end, the line end is optional and stays.
    let ours = ours.map_or_else(|| pattern.to_owned(), |head| format!("{head}$"));
    Regex::new(&ours)
        .map_err(|e| Error::Input(format!("the pattern {pattern}: {}", e.to_string().replace('\n', " "))))
}
