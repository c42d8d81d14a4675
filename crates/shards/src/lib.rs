//! Token shards, packed rows, mixing and an order that can be entered at any step.
//!
//! A shard is Megatron-LM's `.bin`/`.idx` pair, and `shards.json` says what a folder of them was made from.
//! `PackedRows` makes rows of one length of it, cut anywhere or with documents whole. `Sampler` mixes the rows of several
//! shards by weight in an order that is a function of (seed, sample number) and nothing else; `Prefetch` makes its
//! batches ahead.

mod atomic;
mod best_fit;
mod error;
mod index;
mod map;
mod mixture;
mod packed;
mod permutation;
mod prefetch;
mod reader;
mod record;
mod sampler;
mod writer;

pub use error::{Error, Result};
pub use index::TokenType;
pub use mixture::Mixture;
pub use packed::{IGNORED, PackedRows, Packing, Row};
pub use permutation::Permutation;
pub use prefetch::{Batch, Prefetch};
pub use reader::TokenShard;
pub use record::{
    Boundaries, FileRecord, HASH_BYTES, HashesWriter, InputRecord, RECORD_FORMAT, RECORD_NAME, ShardRecord,
    ShardsRecord, SourceRecord,
};
pub use sampler::{MIXTURE_PERIOD, Sample, Sampler};
pub use writer::{ShardInfo, ShardWriter};
