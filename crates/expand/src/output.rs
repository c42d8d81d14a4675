//! Whether an output folder may be used. Replacing a folder that is, holds or lies in the input would destroy the
//! input, so paths are compared with links resolved before anything is written.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// Refuses an `out` that is `input`, lies inside it or contains it, and one that is there unless `force`.
pub(crate) fn check(input: &Path, out: &Path, force: bool) -> Result<()> {
    let refuse = |reason: String| Err(Error::Output { path: out.to_owned(), reason });
    let (from, to) = (resolve(input)?, resolve(out)?);
    if to == from {
        return refuse("the output folder is the input folder".to_owned());
    }
    if to.starts_with(&from) {
        return refuse(format!("the output folder lies inside the input folder {}", input.display()));
    }
    if from.starts_with(&to) {
        return refuse(format!("the output folder contains the input folder {}", input.display()));
    }
    if !force && fs::symlink_metadata(out).is_ok() {
        return refuse("the output folder exists (--force replaces it)".to_owned());
    }
    Ok(())
}

/// The absolute path with links resolved as far as it exists.
fn resolve(path: &Path) -> Result<PathBuf> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let absolute = std::path::absolute(path).map_err(io)?;
    let existing = absolute.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    let mut resolved = existing.canonicalize().map_err(io)?;
    for component in absolute.strip_prefix(existing).unwrap_or(Path::new("")).components() {
        match component {
            Component::ParentDir => {
                resolved.pop();
            }
            Component::CurDir => {}
            other => resolved.push(other),
        }
    }
    Ok(resolved)
}
