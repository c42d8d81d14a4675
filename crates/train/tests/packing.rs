//! A whole run on rows that are packed by best fit: every step has the loss and the gradient norm of the same documents
//! one at a time, with no packing, no positions and no masks.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod common;

use std::sync::Arc;

use common::max_difference;
use common::tiny::{Ear, go, weights};
use llama_pro_shards::{PackedRows, Row, Sampler, ShardWriter, TokenShard};
use llama_pro_train::{Batches, MicroBatch, Result, SampledRows, TrainConfig};
use tch::{Device, Tensor};

const LENGTH: usize = 48;
/// More than go through a forward pass together.
const ROWS: usize = 44;
const STEPS: u64 = 12;

/// Documents of 2 to 90 tokens: some fit into a row with others, some are longer than a row.
fn documents() -> Vec<Vec<u32>> {
    let mut state = 1u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    let lengths: Vec<u64> = (0..60).map(|_| 2 + draw(4) * draw(30)).collect();
    lengths.into_iter().map(|length| (0..length).map(|_| draw(256) as u32).collect()).collect()
}

fn sampler() -> Arc<Sampler> {
    let dir = tempfile::tempdir().unwrap();
    let prefix = dir.path().join("documents");
    let mut writer = ShardWriter::new(&prefix, 256).unwrap();
    for document in documents() {
        writer.push(&document).unwrap();
    }
    writer.finish().unwrap();
    let rows = PackedRows::best_fit(TokenShard::open(&prefix).unwrap(), LENGTH).unwrap();
    Arc::new(Sampler::new(vec![("documents".to_owned(), rows, 1.0)], 7).unwrap())
}

/// The same steps, each document in a forward pass of its own.
struct OneByOne(Arc<Sampler>);

impl Batches for OneByOne {
    fn micro_batches(&self, step: u64, device: Device) -> Result<Vec<MicroBatch>> {
        let rows = self.0.batch(step, ROWS).into_iter().map(|sample| self.0.row(&sample));
        Ok(rows.flat_map(|row| pieces(&row)).map(|ids| alone(&ids, device)).collect())
    }

    fn fingerprint(&self) -> String {
        "one by one".to_owned()
    }
}

/// A row's documents, or pieces of longer ones: inputs and the last target.
fn pieces(row: &Row) -> Vec<Vec<i64>> {
    let mut all: Vec<Vec<i64>> = Vec::new();
    for at in 0..row.inputs.len() {
        if row.targets[at] < 0 {
            continue; // padding
        }
        if at == 0 || row.segments[at] != row.segments[at - 1] {
            all.push(vec![row.inputs[at]]);
        }
        all.last_mut().unwrap().push(row.targets[at]);
    }
    all
}

fn alone(ids: &[i64], device: Device) -> MicroBatch {
    MicroBatch::tokens(&Tensor::from_slice(ids).view([1, -1]).to_device(device))
}

#[test]
fn every_document_is_learned_once_an_epoch() {
    let sampler = sampler();
    let rows = sampler.rows()[0].n_rows() as u64;
    let all = (0..rows).flat_map(|k| sampler.batch(k, 1)).flat_map(|sample| pieces(&sampler.row(&sample)));
    let mut seen: Vec<Vec<i64>> = all.collect();
    // Longer documents are cut so that each target is still there once: the pieces share one token.
    let mut expected: Vec<Vec<i64>> = Vec::new();
    for document in documents() {
        let document: Vec<i64> = document.into_iter().map(i64::from).collect();
        for start in (0..document.len() - 1).step_by(LENGTH) {
            expected.push(document[start..document.len().min(start + LENGTH + 1)].to_vec());
        }
    }
    assert!(expected.len() > documents().len(), "no document is longer than a row");
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

#[test]
fn a_run_is_that_of_documents_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let config = TrainConfig { checkpoint_every: 5, ..TrainConfig::new(STEPS, ROWS, 1e-2) };
    let run = |name: &str, batches: &dyn Batches, mut ear: Ear| {
        let trainer = go(&dir.path().join(name), &config, batches, &mut ear).unwrap().0;
        (trainer, ear.losses)
    };
    let sampler = sampler();
    let packed = || SampledRows::new(sampler.clone(), Vec::new(), ROWS, ROWS);
    assert_eq!(packed().micro_batches(0, Device::Cpu).unwrap().len(), 2);
    let (trainer, losses) = run("packed", &packed(), Ear::default());
    let (reference, expected) = run("one-by-one", &OneByOne(sampler.clone()), Ear::default());
    assert_eq!((losses.len(), expected.len()), (STEPS as usize, STEPS as usize));
    for (a, b) in losses.iter().zip(&expected) {
        let close = |a: u64, b: u64, within: f64| {
            let (a, b) = (f64::from_bits(a), f64::from_bits(b));
            assert!((a - b).abs() <= within * b.abs(), "{a} {b}");
        };
        close(a.1, b.1, 1e-5);
        close(a.2, b.2, 1e-4);
    }
    let trained = |trainer: &llama_pro_train::Trainer| -> Vec<Tensor> {
        let parameters = trainer.model().parameters().iter().filter(|p| p.trained);
        parameters.map(|p| p.tensor.detach()).collect()
    };
    for (a, b) in trained(&trainer).iter().zip(&trained(&reference)) {
        assert!(max_difference(a, b) < 2e-3);
    }
    // Stopped in the middle and gone on with: rows are read ahead from another step then.
    let (_, first) = run("stopped", &packed(), Ear::until(7));
    let (again, rest) = run("stopped", &packed(), Ear::default());
    assert_eq!([first, rest].concat(), losses);
    assert!(weights(&again) == weights(&trainer), "weights differ after a resume");
}
