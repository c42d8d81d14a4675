//! Tokenizers and prompt text.
//!
//! `Tokenizer` turns plain text into the ids that Hugging Face tokenizers would give, never into special tokens.
//! `train_byte_bpe` makes a small byte-level vocabulary for models that start from nothing.

mod bpe;
pub mod chat;
mod error;
mod special;
mod tokenizer;
mod train;

pub use error::{Error, Result};
pub use tokenizer::Tokenizer;
pub use train::{TrainedTokenizer, train_byte_bpe};
