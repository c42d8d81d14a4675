//! One file per command: its arguments, and the few lines that call the crates and show what they found.

pub(crate) mod bench;
mod bench_dedup;
mod bench_prepare;
mod bench_tokenize;
pub(crate) mod delta;
pub(crate) mod expand;
pub(crate) mod inspect;
pub(crate) mod memory;
pub(crate) mod prepare;
pub(crate) mod report;
pub(crate) mod strip;
