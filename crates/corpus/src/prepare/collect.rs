//! One side of the split: straight to the shard, or the fair sample of a limited number of tokens.

use std::collections::BTreeMap;

use llama_pro_shards::ShardWriter;

use super::Tokenised;
use super::manifest::Side;
use crate::error::Result;

/// Receives the documents of one side.
pub(super) struct Collector {
    writer: ShardWriter,
    limit: Option<u64>,
    /// With a limit: the sample so far, in the order in which it is taken.
    sample: BTreeMap<u128, (Vec<u32>, u64)>,
    sample_tokens: u64,
    text_bytes: u64,
    left_out: u64,
    documents: u64,
}

impl Collector {
    pub(super) fn new(writer: ShardWriter, limit: Option<u64>) -> Self {
        Self {
            writer,
            limit,
            sample: BTreeMap::new(),
            sample_tokens: 0,
            text_bytes: 0,
            left_out: 0,
            documents: 0,
        }
    }

    /// Documents that came to this side, taken or not.
    pub(super) fn documents(&self) -> u64 {
        self.documents
    }

    /// Whether a document with this key can still be in the sample: once there are enough tokens, only those
    /// before the last one of the sample can.
    pub(super) fn wants(&self, key: u128) -> bool {
        match (self.limit, self.sample.last_key_value()) {
            (Some(limit), Some((last, _))) => self.sample_tokens < limit || key < *last,
            _ => true,
        }
    }

    pub(super) fn push(&mut self, document: Tokenised) -> Result<()> {
        self.documents += 1;
        let Some(limit) = self.limit else {
            let tokens = document.tokens.unwrap_or_default();
            self.text_bytes += document.text_bytes;
            return Ok(self.writer.push(&tokens)?);
        };
        let Some(tokens) = document.tokens.filter(|_| self.wants(document.key)) else {
            self.left_out += 1;
            return Ok(());
        };
        self.sample_tokens += tokens.len() as u64;
        self.sample.insert(document.key, (tokens, document.text_bytes));
        // The sample is the shortest beginning of the order that has enough tokens.
        while let Some(last) = self.sample.last_entry() {
            let len = last.get().0.len() as u64;
            if self.sample_tokens - len < limit {
                break;
            }
            self.sample_tokens -= len;
            last.remove();
            self.left_out += 1;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Side> {
        for (tokens, text_bytes) in std::mem::take(&mut self.sample).into_values() {
            self.writer.push(&tokens)?;
            self.text_bytes += text_bytes;
        }
        Ok(Side::new(self.writer.finish()?, self.text_bytes, self.left_out))
    }
}
