//! The declarations of cpp/shim.h and the way its errors come back.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};

/// What went wrong inside libtorch or the shim.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An exception of libtorch: its first line.
    #[error("libtorch: {0}")]
    Torch(String),
    /// Bytes that do not start where an element may: the caller copies them.
    #[error("byte {0} of the mapping is not aligned to the element")]
    Misaligned(usize),
    /// The arguments cannot be handed to libtorch.
    #[error("{0}")]
    Argument(String),
}

unsafe extern "C" {
    fn lp_free(message: *mut c_char);
    pub(crate) fn lp_tensor_over(
        out: *mut *mut c_void,
        data: *const c_void,
        sizes: *const i64,
        n_sizes: usize,
        scalar_type: i8,
        owner: *mut c_void,
        release: extern "C" fn(*mut c_void),
    ) -> *mut c_char;
    pub(crate) fn lp_fused_adamw(
        params: *mut *mut c_void,
        grads: *mut *mut c_void,
        exp_avgs: *mut *mut c_void,
        exp_avg_sqs: *mut *mut c_void,
        steps: *mut *mut c_void,
        n: usize,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
    ) -> *mut c_char;
    pub(crate) fn lp_adamw_mixed(
        weight: *mut c_void,
        master: *mut c_void,
        gradient: *const c_void,
        exp_avg: *mut c_void,
        exp_avg_sq: *mut c_void,
        step: i64,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
        scale: f64,
    ) -> *mut c_char;
    pub(crate) fn lp_squares(out: *mut f64, x: *const c_void) -> *mut c_char;
    pub(crate) fn lp_add(sum: *mut c_void, x: *const c_void) -> *mut c_char;
    pub(crate) fn lp_forget_grad(leaf: *mut c_void) -> *mut c_char;
    pub(crate) fn lp_has_kernels() -> c_int;
    pub(crate) fn lp_without_kernels(on: c_int);
    pub(crate) fn lp_device_peak(index: i64, bytes: *mut i64) -> *mut c_char;
    pub(crate) fn lp_meter_start() -> *mut c_char;
    pub(crate) fn lp_meter_read(now: *mut i64, peak: *mut i64) -> *mut c_char;
    pub(crate) fn lp_meter_stop() -> *mut c_char;
    pub(crate) fn lp_backward(y: *const c_void, dy: *const c_void) -> *mut c_char;
    pub(crate) fn lp_norm(
        h: *mut *mut c_void,
        y: *mut *mut c_void,
        x: *const c_void,
        r: *const c_void,
        w: *const c_void,
        eps: f64,
    ) -> *mut c_char;
    pub(crate) fn lp_swiglu(y: *mut *mut c_void, gate: *const c_void, up: *const c_void) -> *mut c_char;
    pub(crate) fn lp_attention(
        y: *mut *mut c_void,
        q: *const c_void,
        k: *const c_void,
        v: *const c_void,
        cosine: *const c_void,
        sine: *const c_void,
        first: *const c_void,
        heads: i64,
        kv_heads: i64,
        size: i64,
    ) -> *mut c_char;
    pub(crate) fn lp_flash(
        y: *mut *mut c_void,
        q: *const c_void,
        k: *const c_void,
        v: *const c_void,
        cosine: *const c_void,
        sine: *const c_void,
        starts: *const c_void,
        longest: i64,
        heads: i64,
        kv_heads: i64,
        size: i64,
        window: i64,
    ) -> *mut c_char;
    pub(crate) fn lp_linear(
        y: *mut *mut c_void,
        x: *const c_void,
        w: *const c_void,
        b: *const c_void,
    ) -> *mut c_char;
    pub(crate) fn lp_head_loss(
        objective: *mut *mut c_void,
        sums: *mut *mut c_void,
        hidden: *const c_void,
        weight: *const c_void,
        targets: *const c_void,
        base_hidden: *const c_void,
        base_weight: *const c_void,
        ce_weight: f64,
        kl_weight: f64,
        chunk: i64,
    ) -> *mut c_char;
    pub(crate) fn lp_decoder_new(
        out: *mut *mut c_void,
        weights: *mut *mut c_void,
        layers: usize,
        windows: *const i64,
        embed: *mut c_void,
        norm: *mut c_void,
        heads: i64,
        key_heads: i64,
        head_dim: i64,
        eps: f64,
        slots: i64,
    ) -> *mut c_char;
    pub(crate) fn lp_decoder_free(decoder: *mut c_void);
    pub(crate) fn lp_decoder_forward(
        out: *mut *mut c_void,
        decoder: *mut c_void,
        ids: *const i64,
        cos: *const f32,
        sin: *const f32,
        segments: *const crate::decode::DecoderSegment,
        n_segments: usize,
        spans: *const i64,
        wanted: *const i64,
        n_wanted: usize,
    ) -> *mut c_char;
    pub(crate) fn lp_decode_linear(out: *mut *mut c_void, x: *mut c_void, w: *mut c_void) -> *mut c_char;
    pub(crate) fn lp_kernel_level(most: std::ffi::c_int) -> std::ffi::c_int;
    pub(crate) fn lp_token_scores(
        logits: *mut c_void,
        rows: *const i64,
        tokens: *const i64,
        n: usize,
        nats: *mut f32,
        best: *mut u8,
    ) -> *mut c_char;
}

/// Turns the message of a shim call into a result and frees it.
pub(crate) fn check(message: *mut c_char) -> Result<(), Error> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a non-null message is a NUL-terminated string that the shim made with strdup, and it is freed once.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        lp_free(message);
        text
    };
    // libtorch appends a C++ backtrace: the first line says what happened.
    Err(Error::Torch(text.lines().next().unwrap_or("").to_owned()))
}
