//! A file system of a few hundred kilobytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Ran;

/// A file system of its own, gone with the value.
pub(crate) struct Small(PathBuf);

impl Small {
    /// Mounts one, or says that it cannot be tested here.
    pub(crate) fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at);
        let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        if done.is_ok_and(|s| s.success()) {
            return Some(Self(at.to_owned()));
        }
        println!("skipped: no tmpfs can be mounted here");
        None
    }

    /// Gives it another size.
    pub(crate) fn resize(&self, size: &str) {
        let mut command = Command::new("mount");
        command.args(["-o", &format!("remount,size={size}")]).arg(&self.0);
        assert!(command.status().unwrap().success());
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Exit code 1 or 2 and one line.
#[track_caller]
pub(crate) fn full(ran: Ran, words: &[&str]) {
    let code = ran.code.unwrap_or(-1);
    assert!(code == 1 || code == 2, "{ran:#?}");
    ran.failed(code, words);
}
