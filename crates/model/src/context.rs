//! What every block of one forward pass shares: rotary angles and attention masks, made once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use llama_pro_checkpoint::LlamaConfig;
use llama_pro_torch_ext::{Documents, Heads, flash, has_kernels};
use tch::{Device, Kind, Tensor};

use crate::rope::{self, Angles};
use crate::{Error, Result};

/// What a forward pass reads. All tensors are int64.
pub struct Inputs<'a> {
    /// Token ids `[B, T]`.
    pub ids: &'a Tensor,
    /// Positions `[B, T]`; `None` counts from 0 in every row.
    pub positions: Option<&'a Tensor>,
    /// Document number of each token, `[B, T]`; tokens attend only within their own document. `None`: one document.
    pub segments: Option<&'a Tensor>,
}

impl<'a> Inputs<'a> {
    /// Rows that hold one document each, from its start.
    pub fn tokens(ids: &'a Tensor) -> Self {
        Self { ids, positions: None, segments: None }
    }
}

/// Angles and masks of one forward pass.
pub struct Context {
    pub(crate) angles: Angles,
    /// By sliding window; `None` inside means plain causal, which needs no mask.
    masks: BTreeMap<Option<usize>, Mask>,
}

/// Which keys the layers of one window see, in the form that their attention reads.
pub(crate) enum Mask {
    /// Plain causal attention, in libtorch's operation.
    Causal,
    /// int32 `[B or 1, T]`: the first key that each query sees. It sees all from there to itself.
    First(Tensor),
    /// For flash attention: int32 `[n + 1]`, the places where documents begin among all tokens, and their number; the most
    /// tokens of one; how many keys a query sees.
    Documents { starts: Tensor, longest: i64, window: Option<i64> },
    /// Additive mask `[B or 1, 1, T, T]`.
    Dense(Tensor),
}

impl Context {
    pub(crate) fn new(config: &LlamaConfig, inputs: &Inputs, kind: Kind) -> Result<Self> {
        let device = inputs.ids.device();
        let (_, length) = inputs.ids.size2().map_err(|_| {
            Error::Input(format!("token ids have shape {:?}: expected [batch, length]", inputs.ids.size()))
        })?;
        let counted;
        let positions = match inputs.positions {
            Some(given) => given,
            None => {
                counted = Tensor::arange(length, (Kind::Int64, device)).unsqueeze(0);
                &counted
            }
        };
        let longest = if inputs.positions.is_some() { positions.max().int64_value(&[]) + 1 } else { length };
        // One mask per window, not per layer: layers share them.
        let windows: BTreeSet<Option<usize>> = config.sliding_window.iter().copied().collect();
        // Where documents follow each other neither the kernels nor flash attention need a [T, T] mask.
        let first_of = || match inputs.segments {
            Some(segments) => document_starts(segments),
            None => Some(Tensor::zeros([1, length], (Kind::Int, Device::Cpu))),
        };
        let way = match attends_by(config, kind, device) {
            Attends::Plain => None,
            way => first_of().map(|starts| (way, starts)),
        };
        let rows = inputs.ids.size()[0];
        let mask_of = |window: Option<usize>| match &way {
            Some((Attends::Kernels, starts)) => Mask::First(first_keys(starts, window)),
            Some((_, starts)) => documents(starts, rows, window, device),
            None => dense(length, window, inputs.segments, kind, device).map_or(Mask::Causal, Mask::Dense),
        };
        let masks = windows.into_iter().map(|w| (w, mask_of(w))).collect();
        Ok(Self { angles: rope::angles(config, positions, longest, kind), masks })
    }

    /// What the layers with this window see.
    pub(crate) fn mask(&self, window: Option<usize>) -> &Mask {
        self.masks.get(&window).unwrap_or(&Mask::Causal)
    }
}

/// How tokens attend to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attends {
    /// In the kernels of crates/torch-ext, on the CPU.
    Kernels,
    /// In libtorch's flash attention, on a GPU.
    Flash,
    /// In libtorch's scaled dot products: keys and values are repeated for each query head, and several documents in a row
    /// or a window need a `[T, T]` mask.
    Plain,
}

/// How a model of this configuration attends in a dtype on a device. Whether flash attention works there is tried once.
pub fn attends_by(config: &LlamaConfig, kind: Kind, device: Device) -> Attends {
    if has_kernels(kind, device) {
        return Attends::Kernels;
    }
    let size = config.head_dim as i64;
    let takes = matches!(kind, Kind::BFloat16 | Kind::Half) && size % 8 == 0 && size <= 256;
    if takes && flash_works(kind, device) { Attends::Flash } else { Attends::Plain }
}

