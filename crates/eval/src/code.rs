//! What must be able to run model-written programs so that code benchmarks can be scored.
//!
//! This crate writes the programs and their tests and hands them over; how they are kept from doing harm, and from saying
//! of themselves that they passed, is the runner's business. A runner that cannot isolate must refuse with an error.

use std::time::Duration;

use llama_pro_sandbox::{self as sandbox, Judge, Sandbox, Tests};

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
    /// What the model wrote, with what belongs before and after it.
    pub source: String,
    /// Tests that run apart from it and decide; without them, a program that runs past its last line passes.
    pub tests: Option<Tests>,
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
    /// One word for counts: "timeout", "exception", "memory", "killed", "exit", "output".
    pub kind: String,
    /// One line for people, such as the last line of a traceback.
    pub message: String,
}

impl CodeRunner for Sandbox {
    fn run(&mut self, programs: &[Program]) -> Result<Vec<Outcome>, BoxError> {
        let programs: Vec<sandbox::Program> = programs.iter().map(sandboxed).collect();
        let outcomes = Self::run(self, &programs)?;
        Ok(outcomes.into_iter().map(Outcome::from).collect())
    }
}

fn sandboxed(program: &Program) -> sandbox::Program {
    let wall = program.time_limit;
    // The clock on the wall is the limit; processor time only bounds what a machine under load would let pass.
    let cpu_seconds = wall.as_secs() + 2;
    sandbox::Program {
        code: program.source.clone(),
        judge: program.tests.clone().map_or(Judge::Completes, Judge::Tests),
        limits: sandbox::Limits { wall, cpu_seconds, ..sandbox::Limits::default() },
    }
}

impl From<sandbox::Outcome> for Outcome {
    fn from(outcome: sandbox::Outcome) -> Self {
        let failure = |failure: sandbox::Failure| Failure {
            kind: failure.kind.word().to_owned(),
            message: failure.message,
        };
        Self { result: outcome.result.map_err(failure), stdout: outcome.stdout }
    }
}
