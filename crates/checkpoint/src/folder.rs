//! An output folder that appears whole or not at all.
//!
//! It is built in the sibling `.NAME.partial` and renamed at the end. The lock is an advisory lock on that
//! folder itself, so there is no lock file to leave behind, and it ends with the process however that dies. A
//! folder left by a killed process is taken up again; what is in it is trusted only after comparison.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// The folder under construction.
pub(crate) struct PartialFolder {
    out: PathBuf,
    parent: PathBuf,
    partial: PathBuf,
    /// Open for the lock and for syncing.
    dir: File,
    force: bool,
    keep: bool,
    done: bool,
}

impl PartialFolder {
    /// Creates or takes up the sibling folder. Refuses an existing output unless `force`.
    pub(crate) fn new(out: &Path, force: bool, keep: bool) -> Result<Self> {
        let Some(name) = out.file_name() else {
            return Err(Error::usage(out, "the output needs a name"));
        };
        let parent = match out.parent() {
            Some(parent) if parent != Path::new("") => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        match fs::metadata(&parent) {
            Err(e) => return Err(Error::io("read", &parent, e)),
            Ok(meta) if !meta.is_dir() => return Err(Error::WrongKind { path: parent, expected: "folder" }),
            Ok(_) => {}
        }
        check_existing(out, force)?;
        let mut partial_name = OsString::from(".");
        partial_name.push(name);
        partial_name.push(".partial");
        let partial = parent.join(partial_name);
        let dir = lock(out, &partial)?;
        // Another process may have finished between the check and the lock.
        let this = Self { out: parent.join(name), parent, partial, dir, force, keep, done: false };
        check_existing(out, force)?;
        Ok(this)
    }

    /// Where the files go.
    pub(crate) fn path(&self) -> &Path {
        &self.partial
    }

    /// Where they will be.
    pub(crate) fn out(&self) -> &Path {
        &self.out
    }

    /// Bytes that the file system has free for this user, or `None` where it does not say.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        let stat = rustix::fs::fstatvfs(&self.dir).ok()?;
        (stat.f_blocks > 0).then(|| stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Puts the folder in its place, durably. An output that is replaced is removed last.
    pub(crate) fn commit(mut self, durable: bool) -> Result<()> {
        let fail = |action: &'static str, path: &Path| {
            let path = path.to_path_buf();
            move |e: io::Error| Error::io(action, &path, e)
        };
        if durable {
            self.dir.sync_all().map_err(fail("write", &self.partial))?;
        }
        check_existing(&self.out, self.force)?;
        let exchanged = match self.rename(RenameFlags::NOREPLACE) {
            Ok(()) => false,
            Err(Errno::EXIST | Errno::NOTEMPTY) if self.force => {
                self.rename(RenameFlags::EXCHANGE).map_err(|e| fail("replace", &self.out)(e.into()))?;
                true
            }
            Err(Errno::EXIST | Errno::NOTEMPTY) => return Err(Error::Exists { path: self.out.clone() }),
            Err(e) => return Err(fail("create", &self.out)(e.into())),
        };
        self.done = true;
        if durable {
            File::open(&self.parent).and_then(|dir| dir.sync_all()).map_err(fail("write", &self.parent))?;
        }
        if exchanged {
            fs::remove_dir_all(&self.partial).map_err(fail("remove", &self.partial))?;
        }
        Ok(())
    }

    /// Renames with a flag, or by steps on file systems that know no flags; those steps are not atomic, but
    /// every moment leaves either output whole.
    fn rename(&self, flag: RenameFlags) -> rustix::io::Result<()> {
        match renameat_with(CWD, &self.partial, CWD, &self.out, flag) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            result => return result,
        }
        if flag == RenameFlags::NOREPLACE {
            return match self.out.symlink_metadata() {
                Ok(_) => Err(Errno::EXIST),
                Err(_) => rustix::fs::rename(&self.partial, &self.out),
            };
        }
        let aside = self.partial.with_extension("old");
        rustix::fs::rename(&self.out, &aside)?;
        rustix::fs::rename(&self.partial, &self.out)?;
        rustix::fs::rename(&aside, &self.partial)
    }
}

impl Drop for PartialFolder {
    fn drop(&mut self) {
        if !self.done && !self.keep {
            // The error that brought us here is the one to report.
            let _ = fs::remove_dir_all(&self.partial);
        }
        // Closing is not enough: a process that is being started at this moment holds a copy of the open folder
        // for an instant, and with it the lock.
        let _ = self.dir.unlock();
    }
}

fn lock(out: &Path, partial: &Path) -> Result<File> {
    // Twice at most: the folder can be renamed away once by the process that held the lock before us.
    for _ in 0..8 {
        match fs::create_dir(partial) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io("create", partial, e));
            }
            _ => {}
        }
        match fs::symlink_metadata(partial) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(Error::WrongKind { path: partial.into(), expected: "folder" }),
            Err(_) => continue,
        }
        let Ok(dir) = File::open(partial) else { continue };
        match dir.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: out.into() }),
            Err(TryLockError::Error(e)) => return Err(Error::io("lock", partial, e)),
        }
        let held = dir.metadata().map_err(|e| Error::io("read", partial, e))?;
        let there = fs::symlink_metadata(partial);
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())) {
            return Ok(dir);
        }
    }
    Err(Error::Locked { path: out.into() })
}

/// An existing output must be allowed to go, and look like something that we would have written.
fn check_existing(out: &Path, force: bool) -> Result<()> {
    let meta = match fs::symlink_metadata(out) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("read", out, e)),
        Ok(meta) => meta,
    };
    if !force {
        return Err(Error::Exists { path: out.into() });
    }
    let refuse = |reason: &str| Err(Error::NotReplaced { path: out.into(), reason: reason.to_owned() });
    if !meta.is_dir() {
        return refuse("it is no folder");
    }
    let mut entries = fs::read_dir(out).map_err(|e| Error::io("read", out, e))?;
    if !out.join("config.json").is_file() && entries.next().is_some() {
        return refuse("it holds no config.json, so it is no model folder");
    }
    Ok(())
}
