//! What a training step takes in memory, before anything is loaded: the plan of crates/checkpoint as a table, and how
//! many rows fit.

use llama_pro_checkpoint::LlamaConfig;
use llama_pro_checkpoint::cost::{CPU_PLACES, MemoryPlan, Recompute, Step, Trained, flops_per_token};
use serde::Serialize;

use llama_pro_cli::output;

/// A row of the table: one way to train, with one row of tokens.
#[derive(Serialize)]
pub(crate) struct StepMemory {
    mode: &'static str,
    dtype: &'static str,
    recompute: String,
    /// Weights, gradients and optimizer.
    state: u64,
    /// What one frozen block above the lowest trained one keeps, and one trained block; below it nothing is kept.
    frozen_block: u64,
    trained_block: u64,
    /// Everything that depends on the rows, at the moment when it is most: the head's part is in it.
    activations: u64,
    head: u64,
    total: u64,
    /// What the host holds besides while a checkpoint is written in the background.
    checkpoint_copy: u64,
    /// The largest number of rows whose step stays within the limit.
    rows_that_fit: u64,
    /// Floating-point operations for one token.
    flops_per_token: f64,
}

/// The ways to train that are worth comparing: what is trained, the dtype, what is computed again.
pub(crate) fn plans(config: &LlamaConfig, new_blocks: &[usize], length: u64, limit: u64) -> Vec<StepMemory> {
    let mut modes = vec![("all", Trained::all(config))];
    if !new_blocks.is_empty() {
        modes.insert(0, ("added", Trained::blocks(config, new_blocks)));
    }
    let mut rows = Vec::new();
    for (mode, trained) in &modes {
        for (dtype, width) in [("f32", 4), ("bf16", 2)] {
            for recompute in [Recompute::None, Recompute::NewBlocks, Recompute::AllBlocks] {
                if *mode == "all" && recompute == Recompute::NewBlocks {
                    continue; // every block is trained: the same as all
                }
                let plan = |rows, snapshot| {
                    let step = Step { accumulates: true, snapshot, ..Step::new(rows, length, width) };
                    MemoryPlan::new(config, trained, step, recompute)
                };
                let one = plan(1, false);
                let kept = |is_trained: bool| {
                    let mut blocks = trained.blocks.iter().enumerate().skip(trained.lowest());
                    blocks.find(|(_, t)| **t == is_trained).map_or(0, |(i, _)| one.kept[i])
                };
                rows.push(StepMemory {
                    mode,
                    dtype,
                    recompute: recompute.to_string(),
                    state: one.weights + one.gradients + one.optimizer,
                    frozen_block: kept(false),
                    trained_block: kept(true),
                    activations: one.activations,
                    head: one.logits,
                    total: one.total(),
                    checkpoint_copy: plan(1, true).snapshot,
                    rows_that_fit: most(|rows| plan(rows, false).total() <= limit),
                    flops_per_token: flops_per_token(config, trained, length),
                });
            }
        }
    }
    rows
}

/// The largest number up to 65,536 for which `fits` holds, given that it holds for all smaller ones; 0 for none.
fn most(fits: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0u64, 1u64 << 16);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

/// Bytes that this machine can still give, as Linux estimates it; 0 where it cannot be read.
pub(crate) fn available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}

/// The table for people.
pub(crate) fn show(plans: &[StepMemory], length: u64, limit: u64) {
    println!("  a step of one row of {length} tokens, and the rows that fit into {}:", output::bytes(limit));
    let rows = plans.iter().map(|p| {
        let words = [p.mode.to_owned(), p.dtype.to_owned(), p.recompute.clone()];
        let sizes =
            [p.state, p.frozen_block, p.trained_block, p.activations, p.head, p.total].map(output::bytes);
        let fit = match p.rows_that_fit {
            0 => "none".to_owned(),
            n => n.to_string(),
        };
        words.into_iter().chain(sizes).chain([fit]).collect::<Vec<_>>()
    });
    let header = [
        "trained",
        "dtype",
        "recompute",
        "state",
        "frozen block",
        "trained block",
        "activations",
        "of it head",
        "sum",
        "rows",
    ];
    println!("{}", output::table(&header, rows));
    println!(
        "  a forward pass on a GPU has the rows of train.micro-rows, on a CPU {}",
        (CPU_PLACES as u64 / length.max(1)).max(1)
    );
    let mut copies: Vec<String> =
        plans.iter().map(|p| format!("{} {}", p.mode, output::bytes(p.checkpoint_copy))).collect();
    copies.dedup();
    println!(
        "  while a checkpoint is written beside the training, the host holds a copy of what is trained besides:"
    );
    println!("  {} (train.background-checkpoints = false needs none)", copies.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_that_fits() {
        assert_eq!(most(|n| n <= 37), 37);
        assert_eq!(most(|_| false), 0);
        assert_eq!(most(|_| true), 1 << 16);
    }
}
