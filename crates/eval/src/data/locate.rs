//! Where the file of a split lies: beside the names that data sets use when they are downloaded.

use std::path::{Path, PathBuf};

use crate::tasks::TaskSpec;
use crate::{Error, Result};

/// What can be read, in the order of preference.
const ENDINGS: [&str; 7] = ["jsonl", "jsonl.gz", "json", "json.gz", "csv", "csv.gz", "parquet"];

/// The files of a split.
pub(super) struct Found {
    pub(super) paths: Vec<PathBuf>,
    /// Whether the one file has the rows of all splits.
    pub(super) whole: bool,
}

/// Looks for the files of a split: `PLACE/SPLIT.EXT`, `PLACE/SPLIT-*.parquet`, `PLACE/data/SPLIT-*.parquet`,
/// `PLACE_SPLIT.EXT`, and, for the split that is evaluated, `PLACE.EXT`.
pub(super) fn find(folder: &Path, spec: &TaskSpec, split: &str) -> Result<Found> {
    for place in &spec.data.places {
        let place = folder.join(place);
        for stem in [place.join(split), add(&place, &format!("_{split}"))] {
            if let Some(path) = one(&stem) {
                return Ok(Found { paths: vec![path], whole: false });
            }
        }
        for parent in [place.clone(), place.join("data")] {
            let paths = parts(&parent, split);
            if !paths.is_empty() {
                return Ok(Found { paths, whole: false });
            }
        }
        if spec.eval_split() == Some(split)
            && let Some(path) = one(&place)
        {
            return Ok(Found { paths: vec![path], whole: true });
        }
    }
    let first = spec.data.places.first().map_or("", String::as_str);
    Err(Error::MissingData {
        task: spec.task.clone(),
        path: folder.join(first).join(format!("{split}.jsonl")),
        origin: spec.data.origin.clone(),
    })
}

fn add(path: &Path, end: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(end);
    path.with_file_name(name)
}

fn one(stem: &Path) -> Option<PathBuf> {
    ENDINGS.iter().map(|ending| add(stem, &format!(".{ending}"))).find(|path| path.is_file())
}

/// `SPLIT-00000-of-00002.parquet` and so on, in the order of their names.
fn parts(folder: &Path, split: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&format!("{split}-")) && name.ends_with(".parquet")
        })
        .collect();
    paths.sort();
    paths
}
