//! Where the new blocks go: the paper's rule for any number of blocks and groups, or a list of positions.
//!
//! LLaMA Pro (arXiv 2401.02415, section 3.2) cuts the L blocks into groups, copies the top P blocks of each
//! group and stacks the copies, as a unit, on top of it: `a b c d` with P = 2 becomes `a b c d c' d'`.
//! With L = 32, eight groups and P = 1 the new blocks are 4, 9, ..., 39. Public tools implement P = 1 only and
//! refuse a number of groups that does not divide L; the rule for that case is stated at [`Placement::Blocks`].

use std::fmt;

use llama_pro_checkpoint::ConfigFile;
use serde::{Deserialize, Serialize};

use crate::config;
use crate::error::{Error, Result};

/// No model has more blocks than this; a larger number in a config is a mistake and must not become a large
/// allocation.
pub(crate) const MAX_LAYERS: usize = 1 << 16;

/// Where the new blocks go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Placement {
    /// The paper's rule. The model's L blocks are cut into G = `blocks / per_group` groups; copies of the top
    /// `per_group` blocks of each group go, in order, on top of it.
    ///
    /// Where G does not divide L, group g (from 0) ends after `round((g + 1) * L / G)` base blocks, halves
    /// rounded up. Group sizes then differ by at most one, there are always exactly `blocks` new blocks, the last
    /// of them is the last block of the model, and where G divides L the rule is the paper's.
    #[serde(rename_all = "kebab-case")]
    Blocks {
        /// N, the number of new blocks in all.
        blocks: usize,
        /// P, how many of them go on top of each group.
        per_group: usize,
    },
    /// Indices, in the EXPANDED model, of the new blocks. Each is a copy of the nearest base block below it; so of
    /// two consecutive indices both copy the same base block. The order of the list means nothing.
    At(Vec<usize>),
}

impl Placement {
    /// The same placement in the one spelling that is recorded: positions ascend.
    #[must_use]
    pub fn normalized(&self) -> Self {
        match self {
            Self::At(at) => {
                let mut at = at.clone();
                at.sort_unstable();
                Self::At(at)
            }
            Self::Blocks { .. } => self.clone(),
        }
    }

    /// The blocks of the expanded model of a base of `base_layers` blocks.
    ///
    /// # Errors
    /// Numbers that do not fit `base_layers`, with the range that does.
    pub fn layers(&self, base_layers: usize) -> Result<Vec<PlannedLayer>> {
        if base_layers == 0 || base_layers > MAX_LAYERS {
            return Err(Error::Placement(format!(
                "the model must have 1 to {MAX_LAYERS} blocks, found {base_layers}"
            )));
        }
        match self {
            Self::Blocks { blocks, per_group } => by_group(base_layers, *blocks, *per_group),
            Self::At(at) => by_position(base_layers, at),
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocks { blocks, per_group } => write!(f, "{blocks} blocks, {per_group} per group"),
            Self::At(at) => {
                let at: Vec<String> = at.iter().map(usize::to_string).collect();
                write!(f, "at {}", at.join(","))
            }
        }
    }
}

/// One block of the expanded model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedLayer {
    /// Its index in the expanded model.
    pub index: usize,
    /// The block of the model being expanded that it comes from.
    pub source: usize,
    /// Whether it is a new block (a copy with zeroed outputs) or the source itself.
    pub new: bool,
}

fn by_group(base_layers: usize, blocks: usize, per_group: usize) -> Result<Vec<PlannedLayer>> {
    let refuse = |message: String| Err(Error::Placement(message));
    if blocks == 0 {
        return refuse(format!("the number of new blocks must be 1 to {base_layers}, found 0"));
    }
    if per_group == 0 {
        return refuse("the number of new blocks per group must be at least 1, found 0".to_owned());
    }
    if !blocks.is_multiple_of(per_group) {
        return refuse(format!("{blocks} new blocks are not a multiple of {per_group} per group"));
    }
    let groups = blocks / per_group;
    if groups > base_layers {
        return refuse(format!(
            "{groups} groups do not fit {base_layers} blocks: at most {base_layers} groups"
        ));
    }
    let smallest = base_layers / groups;
    if per_group > smallest {
        return refuse(format!(
            "{per_group} new blocks per group exceed the group: {base_layers} blocks in {groups} groups leave {smallest} in the smallest"
        ));
    }
    let mut layers = Vec::with_capacity(base_layers + blocks);
    let mut start = 0;
    for group in 0..groups {
        // round((group + 1) * L / G), halves up, in whole numbers; both are at most MAX_LAYERS here.
        let end = (2 * (group + 1) * base_layers + groups) / (2 * groups);
        for source in start..end {
            layers.push(PlannedLayer { index: layers.len(), source, new: false });
        }
        for source in end - per_group..end {
            layers.push(PlannedLayer { index: layers.len(), source, new: true });
        }
        start = end;
    }
    Ok(layers)
}

