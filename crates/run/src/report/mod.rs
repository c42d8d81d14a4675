//! One self-contained HTML page about one run or several side by side.
//!
//! No scripts, no fonts, no network: a page that can be mailed or opened from a server without a browser's
//! questions. Curves are inline SVG that follows the reader's light or dark setting, and every figure that a
//! curve ends in also stands in a table, for those who cannot see curves.

mod chart;
pub mod compose;
mod curves;
mod markup;
mod number;
mod page;
mod scores;

use std::path::Path;

use serde_json::{Map, Value};

use crate::{Error, Provenance, Result, RunFolder, read_metrics};

pub use page::html;

/// What a report needs of one run. Everything but the name may be missing.
#[derive(Clone, Debug, Default)]
pub struct RunData {
    /// Name shown for the run: the name of its folder.
    pub name: String,
    /// The resolved recipe.
    pub recipe: toml::Table,
    /// Where the run came from.
    pub provenance: Option<Provenance>,
    /// Lines of `metrics.jsonl`: `step` and numbers, or objects of numbers such as `validation`.
    pub metrics: Vec<Map<String, Value>>,
    /// `summary.json`: what the run says about itself.
    pub summary: Map<String, Value>,
    /// `eval/before.json`, a table of perplexities: `{"sets": [{"name", "perplexity", "tokens"}]}`.
    pub before: Option<Value>,
    /// `eval/after.json`.
    pub after: Option<Value>,
    /// `eval/changes.json`: `[{"name", "verdict"}]`, whether a change is more than chance.
    pub changes: Option<Value>,
}

impl RunData {
    /// Reads a run folder. Files that are not there, or not yet, are left out.
    ///
    /// # Errors
    /// [`Error::NotARun`], or [`Error::Io`], [`Error::Recipe`] or [`Error::Malformed`] for a file in it.
    pub fn read(dir: &Path) -> Result<Self> {
        let folder = RunFolder::open(dir)?;
        // A folder given as `.` or `..` still has a name.
        let full = dir.canonicalize().map_err(Error::io(dir, "find"))?;
        let name = full.file_name().unwrap_or(full.as_os_str()).to_string_lossy().into_owned();
        let there = |path: std::path::PathBuf| path.exists().then_some(path);
        let eval = |name: &str| there(folder.eval().join(name)).map(|p| read_json(&p)).transpose();
        let summary = match there(folder.summary()).map(|p| read_json(&p)).transpose()? {
            Some(Value::Object(object)) => object,
            Some(_) => {
                return Err(Error::malformed(&folder.summary(), None, "expected a JSON object"));
            }
            None => Map::new(),
        };
        Ok(Self {
            name,
            recipe: folder.read_recipe()?,
            provenance: there(folder.provenance()).map(|p| Provenance::read(&p)).transpose()?,
            metrics: there(folder.metrics()).map(|p| read_metrics(&p)).transpose()?.unwrap_or_default(),
            summary,
            before: eval("before.json")?,
            after: eval("after.json")?,
            changes: eval("changes.json")?,
        })
    }
}

fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
    serde_json::from_str(&text).map_err(|e| Error::malformed(path, Some(e.line()), e.to_string()))
}
