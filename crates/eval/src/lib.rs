//! Scores of language models: perplexity, benchmark tasks, and the trait that both stand on.
//!
//! This crate knows nothing of tensors. Whatever can say how likely a row of tokens is, a local model or a
//! server, implements [`LanguageModel`] and can be scored and compared. [`Catalog`] has the benchmark tasks, [`evaluate`]
//! runs them, and [`report::record`] writes the result in lm-evaluation-harness' schema.

mod bench;
mod code;
mod compare;
pub mod continual;
mod data;
mod encode;
mod error;
mod filters;
pub mod http;
mod model;
mod perplexity;
mod prompt;
mod protocol;
mod python;
pub mod report;
pub mod shift;
pub mod significance;
mod table;
pub mod tasks;

pub use bench::{
    Evaluation, GroupResult, Journal, Options, Sample, Score, TaskResult, Watch, check, evaluate,
    mean_stderr, pass_at_k, pooled_stderr,
};
pub use code::{CodeRunner, Failure, Outcome, Program};
pub use compare::{HEADERS, SetChange, Verdict, compare};
pub use data::{DataFile, DataRoot, read_documents};
pub use encode::{Codec, TokenizerCodec};
pub use error::{Error, Result};
pub use llama_pro_sandbox::Tests;
pub use model::{
    BoxError, ChoiceRequest, ChoiceScore, GenerateRequest, IGNORED, LanguageModel, RowScore, TokenRow,
};
pub use perplexity::{Perplexity, perplexity};
pub use protocol::Protocol;
pub use python::PythonRandom;
pub use table::{EvalSet, EvalTable};
pub use tasks::{Catalog, Group, PAPER, Selection, TaskSpec};
