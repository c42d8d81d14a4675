//! Block expansion: plan, rewritten state dict, record, verification and the way back.
//!
//! LLaMA Pro (arXiv 2401.02415) grows a pretrained model by copies of its blocks whose two output matrices are
//! zero, so that the grown model computes exactly what the base does until the new blocks are trained. This crate
//! moves bytes and never floats: old tensors stay the same bit for bit, in any dtype, and memory is constant.
//!
//! ```no_run
//! # fn main() -> llama_pro_expand::Result<()> {
//! use llama_pro_expand::{ExpandOptions, Placement, expand, verify};
//! let (base, grown) = ("llama-2-7b".as_ref(), "llama-2-7b-40".as_ref());
//! let placement = Placement::Blocks { blocks: 8, per_group: 1 }; // new blocks 4, 9, ..., 39
//! expand(base, grown, &placement, &ExpandOptions::default())?;
//! assert!(verify(grown, Some(base))?.is_ok()); // from the bytes: nothing old changed, new blocks add zero
//! # Ok(())
//! # }
//! ```
//!
//! The folder carries `expansion.json` ([`Expansion`]): which blocks are new, what each was copied from, what is
//! zero, and the digest of every tensor. The trainer freezes by it, [`verify`] proves by it, [`strip`] undoes by it.
//! [`delta`] keeps the new blocks alone, and [`apply`] puts them into their base again.
//! It tells every expansion of a folder that was expanded more than once.

mod blocks;
mod config;
mod delta;
mod error;
mod expand;
mod history;
mod names;
mod output;
mod placement;
mod read;
mod record;
mod strip;
mod validate;
mod verify;
mod write;

pub use delta::{DeltaOptions, DeltaReport, apply, delta};
pub use error::{Error, Result};
pub use expand::{ExpandOptions, Report, expand};
pub use history::model_digest;
pub use names::order;
pub use placement::{Placement, Plan, PlanRow, PlannedLayer, plan};
pub use record::{Expansion, FILE_NAME, Generation, Origin, State};
pub use strip::{StripOptions, Stripped, strip};
pub use verify::{Check, Failure, Verification, verify};
pub use write::Progress;
