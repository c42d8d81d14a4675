//! Which files were read: the SHA-256 of each goes into the result, and is held against `SHA256SUMS` of the data folder
//! where somebody has put one there, in the form that `sha256sum` writes and checks.
//!
//! No digest is built in: the project has never seen most of these sets, and a digest that nobody has checked is worth
//! nothing. What two results prove of each other is in their `task_hashes`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// The name of the list.
const LIST: &str = "SHA256SUMS";

/// A file of documents that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Its path under the data folder.
    pub name: String,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
    /// Documents in it.
    pub rows: usize,
}

/// The list of a data folder; empty where there is none.
#[derive(Debug)]
pub(super) struct Sums {
    list: PathBuf,
    known: BTreeMap<PathBuf, String>,
}

impl Sums {
    /// Reads the list.
    ///
    /// # Errors
    /// A list that cannot be read, or a line of it that is none: a digest that is passed over would check nothing.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let list = folder.join(LIST);
        let fail = |message: String| Error::Data { place: list.display().to_string(), message };
        let text = match std::fs::read_to_string(&list) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(fail(format!("cannot read: {e}"))),
        };
        let mut known = BTreeMap::new();
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let parts = line
                .split_once(' ')
                .filter(|(digest, _)| digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()));
            let Some((digest, name)) = parts.filter(|(_, name)| name.len() > 1) else {
                let what = "expected 64 hexadecimal digits, two blanks and a file name";
                return Err(fail(format!("line {}: {what}, found {line}", i + 1)));
            };
            // Behind the blank stands another one, or a star for a file that was read as it is.
            let name = Path::new(&name[1..]);
            let name = name.strip_prefix(".").unwrap_or(name);
            known.insert(name.to_path_buf(), digest.to_ascii_lowercase());
        }
        Ok(Self { list, known })
    }

    /// The digest of a file, held against the list.
    ///
    /// # Errors
    /// A file that cannot be read, or is another than the one in the list.
    pub(super) fn check(&self, folder: &Path, path: &Path) -> Result<(String, String)> {
        let fail = |message: String| Error::Data { place: path.display().to_string(), message };
        let found = digest(path).map_err(|e| fail(format!("cannot read: {e}")))?;
        let name = path.strip_prefix(folder).unwrap_or(path);
        match self.known.get(name).filter(|known| **known != found) {
            Some(known) => Err(fail(format!(
                "expected the file with the SHA-256 {known}, as {} says, found {found}",
                self.list.display()
            ))),
            None => Ok((name.display().to_string(), found)),
        }
    }
}

fn digest(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => break,
            count => hasher.update(&block[..count]),
        }
    }
    Ok(hasher.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}
