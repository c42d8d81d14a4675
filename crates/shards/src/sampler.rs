//! The order of training rows as a function of (seed, sample number), with no state to save.
//!
//! Sample k: the mixture says which source it comes from and that it is the m-th of that source. With r rows in
//! the source, it is number m % r of epoch m / r, and each epoch has its own permutation of the rows.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::mixture::Mixture;
use crate::packed::{PackedRows, Packing, Row};
use crate::permutation::Permutation;

/// Samples after which proportions are exact: weights are resolved to 1/65,536.
pub const MIXTURE_PERIOD: usize = 65_536;

/// Weighted rows of several sources in a reproducible order that can be entered anywhere.
#[derive(Clone, Debug)]
pub struct Sampler {
    names: Vec<String>,
    rows: Vec<PackedRows>,
    mixture: Mixture,
    seed: u64,
}

/// One row of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sample {
    /// Index of the source, in the order they were given.
    pub source: usize,
    /// How many times all rows of the source came before this pass, from 0.
    pub epoch: u64,
    /// Row of the source.
    pub row: usize,
}

impl Sampler {
    /// Sources as (name, rows, weight): weights are of rows, in any scale, and 0 leaves a source out.
    ///
    /// Errors name the source: no rows, a weight that is negative, not finite or below 1/65,536 of all, a name
    /// used twice, rows of different lengths.
    pub fn new(sources: Vec<(String, PackedRows, f64)>, seed: u64) -> Result<Self> {
        let (mut names, mut rows, mut weights) = (Vec::new(), Vec::<PackedRows>::new(), Vec::new());
        let mut seen = HashSet::new();
        for (source_name, packed, weight) in sources {
            if !seen.insert(source_name.clone()) {
                return Err(Error::DuplicateSource { source_name });
            }
            let row_length = packed.row_length();
            let expected = rows.first().map_or(row_length, PackedRows::row_length);
            if row_length != expected {
                return Err(Error::RowLengthsDiffer { source_name, expected, found: row_length });
            }
            if packed.n_rows() == 0 {
                let (path, tokens) = (packed.shard().prefix().to_path_buf(), packed.shard().n_tokens());
                return Err(Error::NoRows { source_name, path, tokens, row_length, needed: row_length + 1 });
            }
            names.push(source_name);
            rows.push(packed);
            weights.push(weight);
        }
        let mixture = Mixture::named(&names, &weights, MIXTURE_PERIOD)?;
        Ok(Self { names, rows, mixture, seed })
    }

    /// Sample number `k` of the run, in O(1).
    pub fn at(&self, k: u64) -> Sample {
        let (source, number) = self.mixture.at(k);
        let n_rows = self.rows[source].n_rows() as u64;
        let epoch = number / n_rows;
        let order = Permutation::new(n_rows, self.key(source, epoch));
        Sample { source, epoch, row: order.at(number % n_rows) as usize }
    }

    /// The samples of one optimizer step: numbers `step * rows_per_step` and on. Steps count from 0.
    pub fn batch(&self, step: u64, rows_per_step: usize) -> Vec<Sample> {
        let first = step.saturating_mul(rows_per_step as u64);
        (0..rows_per_step as u64).map(|row| self.at(first.saturating_add(row))).collect()
    }

    /// The row of a sample. Panics if the sample is of another sampler with more or larger sources.
    pub fn row(&self, sample: &Sample) -> Row {
        self.rows[sample.source].row(sample.row)
    }

    /// Sources in the order they were given.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Rows of each source.
    pub fn rows(&self) -> &[PackedRows] {
        &self.rows
    }

    /// Samples of each source in a period, and the period.
    pub fn mixture(&self) -> &Mixture {
        &self.mixture
    }

    /// Inputs per row.
    pub fn row_length(&self) -> usize {
        // The mixture refuses an empty list of sources.
        self.rows.first().map_or(0, PackedRows::row_length)
    }

    /// `blake3:` and a hash of all that decides which tokens sample k has: the contents of the shards, names,
    /// shares, row length, packing, document masks and seed. Equal fingerprints give equal batches; paths and the scale of
    /// the weights do not matter. Reads every shard once.
    pub fn fingerprint(&self) -> String {
        let mut hash = blake3::Hasher::new();
        hash.update(b"llama-pro sampler 1\0");
        hash.update(&self.seed.to_le_bytes()).update(&(self.mixture.period() as u64).to_le_bytes());
        for ((name, rows), quota) in self.names.iter().zip(&self.rows).zip(self.mixture.quotas()) {
            hash.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
            hash.update(rows.shard().content_digest().as_bytes());
            hash.update(&quota.to_le_bytes());
            hash.update(&(rows.row_length() as u64).to_le_bytes());
            hash.update(&[u8::from(rows.masks_documents())]);
            if rows.packing() == Packing::BestFit {
                hash.update(b"best fit 1");
            }
        }
        format!("blake3:{}", hash.finalize().to_hex())
    }

    /// Hashed rather than added up: with seed + epoch, epoch 1 of seed 7 would be epoch 0 of seed 8.
    fn key(&self, source: usize, epoch: u64) -> u64 {
        let mut hash = blake3::Hasher::new();
        hash.update(&self.seed.to_le_bytes())
            .update(&epoch.to_le_bytes())
            .update(self.names[source].as_bytes());
        let mut key = [0; 8];
        hash.finalize_xof().fill(&mut key);
        u64::from_le_bytes(key)
    }
}
