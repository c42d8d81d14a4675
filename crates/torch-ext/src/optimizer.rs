//! What surrounds an optimizer step of bfloat16 weights on the CPU, each in one pass over memory: the plain operations read
//! and write gradients several times, and these passes are limited by memory alone.
#![allow(unsafe_code)]

use std::ffi::c_void;

use tch::Tensor;

use crate::adamw::AdamwParams;
use crate::ffi::{self, Error};

fn pointer(tensor: &Tensor) -> *mut c_void {
    tensor.as_ptr() as *mut c_void
}

/// The float32 state of one bfloat16 weight.
pub struct MixedState<'a> {
    /// The exact weight.
    pub master: &'a Tensor,
    /// First moment.
    pub exp_avg: &'a Tensor,
    /// Second moment.
    pub exp_avg_sq: &'a Tensor,
}

/// One step of AdamW on the master, of which `weight` becomes the rounded copy. The gradient, float32 or bfloat16, is
/// multiplied by `scale` first. `step` counts from 1. Needs [`crate::has_kernels`].
///
/// # Errors
/// Tensors that are not contiguous, not on the CPU, or of other shapes or dtypes.
pub fn adamw_mixed(
    weight: &Tensor,
    state: &MixedState<'_>,
    gradient: &Tensor,
    step: u64,
    params: AdamwParams,
    scale: f64,
) -> Result<(), Error> {
    let AdamwParams { learning_rate, betas, eps, weight_decay } = params;
    // SAFETY: live at::Tensor pointers for the length of the call; the shim checks shapes, dtypes and layout before it
    // writes into the tensors' own storage.
    ffi::check(unsafe {
        ffi::lp_adamw_mixed(
            pointer(weight),
            pointer(state.master),
            pointer(gradient),
            pointer(state.exp_avg),
            pointer(state.exp_avg_sq),
            i64::try_from(step).unwrap_or(i64::MAX),
            learning_rate,
            betas.0,
            betas.1,
            weight_decay,
            eps,
            scale,
        )
    })
}

/// Sum of the squares of a contiguous float32 or bfloat16 tensor on the CPU. Needs [`crate::has_kernels`].
///
/// # Errors
/// Any other tensor.
pub fn squares(x: &Tensor) -> Result<f64, Error> {
    let mut sum = 0.0;
    // SAFETY: a live at::Tensor pointer, and a place for the result.
    ffi::check(unsafe { ffi::lp_squares(&raw mut sum, pointer(x)) })?;
    Ok(sum)
}

/// Adds a bfloat16 tensor to a float32 one of the same shape, both contiguous and on the CPU. Needs
/// [`crate::has_kernels`].
///
/// # Errors
/// Any other tensors.
pub fn add_into(sum: &Tensor, x: &Tensor) -> Result<(), Error> {
    // SAFETY: live at::Tensor pointers; the shim checks both before it writes into the storage of `sum`.
    ffi::check(unsafe { ffi::lp_add(pointer(sum), pointer(x)) })
}

/// Lets go of the gradient of a leaf: the next one takes its place instead of being added to zeros.
///
/// # Errors
/// A tensor that is no leaf.
pub fn forget_grad(leaf: &Tensor) -> Result<(), Error> {
    // SAFETY: a live at::Tensor pointer; the gradient is held by libtorch's own counted pointer.
    ffi::check(unsafe { ffi::lp_forget_grad(pointer(leaf)) })
}
