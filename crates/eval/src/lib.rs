//! Scores of language models: perplexity now, and the trait that every benchmark stands on.
//!
//! This crate knows nothing of tensors. Whatever can say how likely a row of tokens is, a local model or a
//! server, implements [`LanguageModel`] and can be scored and compared.

mod code;
mod compare;
mod error;
mod model;
mod perplexity;
mod table;

pub use code::{CodeRunner, Failure, Outcome, Program};
pub use compare::{HEADERS, SetChange, Verdict, compare};
pub use error::{Error, Result};
pub use model::{
    BoxError, ChoiceRequest, ChoiceScore, GenerateRequest, IGNORED, LanguageModel, RowScore, TokenRow,
};
pub use perplexity::{Perplexity, perplexity};
pub use table::{EvalSet, EvalTable};
