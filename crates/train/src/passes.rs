//! How the rows of a step are cut into forward passes.
//!
//! On a GPU a recipe says it, since memory and speed hang on it. On a CPU the cut is a function of the rows alone: sums of
//! floating-point numbers depend on how they are cut, and only so does a run that goes on with another `micro-rows`, or on
//! a machine with less memory, end with the same bits.

use std::ops::Range;

use llama_pro_checkpoint::cost::CPU_PLACES;
use tch::Device;

/// Ranges of rows, in their order, that go through the model together. `places` has the length of each row; rows of a pass
/// are padded to the longest of them. `micro_rows` is what the recipe says.
pub(crate) fn passes(places: &[usize], micro_rows: usize, device: Device) -> Vec<Range<usize>> {
    let mut passes = Vec::new();
    let (mut first, mut longest) = (0, 0);
    for (i, &length) in places.iter().enumerate() {
        let full = match device {
            Device::Cpu => (i + 1 - first) * longest.max(length) > CPU_PLACES,
            _ => i - first == micro_rows.max(1),
        };
        if full && i > first {
            passes.push(first..i);
            (first, longest) = (i, 0);
        }
        longest = longest.max(length);
    }
    if first < places.len() {
        passes.push(first..places.len());
    }
    passes
}

/// Rows of the largest forward pass of a step of `rows` rows of `length` tokens. `micro_rows` is what the recipe says, and
/// on a CPU decides nothing.
pub fn rows_per_pass(rows: usize, length: usize, micro_rows: usize, device: Device) -> usize {
    passes(&vec![length; rows], micro_rows, device).first().map_or(0, Range::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_takes_what_the_recipe_says_and_a_cpu_what_the_rows_say() {
        let gpu = Device::Cuda(0);
        assert_eq!(passes(&[256; 5], 2, gpu), [0..2, 2..4, 4..5]);
        assert_eq!(passes(&[256; 5], 8, gpu).len(), 1);
        for micro_rows in 1..20 {
            assert_eq!(passes(&[256; 20], micro_rows, Device::Cpu), [0..8, 8..16, 16..20]);
            assert_eq!(rows_per_pass(20, 256, micro_rows, Device::Cpu), 8);
        }
        assert_eq!(passes(&[4096; 3], 2, Device::Cpu), [0..1, 1..2, 2..3], "a row is never cut");
        assert!(passes(&[], 2, Device::Cpu).is_empty());
    }

    #[test]
    fn padding_counts_as_places() {
        let places = [10, 1000, 1000, 1000, 1500, 2, 3000, 1, 1];
        let cut = passes(&places, 1, Device::Cpu);
        assert_eq!(cut, [0..2, 2..4, 4..5, 5..6, 6..7, 7..9]);
        for range in &cut {
            let longest = places[range.clone()].iter().max().unwrap();
            assert!(range.len() == 1 || longest * range.len() <= CPU_PLACES);
        }
    }
}
