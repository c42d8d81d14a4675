//! The work folder: results of finished pieces under names that say what they were made from.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::error::{Error, Result};

/// Removes the unfinished files that a killed run left in a folder which this process has locked.
pub(super) fn remove_partials(folder: &Path) -> Result<()> {
    let io = Error::io("read", folder);
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(Error::io("read", folder))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(".partial") {
            fs::remove_file(entry.path()).map_err(Error::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// A folder beside `dir`, for a piece in progress. What an earlier, killed run left there is removed.
pub(super) fn temporary(dir: &Path) -> Result<TempDir> {
    let parent = dir.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    tempfile::Builder::new().prefix(".partial-").tempdir_in(parent).map_err(Error::io("write", parent))
}

/// Removes what killed runs left in a folder of pieces.
pub(super) fn sweep(parent: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(parent) else { return Ok(()) };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(".partial-") {
            fs::remove_dir_all(entry.path()).map_err(Error::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Writes the record of a finished piece, last, and gives the folder its name.
pub(super) fn publish(folder: TempDir, dir: &Path, name: &str, record: &impl Serialize) -> Result<()> {
    write_json(&folder.path().join(name), record)?;
    sync(folder.path())?;
    if dir.exists() {
        // Damaged, or it would have been used.
        fs::remove_dir_all(dir).map_err(Error::io("remove", dir))?;
    }
    fs::rename(folder.path(), dir).map_err(Error::io("write", dir))?;
    // It is no longer there under its old name.
    drop(folder.keep());
    sync(dir.parent().unwrap_or(Path::new(".")))
}

fn sync(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("write", dir))
}

/// A JSON file of one line per record.
pub(super) fn write_json(path: &Path, record: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(record)
        .map_err(|source| Error::Json { what: "a record of the work folder", source })?;
    text.push(b'\n');
    let mut file = File::create(path).map_err(Error::io("write", path))?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(Error::io("write", path))
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(|_| Error::Work { path: path.to_owned() })
}
