//! `a.b=v`: one value of a recipe set from outside.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::source::{SourceMap, shift};
use crate::suggest::hint;
use crate::{Error, Result};

/// Applies one override to the root of a recipe.
pub(super) fn apply<'i>(
    sources: &mut SourceMap<'i>,
    root: &mut DeTable<'i>,
    assignment: &'i str,
) -> Result<()> {
    let start = sources.assignment(assignment);
    let fail = |message: String| Error::Recipe { place: format!("--set {assignment}"), message };
    let (left, right) =
        assignment.split_once('=').ok_or_else(|| fail("expected KEY=VALUE, found no `=`".to_owned()))?;
    let keys = split(left).map_err(&fail)?;
    let value = value(right).map_err(&fail)?;
    let value = shift(value, start + left.len() + 1);
    let keys: Vec<_> =
        keys.into_iter().map(|(r, text)| Key { text, span: r.start + start..r.end + start }).collect();
    in_table(root, &mut Vec::new(), &keys, value).map_err(fail)
}

struct Key<'i> {
    text: &'i str,
    span: Range<usize>,
}

/// Sets a value under a table; what is missing on the way is made, and serde judges whether it may be there.
fn in_table<'i>(
    table: &mut DeTable<'i>,
    above: &mut Vec<&'i str>,
    keys: &[Key<'i>],
    value: Spanned<DeValue<'i>>,
) -> Result<(), String> {
    let Some((key, rest)) = keys.split_first() else { return Ok(()) };
    if rest.is_empty() {
        // With the old entry goes the old key, which has a position in the file.
        table.remove(key.text);
        table.insert(Spanned::new(key.span.clone(), key.text.into()), value);
        return Ok(());
    }
    above.push(key.text);
    if !table.contains_key(key.text) {
        let empty = Spanned::new(key.span.clone(), DeValue::Table(DeTable::new()));
        table.insert(Spanned::new(key.span.clone(), key.text.into()), empty);
    }
    match table.get_mut(key.text) {
        Some(below) => in_value(below, above, rest, value),
        None => Ok(()),
    }
}

fn in_value<'i>(
    node: &mut Spanned<DeValue<'i>>,
    above: &mut Vec<&'i str>,
    keys: &[Key<'i>],
    value: Spanned<DeValue<'i>>,
) -> Result<(), String> {
    match node.get_mut() {
        DeValue::Table(table) => in_table(table, above, keys, value),
        DeValue::Array(array) => {
            let Some((key, rest)) = keys.split_first() else { return Ok(()) };
            let at = element(array, key.text).map_err(|m| format!("`{}` {m}", above.join(".")))?;
            let below = &mut array.as_mut()[at];
            if rest.is_empty() {
                *below = value;
                return Ok(());
            }
            above.push(key.text);
            in_value(below, above, rest, value)
        }
        leaf => {
            let next = keys.first().map_or("", |k| k.text);
            let (path, kind) = (above.join("."), leaf.type_str());
            Err(format!("`{path}` is a value of type {kind}: it has no key `{next}`"))
        }
    }
}

/// The number of the element that `key` names: by its `name` key, else by its place.
fn element(array: &[Spanned<DeValue<'_>>], key: &str) -> Result<usize, String> {
    let names: Vec<Option<&str>> =
        array.iter().map(|e| e.get_ref().get("name").and_then(|n| n.get_ref().as_str())).collect();
    if let Some(at) = names.iter().position(|n| *n == Some(key)) {
        return Ok(at);
    }
    let known: Vec<&str> = names.into_iter().flatten().collect();
    match key.parse::<usize>() {
        Ok(at) if at < array.len() => Ok(at),
        Ok(at) => Err(format!("has {} elements, counted from 0: there is no element {at}", array.len())),
        Err(_) if known.is_empty() => {
            Err(format!("is an array without names: expected a number below {}, found `{key}`", array.len()))
        }
        Err(_) => Err(format!("has no element with the name `{key}`{}", hint(key, &known))),
    }
}

/// The keys of the left side with the bytes they take. A key with a dot in it stands in quotes.
fn split(left: &str) -> Result<Vec<(Range<usize>, &str)>, String> {
    let mut keys = Vec::new();
    let mut at = 0;
    loop {
        let rest = &left[at..];
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (text, used) = match quote {
            Some(q) => {
                let end = rest[1..].find(q).ok_or_else(|| format!("the key `{left}` has an open quote"))?;
                (&rest[1..=end], end + 2)
            }
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                (rest[..end].trim(), end)
            }
        };
        if text.is_empty() {
            return Err(format!("expected KEY=VALUE with a key like a.b, found `{left}`"));
        }
        keys.push((at..at + used, text));
        at += used;
        match left[at..].trim_start().chars().next() {
            None => return Ok(keys),
            Some('.') => at = at + left[at..].find('.').unwrap_or(0) + 1,
            Some(_) => return Err(format!("expected a dot between keys, found `{left}`")),
        }
    }
}

/// The right side: a TOML value, else a string. What begins like a TOML string, array or table must be one.
fn value(right: &str) -> Result<Spanned<DeValue<'_>>, String> {
    let text = right.trim();
    match DeValue::parse(text) {
        Ok(value) => Ok(value),
        Err(e) if text.starts_with(['"', '\'', '[', '{']) => {
            Err(format!("the value is not TOML: {}", super::message::one_line(e.message())))
        }
        Err(_) => Ok(Spanned::new(0..text.len(), DeValue::String(text.into()))),
    }
}
