//! The structural proof, from the bytes alone: an expanded model whose old tensors are the base's, byte for byte,
//! and whose new blocks are copies with zero output matrices computes exactly what the base computes.
//!
//! Every tensor is read once, in pieces and in parallel, with no model in memory. The zero is +0.0 in every byte:
//! a -0.0, as `weight * 0` leaves behind, is found. Trained models are held to what training must not change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use llama_pro_checkpoint::Checkpoint;
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::config;
use crate::error::{Error, Result};
use crate::history::{digest_of, rename};
use crate::names::{self, Place};
use crate::read::{Findings, Reader};
use crate::record::{Expansion, FILE_NAME, State, TensorRecord};

/// The result of [`verify`]: what was checked, how often, and what failed.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// The checks, in a fixed order.
    pub checks: Vec<Check>,
    /// Tensors in the folder.
    pub tensors: usize,
    /// Bytes of tensors in the folder, each of which was read.
    pub bytes: u64,
    /// Wall time.
    pub seconds: f64,
}

impl Verification {
    /// Whether no check failed.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.checks.iter().all(|check| check.failures.is_empty())
    }

    /// Every failure with the name of its check.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, &Failure)> {
        self.checks.iter().flat_map(|check| check.failures.iter().map(|failure| (check.name, failure)))
    }
}

/// One kind of check.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// `record`, `config`, `base-digest`, `digests`, `zeros`, `copies`, `base-config`, `base-tensors`.
    pub name: &'static str,
    /// What a pass means, for people.
    pub meaning: &'static str,
    /// How many things were checked.
    pub checked: usize,
    /// How many were left out because training changed them on purpose.
    pub exempt: usize,
    /// What failed.
    pub failures: Vec<Failure>,
}

/// One thing that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The tensor, or the configuration key.
    pub what: String,
    /// The offset in the tensor of the first byte that differs, where there is something to compare with.
    pub offset: Option<u64>,
    /// What was expected and what was found.
    pub reason: String,
}

const RECORD: (&str, &str) =
    ("record", "expansion.json is sound and names the tensors and blocks that are there");
const CONFIG: (&str, &str) = ("config", "config.json is the one that was written");
const BASE_DIGEST: (&str, &str) =
    ("base-digest", "the frozen tensors make up the base that the record names");
const DIGESTS: (&str, &str) = ("digests", "the bytes of every tensor have the recorded digest");
const ZEROS: (&str, &str) = ("zeros", "the output matrices and biases of untrained new blocks are +0.0");
const COPIES: (&str, &str) =
    ("copies", "the other tensors of untrained new blocks equal their source, byte for byte");
const BASE_CONFIG: (&str, &str) = ("base-config", "config.json without the new blocks is the base's");
const BASE_TENSORS: (&str, &str) =
    ("base-tensors", "every base tensor is there byte for byte, and the rest belongs to new blocks");

/// Proves from the bytes that `dir` is what its `expansion.json` says, and, with `base`, that it holds that base.
/// `base` may be the first base or the model of any earlier generation.
///
/// # Errors
/// A folder that cannot be read, one that is not expanded, a record that disagrees with the names, types, shapes or
/// depth of what lies there, a base with another number of blocks. Bytes that are wrong are failures in the result.
pub fn verify(dir: &Path, base: Option<&Path>) -> Result<Verification> {
    let start = Instant::now();
    let checkpoint = Checkpoint::open(dir)?;
    let record = Expansion::read(dir)?.ok_or_else(|| Error::NotExpanded { path: dir.to_owned() })?;
    record.check(&checkpoint)?;
    let base = base.map(Checkpoint::open).transpose()?;
    let proof = Proof::new(&record, &checkpoint, base.as_ref())?;
    let checks = proof.run()?;
    Ok(Verification {
        checks,
        tensors: record.tensors.len(),
        bytes: checkpoint.total_bytes(),
        seconds: start.elapsed().as_secs_f64(),
    })
}

struct Proof<'a> {
    record: &'a Expansion,
    reader: Reader<'a>,
    base: Option<BaseSide<'a>>,
    /// Today's names of tensors that must be zero.
    zeros: BTreeSet<String>,
    /// Today's name of a tensor and of the one that it must equal.
    copies: BTreeMap<String, String>,
}

struct BaseSide<'a> {
    reader: Reader<'a>,
    /// How many generations the base has gone through.
    generation: usize,
    /// Today's name of each base tensor, to the base's name.
    names: BTreeMap<String, String>,
}

