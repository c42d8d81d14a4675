//! The configuration of the expanded model: the depth, every per-layer list and every layer threshold follow the
//! blocks; all other keys stay as they are. What might depend on the depth and is not understood is refused by name.
//!
//! Lists that do not follow make a model that loads and computes something else: `layer_types` of Qwen2, Qwen3 and
//! others decides which layers attend in a window, and published expanders leave it alone.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::placement::{MAX_LAYERS, PlannedLayer};

const DEPTH: &str = "num_hidden_layers";
/// Older names of the depth that some configs carry as well.
const DEPTH_ALIASES: [&str; 3] = ["num_layers", "n_layer", "n_layers"];
const WINDOW_THRESHOLD: &str = "max_window_layers";

/// Keys that, where they hold a list, hold one entry per block.
const PER_LAYER: [&str; 16] = [
    "layer_types",
    "mlp_layer_types",
    "no_rope_layers",
    "sliding_window",
    "sliding_window_pattern",
    "layers_block_type",
    "block_configs",
    "attn_types",
    "num_attention_heads",
    "num_attention_heads_per_layer",
    "num_key_value_heads",
    "num_key_value_heads_per_layer",
    "num_query_heads",
    "num_kv_heads",
    "intermediate_size",
    "head_dim",
];

/// Lists that have nothing to do with blocks, whatever their length; and every key that ends like a token id.
const HARMLESS_LISTS: [&str; 5] = [
    "architectures",
    "keys_to_ignore_at_inference",
    "suppress_tokens",
    "begin_suppress_tokens",
    "bad_words_ids",
];
const HARMLESS_LIST_ENDINGS: [&str; 4] = ["token_id", "token_ids", "tokens", "languages"];

/// Thresholds and periods over the block index that a `layer_types` or `no_rope_layers` list makes void.
const PERIODS: [(&str, &str); 2] =
    [("sliding_window_pattern", "layer_types"), ("no_rope_layer_interval", "no_rope_layers")];

/// Architectures that zeroed output matrices do not make the identity, or not usefully, by `model_type`.
const REFUSED_TYPES: [(&str, &str); 12] = [
    ("gemma2", POST_NORM),
    ("gemma3", POST_NORM),
    ("gemma3_text", POST_NORM),
    ("gemma3n", POST_NORM),
    ("gemma3n_text", POST_NORM),
    ("gemma4", POST_NORM),
    ("gemma4_text", POST_NORM),
    ("olmo2", POST_NORM),
    ("olmo3", POST_NORM),
    ("glm4", POST_NORM),
    ("exaone4", POST_NORM),
    ("chameleon", POST_NORM),
];
const POST_NORM: &str =
    "a norm follows the zeroed matrices (post-norm block), so that their gradient at zero explodes";

/// Keys whose presence means that the model is more than, or other than, a stack of residual blocks.
const REFUSED_KEYS: [(&str, &str); 8] = [
    ("vision_config", "the model has a vision tower"),
    ("audio_config", "the model has an audio tower"),
    ("text_config", "the language model's configuration is nested in a larger one"),
    ("quantization_config", "the weights are quantised: expand the unquantised model"),
    ("scale_depth", "every residual branch is scaled by the depth, so that more blocks change the old ones"),
    ("swin_norm", POST_NORM),
    ("is_encoder_decoder", "the model has an encoder"),
    ("cross_attention_layers", "blocks are named by index in a way that is not understood"),
];

/// The configuration of the expanded model, and the former values of the keys that changed.
#[derive(Debug)]
pub(crate) struct Lengthened {
    pub(crate) config: Map<String, Value>,
    pub(crate) before: Map<String, Value>,
}

/// The number of blocks that a configuration states.
pub(crate) fn layer_count(path: &Path, raw: &Map<String, Value>) -> Result<usize> {
    let invalid = |found: &str| Error::Config {
        path: path.to_owned(),
        reason: format!("{DEPTH}: expected a whole number from 1 to {MAX_LAYERS}, found {found}"),
    };
    let value = raw.get(DEPTH).ok_or_else(|| invalid("no such key"))?;
    let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
    count.filter(|count| (1..=MAX_LAYERS).contains(count)).ok_or_else(|| invalid(&short(value)))
}

