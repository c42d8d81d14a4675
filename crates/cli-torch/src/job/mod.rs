//! What `pretrain` and `sft` have in common around the loop: what is seen while a run goes, where it comes from, the
//! texts that are read beside it, benchmarks before and after, and the lines of its closing table.

pub(crate) mod benchmarks;
pub(crate) mod closing;
pub(crate) mod live;
pub(crate) mod origin;
pub(crate) mod shards;
