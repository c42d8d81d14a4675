//! The documents of a task: found under a data folder, or made by this crate.

mod embedded;
mod locate;
mod read;
mod sums;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub use read::read_documents;
pub use sums::DataFile;
use sums::Sums;

use crate::tasks::{Doc, TaskSpec, Templates};
use crate::{Error, Result};

/// Where documents come from.
#[derive(Clone, Debug, Default)]
pub struct DataRoot {
    /// The folder with the benchmarks' files.
    pub folder: PathBuf,
    /// Sets that the caller has in memory, by the name that a task's `embedded` gives.
    pub sets: BTreeMap<String, Vec<Doc>>,
}

/// The documents of one split, and how errors name them.
pub(crate) struct Documents {
    pub(crate) docs: Vec<Doc>,
    /// The files that they were read from; none where they were made.
    pub(crate) files: Vec<DataFile>,
    name: String,
}

impl DataRoot {
    /// Reads a split, adds the columns that the task computes, and checks that every row has what the task reads.
    pub(crate) fn load(&self, spec: &TaskSpec, templates: &Templates, split: &str) -> Result<Documents> {
        let mut documents = self.read(spec, split)?;
        let columns = templates.columns();
        for (row, doc) in documents.docs.iter_mut().enumerate() {
            check_columns(doc, &columns).map_err(|message| fail(&documents.name, row, message))?;
            templates.process(doc).map_err(|message| fail(&documents.name, row, message))?;
        }
        Ok(documents)
    }

    fn read(&self, spec: &TaskSpec, split: &str) -> Result<Documents> {
        if let Some(name) = &spec.data.embedded {
            let docs = self.sets.get(name).cloned().or_else(|| embedded::documents(name, split));
            let docs = docs.ok_or_else(|| Error::Task {
                task: spec.task.clone(),
                message: format!("there is no embedded set \"{name}\" with a split \"{split}\""),
            })?;
            return Ok(Documents { docs, files: Vec::new(), name: format!("embedded set {name}") });
        }
        let found = locate::find(&self.folder, spec, split)?;
        let mut docs = Vec::new();
        let mut files = Vec::new();
        let sums = Sums::read(&self.folder)?;
        for path in &found.paths {
            let (name, sha256) = sums.check(&self.folder, path)?;
            let read = read::documents(path, &spec.data.text)?;
            files.push(DataFile { name, sha256, rows: read.len() });
            docs.extend(read);
        }
        let name = found.paths.first().map(|path| path.display().to_string()).unwrap_or_default();
        if let Some(filter) = spec.data.whole_filter.as_ref().filter(|_| found.whole) {
            docs = keep(docs, filter, &name)?;
        }
        if docs.is_empty() {
            return Err(Error::Data { place: name, message: "expected documents, found none".to_owned() });
        }
        Ok(Documents { docs: same_columns(docs), files, name })
    }
}

impl Documents {
    /// An error about a row.
    pub(crate) fn fail(&self, row: usize, message: String) -> Error {
        fail(&self.name, row, message)
    }
}

fn fail(name: &str, row: usize, message: String) -> Error {
    Error::Data { place: format!("{name}, row {}", row + 1), message }
}

fn check_columns(doc: &Doc, columns: &BTreeSet<String>) -> Result<(), String> {
    match columns.iter().find(|name| doc.get(*name).is_none_or(serde_json::Value::is_null)) {
        None => Ok(()),
        Some(name) => {
            let found: Vec<&str> =
                doc.iter().filter(|(_, v)| !v.is_null()).map(|(k, _)| k.as_str()).collect();
            Err(format!("no column \"{name}\"; expected {}, found {}", list(columns), found.join(", ")))
        }
    }
}

fn list(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Rows of a table all have its columns, in the order in which they first appear, with nulls where a row has none.
fn same_columns(docs: Vec<Doc>) -> Vec<Doc> {
    let mut names: Vec<String> = Vec::new();
    let mut known = BTreeSet::new();
    let mut differ = false;
    for doc in &docs {
        differ |= !doc.keys().eq(names.iter()) && !names.is_empty();
        for name in doc.keys() {
            if known.insert(name.clone()) {
                names.push(name.clone());
            }
        }
    }
    if !differ {
        return docs;
    }
    let full = |mut doc: Doc| {
        names.iter().map(|n| (n.clone(), doc.remove(n).unwrap_or(serde_json::Value::Null))).collect()
    };
    docs.into_iter().map(full).collect()
}

fn keep(docs: Vec<Doc>, filter: &str, name: &str) -> Result<Vec<Doc>> {
    let inner = filter.trim().trim_start_matches("{{").trim_end_matches("}}").trim();
    let environment = minijinja::Environment::new();
    let wrong =
        |e: minijinja::Error| Error::Data { place: name.to_owned(), message: format!("whole_filter: {e}") };
    let expression = environment.compile_expression(inner).map_err(wrong)?;
    let mut kept = Vec::new();
    for doc in docs {
        if expression.eval(minijinja::value::Serde(&doc)).map_err(wrong)?.is_true() {
            kept.push(doc);
        }
    }
    Ok(kept)
}
