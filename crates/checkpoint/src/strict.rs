//! From a `config.json` to a `LlamaConfig`: every key that decides the numbers is read, checked or refused.

use safetensors::Dtype;
use serde_json::Value;

use crate::config::ConfigFile;
use crate::error::Result;
use crate::fields::{Fields, LARGEST};
use crate::json::show;
use crate::llama::{Architecture, LlamaConfig};
use crate::{refused, rope};

/// The deepest model that is believed; the deepest in use have some 130 blocks.
const MOST_LAYERS: usize = 65_536;

/// See `ConfigFile::llama`.
pub(crate) fn llama(file: &ConfigFile) -> Result<LlamaConfig> {
    let config = file.fields();
    let architecture = architecture(file, &config)?;
    refused::check(&config)?;
    activation(&config)?;
    let hidden_size = config.required_size("hidden_size")?;
    let intermediate_size = config.required_size("intermediate_size")?;
    let num_hidden_layers = layers(&config)?;
    let num_attention_heads = config.required_size("num_attention_heads")?;
    let vocab_size = config.required_size("vocab_size")?;
    let num_key_value_heads = key_value_heads(&config, architecture, num_attention_heads)?;
    let head_dim = head_dim(&config, hidden_size, num_attention_heads)?;
    let default_length = match architecture {
        Architecture::Llama => 2_048,
        Architecture::Mistral => 131_072,
        Architecture::Qwen2 => 32_768,
    };
    let max_position_embeddings = config.size("max_position_embeddings")?.unwrap_or(default_length);
    let (qkv_bias, o_bias, mlp_bias) = biases(&config, architecture)?;
    let (bos_token_id, eos_token_ids) = special_tokens(&config, architecture)?;
    let result = LlamaConfig {
        architecture,
        hidden_size,
        intermediate_size,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        vocab_size,
        max_position_embeddings,
        rms_norm_eps: config.not_negative("rms_norm_eps")?.unwrap_or(1e-6),
        rope: rope::read(&config, max_position_embeddings, head_dim)?,
        tie_word_embeddings: config.boolean("tie_word_embeddings", false)?,
        qkv_bias,
        o_bias,
        mlp_bias,
        sliding_window: windows(&config, architecture, num_hidden_layers)?,
        dtype: dtype(&config)?,
        bos_token_id,
        eos_token_ids,
    };
    sizes(&config, &result)?;
    Ok(result)
}

/// The key `num_hidden_layers`.
pub(crate) fn layers(config: &Fields<'_>) -> Result<usize> {
    let layers = config.required_size("num_hidden_layers")?;
    if layers > MOST_LAYERS {
        return Err(
            config.refuse("num_hidden_layers", format!("expected at most {MOST_LAYERS}, found {layers}"))
        );
    }
    Ok(layers)
}

fn architecture(file: &ConfigFile, config: &Fields<'_>) -> Result<Architecture> {
    let architecture = match file.model_type()? {
        "llama" => Architecture::Llama,
        "mistral" => Architecture::Mistral,
        "qwen2" => Architecture::Qwen2,
        other => {
            let problem = format!("expected llama, mistral or qwen2, found {other:?}");
            return Err(config.refuse("model_type", problem));
        }
    };
    match config.get("architectures") {
        None => Ok(architecture),
        Some(Value::Array(list)) if list.len() == 1 && list[0].as_str() == Some(architecture.class()) => {
            Ok(architecture)
        }
        Some(other) => Err(config.wrong("architectures", &format!("[{:?}]", architecture.class()), other)),
    }
}

fn activation(config: &Fields<'_>) -> Result<()> {
    match config.string("hidden_act")? {
        // Two names of one function.
        None | Some("silu" | "swish") => Ok(()),
        Some(other) => Err(config.refuse("hidden_act", format!("expected silu, found {other:?}"))),
    }
}