fn by_position(base_layers: usize, at: &[usize]) -> Result<Vec<PlannedLayer>> {
    let mut at = at.to_vec();
    at.sort_unstable();
    let total = base_layers + at.len();
    if at.is_empty() {
        return Err(Error::Placement("the list of positions is empty".to_owned()));
    }
    if at.first() == Some(&0) {
        return Err(Error::Placement(
            "position 0 has no block below it to copy: positions start at 1".to_owned(),
        ));
    }
    if let Some(twice) = at.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::Placement(format!("position {} is given twice", twice[0])));
    }
    if let Some(&last) = at.last().filter(|&&last| last >= total) {
        return Err(Error::Placement(format!(
            "position {last} is out of range: {base_layers} blocks and {} new ones make 1 to {}",
            at.len(),
            total - 1
        )));
    }
    if total > MAX_LAYERS {
        return Err(Error::Placement(format!("{total} blocks in all exceed {MAX_LAYERS}")));
    }
    let mut next = at.iter().copied().peekable();
    let mut seen = 0;
    let layers = (0..total).map(|index| {
        let new = next.next_if_eq(&index).is_some();
        if !new {
            seen += 1;
        }
        // Position 0 was refused, so that a base block has been seen before the first new one.
        PlannedLayer { index, source: seen - 1, new }
    });
    Ok(layers.collect())
}

/// A block expansion, worked out and checked against the configuration, before a byte is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub(crate) placement: Placement,
    pub(crate) base_layers: usize,
    pub(crate) layers: Vec<PlannedLayer>,
    /// Bytes of each block of the expanded model, where the folder has been looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) block_bytes: Option<Vec<u64>>,
}

/// Works out where the new blocks go and whether the configuration can follow.
///
/// # Errors
/// A placement that does not fit, a model that cannot be expanded, a per-layer key that cannot be carried over.
pub fn plan(config: &ConfigFile, placement: &Placement) -> Result<Plan> {
    let base_layers = config::layer_count(config.path(), config.raw())?;
    let layers = placement.layers(base_layers)?;
    config::lengthen(config.path(), config.raw(), &layers)?;
    Ok(Plan { placement: placement.normalized(), base_layers, layers, block_bytes: None })
}

impl Plan {
    /// The placement as asked, positions ascending.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The number of blocks of the model being expanded.
    #[must_use]
    pub fn base_layers(&self) -> usize {
        self.base_layers
    }

    /// Every block of the expanded model, in order.
    #[must_use]
    pub fn layers(&self) -> &[PlannedLayer] {
        &self.layers
    }

    /// The indices of the new blocks in the expanded model, ascending.
    #[must_use]
    pub fn new_blocks(&self) -> Vec<usize> {
        self.layers.iter().filter(|layer| layer.new).map(|layer| layer.index).collect()
    }

    /// The configuration of the expanded model: the depth, per-layer lists and layer thresholds follow the blocks,
    /// all else stays.
    ///
    /// # Errors
    /// A configuration that the plan was not made for, or that cannot be carried over.
    pub fn config(&self, base: &ConfigFile) -> Result<ConfigFile> {
        let layers = config::layer_count(base.path(), base.raw())?;
        if layers != self.base_layers {
            return Err(Error::Config {
                path: base.path().to_owned(),
                reason: format!("num_hidden_layers is {layers}, the plan is for {}", self.base_layers),
            });
        }
        let mut expanded = base.clone();
        *expanded.raw_mut() = config::lengthen(base.path(), base.raw(), &self.layers)?.config;
        Ok(expanded)
    }

    /// One row per block of the expanded model, for a table.
    pub fn rows(&self) -> impl Iterator<Item = PlanRow> + '_ {
        self.layers.iter().map(|layer| PlanRow {
            block: layer.index,
            from: layer.source,
            new: layer.new,
            bytes: self.block_bytes.as_ref().and_then(|bytes| bytes.get(layer.index).copied()),
        })
    }
}

/// One row of the plan's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PlanRow {
    /// Index in the expanded model.
    pub block: usize,
    /// Index in the model being expanded.
    pub from: usize,
    /// Whether the block is new.
    pub new: bool,
    /// Bytes of its tensors; `None` when the plan was made from a configuration alone.
    pub bytes: Option<u64>,
}

impl fmt::Display for Plan {
    /// The table as plain text: block, from, new, bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5}  {:>5}  {:<3}  {:>14}", "block", "from", "new", "bytes")?;
        for row in self.rows() {
            let bytes = row.bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
            let new = if row.new { "new" } else { "" };
            write!(f, "\n{:>5}  {:>5}  {new:<3}  {bytes:>14}", row.block, row.from)?;
        }
        Ok(())
    }
}
