//! The cached forward pass on the CPU in one call (cpp/decode.h): float32 and bfloat16.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr::null_mut;

use tch::{Device, Kind, Tensor};

use crate::ffi::{self, Error};

/// A linear map: weight `[out, in]` and bias `[out]`.
#[derive(Clone, Copy)]
pub struct DecoderMap<'a> {
    /// The weight.
    pub weight: &'a Tensor,
    /// The bias, where there is one.
    pub bias: Option<&'a Tensor>,
}

/// The weights of a layer, with the names of the checkpoint.
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "the names of the checkpoint")]
pub struct DecoderLayer<'a> {
    pub input_layernorm: &'a Tensor,
    pub q_proj: DecoderMap<'a>,
    pub k_proj: DecoderMap<'a>,
    pub v_proj: DecoderMap<'a>,
    pub o_proj: DecoderMap<'a>,
    pub post_attention_layernorm: &'a Tensor,
    pub gate_proj: DecoderMap<'a>,
    pub up_proj: DecoderMap<'a>,
    pub down_proj: DecoderMap<'a>,
    /// How many tokens back a query sees, itself included.
    pub window: Option<usize>,
}

/// The sizes of a model's attention.
#[derive(Clone, Copy, Debug)]
pub struct DecoderShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides the query heads.
    pub key_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Added to the mean square in every norm.
    pub eps: f64,
    /// Tokens that the cache has room for.
    pub slots: usize,
}

/// New tokens of one sequence.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DecoderSegment {
    /// How many; at least one.
    pub tokens: i64,
    /// Position of the first.
    pub start: i64,
    /// How many of the call's spans the sequence lies in; the new tokens are the end of the last one.
    pub spans: i64,
}

/// A model's weights and its cache of keys and values.
pub struct Decoder {
    inner: *mut c_void,
    half: usize,
}

impl Decoder {
    /// Whether there are kernels for a model of this dtype, place and width of heads.
    pub fn supports(kind: Kind, device: Device, head_dim: usize) -> bool {
        matches!(kind, Kind::Float | Kind::BFloat16)
            && device == Device::Cpu
            && head_dim.is_multiple_of(2)
            && head_dim <= 512
    }

    /// A decoder over these weights, which it shares.
    ///
    /// # Errors
    /// Weights of the wrong shape or of several dtypes, or what [`supports`](Self::supports) says no to.
    pub fn new(
        layers: &[DecoderLayer],
        embed_tokens: &Tensor,
        norm: &Tensor,
        shape: DecoderShape,
    ) -> Result<Self, Error> {
        let of = |tensor: &Tensor| tensor.as_ptr() as *mut c_void;
        let mut weights = Vec::with_capacity(layers.len() * 16);
        for layer in layers {
            let maps = |list: &[DecoderMap]| {
                list.iter().flat_map(|m| [of(m.weight), m.bias.map_or(null_mut(), of)]).collect::<Vec<_>>()
            };
            weights.push(of(layer.input_layernorm));
            weights.extend(maps(&[layer.q_proj, layer.k_proj, layer.v_proj, layer.o_proj]));
            weights.push(of(layer.post_attention_layernorm));
            weights.extend(maps(&[layer.gate_proj, layer.up_proj, layer.down_proj]));
        }
        let windows: Vec<i64> = layers.iter().map(|l| l.window.unwrap_or(0) as i64).collect();
        let mut inner = null_mut();
        // SAFETY: `weights` holds 16 live tensors or nulls for each of `layers.len()` layers, `windows` one number each;
        // the decoder takes references of its own to the tensors and checks their shapes.
        let message = unsafe {
            ffi::lp_decoder_new(
                &mut inner,
                weights.as_mut_ptr(),
                layers.len(),
                windows.as_ptr(),
                of(embed_tokens),
                of(norm),
                shape.heads as i64,
                shape.key_heads as i64,
                shape.head_dim as i64,
                shape.eps,
                shape.slots as i64,
            )
        };
        ffi::check(message)?;
        Ok(Self { inner, half: shape.head_dim / 2 })
    }

