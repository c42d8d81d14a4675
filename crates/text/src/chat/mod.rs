//! Conversations as training data: records of the usual instruction formats, chat templates, and which part of the
//! rendered text is learned from.
//!
//! A record becomes a [`Conversation`] ([`Format`]), a [`ChatTemplate`] renders it, [`Spans`] says which characters are
//! the model's own, and [`SampleMaker`] turns both into token ids with one flag per token. The text is tokenized once,
//! as a whole; flags come from character offsets, so nothing depends on whether the tokens of a prefix are a prefix of
//! the tokens.

mod builtin;
mod encode;
mod environment;
mod error;
mod format;
mod generation;
mod message;
mod parquet;
mod python;
mod records;
mod spans;
mod special_tokens;
mod template;

pub use builtin::BUILTIN_TEMPLATES;
pub use encode::{ChatTokenizer, Sample, SampleMaker};
pub use error::{ChatError, ChatResult, Fault};
pub use format::Format;
pub use message::{Conversation, Message};
pub use parquet::ParquetRows;
pub use records::{Records, conversation_files};
pub use spans::Spans;
pub use special_tokens::SpecialTokens;
pub use template::{ChatTemplate, Rendered};
