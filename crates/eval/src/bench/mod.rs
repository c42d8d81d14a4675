//! The run of benchmark tasks over a model: requests in windows, answers to scores, scores to results.

mod aggregate;
mod generate;
mod group;
mod journal;
mod likelihood;
mod run;
mod sample;

pub use aggregate::{Score, mean_stderr, pass_at_k, pooled_stderr};
pub use group::GroupResult;
pub use journal::Journal;
pub(crate) use run::Counts;
pub use run::{Evaluation, Options, TaskResult, Watch, check, evaluate};
pub use sample::Sample;
