//! `kind = "jsonl"`: one JSON object per line; .jsonl, .jsonl.gz and .jsonl.zst.
//!
//! A line that is not what the recipe promises is an error that names file, line and field: a corpus with a
//! misspelt field must not become an empty one.

use std::collections::VecDeque;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fields::{Fields, Selection};
use super::listing::{self, InputFile, Listing};
use super::stream::{Limits, LineReader};
use super::template::{Template, kind};
use crate::document::{Document, Intake, Item, Items, Loss, OnError, Raw};
use crate::error::{Error, Result};
use crate::source::Environment;

/// Files of JSON objects, one a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct JsonlSource {
    /// A file, a folder (all its .jsonl, .jsonl.gz and .jsonl.zst files, sorted), or a list of both.
    pub path: Paths,
    /// How an object becomes a text: `{field}` is replaced by the field; `{{` and `}}` are braces.
    #[serde(default = "default_template")]
    pub template: String,
    /// The fields that hold what is known of a document.
    #[serde(default)]
    pub fields: Fields,
    /// A longer line is an error. Bytes; 16 MiB.
    #[serde(default = "default_max_line_bytes")]
    pub max_line_bytes: u64,
    /// A compressed file that grows by more than this factor (beyond its first 64 MiB) is an error; 200.
    #[serde(default = "default_max_ratio")]
    pub max_ratio: u64,
}

/// One path or a list of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Paths {
    /// `path = "a.jsonl"`
    One(PathBuf),
    /// `path = ["a.jsonl", "b.jsonl.gz"]`
    Many(Vec<PathBuf>),
}

impl Paths {
    pub(crate) fn check(&self) -> Result<()> {
        if self.as_slice().is_empty() {
            return Err(Error::Setting { key: "path", message: "expected at least one path".to_owned() });
        }
        Ok(())
    }

    /// The files, and those of folders whose name ends in one of `suffixes`, in order.
    pub(crate) fn list(
        &self,
        environment: &Environment,
        on_error: OnError,
        suffixes: &[&str],
    ) -> Result<Listing> {
        let mut files = Vec::new();
        let mut places = Vec::new();
        for path in self.as_slice() {
            let path = environment.resolve(path);
            places.push(path.display().to_string());
            if path.is_dir() {
                files.extend(listing::walk(&path, "", false, on_error, |_, id| {
                    let id = id.to_ascii_lowercase();
                    suffixes.iter().any(|suffix| id.ends_with(suffix))
                })?);
            } else {
                files.push(listing::single(&path)?);
            }
        }
        Ok(Listing { place: places.join(", "), files })
    }

    fn as_slice(&self) -> &[PathBuf] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(paths) => paths,
        }
    }
}

fn default_template() -> String {
    "{text}".to_owned()
}

const fn default_max_line_bytes() -> u64 {
    16 << 20
}

const fn default_max_ratio() -> u64 {
    200
}

impl JsonlSource {
    pub(crate) fn check(&self) -> Result<()> {
        self.path.check()?;
        self.parsed_template().map(drop)
    }

    fn parsed_template(&self) -> Result<Template> {
        Template::parse(&self.template).map_err(|message| Error::Setting { key: "template", message })
    }

    pub(crate) fn list(&self, environment: &Environment, on_error: OnError) -> Result<Listing> {
        self.path.list(environment, on_error, &[".jsonl", ".jsonl.gz", ".jsonl.zst", ".json.gz", ".json.zst"])
    }
}

pub(crate) fn read(listing: &Listing, source: &JsonlSource) -> Result<Raw> {
    let intake = Intake::default();
    let items = JsonItems {
        files: listing.files.clone().into(),
        selection: Selection::new(source.parsed_template()?, source.fields.clone()),
        limits: Limits {
            max_line_bytes: source.max_line_bytes,
            key: "max-line-bytes",
            max_ratio: source.max_ratio,
        },
        current: None,
        buffer: Vec::new(),
        intake: intake.clone(),
    };
    Ok(Raw { items: Box::new(items) as Items, intake, place: listing.place.clone() })
}

struct JsonItems {
    files: VecDeque<InputFile>,
    selection: Selection,
    limits: Limits,
    current: Option<(String, LineReader)>,
    buffer: Vec<u8>,
    intake: Intake,
}

impl JsonItems {
    /// The next object; blank lines are passed over and not counted.
    fn advance(&mut self) -> Result<Option<Item>> {
        loop {
            let Some((id, reader)) = &mut self.current else {
                let Some(file) = self.files.pop_front() else { return Ok(None) };
                if let Some(loss) = file.loss {
                    self.intake.one();
                    return Ok(Some(Item::lost(file.id.into(), loss)));
                }
                let reader =
                    LineReader::open(&file.path(), self.limits).inspect_err(|_| self.intake.one())?;
                self.current = Some((file.id.into(), reader));
                continue;
            };
            match reader.next_line(&mut self.buffer) {
                Ok(true) if self.buffer.trim_ascii().is_empty() => continue,
                Ok(true) => self.intake.one(),
                Ok(false) => {
                    self.current = None;
                    continue;
                }
                Err(error) => {
                    self.intake.one();
                    // After a long line come others; after damage comes nothing.
                    if !matches!(error, Error::Line { .. }) {
                        self.current = None;
                    }
                    return Err(error);
                }
            }
            let id = format!("{id}:{}", reader.line());
            let Ok(line) = std::str::from_utf8(&self.buffer) else {
                return Ok(Some(Item::lost(id, Loss::NotUtf8)));
            };
            let (text, meta) = self.parse(line)?;
            return Ok(Some(Item::Document(Document { id, text, meta })));
        }
    }

    fn parse(&self, line: &str) -> Result<(String, crate::Meta)> {
        let fault = |loss, message| match &self.current {
            Some((_, reader)) => reader.error(loss, message),
            None => Error::Setting { key: "path", message },
        };
        let object = self.selection.parse(line).map_err(|message| {
            let other = serde_json::from_str::<Value>(line).ok().filter(|value| !value.is_object());
            let found = other.map(|value| format!("expected a JSON object, found {}", kind(&value)));
            fault(Loss::NotJson, found.unwrap_or(message))
        })?;
        self.selection.document(&object).map_err(|message| {
            // The message names the fields that are there, so all of them are read after all.
            let all = serde_json::from_str::<Value>(line).ok();
            let all = all.as_ref().and_then(Value::as_object).map(|object| self.selection.document(object));
            fault(Loss::NoField, all.and_then(Result::err).unwrap_or(message))
        })
    }
}

impl Iterator for JsonItems {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