fn key_value_heads(config: &Fields<'_>, architecture: Architecture, heads: usize) -> Result<usize> {
    const KEY: &str = "num_key_value_heads";
    let absent = match architecture {
        _ if config.has(KEY) => heads, // null
        Architecture::Llama => heads,
        Architecture::Mistral => 8,
        Architecture::Qwen2 => 32,
    };
    let kv = config.size(KEY)?.unwrap_or(absent);
    if !heads.is_multiple_of(kv) {
        let origin = if config.has(KEY) { "" } else { " (the default)" };
        return Err(config.refuse(KEY, format!("{kv}{origin} does not divide num_attention_heads {heads}")));
    }
    Ok(kv)
}

fn head_dim(config: &Fields<'_>, hidden: usize, heads: usize) -> Result<usize> {
    let (key, dim) = match config.size("head_dim")? {
        Some(dim) => ("head_dim", dim),
        None if hidden.is_multiple_of(heads) => ("hidden_size", hidden / heads),
        None => {
            let problem =
                format!("{hidden} is no multiple of num_attention_heads {heads}, and there is no head_dim");
            return Err(config.refuse("hidden_size", problem));
        }
    };
    if !dim.is_multiple_of(2) {
        let problem = format!("a head has {dim} dimensions, but rotation needs an even number");
        return Err(config.refuse(key, problem));
    }
    Ok(dim)
}

fn biases(config: &Fields<'_>, architecture: Architecture) -> Result<(bool, bool, bool)> {
    let (attention, mlp) = (config.boolean("attention_bias", false)?, config.boolean("mlp_bias", false)?);
    match architecture {
        Architecture::Llama => Ok((attention, attention, mlp)),
        _ if mlp => {
            Err(config.refuse("mlp_bias", format!("true, but {} has none", architecture.model_type())))
        }
        Architecture::Mistral if attention => {
            Err(config.refuse("attention_bias", "true, but mistral has none"))
        }
        Architecture::Mistral => Ok((false, false, false)),
        // Qwen2 has them whatever the key says.
        Architecture::Qwen2 => Ok((true, false, false)),
    }
}

fn windows(config: &Fields<'_>, architecture: Architecture, layers: usize) -> Result<Vec<Option<usize>>> {
    let types = layer_types(config, layers)?;
    let use_window = config.boolean("use_sliding_window", architecture == Architecture::Mistral)?;
    let window = match architecture {
        Architecture::Llama => {
            if let (Some(window), true) =
                (config.get("sliding_window"), use_window || !config.has("use_sliding_window"))
            {
                let problem = format!("llama has no window in transformers (found {})", show(window));
                return Err(config.refuse("sliding_window", problem));
            }
            None
        }
        // MistralConfig's own default, where the key does not stand at all.
        Architecture::Mistral if !config.has("sliding_window") => Some(4096),
        Architecture::Mistral if !use_window && config.get("sliding_window").is_some() => {
            return Err(
                config.refuse("use_sliding_window", "false, but mistral uses sliding_window all the same")
            );
        }
        Architecture::Mistral => config.size("sliding_window")?,
        Architecture::Qwen2 if !use_window => None,
        Architecture::Qwen2 if !config.has("sliding_window") => Some(4096),
        Architecture::Qwen2 => config.size("sliding_window")?,
    };
    let first = if architecture == Architecture::Qwen2 { config.count("max_window_layers", 28)? } else { 0 };
    let by_rule = (0..layers).map(|layer| window.filter(|_| layer >= first));
    match types {
        None => Ok(by_rule.collect()),
        // Qwen2 follows the list; without a window a sliding layer is a full one.
        Some(types) if architecture == Architecture::Qwen2 => match window {
            None if types.contains(&true) => {
                Err(config.refuse("layer_types", "has sliding_attention, but use_sliding_window is off"))
            }
            window => Ok(types.into_iter().map(|sliding| window.filter(|_| sliding)).collect()),
        },
        // Llama and Mistral do not read it, so it must say what they do anyway.
        Some(types) => {
            let rule: Vec<_> = by_rule.collect();
            match types.iter().zip(&rule).position(|(sliding, window)| *sliding != window.is_some()) {
                None => Ok(rule),
                Some(layer) => Err(config.refuse(
                    "layer_types",
                    format!(
                        "{} has one kind of layer, but entry {layer} is another",
                        architecture.model_type()
                    ),
                )),
            }
        }
    }
}

