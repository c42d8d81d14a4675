//! Files that appear whole or not at all, and the digests that name their content.
//!
//! The order is the usual one for POSIX file systems: write a temporary file in the same folder, fsync it,
//! rename it over the name, fsync the folder. A kill or a power cut at any point leaves the old file or the
//! new one, and at worst a hidden temporary file that the next owner of the run folder removes.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use crate::{Error, Result};

/// Ending of temporary files. Their names also begin with a dot.
pub(crate) const PARTIAL: &str = ".partial";

/// Writes `bytes` to `path` so that a reader sees the old content or all of the new, with mode 0644.
///
/// # Errors
/// [`Error::Io`] when the folder does not exist or cannot be written, or `path` is a folder. The temporary
/// file is removed.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = folder_of(path);
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("file");
    let mut file = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .suffix(PARTIAL)
        .tempfile_in(folder)
        .map_err(Error::io(path, "write"))?;
    file.write_all(bytes).map_err(Error::io(path, "write"))?;
    readable_by_all(file.as_file()).map_err(Error::io(path, "set the mode of"))?;
    file.as_file().sync_all().map_err(Error::io(path, "write"))?;
    file.persist(path).map_err(|e| Error::io(path, "write")(e.error))?;
    sync_folder(folder)
}

/// The digest of `bytes`: `blake3:` and 64 hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    format!("blake3:{}", blake3::hash(bytes).to_hex())
}

/// The digest of a file, read in pieces of constant size.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read.
pub fn digest_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io(path, "open"))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0_u8; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(Error::io(path, "read"))? {
            0 => return Ok(format!("blake3:{}", hasher.finalize().to_hex())),
            n => hasher.update(&buffer[..n]),
        };
    }
}

/// The folder that `path` lies in: `.` for a bare name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes renames and new names in `folder` survive a power cut.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    // Only POSIX systems let a folder be opened and synced.
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io(folder, "sync"))?;
    }
    Ok(())
}

#[cfg(unix)]
fn readable_by_all(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable_by_all(_: &File) -> std::io::Result<()> {
    Ok(())
}