impl<'a> Proof<'a> {
    fn new(record: &'a Expansion, checkpoint: &'a Checkpoint, base: Option<&'a Checkpoint>) -> Result<Self> {
        let (mut zeros, mut copies) = (BTreeSet::new(), BTreeMap::new());
        for (number, generation) in record.generations.iter().enumerate() {
            if generation.state == State::Trained {
                continue;
            }
            zeros.extend(record.zeroed_of(number));
            let (sources, blocks) = (record.today(number), record.today(number + 1));
            let source_of: BTreeMap<usize, usize> = generation
                .layers
                .iter()
                .filter(|layer| layer.new)
                .map(|layer| (blocks[layer.index], sources[layer.source]))
                .collect();
            for name in record.tensors.keys() {
                if let Place::Block(index, within) = names::place(name)
                    && let Some(source) = source_of.get(&index).filter(|_| !names::is_zeroed(within))
                {
                    copies.insert(name.clone(), names::in_block(*source, within));
                }
            }
        }
        let base = base.map(|base| BaseSide::new(record, base, checkpoint.dir())).transpose()?;
        Ok(Self { record, reader: Reader::new(checkpoint)?, base, zeros, copies })
    }

    fn run(&self) -> Result<Vec<Check>> {
        let mut checks = vec![
            Check::new(RECORD, self.record.tensors.len()),
            self.check_config(),
            self.check_base_digest(),
        ];
        let (mut digests, mut zeros, mut copies, mut base) = (
            Check::new(DIGESTS, self.record.tensors.len()),
            Check::new(ZEROS, self.zeros.len()),
            Check::new(COPIES, self.copies.len()),
            Check::new(BASE_TENSORS, 0),
        );
        let tensors: Vec<(&String, &TensorRecord)> = self.record.tensors.iter().collect();
        let findings: Vec<Findings> =
            tensors.par_iter().map(|(name, _)| self.inspect(name)).collect::<Result<_>>()?;
        for ((name, tensor), mut found) in tensors.into_iter().zip(findings) {
            let base_differs = if self.is_in_base(name) { found.differs.pop().flatten() } else { None };
            let copy_differs =
                if self.copies.contains_key(name) { found.differs.pop().flatten() } else { None };
            if found.digest != tensor.digest {
                // Where the tensor must equal another one, the place of the difference is known.
                let zero = found.nonzero.filter(|_| self.zeros.contains(name));
                let reason = format!("expected {}, found {}", tensor.digest, found.digest);
                digests.fail(name, base_differs.or(copy_differs).or(zero), reason);
            }
            if self.zeros.contains(name) && found.nonzero.is_some() {
                zeros.fail(
                    name,
                    found.nonzero,
                    "expected +0.0 in every element, found another byte".to_owned(),
                );
            }
            if let (Some(source), Some(offset)) = (self.copies.get(name), copy_differs) {
                copies.fail(name, Some(offset), format!("differs from {source}, of which it is a copy"));
            }
            self.check_base_tensor(name, base_differs, &mut base);
        }
        checks.extend([digests, zeros, copies]);
        if let Some(side) = &self.base {
            checks.push(self.check_base_config(side));
            self.check_base_is_whole(side, &mut base);
            checks.push(base);
        }
        Ok(checks)
    }

