//! The C++ shim beside tch: the few things that libtorch has and tch 0.24 does not bind.
//!
//! - [`tensor_over_mapping`]: a tensor over a mapped file, which keeps the mapping alive (tch's `from_blob` does not).
//! - [`fused_adamw`]: `at::_fused_adamw_`, one pass over parameters, gradients and moments.
//! - [`adamw_mixed`], [`squares`], [`add_into`], [`forget_grad`]: the same for bfloat16 weights with float32 masters, and what
//!   surrounds a step, in the fewest passes over memory.
//! - [`norm`], [`swiglu`], [`attention`], [`linear`], [`head_loss`]: operations with a backward pass of their own, on the
//!   CPU in kernels of this crate; [`flash`]: the same attention on a GPU; [`backward`] seeds one with a given gradient.
//! - [`Decoder`]: the cached forward pass of a LLaMA on the CPU, all layers in one call.
//! - [`peak_bytes`], [`MemoryMeter`]: memory of tensors on a GPU and on the CPU.
//! - [`load_cuda`]: opens libtorch_cuda.so before the first tensor is made, so that one program serves both.
//!
//! All `unsafe` and all C++ of the torch side stand in this crate; the tests compare with plain tensor operations.

mod adamw;
mod cuda;
mod decode;
mod ffi;
mod functions;
mod mapping;
mod memory;
mod optimizer;

pub use adamw::{AdamwParams, fused_adamw};
pub use cuda::load_cuda;
pub use decode::{
    Decoder, DecoderLayer, DecoderMap, DecoderSegment, DecoderShape, head, limit_kernels, token_scores,
};
pub use ffi::Error;
pub use functions::{
    Documents, HeadLoss, Heads, LossWeights, WithoutKernels, add_norm, attention, backward, flash,
    has_kernels, head_loss, linear, norm, swiglu,
};
pub use mapping::tensor_over_mapping;
pub use memory::{MemoryMeter, peak_bytes};
pub use optimizer::{MixedState, adamw_mixed, add_into, forget_grad, squares};
