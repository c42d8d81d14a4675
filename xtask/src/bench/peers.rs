//! The peers' Python: a virtual environment in the user's cache, filled once with the pinned packages of
//! tests/peers/requirements.txt. Nothing but `cargo xtask bench` uses it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo::run;
use crate::host::Host;

/// A Python that has what the scripts in tests/peers need.
pub(crate) struct Peers {
    python: PathBuf,
    scripts: PathBuf,
}

impl Peers {
    /// The environment, made where it is not there yet: some 6 GB, once, since torch brings CUDA's libraries along.
    ///
    /// # Errors
    /// No python3 or no cache folder, or a package that pip cannot get.
    pub(crate) fn locate(host: &Host) -> Result<Self> {
        let scripts = host.workspace.join("tests/peers");
        let requirements = scripts.join("requirements.txt");
        let wanted = std::fs::read(&requirements).with_context(|| requirements.display().to_string())?;
        let folder = host.cache.as_ref().context("no home folder, so no cache for the peers")?.join("peers");
        let python = folder.join("bin/python");
        let installed = folder.join("installed.txt");
        if std::fs::read(&installed).ok().as_ref() != Some(&wanted) {
            let Some(system) = &host.python else { bail!("the peers need python3, and PATH has none") };
            eprintln!("xtask: installing the peers into {}: some 6 GB, once", folder.display());
            run(Command::new(system).args(["-m", "venv"]).arg(&folder))?;
            run(Command::new(&python).args(["-m", "pip", "install", "-q", "-r"]).arg(&requirements))?;
            std::fs::write(&installed, wanted).with_context(|| installed.display().to_string())?;
        }
        Ok(Self { python, scripts })
    }

    /// A script of tests/peers, ready for its arguments.
    pub(crate) fn script(&self, name: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(self.scripts.join(name));
        command
    }
}
