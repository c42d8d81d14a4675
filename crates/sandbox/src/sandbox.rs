//! The host side: opens launchers, hands programs to them, and judges what comes back.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::probe::{Layer, Probe};
use crate::program::{Failure, FailureKind, Judge, Limits, Outcome, Program};
use crate::python::Interpreter;
use crate::wire::{End, Ended, FromLauncher, Job, Start, ToLauncher, receive, send};

/// How programs are run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The Python to run them with, a name on PATH or a path. Default `python3`.
    pub python: PathBuf,
    /// Whether they are isolated. Default [`Isolation::Full`].
    pub isolation: Isolation,
    /// How many run side by side; 0, the default, for one per processor.
    pub workers: usize,
    /// Layers that are left out, to test that the others hold without them: landlock and the system call filter can be.
    /// Default none.
    pub without: Vec<Layer>,
}

impl Default for Config {
    fn default() -> Self {
        Self { python: "python3".into(), isolation: Isolation::Full, workers: 0, without: Vec::new() }
    }
}

/// How far programs are kept from the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// All required layers, or an error.
    #[default]
    Full,
    /// None: limits of time, memory and processes only. A program can read and destroy whatever the user can. Only for a
    /// machine that is a sandbox itself, and only where the user has said so.
    Unsandboxed,
}

/// Runs programs that nobody has read.
#[derive(Debug)]
pub struct Sandbox {
    way: Way,
    workers: usize,
    probe: Probe,
}

#[derive(Debug)]
enum Way {
    Launchers { start: Start, idle: Mutex<Vec<Launcher>> },
    Unsandboxed(Interpreter),
}

impl Sandbox {
    /// Starts a launcher and has it probe every layer.
    ///
    /// The program that calls this must have called [`launcher`](crate::launcher) at its beginning.
    ///
    /// # Errors
    /// There is no usable Python; a required layer does not hold, named in the error; the launcher does not start.
    pub fn open(config: &Config) -> Result<Self> {
        let python = Interpreter::ask(&config.python)?;
        let workers = match config.workers {
            0 => thread::available_parallelism().map_or(1, usize::from),
            given => given,
        };
        if config.isolation == Isolation::Unsandboxed {
            return Ok(Self { way: Way::Unsandboxed(python), workers, probe: Probe::default() });
        }
        let without = |layer| config.without.contains(&layer);
        let start = Start {
            python,
            without_seccomp: without(Layer::SystemCalls),
            without_landlock: without(Layer::Landlock),
        };
        let mut launcher = Launcher::start(&start)?;
        let probe = launcher.probe()?;
        if let Some((layer, message)) = probe.missing().filter(|(layer, _)| !without(*layer)) {
            return Err(Error::Isolation { layer: layer.to_string(), message });
        }
        let way = Way::Launchers { start, idle: Mutex::new(vec![launcher]) };
        Ok(Self { way, workers, probe })
    }

    /// Which layers hold; empty where none was asked for.
    pub fn probe(&self) -> &Probe {
        &self.probe
    }

    /// Whether programs are isolated.
    pub fn isolation(&self) -> Isolation {
        match self.way {
            Way::Launchers { .. } => Isolation::Full,
            Way::Unsandboxed(_) => Isolation::Unsandboxed,
        }
    }

