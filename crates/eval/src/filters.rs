//! From a generated text to an answer, and whether the answer is the reference: Python's `re` rules.

use crate::python::{Pattern, strip};
use crate::tasks::{ExactMatch, FilterSpec};
use crate::{Error, Result};

/// What stands for an answer that was not found.
const INVALID: &str = "[invalid]";

/// A compiled filter of a task.
pub(crate) struct Filter {
    pub(crate) name: String,
    pattern: Option<Pattern>,
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
    pub(crate) fn apply(&self, text: &str) -> Result<String> {
        let Some(pattern) = &self.pattern else { return Ok(text.to_owned()) };
        let matches = pattern.find_all(text).map_err(Error::Input)?;
        let place = if self.select < 0 { matches.len() as i64 + self.select } else { self.select };
        let Some(found) = usize::try_from(place).ok().and_then(|place| matches.get(place)) else {
            return Ok(INVALID.to_owned());
        };
        // findall gives the match where there are no groups, the group where there is one, even if it is empty.
        let answer = match found.as_slice() {
            [whole] => *whole,
            [_, group] => Some(group.unwrap_or("")),
            [_, groups @ ..] => groups.iter().flatten().copied().find(|group| !group.is_empty()),
            [] => None,
        };
        Ok(answer.map_or(INVALID, strip).to_owned())
    }
}

/// How two answers are compared.
pub(crate) struct Matcher {
    ignored: Vec<Pattern>,
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
    pub(crate) fn same(&self, answer: &str, reference: &str) -> Result<bool> {
        Ok(self.plain(answer)? == self.plain(reference)?)
    }

    fn plain(&self, text: &str) -> Result<String> {
        let mut text = text.to_owned();
        for pattern in &self.ignored {
            text = pattern.replace(&text, "").map_err(Error::Input)?;
        }
        if self.ignore_case {
            text = text.to_lowercase();
        }
        if self.ignore_punctuation {
            text.retain(|c| !c.is_ascii_punctuation());
        }
        Ok(text)
    }
}

fn compile(pattern: &str) -> Result<Pattern> {
    Pattern::new(pattern).map_err(Error::Input)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::{Filter, Matcher};
    use crate::tasks::Catalog;

    /// Texts through the two filters of GSM8K: what lm-evaluation-harness found in each, and whether it was right.
    fn check(cases: &str) -> usize {
        let selection = Catalog::builtin().unwrap().select(["gsm8k"]).unwrap();
        let spec = &selection.tasks[0].0;
        let matcher = Matcher::new(spec.exact_match.as_ref()).unwrap();
        let filters = Filter::all(&spec.filters).unwrap();
        let mut compared = 0;
        for line in cases.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let (text, target) = (case["text"].as_str().unwrap(), case["target"].as_str().unwrap());
            assert_eq!(case["filtered"].as_object().unwrap().len(), filters.len(), "{line}");
            for filter in &filters {
                let expected = &case["filtered"][&filter.name];
                let answer = filter.apply(text).unwrap();
                assert_eq!(answer, expected["answer"].as_str().unwrap(), "{}: {line}", filter.name);
                let same = matcher.same(&answer, target).unwrap();
                assert_eq!(f64::from(u8::from(same)), expected["exact_match"], "{}: {line}", filter.name);
                compared += 1;
            }
        }
        compared
    }

    #[test]
    fn answers_are_those_of_the_harness() {
        assert_eq!(check(include_str!("../tests/fixtures/gsm8k-filters.jsonl")), 2 * 44);
    }

    #[test]
    fn answers_are_those_of_the_harness_on_public_questions() {
        let place = "../../../shared/data/eval-reference/results/gsm8k-filters/cases.jsonl";
        let place = Path::new(env!("CARGO_MANIFEST_DIR")).join(place);
        match std::fs::read_to_string(&place) {
            Ok(cases) => assert_eq!(check(&cases), 2 * 240),
            Err(_) => println!("skipped: shared/data/eval-reference is not here"),
        }
    }
}
