//! What the tests of this crate have in common: a watch that says nothing, and a codec of bytes.

#![allow(dead_code, reason = "each test uses its part")]

use llama_pro_eval::{BoxError, Codec, Watch};

/// Hears everything and does nothing.
pub(crate) struct Silent;

impl Watch for Silent {
    fn requests(&mut self, _: &str, _: usize) {}
    fn done(&mut self, _: usize) {}
}

/// The token that begins a text.
pub(crate) const BOS: i64 = 256;

/// The token that ends one, for [`Bytes::ENDED`].
pub(crate) const EOS: i64 = 257;

/// Every byte is a token, after one that begins a text.
pub(crate) struct Bytes {
    eos: Option<i64>,
}

impl Bytes {
    /// No token ends a text.
    pub(crate) const ENDLESS: Self = Self { eos: None };
    /// [`EOS`] ends it.
    pub(crate) const ENDED: Self = Self { eos: Some(EOS) };
}

/// The bytes among tokens.
pub(crate) fn bytes(ids: &[i64]) -> Vec<u8> {
    ids.iter().filter_map(|id| u8::try_from(*id).ok()).collect()
}

impl Codec for Bytes {
    fn encode(&self, text: &str) -> Result<Vec<i64>, BoxError> {
        Ok(text.bytes().map(i64::from).collect())
    }
    fn decode(&self, ids: &[i64]) -> Result<String, BoxError> {
        Ok(String::from_utf8_lossy(&bytes(ids)).into_owned())
    }
    fn bos(&self) -> Option<i64> {
        Some(BOS)
    }
    fn eos(&self) -> Option<i64> {
        self.eos
    }
    fn adds_bos(&self) -> bool {
        true
    }
}
