//! The crate from outside: readers on real folders, the generator against solvers, prepare from end to end.
#![expect(clippy::unwrap_used, reason = "a test may end at the first surprise")]

mod bad_input;
mod cargo_sources;
mod cases;
mod compressed;
mod dedup;
mod evaluator;
mod fim;
mod fuzz;
mod instructions;
mod lines;
mod math;
mod outside;
mod parquet;
mod pipeline;
mod places;
mod prepare;
mod readers;
mod recipes;
mod solvers;
mod support;
