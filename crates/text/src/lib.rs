//! Tokenizers and prompt text.
//!
//! `Tokenizer` turns plain text into the ids that Hugging Face tokenizers would give, never into special tokens, and
//! where the vocabulary allows it some ten times faster; `Encoder` does so for one thread in bulk.
//! `train_byte_bpe` makes a small byte-level vocabulary for models that start from nothing.

mod bpe;
pub mod chat;
mod encoder;
mod error;
mod fast;
mod fim;
mod sentencepiece;
mod special;
mod tokenizer;
mod train;

#[cfg(test)]
#[path = "../tests/common/cases.rs"]
mod cases;

pub use encoder::{Encoder, EncodingPath};
pub use error::{Error, Result};
pub use fim::{Fim, FimCut, FimForm, FimOptions};
pub use sentencepiece::sentencepiece_to_json;
pub use tokenizer::Tokenizer;
pub use train::{TrainedTokenizer, train_byte_bpe};