    /// Runs `ids`, the tokens of all segments end to end, and keeps their keys and values. `cos` and `sin` hold
    /// `head_dim / 2` numbers a token, `spans` slot and length for each span, `wanted` places among the tokens,
    /// ascending. Gives the normalised hidden states `[wanted, hidden]`. Segments of one call must not write the same
    /// slots.
    ///
    /// # Errors
    /// Lists that do not fit together, a span outside the cache, an id outside the vocabulary.
    pub fn forward(
        &mut self,
        ids: &[i64],
        cos: &[f32],
        sin: &[f32],
        segments: &[DecoderSegment],
        spans: &[[i64; 2]],
        wanted: &[i64],
    ) -> Result<Tensor, Error> {
        let tokens = segments.iter().try_fold(0i64, |sum, s| sum.checked_add(s.tokens.max(0)));
        let pieces = segments.iter().try_fold(0i64, |sum, s| sum.checked_add(s.spans.max(0)));
        let angles = ids.len() * self.half;
        if tokens != Some(ids.len() as i64)
            || pieces != Some(spans.len() as i64)
            || ids.is_empty()
            || [cos.len(), sin.len()] != [angles; 2]
        {
            return Err(Error::Argument(format!(
                "{} tokens in segments of {tokens:?}, {} spans for {pieces:?}, {} and {} angles for {angles}",
                ids.len(),
                spans.len(),
                cos.len(),
                sin.len()
            )));
        }
        let mut out = null_mut();
        // SAFETY: the lists have the lengths that the segments state (checked above), and the decoder is alive.
        let message = unsafe {
            ffi::lp_decoder_forward(
                &mut out,
                self.inner,
                ids.as_ptr(),
                cos.as_ptr(),
                sin.as_ptr(),
                segments.as_ptr(),
                segments.len(),
                spans.as_ptr().cast(),
                wanted.as_ptr(),
                wanted.len(),
            )
        };
        ffi::check(message)?;
        // SAFETY: on success `out` is a new at::Tensor that nobody else owns.
        Ok(unsafe { Tensor::from_ptr(out.cast()) })
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: `inner` came from lp_decoder_new and is freed once.
        unsafe { ffi::lp_decoder_free(self.inner) }
    }
}

/// Limits the decoder's kernels to vector instructions of this level (0: those of any machine, 1: AVX2, 2: AVX-512), for
/// decoders made from now on, and gives the level that is used. Without it the best of the machine is: for tests and
/// measurements.
pub fn limit_kernels(most: i32) -> i32 {
    // SAFETY: sets one number.
    unsafe { ffi::lp_kernel_level(most.max(0)) }
}

/// `x_rd` times `weight_vd` transposed, fast for few rows.
///
/// # Errors
/// Shapes that do not fit.
pub fn head(x_rd: &Tensor, weight_vd: &Tensor) -> Result<Tensor, Error> {
    let mut out = null_mut();
    // SAFETY: both are live tensors; the shim checks their shapes.
    let message = unsafe {
        ffi::lp_decode_linear(&mut out, x_rd.as_ptr() as *mut c_void, weight_vd.as_ptr() as *mut c_void)
    };
    ffi::check(message)?;
    // SAFETY: on success `out` is a new at::Tensor that nobody else owns.
    Ok(unsafe { Tensor::from_ptr(out.cast()) })
}

/// For each (row, token) of CPU logits `[R, V]` in float32 or bfloat16: the natural logarithm of the token's likelihood,
/// by log-softmax in float32 with float64 sums, and whether it is the first of the likeliest.
///
/// # Errors
/// A row or token that is not there, another dtype or device.
pub fn token_scores(logits_rv: &Tensor, targets: &[(i64, i64)]) -> Result<Vec<(f32, bool)>, Error> {
    let (rows, tokens): (Vec<i64>, Vec<i64>) = targets.iter().copied().unzip();
    let (mut nats, mut best) = (vec![0f32; targets.len()], vec![0u8; targets.len()]);
    // SAFETY: all four lists have `targets.len()` elements; the shim checks rows and tokens against the logits.
    let message = unsafe {
        ffi::lp_token_scores(
            logits_rv.as_ptr() as *mut c_void,
            rows.as_ptr(),
            tokens.as_ptr(),
            targets.len(),
            nats.as_mut_ptr(),
            best.as_mut_ptr(),
        )
    };
    ffi::check(message)?;
    Ok(nats.into_iter().zip(best.into_iter().map(|b| b != 0)).collect())
}
