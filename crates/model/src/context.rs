//! What every block of one forward pass shares: rotary angles and attention masks, made once.

use std::collections::{BTreeMap, BTreeSet};

use llama_pro_checkpoint::LlamaConfig;
use llama_pro_torch_ext::has_kernels;
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
        // Where documents follow each other the kernel needs no [T, T] mask.
        let starts = match inputs.segments {
            _ if !has_kernels(kind, device) => None,
            Some(segments) => document_starts(segments),
            None => Some(Tensor::zeros([1, length], (Kind::Int, device))),
        };
        let mask_of = |window: Option<usize>| match &starts {
            Some(starts) => Mask::First(first_keys(starts, window)),
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

/// The place, int32 `[B, T]`, at which the document of each token begins; `None` where a document comes back after
/// another.
fn document_starts(segments: &Tensor) -> Option<Tensor> {
    let (b, t) = segments.size2().ok()?;
    let rows = Vec::<Vec<i64>>::try_from(segments).ok()?;
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