    /// Runs all programs, several side by side, and gives the outcomes in their order.
    ///
    /// # Errors
    /// A launcher that fails. What a program does is an outcome.
    pub fn run(&self, programs: &[Program]) -> Result<Vec<Outcome>> {
        let next = AtomicUsize::new(0);
        let outcomes: Mutex<Vec<Option<Outcome>>> = Mutex::new(vec![None; programs.len()]);
        let work = || -> Result<()> {
            let mut worker = None;
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(program) = programs.get(index) else { break };
                let outcome = self.one(&mut worker, program).inspect_err(|_| {
                    // The others need not finish what is going to be thrown away.
                    next.store(programs.len(), Ordering::Relaxed);
                })?;
                if let Ok(mut outcomes) = outcomes.lock() {
                    outcomes[index] = Some(outcome);
                }
            }
            if let (Way::Launchers { idle, .. }, Some(worker)) = (&self.way, worker)
                && let Ok(mut idle) = idle.lock()
            {
                idle.push(worker);
            }
            Ok(())
        };
        let count = self.workers.clamp(1, programs.len().max(1));
        thread::scope(|scope| {
            let threads: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
            let ended = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| Err(Error::Launcher("thread panicked".to_owned())))
            });
            ended.collect::<Result<Vec<()>>>()
        })?;
        let outcomes = outcomes.into_inner().unwrap_or_default();
        let missing = || Error::Launcher("gave fewer outcomes than programs".to_owned());
        outcomes.into_iter().map(|outcome| outcome.ok_or_else(missing)).collect()
    }

    fn one(&self, worker: &mut Option<Launcher>, program: &Program) -> Result<Outcome> {
        let nonce = nonce()?;
        let mut job = job(program, &nonce);
        let ended = match &self.way {
            Way::Unsandboxed(python) => {
                job.frames[0] = crate::bare::limits(&program.limits);
                crate::bare::run(python, &job)?
            }
            Way::Launchers { start, idle } => {
                if worker.is_none() {
                    *worker = idle.lock().ok().and_then(|mut idle| idle.pop());
                }
                let launcher = match worker {
                    Some(launcher) => launcher,
                    None => worker.insert(Launcher::start(start)?),
                };
                launcher.run(job)?
            }
        };
        judge(ended, &nonce, &program.limits)
    }
}

/// 128 bits that nobody can guess, as text.
fn nonce() -> Result<String> {
    let mut bytes = [0; 16];
    let mut source = File::open("/dev/urandom").map_err(Error::io("/dev/urandom"))?;
    source.read_exact(&mut bytes).map_err(Error::io("/dev/urandom"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The frames that the driver reads, in its order.
fn job(program: &Program, nonce: &str) -> Job {
    let (word, name, tests) = match &program.judge {
        Judge::Completes => ("completes", "__main__", None),
        Judge::Tests(tests) => ("tests", "candidate", Some(tests)),
    };
    let text = |of: fn(&crate::Tests) -> &String| tests.map(of).cloned().unwrap_or_default();
    let provided = tests.map(|tests| tests.provided.join(" ")).unwrap_or_default();
    let frames = vec![
        String::new(),
        name.to_owned(),
        program.code.clone(),
        nonce.to_owned(),
        word.to_owned(),
        text(|tests| &tests.context),
        text(|tests| &tests.source),
        provided,
    ];
    Job { frames, limits: program.limits }
}

/// How much earlier than by the clock the kernel may find processor time used up.
const TICKS: Duration = Duration::from_millis(100);

/// What the end of the driver means. Only a verdict with the nonce of this run counts.
fn judge(ended: Ended, nonce: &str, limits: &Limits) -> Result<Outcome> {
    let fail = |kind, message: &str| Err(Failure { kind, message: message.to_owned() });
    let result = match &ended.end {
        End::TimedOut => fail(FailureKind::Timeout, "took longer than it may"),
        End::TooMuchOutput => fail(FailureKind::Output, "wrote more output than it may"),
        // The kernel ends what has used up its processor time, without a word, and counts it in ticks.
        End::Silent(_) if ended.wall + TICKS >= Duration::from_secs(limits.cpu_seconds) => {
            fail(FailureKind::Timeout, "took more processor time than it may")
        }
        End::TooMuchMemory => {
            fail(FailureKind::Memory, "its processes together held more memory than they may")
        }
        End::Silent(message) => {
            // The last line of the interpreter says what it died of.
            let last = ended.stderr.trim_end().lines().last().unwrap_or_default();
            let message = if last.is_empty() { message.clone() } else { format!("{message}: {last}") };
            fail(FailureKind::Killed, &message)
        }
        End::Verdict(text) => match text.split_once(' ') {
            Some((found, "pass")) if found == nonce => Ok(()),
            Some((found, verdict)) if found == nonce => failure(verdict),
            Some(("no-layer", message)) => {
                let (layer, message) = message.split_once(": ").unwrap_or(("launcher", message));
                return Err(Error::Isolation { layer: layer.to_owned(), message: message.to_owned() });
            }
            _ => return Err(Error::Launcher("gave a verdict of another run".to_owned())),
        },
    };
    Ok(Outcome { result, stdout: ended.stdout, stderr: ended.stderr, wall: ended.wall })
}

fn failure(verdict: &str) -> Result<(), Failure> {
    let mut parts = verdict.splitn(3, ' ').skip(1);
    let kind = match parts.next().unwrap_or_default() {
        "memory" => FailureKind::Memory,
        "killed" => FailureKind::Killed,
        "timeout" => FailureKind::Timeout,
        "exit" => FailureKind::Exit,
        _ => FailureKind::Exception,
    };
    Err(Failure { kind, message: parts.next().unwrap_or_default().to_owned() })
}

/// A launcher process and the channel to it.
#[derive(Debug)]
struct Launcher {
    process: Child,
    channel: UnixStream,
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // It ends when the channel does, and takes with it what it runs.
        let _ = self.channel.shutdown(std::net::Shutdown::Both);
        let _ = self.process.wait();
    }
}

impl Launcher {
    fn start(start: &Start) -> Result<Self> {
        let (channel, inner) = UnixStream::pair().map_err(Error::io("a socket pair"))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg(crate::WORD).stdin(OwnedFd::from(inner)).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().map_err(Error::io("starting the sandbox launcher"))?;
        drop(command);
        let mut launcher = Self { process, channel };
        launcher.send(&ToLauncher::Start(start.clone()))?;
        loop {
            match launcher.receive()? {
                FromLauncher::Unshared => {
                    let two = map_users(launcher.process.id())?;
                    launcher.send(&ToLauncher::Mapped { two })?;
                }
                FromLauncher::Ready => return Ok(launcher),
                FromLauncher::Failed { layer, message } => return Err(Error::Isolation { layer, message }),
                other => return Err(unexpected(&other)),
            }
        }
    }

    fn probe(&mut self) -> Result<Probe> {
        self.send(&ToLauncher::Probe)?;
        match self.receive()? {
            FromLauncher::Probed(layers) => Ok(Probe { layers }),
            FromLauncher::Failed { layer, message } => Err(Error::Isolation { layer, message }),
            other => Err(unexpected(&other)),
        }
    }

    fn run(&mut self, job: Job) -> Result<Ended> {
        self.send(&ToLauncher::Run(job))?;
        match self.receive()? {
            FromLauncher::Ended(ended) => Ok(ended),
            FromLauncher::Failed { layer, message } => Err(Error::Isolation { layer, message }),
            other => Err(unexpected(&other)),
        }
    }

    fn send(&mut self, message: &ToLauncher) -> Result<()> {
        // A launcher that failed has said so before it hung up.
        match send(&mut self.channel, message) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Error::Io { what: "talking to the sandbox launcher", source: error })
            }
            _ => Ok(()),
        }
    }

    fn receive(&mut self) -> Result<FromLauncher> {
        let answer =
            receive(&mut self.channel).map_err(|error| Error::Launcher(format!("answers badly: {error}")))?;
        answer.ok_or_else(|| Error::Launcher("ended without an answer".to_owned()))
    }
}

