//! Running without isolation, where the user accepts it: the same driver, which sets limits on itself, in a process
//! group and a temporary folder of its own. It keeps honest programs from doing damage by accident, and no others.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::program::Limits;
use crate::python::{DRIVER, Interpreter};
use crate::watch::{Captured, Watched};
use crate::wire::{End, Ended, Job};

/// The limits as the driver reads them. That of processes counts all of the user's, so it cannot be set here.
pub(crate) fn limits(limits: &Limits) -> String {
    format!(
        "RLIMIT_AS={} RLIMIT_CPU={} RLIMIT_FSIZE={} RLIMIT_NOFILE={} RLIMIT_CORE=0",
        limits.memory, limits.cpu_seconds, limits.file_size, limits.open_files
    )
}

/// Looks how much a process and its descendants hold: when to look again, nothing where it is more than `most`.
#[cfg(target_os = "linux")]
fn look(process: u32, most: u64) -> impl Fn() -> Option<Duration> {
    let memory = crate::memory::Memory::open();
    move || memory.as_ref().map_or(Some(Duration::from_secs(3600)), |memory| memory.look(process, most))
}

/// There is no `/proc` to look into.
#[cfg(not(target_os = "linux"))]
fn look(_: u32, _: u64) -> impl Fn() -> Option<Duration> {
    || Some(Duration::from_secs(3600))
}

/// Runs one program to its end.
pub(crate) fn run(python: &Interpreter, job: &Job) -> Result<Ended> {
    let folder = tempfile::tempdir().map_err(Error::io("a temporary folder"))?;
    let (control, inner) = UnixStream::pair().map_err(Error::io("a socket pair"))?;
    let mut command = Command::new(&python.executable);
    command
        .args(["-S", "-s", "-B", "-c", DRIVER])
        .current_dir(folder.path())
        .env_clear()
        .envs([("PYTHONHASHSEED", "0"), ("LC_ALL", "C.UTF-8"), ("PATH", "/usr/bin:/bin")])
        .env("HOME", folder.path())
        .env("TMPDIR", folder.path())
        .stdin(OwnedFd::from(inner))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let started = Instant::now();
    let mut child = command.spawn().map_err(Error::io("starting python"))?;
    // It holds the other end of the channel.
    drop(command);
    let pipe =
        |pipe: Option<OwnedFd>| pipe.map(Captured::new).ok_or_else(|| std::io::Error::other("no pipe"));
    let stdout = pipe(child.stdout.take().map(OwnedFd::from)).map_err(Error::io("starting python"))?;
    let stderr = pipe(child.stderr.take().map(OwnedFd::from)).map_err(Error::io("starting python"))?;
    let mut watched = Watched { control, stdout, stderr, started };
    let end = watched.wait(job, None, &look(child.id(), job.limits.memory_together));
    if let Ok(number) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(number), Signal::SIGKILL);
    }
    let _ = child.wait();
    let wall = started.elapsed();
    watched.drain(&job.limits);
    let end = end.map_err(Error::io("watching python"))?.unwrap_or(End::TimedOut);
    Ok(Ended { end, stdout: watched.stdout.text(), stderr: watched.stderr.text(), wall })
}
