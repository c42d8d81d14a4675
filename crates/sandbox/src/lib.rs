//! Runs Python that a model wrote: with no network, no files, no way out, and no say in whether it passed.
//!
//! [`Sandbox`] starts the program itself once more as a launcher ([`launcher`]), which enters namespaces of its own and
//! starts one Python for each [`Program`] behind every layer that the system has ([`Layer`]). The tested code and its
//! tests run in different processes ([`Judge::Tests`]). Where a layer is missing, nothing runs ([`Isolation`]).
//!
//! docs/sandbox.md has the threat model, the layers, and what is not covered.

mod bare;
mod check;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
mod error;
#[cfg(target_os = "linux")]
mod launcher;
#[cfg(target_os = "linux")]
mod memory;
mod probe;
mod program;
mod python;
mod sandbox;
mod watch;
mod wire;

pub use check::{human_eval, mbpp};
#[cfg(not(target_os = "linux"))]
use elsewhere::WORD;
#[cfg(not(target_os = "linux"))]
pub use elsewhere::launcher;
pub use error::{Error, Result};
#[cfg(target_os = "linux")]
use launcher::WORD;
#[cfg(target_os = "linux")]
pub use launcher::launcher;
pub use probe::{Layer, LayerReport, Probe};
pub use program::{Failure, FailureKind, Judge, Limits, Outcome, Program, Tests};
pub use sandbox::{Config, Isolation, Sandbox};
