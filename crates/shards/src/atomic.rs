//! Files that appear whole or not at all: a temporary file in the same folder, flushed to disk, then renamed.
//!
//! A writer holds a lock on its temporary file, which ends with its process: one that nobody holds was left by a writer
//! that was killed, and the next writer of the same file removes it.

use std::fs::{self, File, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Result, io};

/// Ending of temporary files. Their names also begin with a dot and the name of what they become.
const PARTIAL: &str = ".partial";

/// A file on its way. Dropped without `commit`, it leaves nothing.
pub(crate) struct Pending {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
    hash: blake3::Hasher,
    bytes: u64,
    /// A write failed, so that nobody knows how much of it is in the file.
    failed: bool,
}

impl Pending {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let prefix = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
        remove_abandoned(folder(path), &prefix);
        let make = || {
            let mut builder = tempfile::Builder::new();
            builder.prefix(&prefix).suffix(PARTIAL).tempfile_in(folder(path))
        };
        let failed = || io(path, "create a temporary file for");
        let mut file = make().map_err(failed())?;
        // Where locks are not supported, nothing is ever taken for abandoned. Another writer that came between the file and
        // its lock took it for that.
        while file.as_file().lock().is_ok() && !file.path().exists() {
            file = make().map_err(failed())?;
        }
        let file = BufWriter::with_capacity(1 << 20, file);
        Ok(Self { path: path.to_path_buf(), file, hash: blake3::Hasher::new(), bytes: 0, failed: false })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            self.failed = true;
            return Err(io(&self.path, "write")(error));
        }
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Everything on disk, under the temporary name still.
    pub(crate) fn flush(self) -> Result<Flushed> {
        let Self { path, file, hash, bytes, failed } = self;
        if failed {
            return Err(io(&path, "finish")(std::io::Error::other("an earlier write failed")));
        }
        let file = file.into_inner().map_err(|error| io(&path, "write")(error.into_error()))?;
        // Temporary files are made unreadable for others; the finished file is not a secret.
        file.as_file()
            .set_permissions(Permissions::from_mode(0o644))
            .map_err(io(&path, "set the mode of"))?;
        file.as_file().sync_all().map_err(io(&path, "write"))?;
        Ok(Flushed { path, file, digest: format!("blake3:{}", hash.finalize().to_hex()), bytes })
    }
}

/// A complete file that lacks only its name.
pub(crate) struct Flushed {
    path: PathBuf,
    file: NamedTempFile,
    pub digest: String,
    pub bytes: u64,
}

impl Flushed {
    pub(crate) fn rename(self) -> Result<()> {
        let Self { path, file, .. } = self;
        file.persist(&path).map_err(|error| io(&path, "rename a temporary file to")(error.error))?;
        sync_folder(&path)
    }
}

/// Removes the temporary files of killed writers. What cannot be removed only takes room.
fn remove_abandoned(folder: &Path, prefix: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(prefix) && name.ends_with(PARTIAL) {
            let Ok(file) = File::open(entry.path()) else { continue };
            // Removed while it is locked, so that whoever waits for the lock finds it gone.
            if file.try_lock().is_ok() {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Removes `path` if it is there, for good.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io(path, "replace")(error)),
    }
}

fn sync_folder(path: &Path) -> Result<()> {
    let folder = folder(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder, "flush"))
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_writer_left_goes_and_what_another_one_writes_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        let names = || {
            let mut names: Vec<String> = fs::read_dir(dir.path())
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        for name in [".a.bin.x.partial", ".b.bin.x.partial", "a.bin.partial"] {
            fs::write(dir.path().join(name), "left").unwrap();
        }
        let mut first = Pending::create(&path).unwrap();
        let second = Pending::create(&path).unwrap();
        let there = names();
        assert_eq!(there.len(), 4, "two on their way, one of another file, one of another kind: {there:?}");
        assert!(!there.contains(&".a.bin.x.partial".to_owned()));
        drop(second);
        first.write(b"whole").unwrap();
        first.flush().unwrap().rename().unwrap();
        assert_eq!(names(), [".b.bin.x.partial", "a.bin", "a.bin.partial"]);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }
}
