//! Typed reading of a JSON object's keys, each refusal naming the key and what was found.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::json::show;

/// The largest size or count that is believed: torch's int32 indexing, and far beyond any model.
pub(crate) const LARGEST: u64 = i32::MAX as u64;

/// An object of a configuration with the path and the key that lead to it.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    path: &'a Path,
    prefix: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(path: &'a Path, map: &'a Map<String, Value>) -> Self {
        Self { path, prefix: "", map }
    }

    /// The object under `key`; absent and null are `None`.
    pub(crate) fn object(&self, key: &'a str) -> Result<Option<Self>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self { path: self.path, prefix: key, map })),
            Some(other) => Err(self.wrong(key, "an object", other)),
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        self.map.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// True when the key stands there at all, null included.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// The value, null counted as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn string(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, "a string", other)),
        }
    }

    pub(crate) fn boolean(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => Err(self.wrong(key, "true or false", other)),
        }
    }

    /// A whole number from 1 to [`LARGEST`].
    pub(crate) fn size(&self, key: &str) -> Result<Option<usize>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(n) if (1..=LARGEST).contains(&n) => Ok(Some(n as usize)),
                _ => Err(self.wrong(key, &format!("a whole number from 1 to {LARGEST}"), value)),
            },
        }
    }

    pub(crate) fn required_size(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| self.missing(key))
    }

    /// A whole number from 0.
    pub(crate) fn count(&self, key: &str, default: usize) -> Result<usize> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => match value.as_u64() {
                Some(n) if n <= LARGEST => Ok(n as usize),
                _ => Err(self.wrong(key, &format!("a whole number from 0 to {LARGEST}"), value)),
            },
        }
    }

    /// A number above 0; JSON has no infinities and no NaN.
    pub(crate) fn positive(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(x) if x > 0.0 && x.is_finite() => Ok(Some(x)),
                _ => Err(self.wrong(key, "a number above 0", value)),
            },
        }
    }

    pub(crate) fn required_positive(&self, key: &str) -> Result<f64> {
        self.positive(key)?.ok_or_else(|| self.missing(key))
    }

    /// A number from 0.
    pub(crate) fn not_negative(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(x) if x >= 0.0 && x.is_finite() => Ok(Some(x)),
                _ => Err(self.wrong(key, "a number from 0", value)),
            },
        }
    }

    /// A token number.
    pub(crate) fn token(&self, key: &str, value: &Value) -> Result<u32> {
        let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
        number.ok_or_else(|| self.wrong(key, "a token number from 0", value))
    }

    pub(crate) fn missing(&self, key: &str) -> Error {
        self.refuse(key, "the key is missing")
    }

    pub(crate) fn wrong(&self, key: &str, expected: &str, found: &Value) -> Error {
        self.refuse(key, format!("expected {expected}, found {}", show(found)))
    }

    pub(crate) fn refuse(&self, key: &str, problem: impl Into<String>) -> Error {
        let key = if self.prefix.is_empty() { key.to_owned() } else { format!("{}.{key}", self.prefix) };
        Error::config(self.path, &key, problem)
    }
}