/// Whether a small call of flash attention succeeds. A GPU where it does not is named once.
fn flash_works(kind: Kind, device: Device) -> bool {
    static TRIED: Mutex<Vec<(Kind, Device, bool)>> = Mutex::new(Vec::new());
    let mut tried = TRIED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((.., works)) = tried.iter().find(|(k, d, _)| (*k, *d) == (kind, device)) {
        return *works;
    }
    let x = Tensor::zeros([1, 2, 64], (kind, device));
    let starts = Tensor::from_slice(&[0i32, 2]).to_device(device);
    let documents = Documents { starts: &starts, longest: 2, window: None };
    let heads = Heads { query: 1, key: 1, size: 64 };
    let angle = Tensor::zeros([1, 1, 2, 64], (kind, device));
    let result = tch::no_grad(|| flash(&x, &x, &x, (&angle, &angle), &documents, heads));
    if let (Err(error), true) = (&result, device != Device::Cpu) {
        tracing::warn!(
            "{device:?} has no flash attention for {kind:?}, so documents need dense masks: {error}"
        );
    }
    tried.push((kind, device, result.is_ok()));
    result.is_ok()
}

/// For flash attention: where each document of each row begins, from the first keys `[B or 1, T]` of `rows` rows.
fn documents(first: &Tensor, rows: i64, window: Option<usize>, device: Device) -> Mask {
    let length = first.size()[1];
    let first = Vec::<i32>::try_from(first.expand([rows, length], true).reshape([-1])).unwrap_or_default();
    let begins = |(at, start): (usize, &i32)| (at as i64 % length == i64::from(*start)).then_some(at as i32);
    let mut starts: Vec<i32> = first.iter().enumerate().filter_map(begins).collect();
    starts.push(first.len() as i32);
    let longest = starts.windows(2).map(|pair| i64::from(pair[1] - pair[0])).max().unwrap_or(1);
    // A window that no document is longer than hides nothing.
    let window = window.map(|w| w as i64).filter(|&w| w < longest);
    Mask::Documents { starts: Tensor::from_slice(&starts).to_device(device), longest, window }
}

/// The place, int32 `[B, T]`, at which the document of each token begins; `None` where a document comes back after
/// another.
fn document_starts(segments: &Tensor) -> Option<Tensor> {
    let (b, t) = segments.size2().ok()?;
    let rows = Vec::<Vec<i64>>::try_from(segments.to_device(Device::Cpu)).ok()?;
    let mut starts = Vec::with_capacity((b * t) as usize);
    for row in rows {
        let mut seen = BTreeSet::new();
        let mut start = 0;
        for (i, segment) in row.iter().enumerate() {
            if i == 0 || *segment != row[i - 1] {
                start = i as i32;
                if !seen.insert(*segment) {
                    return None;
                }
            }
            starts.push(start);
        }
    }
    Some(Tensor::from_slice(&starts).view([b, t]))
}

/// A window of w sees the token itself and the w - 1 before it.
fn first_keys(starts: &Tensor, window: Option<usize>) -> Tensor {
    let length = starts.size()[1];
    match window.map(|w| w as i64).filter(|&w| w < length) {
        None => starts.shallow_clone(),
        Some(window) => {
            let begin = Tensor::arange(length, (Kind::Int, starts.device())) - (window - 1);
            starts.maximum(&begin.to_kind(Kind::Int))
        }
    }
}

/// Additive mask `[B or 1, 1, T, T]`: 0 where query t may see key s, minus infinity elsewhere. A window of w sees the
/// token itself and the w - 1 before it.
fn dense(
    length: i64,
    window: Option<usize>,
    segments: Option<&Tensor>,
    kind: Kind,
    device: Device,
) -> Option<Tensor> {
    let window = window.map(|w| w as i64).filter(|&w| w < length);
    if window.is_none() && segments.is_none() {
        return None;
    }
    let at = Tensor::arange(length, (Kind::Int64, device));
    let distance = at.unsqueeze(1) - at.unsqueeze(0); // query minus key
    let mut seen = distance.ge(0);
    if let Some(window) = window {
        seen = seen.logical_and(&distance.lt(window));
    }
    let mut seen = seen.unsqueeze(0);
    if let Some(segments) = segments {
        seen = seen.logical_and(&segments.unsqueeze(2).eq_tensor(&segments.unsqueeze(1)));
    }
    let hidden = seen.logical_not().unsqueeze(1);
    Some(Tensor::zeros(hidden.size(), (kind, device)).masked_fill(&hidden, f64::NEG_INFINITY))
}
