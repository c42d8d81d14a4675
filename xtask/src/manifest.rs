//! The record of an unpacked libtorch: size and SHA-256 of every library, written before the folder appears.
//!
//! Sizes are compared on every use, which costs a few microseconds and finds a truncated copy; the digests when
//! `setup --verify` asks for them. One line per file, `sha256  size  path`, so that a person can read it too.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// The file in the root of an unpacked libtorch.
pub(crate) const NAME: &str = "manifest.txt";

/// Writes the manifest of the libraries under a tree and makes everything that it names durable.
pub(crate) fn write(root: &Path) -> Result<()> {
    let mut files = Vec::new();
    libraries(root, root, &mut files)?;
    files.sort();
    let mut text = String::new();
    for name in files {
        let file = root.join(&name);
        let (digest, bytes) = digest(&file)?;
        File::open(&file)?.sync_all()?;
        text.push_str(&format!("{digest}  {bytes}  {}\n", name.display()));
    }
    // A temporary name first: this also writes into a folder that somebody put there by hand and may be using.
    let partial = root.join(format!("{NAME}.{}.partial", std::process::id()));
    fs::write(&partial, text).with_context(|| format!("writing {}", partial.display()))?;
    File::open(&partial)?.sync_all()?;
    fs::rename(&partial, root.join(NAME))?;
    File::open(root)?.sync_all()?;
    Ok(())
}

/// Is every file of the manifest there with its size and, if asked for, its digest? `None` without a manifest.
pub(crate) fn check(root: &Path, digests: bool) -> Option<Result<()>> {
    let text = fs::read_to_string(root.join(NAME)).ok()?;
    Some(text.lines().try_for_each(|line| check_line(root, line, digests)))
}

fn check_line(root: &Path, line: &str, digests: bool) -> Result<()> {
    let mut parts = line.splitn(3, "  ");
    let (Some(expected), Some(size), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
        bail!("{}: line {line:?} is not a digest, a size and a path", root.join(NAME).display());
    };
    let file = root.join(name);
    let found = file.metadata().with_context(|| format!("{} is missing", file.display()))?.len();
    if size.parse() != Ok(found) {
        bail!("{} has {found} bytes, {size} expected", file.display());
    }
    if digests {
        let (found, _) = digest(&file)?;
        if found != expected {
            bail!("{} has sha256 {found}, {expected} expected", file.display());
        }
    }
    Ok(())
}

/// SHA-256 in hex, and the number of bytes.
pub(crate) fn digest(file: &Path) -> Result<(String, u64)> {
    let mut input = File::open(file).with_context(|| format!("opening {}", file.display()))?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = input.read(&mut buffer).with_context(|| format!("reading {}", file.display()))?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        bytes += n as u64;
    }
    Ok((hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), bytes))
}

/// Every library under a folder, by its path in the tree. Headers are left out: there are ten thousand, and a
/// damaged one stops the build by itself.
fn libraries(root: &Path, folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "include") {
                libraries(root, &path, found)?;
            }
        } else if path.parent().is_some_and(|parent| parent.ends_with("lib")) {
            found.push(path.strip_prefix(root)?.to_path_buf());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("lib")).unwrap();
        fs::create_dir_all(root.join("include")).unwrap();
        fs::write(root.join("lib/a.so"), "abc").unwrap();
        fs::write(root.join("include/a.h"), "x").unwrap();
        assert!(check(root, true).is_none());
        write(root).unwrap();
        let text = fs::read_to_string(root.join(NAME)).unwrap();
        // The digest of "abc" as FIPS 180-2 gives it.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(text, format!("{abc}  3  lib/a.so\n"));
        check(root, true).unwrap().unwrap();

        fs::write(root.join("lib/a.so"), "abd").unwrap();
        check(root, false).unwrap().unwrap();
        assert!(check(root, true).unwrap().unwrap_err().to_string().contains("sha256"));
        fs::write(root.join("lib/a.so"), "ab").unwrap();
        assert!(check(root, false).unwrap().unwrap_err().to_string().contains("has 2 bytes, 3 expected"));
        fs::remove_file(root.join("lib/a.so")).unwrap();
        assert!(check(root, false).unwrap().unwrap_err().to_string().contains("is missing"));
    }
}