/// True for each sliding layer.
fn layer_types(config: &Fields<'_>, layers: usize) -> Result<Option<Vec<bool>>> {
    const KEY: &str = "layer_types";
    let list = match config.get(KEY) {
        None => return Ok(None),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(config.wrong(KEY, "a list", other)),
    };
    if list.len() != layers {
        let problem = format!("has {} entries for num_hidden_layers {layers}", list.len());
        return Err(config.refuse(KEY, problem));
    }
    let one = |value: &Value| match value.as_str() {
        Some("full_attention") => Ok(false),
        Some("sliding_attention") => Ok(true),
        _ => Err(config.wrong(KEY, "full_attention or sliding_attention", value)),
    };
    list.iter().map(one).collect::<Result<Vec<_>>>().map(Some)
}

fn dtype(config: &Fields<'_>) -> Result<Option<Dtype>> {
    let read = |key: &str| -> Result<Option<Dtype>> {
        let Some(text) = config.string(key)? else { return Ok(None) };
        match text.strip_prefix("torch.").unwrap_or(text) {
            "float32" | "float" => Ok(Some(Dtype::F32)),
            "bfloat16" => Ok(Some(Dtype::BF16)),
            "float16" | "half" => Ok(Some(Dtype::F16)),
            "float64" | "double" => Ok(Some(Dtype::F64)),
            _ => Err(config.refuse(key, format!("expected float32, bfloat16 or float16, found {text:?}"))),
        }
    };
    match (read("torch_dtype")?, read("dtype")?) {
        (Some(old), Some(new)) if old != new => {
            Err(config.refuse("torch_dtype", format!("{old}, but dtype says {new}")))
        }
        (old, new) => Ok(new.or(old)),
    }
}

/// Absent keys mean 1 and 2 for Llama and Mistral and nothing for Qwen2; null means nothing.
fn special_tokens(config: &Fields<'_>, architecture: Architecture) -> Result<(Option<u32>, Vec<u32>)> {
    let implied = architecture != Architecture::Qwen2;
    let bos = match config.get("bos_token_id") {
        Some(value) => Some(config.token("bos_token_id", value)?),
        None => (implied && !config.has("bos_token_id")).then_some(1),
    };
    let eos = match config.get("eos_token_id") {
        Some(Value::Array(list)) => {
            list.iter().map(|value| config.token("eos_token_id", value)).collect::<Result<_>>()?
        }
        Some(value) => vec![config.token("eos_token_id", value)?],
        None if implied && !config.has("eos_token_id") => vec![2],
        None => Vec::new(),
    };
    Ok((bos, eos))
}

/// Sizes that are fine one by one and absurd together: no tensor and no model may reach 2^60 elements.
fn sizes(config: &Fields<'_>, it: &LlamaConfig) -> Result<()> {
    const MOST: u128 = 1 << 60;
    let product = |a: usize, b: usize| a as u128 * b as u128;
    let width = product(it.num_attention_heads, it.head_dim);
    if width > u128::from(LARGEST) {
        let problem = format!("{} times {} heads is beyond {LARGEST}", it.head_dim, it.num_attention_heads);
        return Err(config.refuse("head_dim", problem));
    }
    let block = 4 * width * it.hidden_size as u128 + 3 * product(it.intermediate_size, it.hidden_size);
    let total = block * it.num_hidden_layers as u128 + 2 * product(it.vocab_size, it.hidden_size);
    if total > MOST {
        let key =
            if 2 * product(it.vocab_size, it.hidden_size) > MOST { "vocab_size" } else { "hidden_size" };
        return Err(config.refuse(key, format!("the sizes together make a model of {total} parameters")));
    }
    Ok(())
}
