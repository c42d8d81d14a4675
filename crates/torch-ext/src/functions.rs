//! Operations with a backward pass of their own (cpp/functions.cpp, cpp/attention.cpp): what autograd would keep and compute for the plain
//! ones is more than the training of a mostly frozen model needs.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::{null, null_mut};

use tch::{Device, Kind, Tensor};

use crate::ffi::{self, Error};

/// Whether there are kernels for tensors of this kind on this device: float32 and bfloat16 on an x86-64 CPU with AVX2 or
/// better. [`attention`] needs them; the other functions compute the same with operations of libtorch where there are none.
pub fn has_kernels(kind: Kind, device: Device) -> bool {
    // SAFETY: reads what the processor can do.
    device == Device::Cpu
        && matches!(kind, Kind::Float | Kind::BFloat16)
        && unsafe { ffi::lp_has_kernels() } != 0
}

/// While it lives, this thread does without kernels, as a GPU does: so that what runs there can be tested here.
pub struct WithoutKernels {
    /// The switch belongs to the thread that turned it.
    here: PhantomData<*const ()>,
}

impl WithoutKernels {
    /// Turns the kernels off for this thread.
    #[expect(clippy::new_without_default, reason = "a guard is made on purpose")]
    pub fn new() -> Self {
        // SAFETY: changes state of this thread alone.
        unsafe { ffi::lp_without_kernels(1) };
        Self { here: PhantomData }
    }
}

impl Drop for WithoutKernels {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { ffi::lp_without_kernels(0) };
    }
}

/// Root-mean-square norm over the last dimension, times `weight` `[d]`. Statistics are float32; the weight multiplies after
/// the cast back to the dtype of `x`. Any device.
///
/// # Errors
/// Shapes that do not fit.
pub fn norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor, Error> {
    let mut y = null_mut();
    // SAFETY: the arguments are live tensors; on success `y` is a new one.
    unsafe {
        ffi::check(ffi::lp_norm(null_mut(), &mut y, pointer(x), null(), pointer(weight), eps))?;
        Ok(owned(y))
    }
}

/// `(x + residual, norm(x + residual))` in one pass.
///
/// # Errors
/// As [`norm`].
pub fn add_norm(x: &Tensor, residual: &Tensor, weight: &Tensor, eps: f64) -> Result<(Tensor, Tensor), Error> {
    let (mut h, mut y) = (null_mut(), null_mut());
    // SAFETY: the arguments are live tensors; on success `h` and `y` are new ones.
    unsafe {
        ffi::check(ffi::lp_norm(&mut h, &mut y, pointer(x), pointer(residual), pointer(weight), eps))?;
        Ok((owned(h), owned(y)))
    }
}

/// `silu(gate) * up`. Any device.
///
/// # Errors
/// Tensors of different shapes.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor, Error> {
    let mut y = null_mut();
    // SAFETY: the arguments are live tensors; on success `y` is a new one.
    unsafe {
        ffi::check(ffi::lp_swiglu(&mut y, pointer(gate), pointer(up)))?;
        Ok(owned(y))
    }
}

/// How the last dimension of queries and keys is cut into heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub query: i64,
    /// Key and value heads; divides the query heads.
    pub key: i64,
    /// Width of one head; even.
    pub size: i64,
}

/// Causal attention with rotary embedding. `q_btd` `[B, T, query * size]`, `k_btd` and `v_btd` `[B, T, key * size]`, as the
/// projections give them; `cosine` and `sine` `[B or 1, 1, T, size]` in their dtype. `first` int32 `[B or 1, T]` is the first
/// key that each query sees: 0 for plain causal attention, the start of its document, or the start of a window.
///
/// # Errors
/// Tensors that [`has_kernels`] excludes, or shapes that do not fit.
pub fn attention(
    q_btd: &Tensor,
    k_btd: &Tensor,
    v_btd: &Tensor,
    (cosine, sine): (&Tensor, &Tensor),
    first: &Tensor,
    heads: Heads,
) -> Result<Tensor, Error> {
    let mut y = null_mut();
    // SAFETY: the arguments are live tensors; on success `y` is a new one. Shapes and the values of `first` are checked
    // before the kernel reads by them.
    unsafe {
        ffi::check(ffi::lp_attention(
            &mut y,
            pointer(q_btd),
            pointer(k_btd),
            pointer(v_btd),
            pointer(cosine),
            pointer(sine),
            pointer(first),
            heads.query,
            heads.key,
            heads.size,
        ))?;
        Ok(owned(y))
    }
}

/// Which tokens of `[B, T]` belong together, for [`flash`].
pub struct Documents<'a> {
    /// int32 `[n + 1]` on the device: where each document begins in the `B * T` tokens, and `B * T`. A row begins one too.
    pub starts: &'a Tensor,
    /// Tokens of the longest.
    pub longest: i64,
    /// How many keys a query sees at most, itself included.
    pub window: Option<i64>,
}

