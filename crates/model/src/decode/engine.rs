//! The forward pass over a cache, and where its keys and values lie.

use tch::Tensor;

use super::tensors::TensorCache;
use super::{Segment, page_up};
use crate::guard::guarded;
use crate::{Error, Llama, Path, Result};

/// A model on one of its paths with a cache of keys and values.
pub(crate) struct Engine<'a> {
    model: &'a Llama,
    path: Path,
    cache: TensorCache,
}

impl<'a> Engine<'a> {
    /// An engine with room for `slots` tokens.
    pub(crate) fn new(model: &'a Llama, path: Path, slots: usize) -> Result<Self> {
        let slots = page_up(slots.max(1));
        let cache = guarded(Error::Torch, || Ok(TensorCache::new(model, path, slots)))?;
        Ok(Self { model, path, cache })
    }

    /// Runs new tokens and keeps their keys and values. Gives the normalised hidden states `[R, D]` of the wanted
    /// tokens, segment by segment.
    pub(crate) fn forward(&mut self, segments: &[Segment]) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        guarded(Error::Torch, || Ok(self.cache.forward(self.model, self.path, segments)))
    }

    /// Logits `[R, V]` in the dtype of the model.
    pub(crate) fn head(&self, hidden_rd: &Tensor) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        guarded(Error::Torch, || Ok(self.model.head(hidden_rd)))
    }
}