    /// One pass over a tensor; its twins are the source of a copy, then the base's tensor.
    fn inspect(&self, name: &str) -> Result<Findings> {
        let mut twins: Vec<(&Reader<'_>, &str)> = Vec::new();
        if let Some(source) = self.copies.get(name) {
            twins.push((&self.reader, source));
        }
        if let Some(side) = &self.base
            && let Some(base_name) = side.names.get(name).filter(|_| self.is_in_base(name))
        {
            twins.push((&side.reader, base_name));
        }
        self.reader.inspect(name, &twins)
    }

    fn is_in_base(&self, name: &str) -> bool {
        let Some(side) = &self.base else { return false };
        side.names.get(name).is_some_and(|name| side.reader.checkpoint.info(name).is_ok())
    }

    fn config(&self) -> &Map<String, Value> {
        self.reader.checkpoint.config().raw()
    }

    /// The configuration as it was after `generation` expansions.
    fn config_of(&self, generation: usize) -> Map<String, Value> {
        let later = self.record.generations[generation..].iter().rev();
        later.fold(self.config().clone(), |config, taken| config::restore(&config, &taken.config_before))
    }

    fn check_config(&self) -> Check {
        let mut check = Check::new(CONFIG, 1);
        let found = config::digest(self.config());
        if found != self.record.config {
            let reason = format!("expected {}, found {found}: a key was edited", self.record.config);
            check.fail("config.json", None, reason);
        }
        check
    }

    fn check_base_digest(&self) -> Check {
        let mut check = Check::new(BASE_DIGEST, 1);
        if !self.record.unfrozen.is_empty() {
            (check.checked, check.exempt) = (0, 1);
            return check;
        }
        let tensors = base_names(self.record, 0)
            .into_iter()
            .filter_map(|(today, base)| Some((base, self.record.tensors.get(&today)?)))
            .collect();
        let found = digest_of(&config::digest(&self.config_of(0)), &tensors);
        if found != self.record.base.digest {
            check.fail("base", None, format!("expected {}, found {found}", self.record.base.digest));
        }
        check
    }

    fn check_base_config(&self, side: &BaseSide<'_>) -> Check {
        let (here, base) = (self.config_of(side.generation), side.reader.checkpoint.config().raw());
        let keys: BTreeSet<&String> = here.keys().chain(base.keys()).collect();
        let mut check = Check::new(BASE_CONFIG, keys.len());
        for key in keys {
            if here.get(key) != base.get(key) {
                check.fail(key, None, "has another value than the base's configuration gives it".to_owned());
            }
        }
        check
    }

    fn check_base_tensor(&self, name: &str, differs: Option<u64>, check: &mut Check) {
        let Some(side) = &self.base else { return };
        let Some(base_name) = side.names.get(name) else { return };
        let Ok(info) = side.reader.checkpoint.info(base_name) else {
            check.fail(name, None, format!("the base has no {base_name} and the block is not new"));
            return;
        };
        if let Some(tensor) = self.record.tensors.get(name)
            && (tensor.dtype != info.dtype || tensor.shape != info.shape)
        {
            let base = format!("{:?} {:?}", info.dtype, info.shape);
            check.fail(
                name,
                None,
                format!("expected {base} as in the base, found {:?} {:?}", tensor.dtype, tensor.shape),
            );
        } else if self.may_differ(name, side) {
            check.exempt += 1;
        } else {
            check.checked += 1;
            if let Some(offset) = differs {
                check.fail(name, Some(offset), format!("differs from {base_name} of the base"));
            }
        }
    }

    /// Tensors that training changed on purpose: the unfrozen ones, and blocks that were new before `base` was
    /// written and were trained again after.
    fn may_differ(&self, name: &str, side: &BaseSide<'_>) -> bool {
        let trained_since =
            self.record.generations.get(side.generation).is_some_and(|later| later.state == State::Trained);
        self.record.unfrozen.binary_search_by(|unfrozen| unfrozen.as_str().cmp(name)).is_ok()
            || (trained_since && self.record.is_in_new_block(name))
    }

    fn check_base_is_whole(&self, side: &BaseSide<'_>, check: &mut Check) {
        let mapped: BTreeSet<&String> = side.names.values().collect();
        for name in side.reader.checkpoint.names() {
            if !mapped.contains(&name.to_owned()) {
                check.fail(name, None, "is in the base and has no place in the expanded model".to_owned());
            }
        }
    }
}

impl<'a> BaseSide<'a> {
    fn new(record: &Expansion, base: &'a Checkpoint, dir: &Path) -> Result<Self> {
        let layers = config::layer_count(base.config().path(), base.config().raw())?;
        let depths = std::iter::once(record.base.layers)
            .chain(record.generations.iter().map(|generation| generation.layers.len()));
        let depths: Vec<usize> = depths.take(record.generations.len()).collect();
        let Some(generation) = depths.iter().position(|depth| *depth == layers) else {
            return Err(Error::Disagrees {
                path: dir.join(FILE_NAME),
                reason: format!(
                    "{} has {layers} blocks; the record tells of a base of {depths:?}",
                    base.dir().display()
                ),
            });
        };
        Ok(Self { reader: Reader::new(base)?, generation, names: base_names(record, generation) })
    }
}

/// Today's name and former name of every tensor that the model of `generation` expansions had.
pub(crate) fn base_names(record: &Expansion, generation: usize) -> BTreeMap<String, String> {
    let today = record.today(generation);
    let mut former = vec![None; record.layers()];
    for (index, block) in today.iter().enumerate() {
        former[*block] = Some(index);
    }
    let pair = |name: &String| match names::place(name) {
        Place::Block(index, within) => {
            former[index].map(|base| (name.clone(), names::in_block(base, within)))
        }
        _ => Some((name.clone(), name.clone())),
    };
    let names: BTreeMap<String, String> = record.tensors.keys().filter_map(pair).collect();
    debug_assert!(names.iter().all(|(now, base)| rename(base, &today) == *now));
    names
}

impl Check {
    fn new((name, meaning): (&'static str, &'static str), checked: usize) -> Self {
        Self { name, meaning, checked, exempt: 0, failures: Vec::new() }
    }

    fn fail(&mut self, what: &str, offset: Option<u64>, reason: String) {
        self.failures.push(Failure { what: what.to_owned(), offset, reason });
    }
}
