//! Whether a record is one that this version could have written: every statement that follows from another is
//! worked out again and compared. A record from outside is data to be doubted; nothing here may panic on it, so the
//! maps are checked before anything indexes with them.

use std::collections::{BTreeMap, BTreeSet};

use crate::config;
use crate::history::is_digest;
use crate::names::{self, Place};
use crate::placement::MAX_LAYERS;
use crate::record::{Expansion, FORMAT, TensorRecord};

impl Expansion {
    /// The first contradiction, or nothing.
    pub(crate) fn validate(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("format: expected {FORMAT}, found {:.60}", self.format));
        }
        self.validate_generations()?;
        self.validate_digests()?;
        // From here on the maps are sound and may be used.
        if self.new_blocks != self.derived_new_blocks() {
            return Err("new_blocks is not what the generations make".to_owned());
        }
        self.validate_tensors()?;
        for generation in 0..self.generations.len() {
            self.validate_blocks(generation)?;
        }
        if !self.unfrozen.is_sorted_by(|a, b| a < b) {
            return Err("unfrozen: the names are not sorted, or one stands twice".to_owned());
        }
        let odd = |name: &&String| !self.tensors.contains_key(name.as_str()) || self.is_in_new_block(name);
        match self.unfrozen.iter().find(odd) {
            Some(name) => Err(format!("unfrozen tensor {name} is not a tensor outside the new blocks")),
            None => Ok(()),
        }
    }

    fn validate_generations(&self) -> Result<(), String> {
        let mut layers = self.base.layers;
        if !(1..=MAX_LAYERS).contains(&layers) {
            return Err(format!("base.layers: expected 1 to {MAX_LAYERS}, found {layers}"));
        }
        if self.generations.is_empty() {
            return Err("generations: expected at least one, found none".to_owned());
        }
        for (number, generation) in self.generations.iter().enumerate() {
            let at = |reason: String| format!("generation {}: {reason}", number + 1);
            if generation.placement != generation.placement.normalized() {
                return Err(at("the positions are not sorted".to_owned()));
            }
            let planned = generation.placement.layers(layers).map_err(|error| at(error.to_string()))?;
            if planned != generation.layers {
                return Err(at(format!(
                    "layers are not what {} makes of {layers} blocks",
                    generation.placement
                )));
            }
            let before = &generation.config_before;
            match config::layer_count("config_before".as_ref(), before) {
                Ok(depth) if depth == layers => {}
                _ => return Err(at(format!("config_before does not restore num_hidden_layers to {layers}"))),
            }
            layers = planned.len();
        }
        let trained: Vec<bool> = self.generations.iter().map(|g| g.state == crate::State::Trained).collect();
        // Training marks every generation there is: an untrained one below a trained one cannot come about.
        if trained.is_sorted_by(|a, b| a >= b) {
            Ok(())
        } else {
            Err("a trained generation stands above an untrained one".to_owned())
        }
    }

    fn validate_digests(&self) -> Result<(), String> {
        let models = self.generations.iter().map(|generation| &generation.source);
        for digest in models.chain([&self.base.digest, &self.config]) {
            if !is_digest(digest) {
                return Err(format!("{digest:.80} is not a digest"));
            }
        }
        if self.generations.first().is_some_and(|first| first.source != self.base.digest) {
            return Err("the first generation did not grow from the base".to_owned());
        }
        match self.tensors.iter().find(|(_, tensor)| !is_digest(&tensor.digest)) {
            Some((name, tensor)) => Err(format!("tensor {name}: {:.80} is not a digest", tensor.digest)),
            None => Ok(()),
        }
    }

    fn validate_tensors(&self) -> Result<(), String> {
        let layers = self.layers();
        for name in self.tensors.keys() {
            match names::place(name) {
                Place::Malformed => return Err(format!("tensor {name} is in no block")),
                Place::Block(index, _) if index >= layers => {
                    return Err(format!("tensor {name}: there are {layers} blocks only"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The new blocks of one generation have the tensors of their sources and zero the right ones.
    fn validate_blocks(&self, generation: usize) -> Result<(), String> {
        let (sources, blocks) = (self.today(generation), self.today(generation + 1));
        let mut zeroed = BTreeSet::new();
        for layer in self.generations[generation].layers.iter().filter(|layer| layer.new) {
            let (block, source) = (blocks[layer.index], sources[layer.source]);
            let (copy, original) = (self.block(block), self.block(source));
            let same_kind = |(a, b): (&TensorRecord, &TensorRecord)| a.dtype == b.dtype && a.shape == b.shape;
            if !copy.keys().eq(original.keys())
                || !copy.values().copied().zip(original.values().copied()).all(same_kind)
            {
                return Err(format!("block {block} does not have the tensors of block {source}, its source"));
            }
            if let Some(missing) = names::REQUIRED.iter().find(|within| !copy.contains_key(*within)) {
                return Err(format!("block {block} has no {missing}"));
            }
            let zeros = copy.keys().filter(|within| names::is_zeroed(within));
            zeroed.extend(zeros.map(|within| names::in_block(layer.index, within)));
        }
        if self.generations[generation].zeroed.iter().ne(zeroed.iter()) {
            return Err(format!(
                "generation {}: zeroed does not name the output matrices of the new blocks",
                generation + 1
            ));
        }
        Ok(())
    }

    /// The tensors of a block, by name within it.
    fn block(&self, index: usize) -> BTreeMap<&str, &TensorRecord> {
        let prefix = names::in_block(index, "");
        let tensors = self.tensors.range(prefix.clone()..);
        tensors.map_while(|(name, tensor)| Some((name.strip_prefix(&prefix)?, tensor))).collect()
    }
}
