//! The record as a history: a generation is added by an expansion and taken out by `strip`, and block numbers of
//! any time are brought to today's by composing the maps.

use std::collections::BTreeMap;

use llama_pro_checkpoint::Checkpoint;
use serde_json::{Map, Value};

use crate::config;
use crate::error::Result;
use crate::names::{self, Place};
use crate::placement::{Plan, PlannedLayer};
use crate::record::{Base, Expansion, FORMAT, Generation, State, TOOL, TensorRecord};

impl Expansion {
    /// Where each block of the model after `generation` expansions (0: the base) lies today.
    pub(crate) fn today(&self, generation: usize) -> Vec<usize> {
        let layers = match generation {
            0 => self.base.layers,
            _ => self.generations[generation - 1].layers.len(),
        };
        let mut today: Vec<usize> = (0..layers).collect();
        for later in &self.generations[generation..] {
            let moved = positions(&later.layers);
            for block in &mut today {
                *block = moved[*block];
            }
        }
        today
    }

    /// Today's names of the tensors that a generation (from 0) zeroed.
    pub(crate) fn zeroed_of(&self, generation: usize) -> Vec<String> {
        let today = self.today(generation + 1);
        self.generations[generation].zeroed.iter().map(|name| rename(name, &today)).collect()
    }

    /// The record of the model before the last expansion; `None` when that was the first.
    pub(crate) fn without_last(&self, config: &Map<String, Value>) -> Option<Self> {
        let mut record = self.clone();
        let last = record.generations.pop()?;
        record.generations.last()?;
        let back: BTreeMap<usize, usize> =
            last.layers.iter().filter(|layer| !layer.new).map(|layer| (layer.index, layer.source)).collect();
        let rename = |name: &String| match names::place(name) {
            Place::Block(index, within) => back.get(&index).map(|index| names::in_block(*index, within)),
            _ => Some(name.clone()),
        };
        record.tensors =
            self.tensors.iter().filter_map(|(name, tensor)| Some((rename(name)?, tensor.clone()))).collect();
        record.unfrozen = self.unfrozen.iter().filter_map(rename).collect();
        record.unfrozen.sort_unstable();
        record.config = config::digest(config);
        record.new_blocks = record.derived_new_blocks();
        Some(record)
    }

    /// The record of a folder just expanded. `tensors` are those of the new folder.
    pub(crate) fn grown(
        previous: Option<&Self>,
        plan: &Plan,
        config: (&Map<String, Value>, &config::Lengthened),
        tensors: BTreeMap<String, TensorRecord>,
    ) -> Self {
        let (former, lengthened) = config;
        let is_new = |index: usize| plan.layers.get(index).is_some_and(|layer| layer.new);
        let before: BTreeMap<String, &TensorRecord> = tensors
            .iter()
            .filter_map(|(name, tensor)| match names::place(name) {
                Place::Block(index, _) if is_new(index) => None,
                Place::Block(index, within) => {
                    Some((names::in_block(plan.layers[index].source, within), tensor))
                }
                _ => Some((name.clone(), tensor)),
            })
            .collect();
        let source = digest_of(&config::digest(former), &before);
        let zeroed = tensors.keys().filter(|name| match names::place(name) {
            Place::Block(index, within) => is_new(index) && names::is_zeroed(within),
            _ => false,
        });
        let generation = Generation {
            placement: plan.placement.clone(),
            state: State::Untrained,
            source: source.clone(),
            layers: plan.layers.clone(),
            zeroed: zeroed.cloned().collect(),
            config_before: lengthened.before.clone(),
        };
        let moved = positions(&plan.layers);
        let mut unfrozen: Vec<String> = previous
            .map_or(&[][..], |record| &record.unfrozen)
            .iter()
            .map(|name| rename(name, &moved))
            .collect();
        unfrozen.sort_unstable();
        let mut record = Self {
            format: FORMAT.to_owned(),
            tool: TOOL.to_owned(),
            base: previous.map_or_else(
                || Base { digest: source, layers: plan.base_layers },
                |record| record.base.clone(),
            ),
            new_blocks: Vec::new(),
            generations: previous.map_or_else(Vec::new, |record| record.generations.clone()),
            config: config::digest(&lengthened.config),
            unfrozen,
            tensors,
        };
        record.generations.push(generation);
        record.new_blocks = record.derived_new_blocks();
        record
    }

    pub(crate) fn derived_new_blocks(&self) -> Vec<usize> {
        self.origins()
            .iter()
            .filter(|origin| origin.generation.is_some())
            .map(|origin| origin.block)
            .collect()
    }
}

/// The digest of a whole model: its configuration's value and every tensor's name, type, shape and bytes. Files,
/// sharding and key order do not count.
///
/// # Errors
/// A tensor that cannot be read.
pub fn model_digest(checkpoint: &Checkpoint) -> Result<String> {
    let tensors = crate::read::records(checkpoint)?;
    let tensors = tensors.iter().map(|(name, record)| (name.clone(), record)).collect();
    Ok(digest_of(&config::digest(checkpoint.config().raw()), &tensors))
}

pub(crate) fn digest_of(config: &str, tensors: &BTreeMap<String, &TensorRecord>) -> String {
    let mut text = format!("config {config}\n");
    for (name, TensorRecord { dtype, shape, digest }) in tensors {
        // Debug quotes the name, so that no name can look like the next line.
        text.push_str(&format!("{name:?} {dtype:?} {shape:?} {digest}\n"));
    }
    llama_pro_checkpoint::digest(text.as_bytes())
}

pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("blake3:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Where each source block lies among `layers`.
pub(crate) fn positions(layers: &[PlannedLayer]) -> Vec<usize> {
    layers.iter().filter(|layer| !layer.new).map(|layer| layer.index).collect()
}

/// The name with its block moved by the map; names outside blocks stay.
pub(crate) fn rename(name: &str, map: &[usize]) -> String {
    match names::place(name) {
        Place::Block(index, within) if index < map.len() => names::in_block(map[index], within),
        _ => name.to_owned(),
    }
}
