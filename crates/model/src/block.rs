//! One decoder block: `x + attention(norm(x))`, then `x + mlp(norm(x))` (paper, equation 1).
//!
//! The steps between the matrix products have a backward pass of their own in crates/torch-ext, in kernels on the CPU and by
//! operations of libtorch elsewhere. Attention alone has a third, plain way, for what neither the kernels nor flash
//! attention take. `crates/train/tests/{curve,keep,recompute}.rs` run with and without kernels, and `tests/tests/flash.rs` with
//! flash attention written out in plain operations.

use llama_pro_checkpoint::LlamaConfig;
use llama_pro_torch_ext::{self as ext, Documents, Heads};
use tch::Tensor;

use crate::context::{Context, Mask};
use crate::lora::Lora;

/// A linear map with the layout of the checkpoint: weight `[out, in]`, bias `[out]` where there is one.
pub(crate) struct Linear {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
    /// A low-rank adapter, where the model was given some.
    pub(crate) lora: Option<Lora>,
}

impl Linear {
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        let y = if self.weight.requires_grad() {
            fused(ext::linear(x, &self.weight, self.bias.as_ref()))
        } else {
            x.linear(&self.weight, self.bias.as_ref())
        };
        match &self.lora {
            Some(lora) => y + lora.forward(x),
            None => y,
        }
    }

    /// The weight as inference needs it: its own memory, or a copy with the adapter merged in.
    pub(crate) fn effective_weight(&self) -> Tensor {
        match &self.lora {
            Some(lora) => lora.merged_into(&self.weight),
            None => self.weight.shallow_clone(),
        }
    }
}

/// tch's own operations panic where libtorch throws, and [`crate::guarded`] turns that into an error; so do these.
pub(crate) fn fused<T>(result: Result<T, ext::Error>) -> T {
    result.unwrap_or_else(|error| match error {
        ext::Error::Torch(line) => panic!("{line}"),
        other => panic!("{other}"),
    })
}

/// Root-mean-square norm (arXiv 1910.07467). The mean is taken in float32, and the weight multiplies after the cast back:
/// the order that transformers uses, visible in bfloat16.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    fused(ext::norm(x, weight, eps))
}

/// One decoder block, its fields named as in the checkpoint.
pub(crate) struct Block {
    pub(crate) input_layernorm: Tensor,
    pub(crate) q_proj: Linear,
    pub(crate) k_proj: Linear,
    pub(crate) v_proj: Linear,
    pub(crate) o_proj: Linear,
    pub(crate) post_attention_layernorm: Tensor,
    pub(crate) gate_proj: Linear,
    pub(crate) up_proj: Linear,
    pub(crate) down_proj: Linear,
    pub(crate) window: Option<usize>,
}

impl Block {
    /// `x_btd` to `[B, T, D]`.
    pub(crate) fn forward(&self, x_btd: &Tensor, config: &LlamaConfig, context: &Context) -> Tensor {
        let eps = config.rms_norm_eps;
        let normal = rms_norm(x_btd, &self.input_layernorm, eps);
        let attention = self.attention(&normal, config, context);
        drop(normal);
        let (x_btd, normal) = fused(ext::add_norm(x_btd, &attention, &self.post_attention_layernorm, eps));
        drop(attention);
        let inner = fused(ext::swiglu(&self.gate_proj.forward(&normal), &self.up_proj.forward(&normal)));
        x_btd + self.down_proj.forward(&inner)
    }

    fn attention(&self, x_btd: &Tensor, config: &LlamaConfig, context: &Context) -> Tensor {
        let (q_btd, k_btd) = (self.q_proj.forward(x_btd), self.k_proj.forward(x_btd));
        let v_btd = self.v_proj.forward(x_btd);
        let heads = Heads {
            query: config.num_attention_heads as i64,
            key: config.num_key_value_heads as i64,
            size: config.head_dim as i64,
        };
        let angles = (&context.angles.cos, &context.angles.sin);
        let out_btd = match context.mask(self.window) {
            Mask::First(first) => fused(ext::attention(&q_btd, &k_btd, &v_btd, angles, first, heads)),
            Mask::Documents { starts, longest, window } => {
                let documents = Documents { starts, longest: *longest, window: *window };
                fused(ext::flash(&q_btd, &k_btd, &v_btd, angles, &documents, heads))
            }
            mask => plain_attention(&q_btd, &k_btd, &v_btd, mask, config, context),
        };
        self.o_proj.forward(&out_btd)
    }
}

fn plain_attention(
    q_btd: &Tensor,
    k_btd: &Tensor,
    v_btd: &Tensor,
    mask: &Mask,
    config: &LlamaConfig,
    context: &Context,
) -> Tensor {
    let (b, t) = (q_btd.size()[0], q_btd.size()[1]);
    let heads = |x: &Tensor| x.view([b, t, -1, config.head_dim as i64]).transpose(1, 2);
    let q_bhtk = context.angles.rotate(&heads(q_btd));
    let k_bhtk = context.angles.rotate(&heads(k_btd));
    // Each key head serves a run of query heads. Repeating it keeps the fused CPU kernel, which knows no groups.
    let group = (config.num_attention_heads / config.num_key_value_heads) as i64;
    let spread = |x: Tensor| if group == 1 { x } else { x.repeat_interleave_self_int(group, 1, None) };
    let mask = match mask {
        Mask::Dense(mask) => Some(mask),
        _ => None,
    };
    let out_bhtk = Tensor::scaled_dot_product_attention(
        &q_bhtk,
        &spread(k_bhtk),
        &spread(heads(v_btd)),
        mask,
        0.0,
        mask.is_none(),
        None,
        false,
    );
    out_bhtk.transpose(1, 2).reshape([b, t, -1])
}
