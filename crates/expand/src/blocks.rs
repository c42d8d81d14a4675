//! Whether the tensors of a folder are blocks that zeroed output matrices make the identity.
//!
//! The rule is an allow list: a block may hold only what is known to reach the residual stream through o_proj or
//! down_proj. An unknown tensor is refused by name, for a guess would be wrong silently.

use std::collections::BTreeSet;

use llama_pro_checkpoint::{Checkpoint, Dtype};

use crate::error::{Error, Result};
use crate::names::{self, Place};

/// Checks every block tensor of a folder of `layers` blocks.
///
/// # Errors
/// The first tensor that is not understood, with the reason, or the first block that lacks an output matrix.
pub(crate) fn check(checkpoint: &Checkpoint, layers: usize) -> Result<()> {
    let refuse = |reason: String| Error::Unsupported { path: checkpoint.dir().to_owned(), reason };
    let mut required = BTreeSet::new();
    for name in checkpoint.names() {
        match names::place(name) {
            Place::Outside => {}
            Place::Malformed => {
                return Err(refuse(format!("tensor {name}: expected model.layers.NUMBER.NAME")));
            }
            Place::Block(index, _) if index >= layers => {
                return Err(refuse(format!(
                    "tensor {name} lies beyond the {layers} blocks of config.json (num_hidden_layers)"
                )));
            }
            Place::Block(index, within) => {
                if let Some(reason) = names::objection(within) {
                    return Err(refuse(format!("tensor {name}: {reason}")));
                }
                let dtype = checkpoint.info(name)?.dtype;
                if names::is_zeroed(within) && !is_plain_float(dtype) {
                    return Err(refuse(format!(
                        "tensor {name}: expected F64, F32, F16 or BF16, found {dtype:?}"
                    )));
                }
                if names::REQUIRED.contains(&within) {
                    required.insert((index, within));
                }
            }
        }
    }
    for index in 0..layers {
        if let Some(missing) = names::REQUIRED.iter().find(|within| !required.contains(&(index, **within))) {
            return Err(refuse(format!(
                "tensor {} is not there: without it a copy of the block cannot be made the identity",
                names::in_block(index, missing)
            )));
        }
    }
    Ok(())
}

/// Types in which zero bytes are +0.0 and nothing else scales them.
fn is_plain_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}
