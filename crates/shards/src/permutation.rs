//! A shuffle without an array: a keyed bijection of 0..n that computes any element on its own.
//!
//! A Feistel network permutes the numbers of b bits, the least b with 2^b >= n; a result outside 0..n is permuted
//! again until it falls inside (cycle walking; Black and Rogaway 2002). Since 2^b < 2n, that takes less than two
//! turns on average. Below 6 bits a network has too few different round functions to look random, so small n walk
//! in 64 numbers, with 64/n turns on average.

/// A pseudo-random order of 0..n, different for each key. Not for secrets.
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    n: u64,
    /// Bits of the two halves, which change places in each round; they differ by one when b is odd.
    halves: [u32; 2],
    keys: [u64; ROUNDS],
}

/// An even number, so that the halves end where they began. Four are enough in theory when halves are wide. With
/// halves of three bits, first pairs over a million keys are visibly uneven at 8 rounds and not at 12.
const ROUNDS: usize = 12;

/// Measured like the rounds: 3 bits were uneven even at 12.
const LEAST_BITS: u32 = 6;

impl Permutation {
    /// The bijection of 0..n that belongs to `key`.
    pub fn new(n: u64, key: u64) -> Self {
        let bits = (u64::BITS - n.saturating_sub(1).leading_zeros()).max(LEAST_BITS);
        let mut state = key;
        let keys = std::array::from_fn(|_| {
            state = state.wrapping_add(GOLDEN);
            mix(state)
        });
        Self { n, halves: [bits / 2, bits - bits / 2], keys }
    }

    /// How many numbers are permuted.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// The number at place `i`. Panics unless `i < n`.
    pub fn at(&self, i: u64) -> u64 {
        assert!(i < self.n, "place {i} of {}", self.n);
        let mut value = self.turn(i);
        // Ends: the cycle of i under the network comes back to i, which is inside.
        while value >= self.n {
            value = self.turn(value);
        }
        value
    }

    fn turn(&self, value: u64) -> u64 {
        let [mut high_bits, mut low_bits] = self.halves;
        let (mut high, mut low) = (value >> low_bits, value & ones(low_bits));
        for key in self.keys {
            // The halves change places, so the new low half is as wide as the old high one.
            (high, low) = (low, high ^ (mix(low ^ key) & ones(high_bits)));
            (high_bits, low_bits) = (low_bits, high_bits);
        }
        high << low_bits | low
    }
}

/// 2^64 divided by the golden ratio, the step of SplitMix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finisher of SplitMix64 (Steele et al. 2014): each input bit changes about half of the output bits.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A mask of the lowest bits; halves have at most 32.
fn ones(bits: u32) -> u64 {
    (1 << bits) - 1
}
