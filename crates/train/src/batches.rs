//! Where batches come from: a function of the step alone, so that there is no data state to save and any step can be
//! reached without replay.
//!
//! Pretraining reads packed rows of a [`Sampler`]; instruction tuning has its own [`Batches`], beside which [`WithKept`]
//! puts rows of general text. The loop knows none of them.

use std::cell::RefCell;
use std::sync::Arc;

use llama_pro_shards::{Prefetch, Row, Sample, Sampler};
use tch::Device;

use crate::batch::MicroBatch;
use crate::passes::passes;
use crate::{Error, Result};

/// Steps to batches. The same step must give the same batch, whatever was asked for before.
pub trait Batches {
    /// The micro-batches of `step`, counted from 0, on `device`: together one optimizer step.
    ///
    /// # Errors
    /// Data that can no longer be read.
    fn micro_batches(&self, step: u64, device: Device) -> Result<Vec<MicroBatch>>;

    /// A digest of everything that decides which batches come: contents, order, seed, lengths. A checkpoint of a run with
    /// another one is refused. How a step is cut into micro-batches is no part of it.
    fn fingerprint(&self) -> String;

    /// Input tokens that a step has read, as metrics and speeds count them. Default: every position of every micro-batch;
    /// batches with padding leave it out.
    fn tokens(&self, micros: &[MicroBatch]) -> u64 {
        micros.iter().map(|m| m.ids.numel() as u64).sum()
    }
}

/// Packed rows in the order of a sampler, read ahead of the step that needs them.
pub struct SampledRows {
    rows: RowsAhead,
    /// Sources, by index, whose rows keep the old ability.
    keep_sources: Vec<usize>,
    micro_rows: usize,
}

impl SampledRows {
    /// `rows_per_step` rows make an optimizer step, `micro_rows` of them a forward pass on a GPU; on a CPU the length of the
    /// rows decides that (see [`crate::rows_per_pass`]). `keep_sources` are the sources, by index, whose rows keep the old
    /// ability.
    pub fn new(
        sampler: Arc<Sampler>,
        keep_sources: Vec<usize>,
        rows_per_step: usize,
        micro_rows: usize,
    ) -> Self {
        Self { rows: RowsAhead::new(sampler, rows_per_step), keep_sources, micro_rows }
    }
}

impl Batches for SampledRows {
    fn micro_batches(&self, step: u64, device: Device) -> Result<Vec<MicroBatch>> {
        let keeps = |source| self.keep_sources.contains(&source);
        let rows = self.rows.of(step)?.into_iter().map(|(sample, row)| (row, keeps(sample.source)));
        let rows: Vec<(Row, bool)> = rows.collect();
        Ok(cut(&rows, self.micro_rows, device))
    }

    fn fingerprint(&self) -> String {
        self.rows.sampler.fingerprint()
    }
}

fn cut(rows: &[(Row, bool)], micro_rows: usize, device: Device) -> Vec<MicroBatch> {
    let places: Vec<usize> = rows.iter().map(|(row, _)| row.inputs.len()).collect();
    let passes = passes(&places, micro_rows, device).into_iter();
    passes.map(|pass| MicroBatch::new(&rows[pass], device)).collect()
}

/// The rows of a step, made by another thread while the step before is computed: a page that is not in memory yet costs
/// the training nothing. Which rows they are is the sampler's alone.
struct RowsAhead {
    sampler: Arc<Sampler>,
    rows_per_step: usize,
    /// The step whose rows come next, and where they come from.
    ahead: RefCell<Option<(u64, Prefetch)>>,
}

impl RowsAhead {
    /// Steps that wait.
    const AHEAD: usize = 1;

    fn new(sampler: Arc<Sampler>, rows_per_step: usize) -> Self {
        Self { sampler, rows_per_step, ahead: RefCell::new(None) }
    }

    fn of(&self, step: u64) -> Result<Vec<(Sample, Row)>> {
        let mut ahead = self.ahead.borrow_mut();
        let (next, batches) = match ahead.take() {
            Some(ahead) if ahead.0 == step => ahead,
            // The first step of a run, or one that was asked for out of order.
            _ => (step, Prefetch::new(self.sampler.clone(), step, self.rows_per_step, Self::AHEAD)?),
        };
        let (_, batches) = ahead.insert((next + 1, batches));
        let gone = || Error::Setup(format!("the thread that reads the rows of step {step} has ended"));
        batches.next().map(|batch| batch.rows).ok_or_else(gone)
    }
}

/// Batches with rows of general text beside them, which keep the old ability.
pub struct WithKept<'a> {
    batches: &'a dyn Batches,
    kept: RowsAhead,
    micro_rows: usize,
}

impl<'a> WithKept<'a> {
    /// `batches` is what is learned. `rows_per_step` rows of `kept` come with every step, in passes of their own, of
    /// `micro_rows` as for [`SampledRows::new`].
    pub fn new(
        batches: &'a dyn Batches,
        kept: Arc<Sampler>,
        rows_per_step: usize,
        micro_rows: usize,
    ) -> Self {
        Self { batches, kept: RowsAhead::new(kept, rows_per_step), micro_rows }
    }
}

impl Batches for WithKept<'_> {
    fn micro_batches(&self, step: u64, device: Device) -> Result<Vec<MicroBatch>> {
        let mut micros = self.batches.micro_batches(step, device)?;
        let rows: Vec<(Row, bool)> = self.kept.of(step)?.into_iter().map(|(_, row)| (row, true)).collect();
        micros.extend(cut(&rows, self.micro_rows, device));
        Ok(micros)
    }

    fn fingerprint(&self) -> String {
        format!(
            "{} and {} kept rows of {}",
            self.batches.fingerprint(),
            self.kept.rows_per_step,
            self.kept.sampler.fingerprint()
        )
    }

    fn tokens(&self, micros: &[MicroBatch]) -> u64 {
        self.batches.tokens(micros)
    }
}
