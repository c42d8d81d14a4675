//! Where batches come from: a function of the step alone, so that there is no data state to save and any step can be
//! reached without replay.
//!
//! Pretraining reads packed rows of a [`Sampler`]; instruction tuning has its own [`Batches`], beside which [`WithKept`]
//! puts rows of general text. The loop knows none of them.

use llama_pro_shards::{Row, Sampler};
use tch::Device;

use crate::Result;
use crate::batch::MicroBatch;

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

/// Packed rows in the order of a sampler.
pub struct SampledRows<'a> {
    /// (seed, number) to rows.
    pub sampler: &'a Sampler,
    /// Sources, by index, whose rows keep the old ability.
    pub keep_sources: &'a [usize],
    /// Rows of an optimizer step.
    pub rows_per_step: usize,
    /// Rows of a forward pass, a divisor of the rows of a step.
    pub micro_rows: usize,
}

impl Batches for SampledRows<'_> {
    fn micro_batches(&self, step: u64, device: Device) -> Result<Vec<MicroBatch>> {
        let samples = self.sampler.batch(step, self.rows_per_step);
        let keeps = |source| self.keep_sources.contains(&source);
        let rows: Vec<(Row, bool)> = samples.iter().map(|s| (self.sampler.row(s), keeps(s.source))).collect();
        Ok(rows.chunks(self.micro_rows).map(|rows| MicroBatch::new(rows, device)).collect())
    }

    fn fingerprint(&self) -> String {
        self.sampler.fingerprint()
    }
}

/// Batches with rows of general text beside them, which keep the old ability.
pub struct WithKept<'a> {
    /// What is learned.
    pub batches: &'a dyn Batches,
    /// Rows to keep, in the order of their sampler.
    pub kept: &'a Sampler,
    /// How many of them come with every step.
    pub rows_per_step: usize,
    /// Rows of a forward pass.
    pub micro_rows: usize,
}

impl Batches for WithKept<'_> {
    fn micro_batches(&self, step: u64, device: Device) -> Result<Vec<MicroBatch>> {
        let mut micros = self.batches.micro_batches(step, device)?;
        let rows: Vec<(Row, bool)> =
            self.kept.batch(step, self.rows_per_step).iter().map(|s| (self.kept.row(s), true)).collect();
        micros.extend(rows.chunks(self.micro_rows).map(|rows| MicroBatch::new(rows, device)));
        Ok(micros)
    }

    fn fingerprint(&self) -> String {
        format!(
            "{} and {} kept rows of {}",
            self.batches.fingerprint(),
            self.rows_per_step,
            self.kept.fingerprint()
        )
    }

    fn tokens(&self, micros: &[MicroBatch]) -> u64 {
        self.batches.tokens(micros)
    }
}
