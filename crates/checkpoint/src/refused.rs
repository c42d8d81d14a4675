//! Keys that change the numbers of a model and are not supported.
//!
//! A configuration may hold any key; most say nothing about the numbers (`_name_or_path`, `use_cache`,
//! `initializer_range`, `pretraining_tp`, which only slices a product that is the same sum). The ones below do,
//! in models that are LLaMA but for one thing, and each is refused unless it has the value that means "off".

use serde_json::{Value, json};

use crate::error::Result;
use crate::fields::Fields;
use crate::json::show;

/// Fails on the first key that is not at a value that switches it off.
pub(crate) fn check(config: &Fields<'_>) -> Result<()> {
    for (key, value) in config.keys() {
        let Some((_, off)) = REFUSED.iter().find(|(name, _)| *name == key) else { continue };
        if value.is_null() || off.allows(value) {
            continue;
        }
        return Err(config.refuse(key, format!("not supported (found {})", show(value))));
    }
    Ok(())
}

/// The values at which a key does nothing; null and an absent key always do nothing.
enum Off {
    Never,
    False,
    True,
    Zero,
    One,
    /// 0, false or an empty list or object.
    Empty,
    /// 0 or 1: a single expert is a plain feed-forward part.
    UpToOne,
    Text(&'static str),
}

impl Off {
    fn allows(&self, value: &Value) -> bool {
        match self {
            Self::Never => false,
            Self::False => *value == json!(false),
            Self::True => *value == json!(true),
            Self::Zero => value.as_f64() == Some(0.0),
            Self::One => value.as_f64() == Some(1.0),
            Self::Empty => match value {
                Value::Array(list) => list.is_empty(),
                Value::Object(map) => map.is_empty(),
                Value::Bool(on) => !on,
                other => other.as_f64() == Some(0.0),
            },
            Self::UpToOne => value.as_u64().is_some_and(|n| n <= 1),
            Self::Text(text) => value.as_str() == Some(text),
        }
    }
}

#[rustfmt::skip]
const REFUSED: &[(&str, Off)] = &[
    // Dropout would act in training; the trainer has none, so a model that asks for it is not trained quietly
    // without it. Setting the key to 0 says that this is wanted.
    ("attention_dropout", Off::Zero),
    ("partial_rotary_factor", Off::One), ("rotary_pct", Off::One), ("rope_pct", Off::One),
    ("rope_interleave", Off::False), ("rope_interleaved", Off::False), ("alibi", Off::False),
    ("no_rope_layers", Off::Empty), ("no_rope_layer_interval", Off::Never), ("nope_layer_interval", Off::Never),
    ("rope_local_base_freq", Off::Never), ("position_embedding_type", Off::Text("rope")),
    ("clip_qkv", Off::Empty), ("qk_clip", Off::Empty),
    ("use_qk_norm", Off::False), ("qk_norm", Off::False), ("qk_layernorm", Off::False),
    ("query_pre_attn_scalar", Off::Never), ("attn_temperature_tuning", Off::Empty),
    ("attn_logit_softcapping", Off::Never), ("final_logit_softcapping", Off::Never),
    ("attention_chunk_size", Off::Never), ("use_bidirectional_attention", Off::False),
    ("attention_sink", Off::Empty), ("attention_sinks", Off::Empty), ("use_sinks", Off::False),
    // Granite, Cohere, MiniCPM, OLMo: factors on the residual stream, the embedding or the logits.
    ("embedding_multiplier", Off::One), ("attention_multiplier", Off::Never), ("residual_multiplier", Off::One),
    ("logits_scaling", Off::One), ("logit_scale", Off::One), ("logits_scale", Off::One),
    ("scale_emb", Off::One), ("scale_depth", Off::Never), ("dim_model_base", Off::Never),
    ("mup_base_width", Off::Never), ("mup_width_multiplier", Off::One), ("embedding_scale", Off::One),
    ("parallel_attn", Off::False), ("use_parallel_residual", Off::False), ("post_norm", Off::False),
    ("norm_type", Off::Text("rmsnorm")), ("norm_head", Off::False), ("use_post_norm", Off::False),
    // Mixtures of experts.
    ("num_local_experts", Off::UpToOne), ("num_experts", Off::UpToOne), ("n_routed_experts", Off::UpToOne),
    ("moe_num_experts", Off::UpToOne), ("moe_intermediate_size", Off::Zero), ("num_experts_per_tok", Off::UpToOne),
    // Low-rank attention.
    ("kv_lora_rank", Off::Never), ("q_lora_rank", Off::Never), ("qk_rope_head_dim", Off::Never),
    ("qk_nope_head_dim", Off::Never), ("v_head_dim", Off::Never),
    // Weights that are not stored as plain numbers, or not per layer as usual.
    ("quantization_config", Off::Never), ("compression_config", Off::Never), ("quantization", Off::Never),
    ("pruned_heads", Off::Empty), ("per_layer_config", Off::Empty), ("block_configs", Off::Empty),
    ("num_nextn_predict_layers", Off::Zero),
    ("is_encoder_decoder", Off::False), ("add_cross_attention", Off::False), ("is_causal", Off::True),
    ("text_config", Off::Never), ("vision_config", Off::Never), ("audio_config", Off::Never),
    ("hidden_activation", Off::Text("silu")),
];
