//! The imaginary text that all sources of a recipe are laid out in, and the way back from a position.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Every file and override of a recipe, each with the range it has in the imaginary text.
#[derive(Default)]
pub(super) struct SourceMap<'i> {
    sources: Vec<Source<'i>>,
    end: usize,
}

struct Source<'i> {
    label: String,
    /// None for an override, which has no lines.
    text: Option<&'i str>,
    start: usize,
}

impl<'i> SourceMap<'i> {
    /// Adds a file. Its first byte has the returned position.
    pub(super) fn file(&mut self, path: &Path, text: &'i str) -> usize {
        self.add(path.display().to_string(), Some(text), text.len())
    }

    /// Adds an override. Its first byte has the returned position.
    pub(super) fn assignment(&mut self, text: &str) -> usize {
        self.add(format!("--set {text}"), None, text.len())
    }

    fn add(&mut self, label: String, text: Option<&'i str>, len: usize) -> usize {
        let start = self.end;
        self.sources.push(Source { label, text, start });
        self.end += len + 1; // The end of one source is not the start of the next.
        start
    }

    /// `FILE:LINE:COLUMN`, both from 1 and columns in characters, or the override that holds the position.
    pub(super) fn place(&self, span: Option<Range<usize>>) -> String {
        let Some(span) = span else {
            // With no position, the recipe itself: the last file, because the files it extends come before.
            let file = self.sources.iter().rev().find(|s| s.text.is_some());
            return file.map(|s| s.label.clone()).unwrap_or_default();
        };
        let Some(source) = self.sources.iter().rev().find(|s| s.start <= span.start) else {
            return String::new();
        };
        match source.text {
            Some(text) => format!("{}:{}", source.label, line_and_column(text, span.start - source.start)),
            None => source.label.clone(),
        }
    }
}

/// `LINE:COLUMN` of a byte of a text.
pub(super) fn line_and_column(text: &str, at: usize) -> String {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    format!("{line}:{column}")
}

/// The table with every position moved up by `start`.
pub(super) fn shift_table(table: DeTable<'_>, start: usize) -> DeTable<'_> {
    let moved = |(key, value): (Spanned<_>, _)| {
        let span = key.span();
        (Spanned::new(span.start + start..span.end + start, key.into_inner()), shift(value, start))
    };
    table.into_iter().map(moved).collect()
}

/// The value with every position moved up by `start`.
pub(super) fn shift(value: Spanned<DeValue<'_>>, start: usize) -> Spanned<DeValue<'_>> {
    let span = value.span();
    let inner = match value.into_inner() {
        DeValue::Array(a) => DeValue::Array(a.into_iter().map(|v| shift(v, start)).collect()),
        DeValue::Table(t) => DeValue::Table(shift_table(t, start)),
        leaf => leaf,
    };
    Spanned::new(span.start + start..span.end + start, inner)
}
