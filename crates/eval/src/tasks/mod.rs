//! Benchmark tasks: a TOML file each, with templates for the prompt and the answer. No task has code of its own.

mod catalog;
mod code;
mod docs;
mod spec;
mod template;

pub use catalog::{Catalog, Group, PAPER, Selection};
pub use code::CodeSpec;
pub use spec::{
    Column, DataSpec, ExactMatch, Family, FamilyGroup, FilterSpec, GenerationSpec, Leaderboard, Metric,
    OutputType, Sampler, TaskSpec,
};
pub(crate) use template::{Field, Templates};

/// A document of a benchmark: its columns, in their order.
pub type Doc = serde_json::Map<String, serde_json::Value>;
