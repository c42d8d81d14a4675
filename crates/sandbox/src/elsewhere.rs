//! The launcher on systems other than Linux: it says that there is none.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use crate::probe::Layer;
use crate::wire::{FromLauncher, send};

/// The word that makes a program a launcher.
pub(crate) const WORD: &str = "run-the-sandbox-launcher";

/// Becomes the launcher where the arguments of the program say so; `None` for every other use of the program.
pub fn launcher(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if arguments.nth(1)?.to_str() != Some(WORD) {
        return None;
    }
    let message = "this system has no namespaces; Linux has".to_owned();
    if let Ok(host) = std::io::stdin().as_fd().try_clone_to_owned() {
        let layer = Layer::Users.to_string();
        let _ = send(&mut UnixStream::from(host), &FromLauncher::Failed { layer, message });
    }
    Some(ExitCode::FAILURE)
}
