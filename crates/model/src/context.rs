//! What every block of one forward pass shares: rotary angles and attention masks, made once.

use std::collections::{BTreeMap, BTreeSet};

use llama_pro_checkpoint::LlamaConfig;
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
    masks: BTreeMap<Option<usize>, Option<Tensor>>,
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
        let masks =
            windows.into_iter().map(|w| (w, mask(length, w, inputs.segments, kind, device))).collect();
        Ok(Self { angles: rope::angles(config, positions, longest, kind), masks })
    }

    /// The additive mask of a layer, or `None` where plain causal attention is right.
    pub(crate) fn mask(&self, window: Option<usize>) -> Option<&Tensor> {
        self.masks.get(&window).and_then(Option::as_ref)
    }
}

/// Additive mask `[B or 1, 1, T, T]`: 0 where query t may see key s, minus infinity elsewhere. A window of w sees the
/// token itself and the w - 1 before it.
fn mask(
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
