//! Patterns of Python's `re` for text, on an engine with look-around.
//!
//! The two dialects look the same and are not. [`dialect`] writes a pattern down anew so that every part means here
//! what it means there; this file has what remains: which matches `findall`, `sub` and `split` find, one after the other.
//! The tests compare both with what CPython 3.11 answered.

use std::sync::OnceLock;

use fancy_regex::Regex;

use super::dialect::translate;

/// A compiled pattern.
pub(crate) struct Pattern {
    regex: Regex,
    /// The same pattern, refusing an empty match where the search begins. Made when it is first needed.
    filled: OnceLock<Result<Regex, String>>,
    written: String,
}

/// The groups of one match; the first is the match itself.
pub(crate) type Groups<'a> = Vec<Option<&'a str>>;

impl Pattern {
    /// Compiles a pattern as `re.compile(pattern)` does.
    ///
    /// # Errors
    /// One line: a pattern that is wrong, or a part of Python's dialect that there is no counterpart for.
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        let fail = |message: String| format!("the pattern {pattern}: {}", message.replace('\n', " "));
        let written = translate(pattern).map_err(fail)?;
        let regex = Regex::new(&written).map_err(|e| fail(e.to_string()))?;
        Ok(Self { regex, filled: OnceLock::new(), written })
    }

    /// All matches, as `finditer` finds them: they do not overlap, and after an empty one comes the next that is not
    /// empty at the same place, else the next farther on.
    ///
    /// # Errors
    /// A pattern that takes too many steps on this text.
    pub(crate) fn find_all<'t>(&self, text: &'t str) -> Result<Vec<Groups<'t>>, String> {
        Ok(self.matches(text)?.into_iter().map(|found| found.groups).collect())
    }

    /// `re.sub(pattern, replacement, text)` for a replacement without references.
    ///
    /// # Errors
    /// As [`find_all`](Self::find_all).
    pub(crate) fn replace(&self, text: &str, replacement: &str) -> Result<String, String> {
        self.replace_with(text, |_| replacement.to_owned())
    }

    /// `re.sub` with a function from the groups of a match to what stands in its place.
    ///
    /// # Errors
    /// As [`find_all`](Self::find_all).
    pub(crate) fn replace_with(
        &self,
        text: &str,
        of: impl Fn(&[Option<&str>]) -> String,
    ) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut end = 0;
        for found in self.matches(text)? {
            out.push_str(&text[end..found.start]);
            out.push_str(&of(&found.groups));
            end = found.end;
        }
        out.push_str(&text[end..]);
        Ok(out)
    }

    fn matches<'t>(&self, text: &'t str) -> Result<Vec<Found<'t>>, String> {
        let mut all: Vec<Found<'t>> = Vec::new();
        let mut at = 0;
        let mut filled = false;
        loop {
            let regex = if filled { self.filled()? } else { &self.regex };
            let found = regex.captures_from_pos(text, at).map_err(|e| e.to_string().replace('\n', " "))?;
            let Some(found) = found else { return Ok(all) };
            let Some(whole) = found.get(0) else { return Ok(all) };
            let groups = (0..found.len()).map(|i| found.get(i).map(|group| group.as_str())).collect();
            all.push(Found { start: whole.start(), end: whole.end(), groups });
            at = whole.end();
            filled = whole.start() == whole.end();
        }
    }

    fn filled(&self) -> Result<&Regex, String> {
        // \G is the place where a search begins.
        let make = || Regex::new(&format!("(?:{})(?!\\G)", self.written)).map_err(|e| e.to_string());
        self.filled.get_or_init(make).as_ref().map_err(Clone::clone)
    }
}

struct Found<'t> {
    start: usize,
    end: usize,
    groups: Groups<'t>,
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::recorded;
    use super::Pattern;

    #[test]
    fn matches_are_pythons() {
        let recorded = recorded();
        let mut compared = 0;
        for case in recorded["patterns"].as_array().unwrap() {
            let source = case["pattern"].as_str().unwrap();
            let pattern = Pattern::new(source).unwrap();
            for text in case["texts"].as_array().unwrap() {
                let (given, place) = (text["text"].as_str().unwrap(), format!("{source} on {text}"));
                let found: Vec<Value> = pattern
                    .find_all(given)
                    .unwrap()
                    .into_iter()
                    .map(|groups| serde_json::to_value(groups).unwrap())
                    .collect();
                assert_eq!(Value::from(found), text["matches"], "{place}");
                assert_eq!(pattern.replace(given, "-").unwrap(), text["sub"].as_str().unwrap(), "{place}");
                compared += 1;
            }
        }
        assert!(compared > 900, "{compared}");
    }

    #[test]
    fn what_python_refuses_is_refused() {
        for source in recorded()["refused"].as_array().unwrap() {
            let source = source.as_str().unwrap();
            let error = Pattern::new(source).err();
            let error = error.unwrap_or_else(|| panic!("{source} is taken"));
            assert!(
                error.starts_with(&format!("the pattern {source}: ")) && !error.contains('\n'),
                "{error}"
            );
        }
    }
}
