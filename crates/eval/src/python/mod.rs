//! What tasks and results have from Python: its random numbers, its `json.dumps` and `str`, its strings and patterns.

mod dialect;
mod json;
mod pattern;
mod random;
mod text;

pub(crate) use json::{dumps, sha256, text};
pub(crate) use pattern::Pattern;
pub use random::PythonRandom;
pub(crate) use text::{capitalize, float, is_space, rstrip, split, strip, words};

/// What CPython answered (tests/reference/make_python_reference.py).
#[cfg(test)]
fn recorded() -> serde_json::Value {
    serde_json::from_str(include_str!("../../tests/fixtures/python.json")).unwrap()
}
