//! Token shards, packed rows, mixing and an order that can be entered at any step.
//!
//! A shard is Megatron-LM's `.bin`/`.idx` pair. `PackedRows` cuts it into rows of one length, `Sampler` mixes the
//! rows of several shards by weight in an order that is a function of (seed, sample number) and nothing else.

mod atomic;
mod error;
mod index;
mod map;
mod mixture;
mod packed;
mod permutation;
mod reader;
mod record;
mod sampler;
mod writer;

pub use error::{Error, Result};
pub use index::TokenType;
pub use mixture::Mixture;
pub use packed::{IGNORED, PackedRows, Row};
pub use permutation::Permutation;
pub use reader::TokenShard;
pub use record::{
    Boundaries, FileRecord, HASH_BYTES, HashesWriter, InputRecord, RECORD_FORMAT, RECORD_NAME, ShardRecord,
    ShardsRecord, SourceRecord,
};
pub use sampler::{MIXTURE_PERIOD, Sample, Sampler};
pub use writer::{ShardInfo, ShardWriter};
