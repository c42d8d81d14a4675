//! serde's errors in the words of the person who wrote the recipe.
//!
//! serde says "unknown field `a`, expected one of `b`, `c`" or "invalid type: string "x", expected f64";
//! the parser adds the position of the value at fault and the keys above it. Here the two are brought
//! together with the tree. Enums with a tag are read by serde into a buffer without positions; for these
//! the key is found again inside the table that the parser points at.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::suggest::hint;

/// The position of an error and a line that describes it.
pub(super) fn explain(
    root: &Spanned<DeTable<'_>>,
    error: &toml::de::Error,
) -> (Option<Range<usize>>, String) {
    let message = one_line(error.message());
    let nodes = flatten(root);
    // The deepest match: a table that is only implied by `[a.b]` shares its position with what is in it.
    let keys = keys_of(error);
    let at = error.span().and_then(|span| {
        nodes
            .iter()
            .rposition(|n| n.span == span && n.error_keys() == keys)
            .or_else(|| nodes.iter().rposition(|n| n.span == span))
    });
    let Some(at) = at else {
        let place = if keys.is_empty() { String::new() } else { format!("`{keys}`: ") };
        return (error.span(), place + &message);
    };

    if let Some((name, known)) = named(&message, "unknown field ") {
        let at = find_below(&nodes, at, |n| n.is_key && n.name() == name).unwrap_or(at);
        let node = &nodes[at];
        let section = if node.is_key { node.parent() } else { node.path.as_slice() };
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let text = format!("unknown key `{name}` {}{}", within(section), hint(&name, &known));
        return (Some(node.span.clone()), text);
    }
    let node = &nodes[at];
    if let Some((name, known)) = named(&message, "unknown variant ") {
        let is_it = |n: &Node<'_, '_>| n.value.and_then(DeValue::as_str) == Some(name.as_str());
        let node = &nodes[find_below(&nodes, at, is_it).unwrap_or(at)];
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        return (
            Some(node.span.clone()),
            format!("{}unknown value `{name}`{}", node.label(), hint(&name, &known)),
        );
    }
    if let Some((name, _)) = named(&message, "missing field ") {
        return (Some(node.span.clone()), format!("missing key `{name}` {}", within(&node.path)));
    }
    let wrong = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    if let Some((found, expected)) = wrong.and_then(|m| m.rsplit_once(", expected ")) {
        let mut same = (at..nodes.len()).filter(|i| nodes[*i].is_below(node) && nodes[*i].reads_as(found));
        // Only a single candidate says which key it was.
        let node = match (same.next(), same.next()) {
            (Some(only), None) => &nodes[only],
            _ => node,
        };
        let text =
            format!("{}expected {}, found {}", node.label(), expected_words(expected), found_words(found));
        return (Some(node.span.clone()), text);
    }
    (Some(node.span.clone()), node.label() + &message)
}

/// `text` without line breaks.
pub(super) fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; ")
}

/// A key, or a value, of the tree.
struct Node<'t, 'i> {
    /// Keys from the root; elements of arrays by name or number, marked as such.
    path: Vec<Step>,
    span: Range<usize>,
    is_key: bool,
    value: Option<&'t DeValue<'i>>,
}

#[derive(Clone, PartialEq)]
struct Step {
    text: String,
    is_element: bool,
}

impl Node<'_, '_> {
    fn parent(&self) -> &[Step] {
        &self.path[..self.path.len().saturating_sub(1)]
    }

    fn name(&self) -> &str {
        self.path.last().map_or("", |s| &s.text)
    }

    /// The keys that the parser would report with an error here: without elements, and above a key.
    fn error_keys(&self) -> String {
        let steps = if self.is_key { self.parent() } else { &self.path };
        let keys: Vec<_> = steps.iter().filter(|s| !s.is_element).map(|s| s.text.as_str()).collect();
        keys.join(".")
    }

    fn is_below(&self, other: &Self) -> bool {
        self.path.starts_with(&other.path)
    }

    /// `` `a.b`: `` for the front of a message.
    fn label(&self) -> String {
        if self.path.is_empty() { String::new() } else { format!("`{}`: ", join(&self.path)) }
    }

    /// Whether serde describes this value as `found`.
    fn reads_as(&self, found: &str) -> bool {
        match self.value {
            Some(DeValue::String(s)) => found == format!("string {s:?}"),
            Some(DeValue::Integer(i)) => found == format!("integer `{i}`"),
            Some(DeValue::Float(f)) => found
                .strip_prefix("floating point `")
                .and_then(|n| n.strip_suffix('`')?.parse::<f64>().ok())
                .is_some_and(|n| f.as_str().parse() == Ok(n)),
            Some(DeValue::Boolean(b)) => found == format!("boolean `{b}`"),
            Some(DeValue::Array(_)) => found == "sequence",
            Some(DeValue::Table(_)) => found == "map",
            _ => false,
        }
    }
}

