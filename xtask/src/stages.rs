//! The commands that run cargo: test, check, ci, and the program itself.
//!
//! Everything is built in one profile, release, so that libtorch's bindings compile once.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cargo::{build_program, cargo, command, run};
use crate::error::Exit;
use crate::host::{Host, find_program};
use crate::libtorch::{Want, locate};

/// The time of each stage, printed at the end.
#[derive(Default)]
struct Times(Vec<(String, Duration)>);

impl Times {
    fn stage(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        eprintln!("xtask: {name}");
        let started = Instant::now();
        let outcome = work();
        self.0.push((name.to_owned(), started.elapsed()));
        if outcome.is_err() {
            eprintln!("xtask: {name} failed after {:.1} s", started.elapsed().as_secs_f64());
        }
        outcome
    }

    fn table(&self) -> String {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let line =
            |(name, time): &(String, Duration)| format!("  {name:width$} {:8.1} s\n", time.as_secs_f64());
        self.0.iter().map(line).collect()
    }
}

/// Tests of the whole workspace. `args` go to cargo test.
pub(crate) fn test(host: &Host, args: &[OsString]) -> Result<()> {
    let libtorch = locate(host, Want::default())?;
    let mut cargo = cargo(host, Some(&libtorch.root))?;
    cargo.args(["test", "--release", "--locked"]);
    if !chooses_packages(args) {
        cargo.arg("--workspace");
    }
    run(cargo.args(args))
}

/// Do these words of cargo test choose packages themselves?
fn chooses_packages(args: &[OsString]) -> bool {
    args.iter().take_while(|word| *word != "--").any(|word| {
        let word = word.to_string_lossy();
        word.starts_with("--package") || (word.starts_with("-p") && !word.starts_with("--"))
    })
}

/// All checks.
pub(crate) fn check(host: &Host) -> Result<()> {
    let mut times = Times::default();
    let outcome = checks(host, &mut times);
    eprint!("{}", times.table());
    outcome
}

/// The tests, then all checks.
pub(crate) fn ci(host: &Host) -> Result<()> {
    let mut times = Times::default();
    let outcome = times.stage("test", || test(host, &[])).and_then(|()| checks(host, &mut times));
    eprint!("{}", times.table());
    outcome
}

/// The cheapest first, so that what fails fails early.
fn checks(host: &Host, times: &mut Times) -> Result<()> {
    times.stage("format", || run(cargo(host, None)?.args(["fmt", "--all", "--check"])))?;
    let libtorch = locate(host, Want::default())?;
    let cargo = |words: &str| -> Result<()> {
        run(cargo(host, Some(&libtorch.root))?.args(words.split(' '))).context(words.to_owned())
    };
    times.stage("boundaries and tidiness", || {
        // The whole workspace: see `build_program`.
        cargo("test --release --locked --workspace --test boundaries --test tidy")
    })?;
    times.stage("clippy", || cargo("clippy --release --workspace --all-targets --locked -- -D warnings"))?;
    if find_program("cargo-deny", &std::env::var_os("PATH").unwrap_or_default()).is_none() {
        eprintln!("xtask: cargo-deny is not installed: skipped");
        return Ok(());
    }
    times.stage("cargo-deny", || cargo("deny --locked check bans licenses sources"))?;
    times.stage("advisories", || advisories(host))
}

/// Known advisories. They need the network for their database; a machine without it skips them and says so.
fn advisories(host: &Host) -> Result<()> {
    let output = cargo(host, None)?.args(["deny", "--locked", "check", "advisories"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && said.contains("failed to fetch advisory database") {
        eprintln!("xtask: the advisory database cannot be fetched: skipped");
        return Ok(());
    }
    eprint!("{said}");
    if output.status.success() { Ok(()) } else { bail!(Exit::child(output.status)) }
}

/// Runs llama-pro in place of this process, so that signals and the exit code are its own.
pub(crate) fn program(host: &Host, words: &[OsString]) -> Result<()> {
    let libtorch = locate(host, Want::default())?;
    let program = build_program(host, &libtorch.root)?;
    let error = command(&program, Some(&libtorch.root)).args(words).exec();
    Err(error).with_context(|| format!("starting {}", program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_workspace_unless_packages_are_chosen() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert!(chooses_packages(&words("-p x")));
        assert!(chooses_packages(&words("--package=x --lib")));
        assert!(chooses_packages(&words("-px")));
        assert!(!chooses_packages(&words("--lib name -- -p")));
        assert!(!chooses_packages(&words("--profile x")));
    }

    #[test]
    fn times_stand_in_a_column() {
        let times =
            Times(vec![("a".to_owned(), Duration::from_millis(1250)), ("clippy".to_owned(), Duration::ZERO)]);
        assert_eq!(times.table(), "  a           1.2 s\n  clippy      0.0 s\n");
    }
}
