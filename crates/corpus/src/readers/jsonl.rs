//! `kind = "jsonl"`: one JSON object per line; .jsonl, .jsonl.gz and .jsonl.zst.
//!
//! A line that is not what the recipe promises is an error that names file, line and field: a corpus with a
//! misspelt field must not become an empty one.

use std::collections::VecDeque;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::listing::{self, InputFile, Listing};
use super::stream::{Limits, LineReader};
use super::template::{Template, kind};
use crate::document::{Document, Documents, Intake, Item, Loss};
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
        if self.path.as_slice().is_empty() {
            return Err(Error::Setting { key: "path", message: "expected at least one path".to_owned() });
        }
        self.parsed_template().map(drop)
    }

    fn parsed_template(&self) -> Result<Template> {
        Template::parse(&self.template).map_err(|message| Error::Setting { key: "template", message })
    }

    pub(crate) fn list(&self, environment: &Environment) -> Result<Listing> {
        let mut files = Vec::new();
        let mut places = Vec::new();
        for path in self.path.as_slice() {
            let path = environment.resolve(path);
            places.push(path.display().to_string());
            if path.is_dir() {
                files.extend(listing::walk(&path, false, |_, id| {
                    let id = id.to_ascii_lowercase();
                    [".jsonl", ".jsonl.gz", ".jsonl.zst"].iter().any(|suffix| id.ends_with(suffix))
                })?);
            } else {
                files.push(listing::single(&path)?);
            }
        }
        Ok(Listing { place: places.join(", "), files })
    }
}

pub(crate) fn read(listing: &Listing, source: &JsonlSource) -> Result<Documents> {
    let intake = Intake::default();
    let items = JsonItems {
        files: listing.files.clone().into(),
        template: source.parsed_template()?,
        limits: Limits {
            max_line_bytes: source.max_line_bytes,
            key: "max-line-bytes",
            max_ratio: source.max_ratio,
        },
        current: None,
        buffer: Vec::new(),
        intake: intake.clone(),
    };
    Ok(Documents::new(Box::new(items), intake, listing.place.clone()))
}

struct JsonItems {
    files: VecDeque<InputFile>,
    template: Template,
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
                self.current = Some((file.id, LineReader::open(&file.path, self.limits)?));
                continue;
            };
            if !reader.next_line(&mut self.buffer)? {
                self.current = None;
                continue;
            }
            if self.buffer.trim_ascii().is_empty() {
                continue;
            }
            self.intake.one();
            let id = format!("{id}:{}", reader.line());
            let Ok(line) = std::str::from_utf8(&self.buffer) else {
                return Ok(Some(Item::Lost { id, loss: Loss::NotUtf8 }));
            };
            let value = serde_json::from_str(line)
                .map_err(|error| reader.error(format!("not a JSON object: {error}")))?;
            let Value::Object(object) = value else {
                return Err(reader.error(format!("expected a JSON object, found {}", kind(&value))));
            };
            let text = self.template.render(&object).map_err(|message| reader.error(message))?;
            return Ok(Some(Item::Document(Document { id, text })));
        }
    }
}

impl Iterator for JsonItems {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
