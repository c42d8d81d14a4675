//! What the two programs share: exit codes, tables, progress, signals, where sources are looked for and the
//! arguments of `verify`.
//!
//! `llama-pro` does what needs no libtorch itself and starts in milliseconds and a few megabytes; everything that runs a
//! model it hands to `llama-pro-torch` beside it. These two and xtask are the only crates that print, parse arguments or
//! read the environment.
#![expect(clippy::print_stdout, reason = "the programs speak; the libraries do not")]

pub mod exit;
pub mod output;
pub mod progress;
pub mod sources;
pub mod verify;