fn unexpected(answer: &FromLauncher) -> Error {
    let text = format!("{answer:?}");
    Error::Launcher(format!("gave an answer out of turn: {}", text.chars().take(60).collect::<String>()))
}

/// Says who the users of the launcher's namespace are outside: where this process may, root stays root to build the
/// file tree and an ordinary user, who is nobody outside, runs the programs; else there is the caller alone.
fn map_users(process: u32) -> Result<bool> {
    let failed = |error: std::io::Error| Error::Isolation {
        layer: Layer::Users.to_string(),
        message: format!("mapping the user: {error}"),
    };
    let file = |name: &str| format!("/proc/{process}/{name}");
    if nix::unistd::geteuid().is_root() {
        let pair = "0 0 1\n1000 65534 1\n";
        // All or nothing: a map can be written once only, and a refused one is not written.
        if fs::write(file("gid_map"), pair).is_ok() {
            return match fs::write(file("uid_map"), pair) {
                Ok(()) => Ok(true),
                Err(error) => Err(failed(error)),
            };
        }
    }
    fs::write(file("setgroups"), "deny").map_err(failed)?;
    fs::write(file("gid_map"), format!("1000 {} 1\n", nix::unistd::getegid())).map_err(failed)?;
    fs::write(file("uid_map"), format!("1000 {} 1\n", nix::unistd::geteuid())).map_err(failed)?;
    Ok(false)
}
