//! `expand`: every tensor of the base copied to its place, and the copies of the new blocks with zero output
//! matrices. The folder appears whole, with the record in it, or not at all.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use llama_pro_checkpoint::{Checkpoint, Source, Tensor, Weights};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::names::{self, Place};
use crate::placement::{Placement, Plan, plan};
use crate::record::{Expansion, FILE_NAME, TensorRecord};
use crate::write::{self, Progress, Settings};
use crate::{blocks, config, output};

/// How to expand.
#[derive(Clone, Default)]
pub struct ExpandOptions<'a> {
    /// Replace an output folder that exists.
    pub force: bool,
    /// Check everything and work out the plan, but write nothing.
    pub dry_run: bool,
    /// Largest size of a weight file in bytes; `None` is the writer's default.
    pub max_shard_bytes: Option<u64>,
    /// After an error or a stop, leave the partial folder (`.OUT.partial`) for the next run to take up. One that a
    /// killed process left is taken up in any case, and its bytes are compared before they are trusted.
    pub keep_partial: bool,
    /// Raised from outside to stop within one block of bytes.
    pub cancel: Option<Arc<AtomicBool>>,
    /// Called with the bytes done and the bytes in all.
    pub progress: Option<&'a Progress<'a>>,
}

impl fmt::Debug for ExpandOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpandOptions")
            .field("force", &self.force)
            .field("dry_run", &self.dry_run)
            .field("max_shard_bytes", &self.max_shard_bytes)
            .field("keep_partial", &self.keep_partial)
            .finish_non_exhaustive()
    }
}

/// What [`expand`] did, or would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The plan, with the bytes of every block.
    pub plan: Plan,
    /// Whether the folder was written; false for a dry run.
    pub written: bool,
    /// Tensors of the expanded model.
    pub tensors: usize,
    /// Bytes of its tensors.
    pub bytes: u64,
    /// Wall time.
    pub seconds: f64,
}

/// Expands the model in `base` into the folder `out`. A base that was expanded before keeps its history: the record
/// in `out` then has one generation more.
///
/// # Errors
/// A base that cannot be read or whose blocks zeroed matrices do not make the identity; a placement that does not
/// fit; an output folder that exists, or that is, holds or lies in the base; a full disk. Nothing is left in `out`.
pub fn expand(base: &Path, out: &Path, placement: &Placement, options: &ExpandOptions<'_>) -> Result<Report> {
    let start = Instant::now();
    let checkpoint = Checkpoint::open(base)?;
    let previous = Expansion::read(base)?;
    if let Some(record) = &previous {
        record.check(&checkpoint)?;
    }
    let mut plan = plan(checkpoint.config(), placement)?;
    blocks::check(&checkpoint, plan.base_layers)?;
    output::check(base, out, options.force)?;
    let moves = moves(&plan, &checkpoint)?;
    let mut block_bytes = vec![0; plan.layers.len()];
    let mut bytes = 0;
    for step in &moves {
        bytes += step.bytes;
        if let Place::Block(index, _) = names::place(&step.to) {
            block_bytes[index] += step.bytes;
        }
    }
    plan.block_bytes = Some(block_bytes);
    let report = |plan| Report {
        plan,
        written: !options.dry_run,
        tensors: moves.len(),
        bytes,
        seconds: start.elapsed().as_secs_f64(),
    };
    if options.dry_run {
        return Ok(report(plan));
    }
    let lengthened = config::lengthen(checkpoint.config().path(), checkpoint.config().raw(), &plan.layers)?;
    let mut written_config = checkpoint.config().clone();
    written_config.raw_mut().clone_from(&lengthened.config);
    let mut tensors = Vec::with_capacity(moves.len());
    for step in &moves {
        tensors.push(step.tensor(&checkpoint)?);
    }
    let settings = Settings {
        weights: Weights::Model,
        force: options.force,
        max_shard_bytes: options.max_shard_bytes,
        keep_partial: options.keep_partial,
        cancel: options.cancel.clone(),
        progress: options.progress,
        total: bytes,
    };
    write::folder(&checkpoint, out, &written_config, tensors, settings, |digests| {
        if let Some(record) = &previous {
            compare_with_record(record, &moves, digests, base)?;
        }
        let mut records = BTreeMap::new();
        for step in &moves {
            records.insert(step.to.clone(), step.record(&checkpoint, digests)?);
        }
        let former = checkpoint.config().raw();
        Ok(Some(Expansion::grown(previous.as_ref(), &plan, (former, &lengthened), records)))
    })?;
    Ok(report(plan))
}

/// One tensor of the expanded model.
struct Move {
    to: String,
    from: String,
    /// Whether it belongs to a new block.
    new: bool,
    zero: bool,
    bytes: u64,
}

impl Move {
    fn tensor<'a>(&self, base: &'a Checkpoint) -> Result<Tensor<'a>> {
        let info = base.info(&self.from)?;
        let source = if self.zero {
            Source::Zeros
        } else {
            Source::Copy { checkpoint: base, name: self.from.clone() }
        };
        Ok(Tensor { name: self.to.clone(), dtype: info.dtype, shape: info.shape.clone(), source })
    }

    fn record(&self, base: &Checkpoint, digests: &BTreeMap<String, String>) -> Result<TensorRecord> {
        let info = base.info(&self.from)?;
        let digest = write::digest_of(digests, &self.to)?;
        Ok(TensorRecord { dtype: info.dtype, shape: info.shape.clone(), digest })
    }
}

/// Every tensor of the expanded model in the order of writing: embeddings, blocks, the rest.
fn moves(plan: &Plan, base: &Checkpoint) -> Result<Vec<Move>> {
    let mut within: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    let mut moves = Vec::new();
    for name in base.names() {
        match names::place(name) {
            Place::Block(index, rest) => within.entry(index).or_default().push(rest),
            _ => moves.push(Move {
                to: name.to_owned(),
                from: name.to_owned(),
                new: false,
                zero: false,
                bytes: base.info(name)?.len,
            }),
        }
    }
    for layer in &plan.layers {
        for rest in within.get(&layer.source).into_iter().flatten() {
            let from = names::in_block(layer.source, rest);
            let bytes = base.info(&from)?.len;
            let zero = layer.new && names::is_zeroed(rest);
            moves.push(Move { to: names::in_block(layer.index, rest), from, new: layer.new, zero, bytes });
        }
    }
    moves.sort_by(|a, b| names::order(&a.to).cmp(&names::order(&b.to)));
    Ok(moves)
}

/// A base that was expanded before must still hold what its record says; else the new record would carry on a
/// history that is not true.
fn compare_with_record(
    record: &Expansion,
    moves: &[Move],
    digests: &BTreeMap<String, String>,
    base: &Path,
) -> Result<()> {
    for step in moves.iter().filter(|step| !step.new) {
        let found = write::digest_of(digests, &step.to)?;
        if record.digest(&step.from) != Some(&found) {
            return Err(Error::Disagrees {
                path: base.join(FILE_NAME),
                reason: format!(
                    "tensor {}: the record says {}, the bytes give {found}",
                    step.from,
                    record.digest(&step.from).unwrap_or("nothing")
                ),
            });
        }
    }
    Ok(())
}
