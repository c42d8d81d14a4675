//! What must be able to run model-written programs so that code benchmarks can be scored.
//!
//! This crate writes whole programs (prompt, completion, tests) and hands them over; how they are kept from doing harm
//! is the runner's business. A runner that cannot isolate must refuse with an error.

use std::time::Duration;

use crate::BoxError;

/// Runs programs that nobody has read.
pub trait CodeRunner {
    /// Runs each program to its end or to its limit, and says how it went, in the order given. Programs know nothing of
    /// each other and may run side by side.
    ///
    /// # Errors
    /// What stops the runner itself, such as a machine on which it cannot isolate. What a program does, however bad, is
    /// an outcome and no error.
    fn run(&mut self, programs: &[Program]) -> Result<Vec<Outcome>, BoxError>;
}

/// A Python program to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The whole text, tests included.
    pub source: String,
    /// Wall-clock limit.
    pub time_limit: Duration,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it ran past its last line, with nothing raised and within every limit.
    pub result: Result<(), Failure>,
    /// What it printed to its standard output, as far as the runner keeps it; bytes that are no UTF-8 replaced.
    pub stdout: String,
}

/// Why a program did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One word for counts: "timeout", "exception", "memory", "killed", "exit".
    pub kind: String,
    /// One line for people, such as the last line of a traceback.
    pub message: String,
}
