//! The generator's randomness: SplitMix64 started from a hash of (seed, index).

use std::ops::RangeInclusive;

/// A stream of choices for one problem.
pub(crate) struct Draw {
    state: u64,
}

impl Draw {
    pub(crate) fn new(seed: u64, index: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("llama-pro corpus math 1");
        hasher.update(&seed.to_le_bytes()).update(&index.to_le_bytes());
        let mut state = [0; 8];
        state.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Self { state: u64::from_le_bytes(state) }
    }

    fn next(&mut self) -> u64 {
        // Steele, Lea, Flood: Fast splittable pseudorandom number generators (2014).
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; the bias of the multiplication is below 2^-50 for the ranges used here.
    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// A number of the range.
    pub(crate) fn int(&mut self, range: RangeInclusive<i64>) -> i64 {
        let (low, high) = range.into_inner();
        low + self.below((high - low + 1) as u64) as i64
    }

    /// A number of the range that is not 0.
    pub(crate) fn nonzero(&mut self, range: RangeInclusive<i64>) -> i64 {
        loop {
            let value = self.int(range.clone());
            if value != 0 {
                return value;
            }
        }
    }

    /// A number with so many decimal digits, each number equally likely.
    pub(crate) fn digits(&mut self, count: RangeInclusive<i64>) -> i64 {
        let count = self.int(count) as u32;
        self.int(10i64.pow(count - 1)..=10i64.pow(count) - 1)
    }

    /// One of the choices.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}
