//! What is run, within which limits, and how it went.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A program that nobody has read, and how to judge it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Python source of the tested code. It runs in a process of its own.
    pub code: String,
    /// How it passes: by running to its end, or by passing tests.
    pub judge: Judge,
    /// What it may use.
    pub limits: Limits,
}

/// What makes a program pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Judge {
    /// It runs past its last line and nothing is raised. The judgement is the program's own word, since only its own
    /// process knows; use it where the output is what counts.
    #[default]
    Completes,
    /// Tests pass that run in another process than the code. Values go between the two as plain data, so the code
    /// sees neither the tests nor the process that decides.
    Tests(Tests),
}

/// Tests of a program: trusted text, since it decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tests {
    /// Source that defines what the tests need and the code must not replace, such as the prompt with its helper
    /// functions. Empty for none.
    pub context: String,
    /// Source of the tests: they pass when it runs past its last line.
    pub source: String,
    /// Names that the tests get from the tested code, even where Python has a builtin of that name or the context
    /// defines it. Any other name that nothing else defines is looked up in the tested code last.
    pub provided: Vec<String>,
}

/// What a program may use. Sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Wall clock from the start of the interpreter to the verdict. Default 10 s.
    pub wall: Duration,
    /// Processor time of each process, in whole seconds. Default 10.
    pub cpu_seconds: u64,
    /// Address space of each process. Default 1 GiB.
    pub memory: u64,
    /// Memory that all processes of the program hold together, the checking one included. Default 1 GiB.
    pub memory_together: u64,
    /// Processes and threads of the tested code, its own included. Default 4.
    pub processes: u64,
    /// The largest file. Default 16 MiB.
    pub file_size: u64,
    /// All files of the working folder together. Default 32 MiB.
    pub folder_size: u64,
    /// Open files of each process. Default 64.
    pub open_files: u64,
    /// How much of the standard output is kept, and as much of the standard error. Default 64 KiB.
    pub output_kept: usize,
    /// How much of both a program may write before it is killed. Default 16 MiB.
    pub output_written: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(10),
            cpu_seconds: 10,
            memory: 1 << 30,
            memory_together: 1 << 30,
            processes: 4,
            file_size: 16 << 20,
            folder_size: 32 << 20,
            open_files: 64,
            output_kept: 64 << 10,
            output_written: 16 << 20,
        }
    }
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Whether it passed.
    pub result: Result<(), Failure>,
    /// The beginning of its standard output; bytes that are no UTF-8 replaced.
    pub stdout: String,
    /// The beginning of its standard error.
    pub stderr: String,
    /// Wall clock from start to end.
    pub wall: Duration,
}

impl Outcome {
    /// Whether it passed.
    pub fn passed(&self) -> bool {
        self.result.is_ok()
    }
}

/// Why a program did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind, for counts.
    pub kind: FailureKind,
    /// One line for people, such as the last line of a traceback. It may quote the program.
    pub message: String,
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureKind {
    /// Something was raised, a failed assertion included.
    Exception,
    /// It took longer than the wall clock allows.
    Timeout,
    /// It asked for more memory than a process may have, or its processes held more than they may together.
    Memory,
    /// A signal ended it: a limit of the system, or a crash of the interpreter.
    Killed,
    /// It ended itself before its tests, or its last line, were through.
    Exit,
    /// It wrote more than it may.
    Output,
}

impl FailureKind {
    /// One word, for reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Exception => "exception",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Killed => "killed",
            Self::Exit => "exit",
            Self::Output => "output",
        }
    }
}