/// The configuration of the model whose blocks are `layers`.
pub(crate) fn lengthen(path: &Path, raw: &Map<String, Value>, layers: &[PlannedLayer]) -> Result<Lengthened> {
    let unsupported = |reason: String| Err(Error::Unsupported { path: path.to_owned(), reason });
    let depth = layer_count(path, raw)?;
    if let Some(reason) = refused(raw) {
        return unsupported(reason);
    }
    let mut config = raw.clone();
    let mut before = Map::new();
    for (key, value) in raw {
        let follows = match value {
            // A threshold of 0 stays 0: every block lies above it.
            value if is_trivial(value) => None,
            _ if key == DEPTH || DEPTH_ALIASES.contains(&key.as_str()) => {
                if value.as_u64() != Some(depth as u64) {
                    return unsupported(format!("{key} is {} where {DEPTH} is {depth}", short(value)));
                }
                Some(Value::from(layers.len()))
            }
            _ if key == WINDOW_THRESHOLD => threshold(raw, value, depth, layers)
                .map_err(|reason| Error::Unsupported { path: path.to_owned(), reason })?,
            Value::Array(list) if PER_LAYER.contains(&key.as_str()) && !list.is_empty() => {
                if list.len() != depth {
                    return Err(Error::Config {
                        path: path.to_owned(),
                        reason: format!("{key}: expected one entry per block, {depth}, found {}", list.len()),
                    });
                }
                Some(layers.iter().map(|layer| list[layer.source].clone()).collect())
            }
            Value::Array(list) if list.len() == depth && !is_harmless_list(key) => {
                return unsupported(format!(
                    "{key} is a list of {depth} entries, as many as there are blocks, and is not known: it may be one entry per block"
                ));
            }
            _ => {
                if let Some(reason) = depends_on_index(raw, key, value) {
                    return unsupported(reason);
                }
                None
            }
        };
        if let Some(new) = follows.filter(|new| new != value) {
            before.insert(key.clone(), value.clone());
            config.insert(key.clone(), new);
        }
    }
    Ok(Lengthened { config, before })
}

/// The configuration with the recorded keys as they were.
pub(crate) fn restore(raw: &Map<String, Value>, before: &Map<String, Value>) -> Map<String, Value> {
    let mut config = raw.clone();
    for (key, value) in before {
        config.insert(key.clone(), value.clone());
    }
    config
}

/// The digest of a configuration's value: key order and white space do not count.
pub(crate) fn digest(raw: &Map<String, Value>) -> String {
    let mut text = String::new();
    canonical_object(raw, &mut text);
    llama_pro_checkpoint::digest(text.as_bytes())
}

fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => canonical_object(map, out),
        Value::Array(list) => {
            out.push('[');
            for value in list {
                canonical(value, out);
                out.push(',');
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn canonical_object(map: &Map<String, Value>, out: &mut String) {
    let mut keys: Vec<&String> = map.keys().collect();
    keys.sort_unstable();
    out.push('{');
    for key in keys {
        out.push_str(&Value::from(key.as_str()).to_string());
        out.push(':');
        canonical(&map[key.as_str()], out);
        out.push(',');
    }
    out.push('}');
}

/// A key whose mere value rules the model out.
fn refused(raw: &Map<String, Value>) -> Option<String> {
    if let Some(kind) = raw.get("model_type").and_then(Value::as_str)
        && let Some((_, reason)) = REFUSED_TYPES.iter().find(|(refused, _)| *refused == kind)
    {
        return Some(format!("model_type {kind}: {reason}"));
    }
    let (key, reason) =
        REFUSED_KEYS.iter().find(|(key, _)| raw.get(*key).is_some_and(|value| !is_trivial(value)))?;
    Some(format!("{key}: {reason}"))
}

/// Qwen2's `max_window_layers`: blocks from that index on attend in a window. The new threshold must split the
/// expanded model so that every block stays on the side of its source.
fn threshold(
    raw: &Map<String, Value>,
    value: &Value,
    depth: usize,
    layers: &[PlannedLayer],
) -> Result<Option<Value>, String> {
    let active = raw.get("use_sliding_window").is_some_and(|flag| flag.as_bool() == Some(true))
        && raw.get("sliding_window").is_some_and(|window| !is_trivial(window));
    let Some(limit) = value.as_u64().and_then(|limit| usize::try_from(limit).ok()) else {
        let void = is_trivial(value) || !active;
        return if void { Ok(None) } else { Err(format!("{WINDOW_THRESHOLD} is {}", short(value))) };
    };
    if limit >= depth {
        return Ok(Some(Value::from(limit.max(layers.len()))));
    }
    let below = layers.iter().take_while(|layer| layer.source < limit).count();
    if layers[below..].iter().all(|layer| layer.source >= limit) {
        Ok(Some(Value::from(below)))
    } else if active {
        Err(format!(
            "{WINDOW_THRESHOLD} is {limit}, in the middle of a group whose top blocks are copied as a unit: no single threshold fits the expanded model (use one new block per group, or other positions)"
        ))
    } else {
        Ok(None)
    }
}

/// A key about layers that is not a list of one entry per block: refused unless it says nothing.
fn depends_on_index(raw: &Map<String, Value>, key: &str, value: &Value) -> Option<String> {
    if is_trivial(value) {
        return None;
    }
    if let Some((_, list)) = PERIODS.iter().find(|(period, _)| *period == key) {
        let void = raw.get(*list).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        return (!void).then(|| {
            format!(
                "{key} is {}, a period over the block index, and there is no {list} that replaces it",
                short(value)
            )
        });
    }
    let about_layers = key.replace("layer_norm", "").replace("layernorm", "").contains("layer");
    about_layers.then(|| format!("{key} is {}: its meaning for a deeper model is not known", short(value)))
}

fn is_harmless_list(key: &str) -> bool {
    HARMLESS_LISTS.contains(&key) || HARMLESS_LIST_ENDINGS.iter().any(|ending| key.ends_with(ending))
}

/// null, false, 0, "", [] and {}: the key is there and says nothing.
fn is_trivial(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// A value for an error message: one short line.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
