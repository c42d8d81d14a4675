//! LLaMA-family decoders on libtorch: `LlamaForCausalLM`, `MistralForCausalLM` and `Qwen2ForCausalLM` as Hugging Face
//! writes them, with the tensor names of the checkpoint as the only names.
//!
//! ```ignore
//! let checkpoint = Checkpoint::open("path/to/model".as_ref())?;
//! let model = Llama::load(&checkpoint, &LoadOptions::default())?;
//! let logits = model.logits(&Inputs::tokens(&ids), Path::Grown)?; // [B, T, V]
//! ```
//!
//! Shapes in the names of tensors: `b` batch, `t` position, `d` hidden, `h` head, `k` head dimension, `v` vocabulary.
//! The reference for every number is transformers' eager path; tests/parity.rs holds the two together.

mod block;
mod context;
mod decode;
mod device;
mod dtype;
mod error;
mod guard;
mod llama;
mod load;
mod lora;
pub mod loss;
mod random;
mod rope;
mod score;

pub use context::{Attends, Context, Inputs, attends_by};
pub use decode::{Sampling, Session, generate};
pub use device::{choose_device, describe};
pub use dtype::{dtype_of, kind_of};
pub use error::{Error, Result};
pub use guard::{guarded, is_guarded};
pub use llama::{Llama, Parameter, Path};
pub use load::{LoadOptions, Trained};
pub use lora::{LORA_TARGETS, LoraOptions, merged};
pub use score::Scorer;
