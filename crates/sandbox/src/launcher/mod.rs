//! The launcher: a process of one thread that stands in namespaces of its own and starts one Python after another.
//!
//! The program that uses this crate has threads, and a process with threads must not run code of its own between
//! fork and exec, nor may it enter a user namespace. So the program starts itself once more, with a word that nobody
//! types; that process becomes the launcher ([`launcher`]) before it has done anything else. It builds the file tree
//! once, and clones a process for each program, which is then the first process of its own process namespace.

mod child;
mod filter;
mod look;
mod tree;

use std::ffi::OsString;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Instant;

use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{close, pipe2};

use crate::memory::Memory;
use crate::probe::Layer;
use crate::watch::{Captured, Watched};
use crate::wire::{End, Ended, FromLauncher, Job, Start, ToLauncher, receive, send};

/// The word that makes a program a launcher.
pub(crate) const WORD: &str = "run-the-sandbox-launcher";

/// Becomes the launcher where the arguments of the program say so; `None` for every other use of the program.
///
/// A program that opens a [`Sandbox`](crate::Sandbox) calls this before anything else in `main`, with all its
/// arguments, and ends with the exit code where there is one.
pub fn launcher(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if arguments.nth(1)?.to_str() != Some(WORD) {
        return None;
    }
    let Ok(host) = std::io::stdin().as_fd().try_clone_to_owned() else { return Some(ExitCode::FAILURE) };
    let mut host = UnixStream::from(host);
    let code = match serve(&mut host) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::HungUp) => ExitCode::FAILURE,
        Err(Stop::Layer { layer, message }) => {
            let _ = send(&mut host, &FromLauncher::Failed { layer, message });
            ExitCode::FAILURE
        }
    };
    Some(code)
}

/// Why the launcher ends.
enum Stop {
    /// There is nobody to answer to.
    HungUp,
    /// A layer cannot be set up.
    Layer { layer: String, message: String },
}

impl Stop {
    fn at<E: std::fmt::Display>(layer: impl ToString, what: &'static str) -> impl FnOnce(E) -> Self {
        let layer = layer.to_string();
        move |error| Self::Layer { layer, message: format!("{what}: {error}") }
    }
}

impl From<std::io::Error> for Stop {
    fn from(_: std::io::Error) -> Self {
        Self::HungUp
    }
}

/// What stays the same for all programs of a launcher.
struct Ground {
    start: Start,
    /// Whether root is mapped beside the ordinary user, so that the user must be changed.
    two: bool,
    filters: Option<[seccompiler::BpfProgram; 2]>,
    memory: Memory,
}

fn serve(host: &mut UnixStream) -> Result<(), Stop> {
    let Some(ToLauncher::Start(start)) = receive(host)? else { return Err(Stop::HungUp) };
    close_others(host)?;
    let ground = set_up(host, start)?;
    send(host, &FromLauncher::Ready)?;
    loop {
        let answer = match receive(host)? {
            Some(ToLauncher::Run(job)) => FromLauncher::Ended(run(host, &ground, &job)?),
            Some(ToLauncher::Probe) => FromLauncher::Probed(look::look(&ground)?),
            Some(ToLauncher::Start(_) | ToLauncher::Mapped { .. }) => return Err(Stop::HungUp),
            None => return Ok(()),
        };
        send(host, &answer)?;
    }
}

/// Closes what the host had open and did not mean to hand on.
fn close_others(host: &UnixStream) -> Result<(), Stop> {
    use std::os::fd::AsRawFd;
    let folder = fs::read_dir("/proc/self/fd").map_err(Stop::at("launcher", "/proc/self/fd"))?;
    let names = folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let others: Vec<i32> = names.filter(|number| *number > 2 && *number != host.as_raw_fd()).collect();
    for number in others {
        // The folder's own descriptor is among them, and is closed already.
        let _ = close(number);
    }
    let threads = fs::read_dir("/proc/self/task").map_err(Stop::at("launcher", "/proc/self/task"))?.count();
    if threads == 1 {
        return Ok(());
    }
    let message = format!("the process has {threads} threads before it begins; expected 1");
    Err(Stop::Layer { layer: "launcher".to_owned(), message })
}

fn set_up(host: &mut UnixStream, start: Start) -> Result<Ground, Stop> {
    unshare(CloneFlags::CLONE_NEWUSER).map_err(Stop::at(Layer::Users, "unshare"))?;
    send(host, &FromLauncher::Unshared)?;
    let Some(ToLauncher::Mapped { two }) = receive(host)? else { return Err(Stop::HungUp) };
    unshare(CloneFlags::CLONE_NEWNS).map_err(Stop::at(Layer::Files, "unshare"))?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(Stop::at(Layer::Network, "unshare"))?;
    unshare(CloneFlags::CLONE_NEWIPC).map_err(Stop::at(Layer::Ipc, "unshare"))?;
    unshare(CloneFlags::CLONE_NEWUTS).map_err(Stop::at(Layer::HostName, "unshare"))?;
    nix::unistd::sethostname("sandbox").map_err(Stop::at(Layer::HostName, "sethostname"))?;
    // While there is a /proc to open.
    let memory = Memory::open().map_err(Stop::at(Layer::ResourceLimits, "memory of all processes"))?;
    tree::enter(&start.python)?;
    let filters = filter::compile().map_err(Stop::at(Layer::SystemCalls, "compile"))?;
    Ok(Ground { filters: (!start.without_seccomp).then_some(filters), start, two, memory })
}

/// Runs one program to its end.
fn run(host: &UnixStream, ground: &Ground, job: &Job) -> Result<Ended, Stop> {
    let (control, inner) = UnixStream::pair().map_err(Stop::at("launcher", "pipe"))?;
    let (stdout, out) = pipe2(OFlag::O_CLOEXEC).map_err(Stop::at("launcher", "pipe"))?;
    let (stderr, err) = pipe2(OFlag::O_CLOEXEC).map_err(Stop::at("launcher", "pipe"))?;
    let started = Instant::now();
    let Some(child) = child::clone().map_err(Stop::at(Layer::Processes, "clone"))? else {
        // The new process. It comes back from here only where something failed.
        drop((control, stdout, stderr));
        child::become_python(ground, &job.limits, inner, out, err);
    };
    drop((inner, out, err));
    let (stdout, stderr) = (Captured::new(stdout), Captured::new(stderr));
    let mut watched = Watched { control, stdout, stderr, started };
    let first = u32::try_from(child.as_raw()).unwrap_or_default();
    let memory = || ground.memory.look(first, job.limits.memory_together);
    let end = watched.wait(job, Some(host.as_fd()), &memory);
    // The first process of a namespace takes all others with it, and is gone only after them.
    let _ = kill(child, Signal::SIGKILL);
    let status = waitpid(child, None);
    let wall = started.elapsed();
    watched.drain(&job.limits);
    let end = match end? {
        None => return Err(Stop::HungUp),
        Some(End::Silent(message)) => match status {
            Ok(WaitStatus::Signaled(_, signal, _)) if signal != Signal::SIGKILL => {
                End::Silent(format!("{message}: {signal}"))
            }
            _ => End::Silent(message),
        },
        Some(end) => end,
    };
    Ok(Ended { end, stdout: watched.stdout.text(), stderr: watched.stderr.text(), wall })
}
