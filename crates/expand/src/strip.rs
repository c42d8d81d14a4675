//! `strip`: takes new blocks out again. What is left are the tensors of the model before, byte for byte, under
//! their old names, and its configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use llama_pro_checkpoint::{Checkpoint, Source, Tensor, Weights};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::history::digest_of;
use crate::names::{self, Place};
use crate::record::{Expansion, FILE_NAME, TensorRecord};
use crate::write::{self, Progress, Settings};
use crate::{config, output};

/// How to strip.
#[derive(Clone, Default)]
pub struct StripOptions<'a> {
    /// Replace an output folder that exists.
    pub force: bool,
    /// Take out the blocks of every generation, not of the last only.
    pub all: bool,
    /// Strip although tensors of old blocks were changed, so that the result is not the base.
    pub allow_altered: bool,
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

impl fmt::Debug for StripOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StripOptions")
            .field("force", &self.force)
            .field("all", &self.all)
            .field("allow_altered", &self.allow_altered)
            .field("max_shard_bytes", &self.max_shard_bytes)
            .field("keep_partial", &self.keep_partial)
            .finish_non_exhaustive()
    }
}

/// What [`strip`] did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stripped {
    /// The indices of the blocks that were taken out, in the model as it lay there.
    pub removed: Vec<usize>,
    /// Blocks of the model that was written.
    pub layers: usize,
    /// Generations that it still has.
    pub generations: usize,
    /// Its tensors.
    pub tensors: usize,
    /// Bytes of its tensors.
    pub bytes: u64,
    /// Its digest; see [`model_digest`](crate::model_digest).
    pub digest: String,
    /// Whether that is the digest of the model that was expanded: configuration and every tensor.
    pub identical: bool,
    /// Wall time.
    pub seconds: f64,
}

/// Writes to `out` the model in `dir` without the new blocks of the last expansion, or of all.
///
/// # Errors
/// A folder that is not expanded or disagrees with its record; old tensors that were changed, unless
/// `allow_altered`; an output folder that exists, or that is, holds or lies in `dir`. Nothing is left in `out`.
pub fn strip(dir: &Path, out: &Path, options: &StripOptions<'_>) -> Result<Stripped> {
    let start = Instant::now();
    let checkpoint = Checkpoint::open(dir)?;
    let record = Expansion::read(dir)?.ok_or_else(|| Error::NotExpanded { path: dir.to_owned() })?;
    record.check(&checkpoint)?;
    output::check(dir, out, options.force)?;
    let unfrozen = record.unfrozen_names().len();
    if unfrozen > 0 && !options.allow_altered {
        return Err(altered(dir, format!("{unfrozen} tensors of the base were trained")));
    }
    let taken = if options.all { record.generations.len() } else { 1 };
    let kept = record.generations.len() - taken;
    let mut written_config = checkpoint.config().clone();
    let mut rest = Some(record.clone());
    for generation in record.generations[kept..].iter().rev() {
        let restored = config::restore(written_config.raw(), &generation.config_before);
        rest = rest.and_then(|rest| rest.without_last(&restored));
        written_config.raw_mut().clone_from(&restored);
    }
    let moves = moves(&record, kept);
    let mut tensors = Vec::with_capacity(moves.len());
    let mut bytes = 0;
    for (to, from) in &moves {
        let info = checkpoint.info(from)?;
        bytes += info.len;
        let source = Source::Copy { checkpoint: &checkpoint, name: from.clone() };
        tensors.push(Tensor { name: to.clone(), dtype: info.dtype, shape: info.shape.clone(), source });
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
    let mut digest = String::new();
    write::folder(&checkpoint, out, &written_config, tensors, settings, |digests| {
        let mut records = BTreeMap::new();
        for (to, from) in &moves {
            let found = write::digest_of(digests, to)?;
            if record.digest(from) != Some(&found) && !options.allow_altered {
                return Err(altered(dir, format!("tensor {from} is not the one in {FILE_NAME}")));
            }
            let info = checkpoint.info(from)?;
            let tensor = TensorRecord { dtype: info.dtype, shape: info.shape.clone(), digest: found };
            records.insert(to.clone(), tensor);
        }
        let named = records.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
        digest = digest_of(&config::digest(written_config.raw()), &named);
        // Where altered tensors are allowed, the record that stays tells what is there.
        Ok(rest.map(|rest| Expansion { tensors: records, ..rest }))
    })?;
    let before = &record.generations[kept];
    Ok(Stripped {
        removed: removed(&record, kept),
        layers: before.layers.iter().filter(|layer| !layer.new).count(),
        generations: kept,
        tensors: moves.len(),
        bytes,
        identical: digest == before.source,
        digest,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// New and present name of every tensor that stays when `kept` generations stay, in the order of writing.
fn moves(record: &Expansion, kept: usize) -> Vec<(String, String)> {
    let mut former = vec![None; record.layers()];
    for (index, block) in record.today(kept).into_iter().enumerate() {
        former[block] = Some(index);
    }
    let mut moves: Vec<(String, String)> = record
        .tensors
        .keys()
        .filter_map(|name| match names::place(name) {
            Place::Block(index, within) => {
                former[index].map(|block| (names::in_block(block, within), name.clone()))
            }
            _ => Some((name.clone(), name.clone())),
        })
        .collect();
    moves.sort_by(|a, b| names::order(&a.0).cmp(&names::order(&b.0)));
    moves
}

fn removed(record: &Expansion, kept: usize) -> Vec<usize> {
    let stay = record.today(kept);
    (0..record.layers()).filter(|block| stay.binary_search(block).is_err()).collect()
}

fn altered(dir: &Path, what: String) -> Error {
    let reason = format!(
        "{what}: without the new blocks this is not the base again (--allow-altered strips it anyway)"
    );
    Error::Altered { path: dir.to_owned(), reason }
}
