//! The blocks from the lowest trained one up, forward and backward, with some of them computed twice.
//!
//! A recomputed block runs without a graph and leaves only its input; in the backward pass it runs again, with one, on
//! the same numbers, so its gradients are the same bits. Blocks that are not recomputed form one graph with their
//! neighbours. This is activation checkpointing (Chen et al., arXiv 1604.06174), by hand: graphs are cut at blocks, and
//! each piece gets the gradient of its output from the piece above.

use std::ops::Range;

use llama_pro_model::{Context, Llama, Path};
use llama_pro_torch_ext as torch_ext;
use tch::Tensor;

use crate::Result;

/// Pieces from the lowest to the highest.
pub(crate) struct Tape {
    pieces: Vec<Piece>,
    /// What follows the blocks begins here, a graph of its own; `None` where all is one graph.
    end: Option<Tensor>,
}

struct Piece {
    blocks: Range<usize>,
    /// Its input, cut off from what made it; requires a gradient wherever that needs one.
    input: Tensor,
    /// What made the input, where the gradient goes on.
    below: Option<Tensor>,
    /// Its output; `None` where it is computed again.
    output: Option<Tensor>,
}

impl Tape {
    /// Sends `x_btd` through blocks `lowest..`; the result is ready for the final norm.
    pub(crate) fn forward(
        model: &Llama,
        x_btd: &Tensor,
        lowest: usize,
        context: &Context,
        recompute: &[bool],
    ) -> (Tensor, Self) {
        let n = model.n_blocks();
        let again = |i: usize| recompute.get(i).copied().unwrap_or(false);
        if !(lowest..n).any(again) {
            let out_btd = model.run(x_btd.shallow_clone(), lowest..n, context, Path::Grown);
            return (out_btd, Self { pieces: Vec::new(), end: None });
        }
        let mut pieces = Vec::new();
        let mut x_btd = x_btd.shallow_clone();
        let mut needs_gradient = x_btd.requires_grad();
        let mut first = lowest;
        while first < n {
            let end = if again(first) { first + 1 } else { (first..n).find(|&i| again(i)).unwrap_or(n) };
            let below = needs_gradient.then(|| x_btd.shallow_clone());
            let input = x_btd.detach().set_requires_grad(needs_gradient);
            let run = |input: &Tensor| model.run(input.shallow_clone(), first..end, context, Path::Grown);
            let (out_btd, output) = if again(first) {
                let _guard = tch::no_grad_guard();
                (run(&input), None)
            } else {
                let out_btd = run(&input);
                (out_btd.shallow_clone(), Some(out_btd))
            };
            pieces.push(Piece { blocks: first..end, input, below, output });
            x_btd = out_btd.detach();
            // From the lowest trained block up everything lies on the way of some gradient.
            needs_gradient = true;
            first = end;
        }
        let end = x_btd.set_requires_grad(true);
        (end.shallow_clone(), Self { pieces, end: Some(end) })
    }

    /// Goes on where the backward pass of what follows the blocks has ended.
    pub(crate) fn backward(self, model: &Llama, context: &Context) -> Result<()> {
        let Some(end) = self.end else { return Ok(()) };
        let mut gradient = end.grad();
        drop(end);
        for (i, piece) in self.pieces.into_iter().enumerate().rev() {
            let output = match piece.output {
                Some(output) => output,
                None => model.run(piece.input.shallow_clone(), piece.blocks, context, Path::Grown),
            };
            torch_ext::backward(&output, &gradient)?;
            drop(output);
            gradient = piece.input.grad();
            // Below the lowest piece lies a trained embedding, or nothing that learns.
            if let (0, Some(below)) = (i, piece.below) {
                torch_ext::backward(&below, &gradient)?;
            }
        }
        Ok(())
    }
}
