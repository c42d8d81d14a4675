//! One decoder block: `x + attention(norm(x))`, then `x + mlp(norm(x))` (paper, equation 1).

use llama_pro_checkpoint::LlamaConfig;
use tch::{Kind, Tensor};

use crate::context::Context;
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
        let y = x.linear(&self.weight, self.bias.as_ref());
        match &self.lora {
            Some(lora) => y + lora.forward(x),
            None => y,
        }
    }
}

/// Root-mean-square norm (arXiv 1910.07467). The mean is taken in float32, and the weight multiplies after the cast back:
/// the order that transformers uses, visible in bfloat16.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    let wide = x.to_kind(Kind::Float);
    let mean_square = wide.square().mean_dim(-1, true, Kind::Float);
    let normal = (wide * (mean_square + eps).rsqrt()).to_kind(x.kind());
    weight * normal
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
        let normal = rms_norm(x_btd, &self.input_layernorm, config.rms_norm_eps);
        let x_btd = x_btd + self.attention(&normal, config, context);
        let normal = rms_norm(&x_btd, &self.post_attention_layernorm, config.rms_norm_eps);
        let mlp =
            self.down_proj.forward(&(self.gate_proj.forward(&normal).silu() * self.up_proj.forward(&normal)));
        x_btd + mlp
    }

    fn attention(&self, x_btd: &Tensor, config: &LlamaConfig, context: &Context) -> Tensor {
        let (b, t) = (x_btd.size()[0], x_btd.size()[1]);
        let head_dim = config.head_dim as i64;
        let heads = |linear: &Linear| linear.forward(x_btd).view([b, t, -1, head_dim]).transpose(1, 2);
        let q_bhtk = context.angles.rotate(&heads(&self.q_proj));
        let k_bhtk = context.angles.rotate(&heads(&self.k_proj));
        let v_bhtk = heads(&self.v_proj);
        // Each key head serves a run of query heads. Repeating it keeps the fused CPU kernel, which knows no groups.
        let group = (config.num_attention_heads / config.num_key_value_heads) as i64;
        let spread = |x: Tensor| if group == 1 { x } else { x.repeat_interleave_self_int(group, 1, None) };
        let mask = context.mask(self.window);
        let out_bhtk = Tensor::scaled_dot_product_attention(
            &q_bhtk,
            &spread(k_bhtk),
            &spread(v_bhtk),
            mask,
            0.0,
            mask.is_none(),
            None,
            false,
        );
        self.o_proj.forward(&out_bhtk.transpose(1, 2).reshape([b, t, -1]))
    }
}