/// All keys and values, each value after its key and before what is in it.
fn flatten<'t, 'i>(root: &'t Spanned<DeTable<'i>>) -> Vec<Node<'t, 'i>> {
    let mut nodes = vec![Node { path: Vec::new(), span: root.span(), is_key: false, value: None }];
    table_nodes(root.get_ref(), &[], &mut nodes);
    nodes
}

fn table_nodes<'t, 'i>(table: &'t DeTable<'i>, path: &[Step], nodes: &mut Vec<Node<'t, 'i>>) {
    for (key, value) in table {
        let path = below(path, key.get_ref(), false);
        nodes.push(Node { path: path.clone(), span: key.span(), is_key: true, value: None });
        value_nodes(value, path, nodes);
    }
}

fn value_nodes<'t, 'i>(value: &'t Spanned<DeValue<'i>>, path: Vec<Step>, nodes: &mut Vec<Node<'t, 'i>>) {
    let inner = value.get_ref();
    nodes.push(Node { path: path.clone(), span: value.span(), is_key: false, value: Some(inner) });
    match inner {
        DeValue::Table(table) => table_nodes(table, &path, nodes),
        DeValue::Array(array) => {
            for (i, element) in array.iter().enumerate() {
                let name = element.get_ref().get("name").and_then(|n| n.get_ref().as_str());
                let step = name.map_or_else(|| i.to_string(), str::to_owned);
                value_nodes(element, below(&path, &step, true), nodes);
            }
        }
        _ => {}
    }
}

fn below(path: &[Step], text: &str, is_element: bool) -> Vec<Step> {
    let mut path = path.to_vec();
    path.push(Step { text: text.to_owned(), is_element });
    path
}

/// The shallowest node at or below `at` that satisfies `test`.
fn find_below(nodes: &[Node<'_, '_>], at: usize, test: impl Fn(&Node<'_, '_>) -> bool) -> Option<usize> {
    let top = &nodes[at];
    (at..nodes.len())
        .filter(|i| nodes[*i].is_below(top) && test(&nodes[*i]))
        .min_by_key(|i| nodes[*i].path.len())
}

/// The keys above an error, as the parser puts them on the last line of its text.
fn keys_of(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let keys = text.trim_end().rsplit_once("\nin `").and_then(|(_, k)| k.strip_suffix('`'));
    keys.unwrap_or("").to_owned()
}

/// Takes apart `PREFIX`NAME`, expected one of `A`, `B``: the name and what was expected.
fn named(message: &str, prefix: &str) -> Option<(String, Vec<String>)> {
    let rest = message.strip_prefix(prefix)?.strip_prefix('`')?;
    let (name, rest) = match rest.rsplit_once("`, expected ").or_else(|| rest.rsplit_once("`, there are no "))
    {
        Some((name, rest)) => (name, rest),
        None => (rest.strip_suffix('`')?, ""),
    };
    // Every second piece between backticks is a name.
    Some((name.to_owned(), rest.split('`').skip(1).step_by(2).map(str::to_owned).collect()))
}

fn within(section: &[Step]) -> String {
    if section.is_empty() { "at the top level".to_owned() } else { format!("in [{}]", join(section)) }
}

fn join(path: &[Step]) -> String {
    path.iter().map(|s| s.text.as_str()).collect::<Vec<_>>().join(".")
}

fn expected_words(expected: &str) -> String {
    match expected {
        "f64" | "f32" => "a number".to_owned(),
        "u64" | "u32" | "u16" | "u8" | "usize" => format!("a whole number of 0 or more ({expected})"),
        "i64" | "i32" | "i16" | "i8" | "isize" => format!("a whole number ({expected})"),
        "a sequence" => "an array".to_owned(),
        "a map" => "a table".to_owned(),
        _ if expected.starts_with("struct ") || expected.contains("tagged enum ") => "a table".to_owned(),
        _ => expected.to_owned(),
    }
}

fn found_words(found: &str) -> String {
    let bare = |text: &str| text.trim_matches('`').to_owned();
    match found {
        "sequence" => "an array".to_owned(),
        "map" => "a table".to_owned(),
        _ => match found.split_once(' ') {
            Some(("string", text)) => format!("the string {text}"),
            Some(("integer", text)) => format!("the integer {}", bare(text)),
            Some(("floating", text)) => format!("the number {}", bare(text.trim_start_matches("point "))),
            Some(("boolean", text)) => bare(text),
            _ => found.to_owned(),
        },
    }
}
