//! The `python3` on PATH, used for three things only: to find an installed torch, to fetch wheels with its pip,
//! which honours the user's mirrors and certificates, and to unpack them. Nothing of it is needed afterwards.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A Python interpreter.
#[derive(Clone, Debug)]
pub(crate) struct Python(pub(crate) PathBuf);

/// A torch package that a Python has installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Torch {
    /// The whole version, such as `2.11.0+cpu`.
    pub(crate) version: String,
    /// The package's folder, with `include/` and `lib/`.
    pub(crate) folder: PathBuf,
}

impl Torch {
    /// The version without what stands after `+`: the build for CPU or for some CUDA.
    pub(crate) fn release(&self) -> &str {
        self.version.split('+').next().unwrap_or_default()
    }
}

impl Python {
    /// A command of this interpreter.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.0);
        command.stdin(Stdio::null());
        command
    }

    /// The installed torch, if any. torch itself is not imported: that takes seconds.
    pub(crate) fn torch(&self) -> Option<Torch> {
        let output = self.command().args(["-c", include_str!("find_torch.py")]).output().ok()?;
        parse(std::str::from_utf8(&output.stdout).ok()?)
    }

    /// Can it run pip?
    ///
    /// # Errors
    /// One line with the interpreter and what it said.
    pub(crate) fn pip(&self) -> Result<(), String> {
        let output = self.command().args(["-m", "pip", "--version"]).output();
        let output = output.map_err(|error| format!("{} does not start: {error}", self.0.display()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().lines().last().unwrap_or("it said nothing");
        Err(format!("{} has no working pip ({said}); Debian has it as python3-pip", self.0.display()))
    }
}

/// Reads what find_torch.py prints.
fn parse(text: &str) -> Option<Torch> {
    let mut lines = text.lines();
    let (version, folder) = (lines.next()?.trim(), lines.next()?);
    (!version.is_empty() && Path::new(folder).is_absolute())
        .then(|| Torch { version: version.to_owned(), folder: PathBuf::from(folder) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_read() {
        let torch = parse("2.11.0+cu130\n/usr/lib/python3/torch\n").unwrap();
        assert_eq!((torch.release(), torch.version.as_str()), ("2.11.0", "2.11.0+cu130"));
        assert_eq!(torch.folder, Path::new("/usr/lib/python3/torch"));
        assert_eq!(parse(""), None);
        assert_eq!(parse("2.11.0\n"), None);
        assert_eq!(parse("Traceback\nmost recent\n"), None);
    }

    #[test]
    fn a_python_that_does_not_start_is_named() {
        let python = Python(PathBuf::from("/nonexistent/python3"));
        assert!(python.pip().unwrap_err().contains("/nonexistent/python3 does not start"));
        assert_eq!(python.torch(), None);
    }
}
