//! How the folder of a checkpoint gets its name, changes and goes: each in one rename, so that a kill leaves it whole or
//! leaves a hidden one, which the next start removes.

use std::fs;
use std::path::{Path, PathBuf};

use llama_pro_run::RunFolder;

use crate::Result;
use crate::error::at;

/// Removes what a kill in the middle of a save or of a removal left behind.
pub(crate) fn clear_partial(run: &RunFolder) -> Result<()> {
    let target = run.checkpoint(0);
    let parent = target.parent().unwrap_or(run.dir());
    for entry in fs::read_dir(parent).map_err(at(parent))? {
        let path = entry.map_err(at(parent))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.starts_with(".step-") && name.ends_with(".partial") {
            fs::remove_dir_all(&path).map_err(at(&path))?;
        }
    }
    Ok(())
}

/// Two folders change names at once. Where the file system cannot do that nothing happens: steps one after the other would
/// have a moment with neither.
pub(crate) fn exchange(a: &Path, b: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(()),
        result => Ok(result?),
    }
}

/// Takes a checkpoint out of sight first, then removes it: a kill between the files leaves no half of one.
pub(crate) fn retire(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let partial = partial_of(path);
    fs::rename(path, &partial).map_err(at(path))?;
    fs::remove_dir_all(&partial).map_err(at(&partial))
}

pub(crate) fn partial_of(path: &Path) -> PathBuf {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("step");
    path.with_file_name(format!(".{name}.partial"))
}
