//! The forward pass over a cache, and where its keys and values lie: on the CPU in float32 and bfloat16 the shim's
//! decoder, elsewhere tensor operations.

use llama_pro_torch_ext::{self as ext, Decoder, DecoderLayer, DecoderMap, DecoderSegment, DecoderShape};
use tch::{Device, Kind, Tensor};

use super::tensors::{TensorCache, segment_angles};
use super::{Segment, page_up};
use crate::block::Linear;
use crate::guard::guarded;
use crate::{Error, Llama, Path, Result};

/// A model on one of its paths with a cache of keys and values.
pub(crate) struct Engine<'a> {
    model: &'a Llama,
    path: Path,
    cache: Cache,
}

enum Cache {
    Native(Decoder),
    Tensors(TensorCache),
}

impl<'a> Engine<'a> {
    /// An engine with room for `slots` tokens.
    pub(crate) fn new(model: &'a Llama, path: Path, slots: usize) -> Result<Self> {
        let slots = page_up(slots.max(1));
        let cache = match Decoder::supports(model.kind(), model.device(), model.config().head_dim) {
            true => Cache::Native(decoder(model, path, slots)?),
            false => Cache::Tensors(guarded(Error::Torch, || Ok(TensorCache::new(model, path, slots)))?),
        };
        Ok(Self { model, path, cache })
    }

    /// The same by tensor operations, whatever the device and dtype: what the shim is compared with.
    #[cfg(test)]
    pub(crate) fn of_tensors(model: &'a Llama, path: Path, slots: usize) -> Self {
        Self { model, path, cache: Cache::Tensors(TensorCache::new(model, path, page_up(slots))) }
    }

    /// Runs new tokens and keeps their keys and values. Gives the normalised hidden states `[R, D]` of the wanted
    /// tokens, segment by segment.
    pub(crate) fn forward(&mut self, segments: &[Segment]) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        guarded(Error::Torch, || match &mut self.cache {
            Cache::Native(decoder) => native(decoder, self.model, segments),
            Cache::Tensors(cache) => Ok(cache.forward(self.model, self.path, segments)),
        })
    }

    /// Logits `[R, V]` in the dtype of the model.
    pub(crate) fn head(&self, hidden_rd: &Tensor) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        Ok(ext::head(hidden_rd, &self.model.lm_head)?)
    }

    /// For each (row, token) of `logits_rv`: the logarithm of its likelihood, and whether it is the likeliest.
    pub(crate) fn token_scores(
        &self,
        logits_rv: &Tensor,
        targets: &[(i64, i64)],
    ) -> Result<Vec<(f32, bool)>> {
        let _guard = tch::no_grad_guard();
        guarded(Error::Torch, || {
            let known = matches!(logits_rv.kind(), Kind::Float | Kind::BFloat16);
            let logits_rv = if known { logits_rv.shallow_clone() } else { logits_rv.to_kind(Kind::Float) };
            Ok(ext::token_scores(&logits_rv.to_device(Device::Cpu), targets)?)
        })
    }
}

fn decoder(model: &Llama, path: Path, slots: usize) -> Result<Decoder> {
    let config = model.config();
    let map = |linear: &'_ Linear| -> (Tensor, Option<Tensor>) {
        (linear.effective_weight(), linear.bias.as_ref().map(Tensor::shallow_clone))
    };
    let blocks: Vec<_> = model
        .blocks
        .iter()
        .zip(model.added())
        .filter(|&(_, &added)| path == Path::Grown || !added)
        .map(|(block, _)| {
            let linears = [
                &block.q_proj,
                &block.k_proj,
                &block.v_proj,
                &block.o_proj,
                &block.gate_proj,
                &block.up_proj,
                &block.down_proj,
            ];
            (block, linears.map(map))
        })
        .collect();
    let layers: Vec<DecoderLayer> = blocks
        .iter()
        .map(|(block, maps)| {
            let [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj] =
                maps.each_ref().map(|(weight, bias)| DecoderMap { weight, bias: bias.as_ref() });
            DecoderLayer {
                input_layernorm: &block.input_layernorm,
                q_proj,
                k_proj,
                v_proj,
                o_proj,
                post_attention_layernorm: &block.post_attention_layernorm,
                gate_proj,
                up_proj,
                down_proj,
                window: block.window,
            }
        })
        .collect();
    let shape = DecoderShape {
        heads: config.num_attention_heads,
        key_heads: config.num_key_value_heads,
        head_dim: config.head_dim,
        eps: config.rms_norm_eps,
        slots,
    };
    Ok(Decoder::new(&layers, &model.embed_tokens, &model.norm, shape)?)
}

fn native(decoder: &mut Decoder, model: &Llama, segments: &[Segment]) -> Result<Tensor> {
    let ids: Vec<i64> = segments.iter().flat_map(|s| s.tokens.iter().copied()).collect();
    let (cos, sin) = segment_angles(model, segments).halves()?;
    let mut spans = Vec::new();
    let mut wanted = Vec::new();
    let mut first = 0;
    let list: Vec<DecoderSegment> = segments
        .iter()
        .map(|segment| {
            spans.extend(segment.spans.iter().map(|s| [s.slot as i64, s.len as i64]));
            wanted.extend(segment.wanted.iter().map(|&offset| (first + offset) as i64));
            first += segment.tokens.len();
            DecoderSegment {
                tokens: segment.tokens.len() as i64,
                start: segment.start() as i64,
                spans: segment.spans.len() as i64,
            }
        })
        .collect();
    Ok(decoder.forward(&ids, &cos, &sin, &list, &spans, &wanted)?)
}
