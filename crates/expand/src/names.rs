//! Tensor names: which block a tensor belongs to, its name in another block, and which block tensors are known.
//!
//! Only the exact prefix `model.layers.{i}.` counts. A prefix without the last dot, or a substring, takes block 30
//! for block 3, which is how a published tool trains blocks that it believes frozen.

const PREFIX: &str = "model.layers.";

/// The matrices and biases whose zero makes a pre-norm residual block the identity.
const ZEROED: [&str; 4] =
    ["self_attn.o_proj.weight", "self_attn.o_proj.bias", "mlp.down_proj.weight", "mlp.down_proj.bias"];

/// The two that a block must have.
pub(crate) const REQUIRED: [&str; 2] = [ZEROED[0], ZEROED[2]];

/// Modules of a pre-norm block whose output reaches the residual stream through o_proj or down_proj only.
/// `{module}.weight` and `{module}.bias` are allowed. What is not in this list is not understood and is refused.
const KNOWN_MODULES: [&str; 18] = [
    "input_layernorm",
    "post_attention_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.qkv_proj",
    "self_attn.o_proj",
    "self_attn.q_norm",
    "self_attn.k_norm",
    "self_attn.q_layernorm",
    "self_attn.k_layernorm",
    "self_attn.query_layernorm",
    "self_attn.key_layernorm",
    "self_attn.rotary_emb.inv_freq",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.gate_up_proj",
    "mlp.down_proj",
];

/// What a tensor name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// Not in a block: embeddings, final norm, head.
    Outside,
    /// In block `.0`, under the name `.1` within the block.
    Block(usize, &'a str),
    /// Under `model.layers.` but not `model.layers.{number}.{name}`.
    Malformed,
}

/// Reads a tensor name.
pub(crate) fn place(name: &str) -> Place<'_> {
    let Some(rest) = name.strip_prefix(PREFIX) else { return Place::Outside };
    let Some((index, within)) = rest.split_once('.') else { return Place::Malformed };
    let canonical =
        index.bytes().all(|byte| byte.is_ascii_digit()) && (index == "0" || !index.starts_with('0'));
    match index.parse() {
        Ok(index) if canonical && !within.is_empty() => Place::Block(index, within),
        _ => Place::Malformed,
    }
}

/// The name of tensor `within` of block `index`.
pub(crate) fn in_block(index: usize, within: &str) -> String {
    format!("{PREFIX}{index}.{within}")
}

/// Whether a tensor is a rotary buffer of an old file: it follows from the configuration and is never trained.
pub(crate) fn is_buffer(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
}

/// Whether this tensor of a new block is zero.
pub(crate) fn is_zeroed(within: &str) -> bool {
    ZEROED.contains(&within)
}

/// The order in which tensors are written: embeddings, blocks by number, the rest; by name within each.
#[must_use]
pub fn order(name: &str) -> (u8, usize, &str) {
    match place(name) {
        Place::Outside | Place::Malformed if name.contains("embed") => (0, 0, name),
        Place::Block(index, within) => (1, index, within),
        Place::Outside | Place::Malformed => (2, 0, name),
    }
}

/// Why a block with this tensor cannot be copied and zeroed; `None` when it can.
pub(crate) fn objection(within: &str) -> Option<&'static str> {
    let module = within.strip_suffix(".weight").or_else(|| within.strip_suffix(".bias")).unwrap_or(within);
    if KNOWN_MODULES.contains(&module) {
        return None;
    }
    let has = |part: &str| within.contains(part);
    Some(if has("experts") || has("block_sparse_moe") || module == "mlp.gate" || has("router") {
        "a mixture of experts has several output matrices per block, which this version does not zero"
    } else if has("feedforward_layernorm") || has("post_self_attn_layernorm") || has("post_mlp_layernorm") {
        "a norm follows the zeroed matrix (post-norm block), so that its gradient at zero explodes"
    } else if has("qweight") || has("scale") || has("qzeros") || has("g_idx") || has("absmax") || has("quant")
    {
        "the weights are quantised: expand the unquantised model"
    } else if has("lora_") {
        "an adapter is in the block: merge it first"
    } else {
        "the tensor is not known to reach the residual stream through o_proj or down_proj only"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_prefix_counts() {
        assert_eq!(place("model.layers.3.mlp.up_proj.weight"), Place::Block(3, "mlp.up_proj.weight"));
        assert_eq!(place("model.layers.30.x"), Place::Block(30, "x"));
        assert_eq!(place("model.embed_tokens.weight"), Place::Outside);
        assert_eq!(place("vision.model.layers.3.x"), Place::Outside);
        assert_eq!(place("layers.3.x"), Place::Outside);
        for bad in [
            "model.layers.03.x",
            "model.layers.+3.x",
            "model.layers.3",
            "model.layers.3.",
            "model.layers..x",
            "model.layers.99999999999999999999999.x",
            "model.layers.-1.x",
        ] {
            assert_eq!(place(bad), Place::Malformed, "{bad}");
        }
    }

    #[test]
    fn names_of_other_blocks_are_exact() {
        assert_eq!(in_block(30, "mlp.up_proj.weight"), "model.layers.30.mlp.up_proj.weight");
        assert!(is_zeroed("self_attn.o_proj.bias"));
        assert!(!is_zeroed("mlp.down_proj.weight_scale"));
        assert!(!is_zeroed("mlp.experts.0.down_proj.weight"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for fine in ["input_layernorm.weight", "self_attn.q_proj.bias", "self_attn.q_norm.weight"] {
            assert_eq!(objection(fine), None, "{fine}");
        }
        for (bad, why) in [
            ("post_feedforward_layernorm.weight", "post-norm"),
            ("pre_feedforward_layernorm.weight", "post-norm"),
            ("mlp.experts.0.down_proj.weight", "experts"),
            ("mlp.gate.weight", "experts"),
            ("block_sparse_moe.experts.1.w2.weight", "experts"),
            ("mlp.down_proj.qweight", "quantised"),
            ("mlp.down_proj.weight_scale_inv", "quantised"),
            ("self_attn.q_proj.lora_A.weight", "adapter"),
            ("linear_attn.out_proj.weight", "not known"),
        ] {
            assert!(objection(bad).is_some_and(|reason| reason.contains(why)), "{bad}");
        }
    }
}
