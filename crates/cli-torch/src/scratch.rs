//! A new base model: a tokenizer trained on the data and random weights. This is how data/base-tiny was made.
//!
//! Weights are drawn as Hugging Face initialises LLaMA: normal with standard deviation 0.02, norms at one. The numbers
//! are a function of (seed, tensor name, index) alone.

use std::path::Path;

use anyhow::Result;
use llama_pro_checkpoint::{ConfigFile, Dtype, FolderWriter, Source, Tensor, WriteOptions};
use serde::{Deserialize, Serialize};

/// Shape of a new model.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Scratch {
    /// Tokens of the byte-level BPE tokenizer that is trained on the sources.
    pub(crate) vocab_size: usize,
    /// Width.
    pub(crate) hidden_size: usize,
    /// Width inside the MLP.
    pub(crate) intermediate_size: usize,
    /// Blocks.
    pub(crate) num_hidden_layers: usize,
    /// Query heads.
    pub(crate) num_attention_heads: usize,
    /// Key and value heads.
    pub(crate) num_key_value_heads: usize,
    /// Longest context.
    pub(crate) max_position_embeddings: usize,
    /// Rotary base. Default 10000.
    #[serde(default = "rope_theta")]
    pub(crate) rope_theta: f64,
}

fn rope_theta() -> f64 {
    10_000.0
}

impl Scratch {
    /// config.json of the new model.
    fn config(&self, vocab_size: usize) -> String {
        let json = serde_json::json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": 1e-5,
            "rope_theta": self.rope_theta,
            "hidden_act": "silu",
            "tie_word_embeddings": true,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "torch_dtype": "float32",
        });
        format!("{json:#}\n")
    }

    /// Writes the new model folder.
    pub(crate) fn write(
        &self,
        out: &Path,
        tokenizer: &llama_pro_text::TrainedTokenizer,
        seed: u64,
    ) -> Result<()> {
        let config = ConfigFile::from_json(Path::new("[base.scratch]"), &self.config(tokenizer.vocab_size))?;
        let tensors = random_tensors(&config, Dtype::F32, seed)?;
        let mut writer = FolderWriter::new(out, WriteOptions::default())?;
        writer.config(&config)?;
        writer.file("tokenizer.json", &tokenizer.tokenizer_json)?;
        writer.file("tokenizer_config.json", &tokenizer.tokenizer_config_json)?;
        writer.tensors(tensors, &|_| {})?;
        writer.finish()?;
        Ok(())
    }
}

/// Every tensor of a config with random contents, made when it is written.
pub(crate) fn random_tensors(config: &ConfigFile, dtype: Dtype, seed: u64) -> Result<Vec<Tensor<'static>>> {
    let llama = config.llama()?;
    Ok(llama
        .parameters()
        .into_iter()
        .map(|spec| {
            let n: usize = spec.shape.iter().product();
            let norm = spec.name.ends_with("norm.weight") || spec.name.ends_with("layernorm.weight");
            let key = name_key(seed, &spec.name);
            let make =
                move || values(dtype, n, move |i| if norm { 1.0 } else { 0.02 * normal(key, i as u64) });
            Tensor { name: spec.name, dtype, shape: spec.shape, source: Source::Lazy(Box::new(make)) }
        })
        .collect())
}

fn values(dtype: Dtype, n: usize, value: impl Fn(usize) -> f32) -> Vec<u8> {
    match dtype {
        Dtype::F32 => (0..n).flat_map(|i| value(i).to_le_bytes()).collect(),
        // Round to nearest even in the upper half of the float.
        _ => (0..n)
            .flat_map(|i| {
                let bits = value(i).to_bits();
                (((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16).to_le_bytes()
            })
            .collect(),
    }
}

/// A standard normal number as a function of (key, index): Box and Muller on two halves of a mixed counter.
fn normal(key: u64, i: u64) -> f32 {
    let x = mix(key ^ mix(i.wrapping_add(0x9e37_79b9_7f4a_7c15)));
    let unit = |bits: u32| (f64::from(bits) + 0.5) / f64::from(u32::MAX) / (1.0 + f64::EPSILON);
    let (a, b) = (unit((x >> 32) as u32), unit(x as u32));
    ((-2.0 * a.min(1.0 - 1e-12).ln()).sqrt() * (std::f64::consts::TAU * b).cos()) as f32
}

/// The finaliser of SplitMix64.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn name_key(seed: u64, name: &str) -> u64 {
    name.bytes().fold(mix(seed ^ 0x5bd1_e995), |key, byte| mix(key ^ u64::from(byte)))
}
