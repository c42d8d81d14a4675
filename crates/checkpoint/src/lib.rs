//! Hugging Face checkpoint folders: configuration, shard index, mapped reader, streaming writer.
//!
//! Bytes are moved here, never floats: every dtype of the safetensors format is kept bit for bit. A folder is
//! opened with [`Checkpoint::open`], which checks the configuration's JSON, the index and every header before
//! anything else sees them; [`ConfigFile::llama`] turns `config.json` into the numbers that a model is built
//! from and refuses what it does not know; [`FolderWriter`] writes a folder that appears whole or not at all.

mod ahead;
mod carry;
mod check;
mod checkpoint;
mod config;
mod copy;
pub mod cost;
mod error;
mod fields;
mod file;
mod flush;
mod folder;
mod header;
mod index;
mod json;
mod llama;
mod map;
mod plan;
mod refused;
mod rope;
mod single;
mod strict;
mod tensor;
mod weights;
mod writer;

pub use checkpoint::{Checkpoint, Shard};
pub use config::ConfigFile;
pub use error::{Error, Result};
pub use file::TensorFile;
pub use header::{Header, HeaderTensor, parse_header};
pub use index::{Index, parse_index};
pub use llama::{Architecture, LlamaConfig, ParameterSpec};
pub use rope::{Rope, RopeScaling};
pub use safetensors::Dtype;
pub use single::write_tensor_file;
pub use tensor::{Source, Tensor, TensorInfo, digest};
pub use weights::Weights;
pub use writer::{FolderWriter, WriteOptions, Written};
