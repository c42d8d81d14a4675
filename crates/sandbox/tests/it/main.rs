//! Tests of the sandbox, in a program that is its own launcher. Each test runs where its layers hold; where a layer
//! is missing on this machine, one line says which.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod benchmarks;
mod escapes;
mod forgeries;
mod judging;

use std::path::Path;
use std::process::ExitCode;
use std::sync::LazyLock;

use libtest_mimic::{Arguments, Trial};
use llama_pro_sandbox::{Config, Error, Judge, Layer, Limits, Outcome, Program, Sandbox, Tests};

/// A sandbox with all layers, or the reason why there is none.
static FULL: LazyLock<Result<Sandbox, Error>> = LazyLock::new(|| Sandbox::open(&Config::default()));

/// The same without the system call filter: what the layers behind it hold alone.
static NO_FILTER: LazyLock<Result<Sandbox, Error>> = LazyLock::new(|| without(Layer::SystemCalls));

/// The same without Landlock.
static NO_LANDLOCK: LazyLock<Result<Sandbox, Error>> = LazyLock::new(|| without(Layer::Landlock));

fn without(layer: Layer) -> Result<Sandbox, Error> {
    Sandbox::open(&Config { without: vec![layer], ..Config::default() })
}

/// The sandboxes that this machine can have, each with its name.
fn sandboxes() -> Vec<(&'static str, &'static Sandbox)> {
    let all = [("all layers", &FULL), ("no system call filter", &NO_FILTER), ("no landlock", &NO_LANDLOCK)];
    let opened = all.into_iter().filter_map(|(name, sandbox)| match &**sandbox {
        Ok(sandbox) => Some((name, sandbox)),
        Err(error @ Error::Isolation { .. }) => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    });
    opened.collect()
}

fn full() -> Option<&'static Sandbox> {
    sandboxes().into_iter().find(|(name, _)| *name == "all layers").map(|(_, sandbox)| sandbox)
}

/// A program whose one test no wrong answer passes.
fn tested(code: &str, tests: &str) -> Program {
    let tests = Tests { source: tests.to_owned(), provided: vec!["answer".to_owned()], ..Tests::default() };
    Program { code: code.to_owned(), judge: Judge::Tests(tests), limits: quick() }
}

/// Limits that end the endless ones soon.
fn quick() -> Limits {
    Limits { wall: std::time::Duration::from_millis(2500), cpu_seconds: 2, ..Limits::default() }
}

fn completes(code: &str) -> Program {
    Program { code: code.to_owned(), judge: Judge::Completes, limits: quick() }
}

fn run(sandbox: &Sandbox, program: Program) -> Outcome {
    sandbox.run(&[program]).unwrap().remove(0)
}

/// Processes of this machine that are a driver of ours, or of nobody: numbers. Other programs on the machine may run
/// sandboxes of their own; a driver of theirs has a launcher above it that does not come from here.
fn drivers() -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|number| is_driver(*number) && !is_foreign(*number)).collect()
}

fn command(number: u32) -> String {
    let line = std::fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

fn is_driver(number: u32) -> bool {
    command(number).contains(" /driver.pyc")
}

fn parent(number: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

fn is_foreign(number: u32) -> bool {
    let (mut number, mut launched) = (number, false);
    while number > 1 {
        launched |= command(number).contains("run-the-sandbox-launcher");
        if number == std::process::id() {
            return false;
        }
        number = parent(number);
    }
    launched
}

fn main() -> ExitCode {
    if let Some(code) = llama_pro_sandbox::launcher(std::env::args_os()) {
        return code;
    }
    if std::env::var_os("SANDBOX_TEST_HOST").is_some() {
        escapes::run_for_ever();
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    // The outcomes of some tests are what is left on the machine, so one runs at a time.
    arguments.test_threads = Some(1);
    let mut trials: Vec<Trial> = Vec::new();
    trials.extend(judging::trials());
    trials.extend(benchmarks::trials());
    trials.extend(forgeries::trials());
    trials.extend(escapes::trials());
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

/// Is there such a file outside?
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
