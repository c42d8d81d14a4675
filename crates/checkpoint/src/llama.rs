//! The part of a configuration that decides the numbers, in one spelling.
//!
//! Meanings and defaults are those of transformers 5 (configuration_llama, configuration_mistral,
//! configuration_qwen2 and their models), which is what the logits are compared with.

use safetensors::Dtype;

use crate::rope::Rope;

/// Which of the supported models a configuration describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// `LlamaForCausalLM`
    Llama,
    /// `MistralForCausalLM`: LLaMA with a sliding window.
    Mistral,
    /// `Qwen2ForCausalLM`: LLaMA with biases on q, k and v, and a window on the upper layers.
    Qwen2,
}

impl Architecture {
    /// The value of `model_type`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
        }
    }

    /// The class name in `architectures`.
    pub fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
        }
    }
}

/// Everything that a forward pass needs to know; made by `ConfigFile::llama`, which checks it.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// The model's kind.
    pub architecture: Architecture,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward part.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Longest sequence that the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// Added to the mean square in every RMS norm.
    pub rms_norm_eps: f64,
    /// The rotary embedding.
    pub rope: Rope,
    /// The output head is the embedding.
    pub tie_word_embeddings: bool,
    /// q, k and v have a bias.
    pub qkv_bias: bool,
    /// o has a bias.
    pub o_bias: bool,
    /// gate, up and down have a bias.
    pub mlp_bias: bool,
    /// One entry per layer: how many tokens back a query sees, itself included; `None` is all of them.
    pub sliding_window: Vec<Option<usize>>,
    /// The dtype that the config names; F32, BF16, F16 or F64.
    pub dtype: Option<Dtype>,
    /// The token a document begins with.
    pub bos_token_id: Option<u32>,
    /// The tokens that end a document or an answer.
    pub eos_token_ids: Vec<u32>,
}

/// The name and the shape of a tensor that a configuration demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSpec {
    /// The Hugging Face name.
    pub name: String,
    /// Rows then columns for matrices (`[out, in]`), one number for norms and biases.
    pub shape: Vec<usize>,
}

impl LlamaConfig {
    /// Every tensor of the model: embedding, blocks from the lowest, final norm, head unless it is tied.
    pub fn parameters(&self) -> Vec<ParameterSpec> {
        let mut list = Vec::with_capacity(self.num_hidden_layers * 9 + 3);
        let mut add = |name: String, shape: Vec<usize>| list.push(ParameterSpec { name, shape });
        add("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, self.hidden_size]);
        for layer in 0..self.num_hidden_layers {
            self.block(&format!("model.layers.{layer}"), &mut add);
        }
        add("model.norm.weight".to_owned(), vec![self.hidden_size]);
        if !self.tie_word_embeddings {
            add("lm_head.weight".to_owned(), vec![self.vocab_size, self.hidden_size]);
        }
        list
    }

    /// Number of parameters; the checks of `ConfigFile::llama` keep it far below overflow.
    pub fn parameter_count(&self) -> u64 {
        self.parameters().iter().map(|spec| spec.shape.iter().map(|&n| n as u64).product::<u64>()).sum()
    }

    fn block(&self, prefix: &str, add: &mut impl FnMut(String, Vec<usize>)) {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim);
        let mut tensors = |name: &str, shape: &[usize], bias: bool| {
            add(format!("{prefix}.{name}.weight"), shape.to_vec());
            if bias {
                add(format!("{prefix}.{name}.bias"), vec![shape[0]]);
            }
        };
        tensors("input_layernorm", &[hidden], false);
        tensors("self_attn.q_proj", &[q, hidden], self.qkv_bias);
        tensors("self_attn.k_proj", &[kv, hidden], self.qkv_bias);
        tensors("self_attn.v_proj", &[kv, hidden], self.qkv_bias);
        tensors("self_attn.o_proj", &[hidden, q], self.o_bias);
        tensors("post_attention_layernorm", &[hidden], false);
        tensors("mlp.gate_proj", &[inner, hidden], self.mlp_bias);
        tensors("mlp.up_proj", &[inner, hidden], self.mlp_bias);
        tensors("mlp.down_proj", &[hidden, inner], self.mlp_bias);
    }
}