/// [`attention`] by libtorch's flash attention, which GPUs from compute capability 8.0 on have, in bfloat16 and half
/// precision, for heads of a multiple of 8 up to 256.
///
/// # Errors
/// A device, dtype or head that it does not take, or shapes that do not fit.
pub fn flash(
    q_btd: &Tensor,
    k_btd: &Tensor,
    v_btd: &Tensor,
    (cosine, sine): (&Tensor, &Tensor),
    documents: &Documents,
    heads: Heads,
) -> Result<Tensor, Error> {
    let mut y = null_mut();
    // SAFETY: the arguments are live tensors; on success `y` is a new one. Shapes are checked before they are used.
    unsafe {
        ffi::check(ffi::lp_flash(
            &mut y,
            pointer(q_btd),
            pointer(k_btd),
            pointer(v_btd),
            pointer(cosine),
            pointer(sine),
            pointer(documents.starts),
            documents.longest,
            heads.query,
            heads.key,
            heads.size,
            documents.window.unwrap_or(0),
        ))?;
        Ok(owned(y))
    }
}

/// `x weight^T + bias` where `weight` is trained. In float32 its gradient is added to the one that it already has inside
/// the product, so that accumulating needs neither a second tensor of its size nor a pass to add it. Any device.
///
/// # Errors
/// Shapes that do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, Error> {
    let mut y = null_mut();
    // SAFETY: the arguments are live tensors or null where one may be missing; on success `y` is a new one.
    unsafe {
        ffi::check(ffi::lp_linear(&mut y, pointer(x), pointer(weight), bias.map_or(null(), pointer)))?;
        Ok(owned(y))
    }
}

/// Weights of the two parts of the loss of [`head_loss`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossWeights {
    /// Of the cross-entropy.
    pub cross_entropy: f64,
    /// Of KL(base || model); not used without a base.
    pub kl: f64,
}

/// What [`head_loss`] gives.
pub struct HeadLoss {
    /// The weighted sum over all rows, float64, with a graph: its backward pass has nothing left to compute.
    pub objective: Tensor,
    /// Sum of the cross-entropy in nats.
    pub cross_entropy: f64,
    /// Sum of KL(base || model) in nats; 0 without a base.
    pub kl: f64,
}

/// The head and its loss at once. `hidden_nd` meets `weight` `[V, D]` in chunks of `chunk` rows, each chunk of logits turns
/// into its own gradient in place, and that into the gradient of the hidden states (and of a trained weight), all in the
/// forward pass: logits `[N, V]` never exist whole. `targets_n` int64 `[N]`, all of them counted. `base` are the hidden
/// states and the head of the base model for the KL term. Any device.
///
/// # Errors
/// A target outside the vocabulary, or shapes that do not fit.
pub fn head_loss(
    hidden_nd: &Tensor,
    weight: &Tensor,
    targets_n: &Tensor,
    base: Option<(&Tensor, &Tensor)>,
    weights: LossWeights,
    chunk: i64,
) -> Result<HeadLoss, Error> {
    let (mut objective, mut sums) = (null_mut(), null_mut());
    // SAFETY: the arguments are live tensors or null where one may be missing; on success the outputs are new ones.
    let sums = unsafe {
        ffi::check(ffi::lp_head_loss(
            &mut objective,
            &mut sums,
            pointer(hidden_nd),
            pointer(weight),
            pointer(targets_n),
            base.map_or(null(), |(hidden, _)| pointer(hidden)),
            base.map_or(null(), |(_, weight)| pointer(weight)),
            weights.cross_entropy,
            weights.kl,
            chunk,
        ))?;
        owned(sums)
    };
    // SAFETY: as above.
    let objective = unsafe { owned(objective) };
    Ok(HeadLoss { objective, cross_entropy: sums.double_value(&[0]), kl: sums.double_value(&[1]) })
}

/// The backward pass of `sum(y * dy)`: gradients are added to those of the leaves below `y`.
///
/// # Errors
/// A `y` without a graph, or an error of libtorch in an operation's backward pass.
pub fn backward(y: &Tensor, dy: &Tensor) -> Result<(), Error> {
    // SAFETY: both are live tensors.
    ffi::check(unsafe { ffi::lp_backward(pointer(y), pointer(dy)) })
}

fn pointer(tensor: &Tensor) -> *const c_void {
    tensor.as_ptr() as *const c_void
}

/// # Safety
/// `tensor` is an at::Tensor that nobody else owns.
unsafe fn owned(tensor: *mut c_void) -> Tensor {
    // SAFETY: as promised by the caller.
    unsafe { Tensor::from_ptr(tensor.cast()) }
}
