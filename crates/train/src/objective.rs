//! What is minimised: cross-entropy on the new domains, and on rows of general text whatever keeps the old ability.
//!
//! For a step with N counted targets,
//! `loss = (sum_new CE + sum_keep (replay * CE + kl * KL(base || model))) / N`.
//! The base needs no second set of weights: it is the grown model with the new blocks skipped, and below the lowest
//! trained block both are the same computation, done once. Logits never exist whole: see `head_loss` in crates/torch-ext.

use llama_pro_checkpoint::cost;
use llama_pro_model::{Llama, Path, loss};
use llama_pro_torch_ext::{self as torch_ext, LossWeights};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::Result;
use crate::batch::MicroBatch;
use crate::tape::Tape;

/// Weights of the two ways to keep the old ability, on the rows of the kept text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Keep {
    /// Weight of the plain loss.
    pub replay: f64,
    /// Weight of KL(base || model).
    pub kl: f64,
}

/// Sums over the targets of one micro-batch, in nats.
#[derive(Clone, Copy, Debug, Default)]
pub struct MicroStats {
    /// What was minimised, times N.
    pub objective: f64,
    /// Cross-entropy of new-domain targets, and their number.
    pub new: (f64, u64),
    /// Cross-entropy of kept-text targets, and their number.
    pub keep: (f64, u64),
    /// KL(base || model) over the kept-text targets; 0 where it has no weight.
    pub kl: f64,
}

/// Forward and backward of one micro-batch. Gradients of the objective divided by `n_targets`, the targets of the whole
/// step, are added to those already there. `recompute` says of each block whether its activations are thrown away and
/// computed again.
pub(crate) fn backward(
    model: &Llama,
    reference: Option<&Llama>,
    micro: &MicroBatch,
    keep: Keep,
    n_targets: u64,
    recompute: &[bool],
) -> Result<MicroStats> {
    let lowest = model.first_trained_block();
    let context = model.context(&micro.inputs())?;
    // Below the lowest trained block nothing needs a graph.
    let lower_btd = match lowest {
        0 => model.embed(&micro.ids),
        _ => {
            let _guard = tch::no_grad_guard();
            model.run(model.embed(&micro.ids), 0..lowest, &context, Path::Grown)
        }
    };
    let (upper_btd, tape) = Tape::forward(model, &lower_btd, lowest, &context, recompute);
    let hidden_btd = model.finish(&upper_btd);

    let rows = micro.ids.size()[0];
    let new_rows = rows - micro.keep_rows;
    let mut total: Option<Tensor> = None;
    let mut stats = MicroStats::default();
    let mut add =
        |part: Tensor| total = Some(total.take().map_or_else(|| part.shallow_clone(), |t| t + &part));

    if new_rows > 0 {
        let part = Part::of(&hidden_btd, micro, 0, new_rows);
        if part.n_targets > 0 {
            let loss = part.loss(model, None, LossWeights { cross_entropy: 1.0, kl: 0.0 })?;
            stats.new = (loss.cross_entropy, part.n_targets);
            add(loss.objective);
        }
    }
    if micro.keep_rows > 0 {
        let part = Part::of(&hidden_btd, micro, new_rows, micro.keep_rows);
        if part.n_targets > 0 {
            let base = match keep.kl > 0.0 {
                true => Some(base_hidden(model, reference, micro, &lower_btd, lowest, new_rows)?),
                false => None,
            };
            let owner = reference.unwrap_or(model);
            let base = base.as_ref().map(|hidden_nd| (hidden_nd, owner.head_weight()));
            let loss = part.loss(model, base, LossWeights { cross_entropy: keep.replay, kl: keep.kl })?;
            stats.keep = (loss.cross_entropy, part.n_targets);
            stats.kl = loss.kl;
            if keep.replay > 0.0 || keep.kl > 0.0 {
                add(loss.objective);
            }
        }
    }
    drop(hidden_btd);
    if let Some(total) = total {
        stats.objective = total.double_value(&[]);
        // A step whose every row is kept text with no weight has nothing to learn from.
        if total.requires_grad() {
            (total / n_targets as f64).f_backward()?;
            drop(upper_btd);
            tape.backward(model, &context)?;
        }
    }
    Ok(stats)
}

/// The counted targets of some rows and the hidden states that predict them: what has no target never meets the head.
struct Part {
    hidden_nd: Tensor,
    targets_n: Tensor,
    n_targets: u64,
}

impl Part {
    fn loss(
        &self,
        model: &Llama,
        base: Option<(&Tensor, &Tensor)>,
        weights: LossWeights,
    ) -> Result<torch_ext::HeadLoss> {
        let chunk = head_chunk(model);
        Ok(torch_ext::head_loss(&self.hidden_nd, model.head_weight(), &self.targets_n, base, weights, chunk)?)
    }

    fn of(hidden_btd: &Tensor, micro: &MicroBatch, first: i64, rows: i64) -> Self {
        let d = hidden_btd.size()[2];
        let hidden = hidden_btd.narrow(0, first, rows).reshape([-1, d]);
        let (targets_n, counted) = counted(micro, first, rows);
        let n_targets = counted.numel() as u64;
        let hidden_nd =
            if n_targets as i64 == hidden.size()[0] { hidden } else { hidden.index_select(0, &counted) };
        Self { hidden_nd, targets_n, n_targets }
    }
}

/// Targets that count in some rows, and their places in the flattened rows.
pub(crate) fn counted(micro: &MicroBatch, first: i64, rows: i64) -> (Tensor, Tensor) {
    let targets = micro.targets.narrow(0, first, rows).reshape([-1]);
    let places = targets.not_equal(loss::IGNORED).nonzero().view([-1]);
    (targets.index_select(0, &places), places)
}

/// Rows of logits that exist at once. A GPU works through larger chunks: its products need more rows to be busy.
pub(crate) fn head_chunk(model: &Llama) -> i64 {
    let width = model.kind().elt_size_in_bytes() as u64;
    let rows = cost::chunk_rows(model.config().vocab_size as u64, width);
    let rows = if model.device() == Device::Cpu { rows } else { rows * 8 };
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// Hidden states of the base, after its final norm, at the counted targets of the kept rows, without a graph.
fn base_hidden(
    model: &Llama,
    reference: Option<&Llama>,
    micro: &MicroBatch,
    lower_btd: &Tensor,
    lowest: usize,
    new_rows: i64,
) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let keep = |t: &Tensor| t.narrow(0, new_rows, micro.keep_rows);
    let (ids, positions) = (keep(&micro.ids), micro.positions.as_ref().map(&keep));
    let segments = micro.segments.as_ref().map(&keep);
    let inputs =
        llama_pro_model::Inputs { ids: &ids, positions: positions.as_ref(), segments: segments.as_ref() };
    let (_, places) = counted(micro, new_rows, micro.keep_rows);
    let owner = reference.unwrap_or(model);
    let context = owner.context(&inputs)?;
    let hidden_btd = match reference {
        Some(base) => base.run(base.embed(&ids), 0..base.n_blocks(), &context, Path::Grown),
        None => model.run(keep(lower_btd), lowest..model.n_blocks(), &context, Path::Base),
    };
    let d = hidden_btd.size()[2];
    Ok(owner.finish(&hidden_btd).reshape([-1, d]).index_select(0, &places))
}
