//! MinHash signatures and the hashes of their bands.
//!
//! A shingle's hash is made by rolling, so it costs the same for any number of words. Hash function k is a
//! permutation of 32-bit numbers: x ^ b_k times an odd a_k, its upper half folded into the lower, times an odd constant.
//! Without the second half, a_k x + b_k, minima of different functions are less independent and both precision and
//! recall suffer. The minima of 32 functions at a
//! time stay in vector registers while all shingles of a document pass (`pulp` chooses the instructions at run
//! time; integers are the same with all of them).

use std::cell::RefCell;

use super::Near;

/// Functions that are computed together.
const LANES: usize = 32;

/// A direct-mapped memory of shingles: minima do not change when a shingle comes twice.
const SEEN: usize = 1 << 12;

/// The hash functions of one setting.
#[derive(Clone, Debug)]
pub struct MinHash {
    bands: usize,
    rows: usize,
    ngram: usize,
    /// `ODD ^ ngram`: takes the oldest word out of a rolling hash.
    oldest: u64,
    a: Vec<[u32; LANES]>,
    b: Vec<[u32; LANES]>,
    arch: pulp::Arch,
}

/// What a word's hash is multiplied by for each word after it; any odd number.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

impl MinHash {
    /// Functions for a setting; the same for the same setting, on every machine.
    pub fn new(near: &Near) -> Self {
        let (bands, rows) = near.shape();
        let groups = (bands * rows).div_ceil(LANES);
        let mut state = near.seed;
        let mut next = || {
            state = state.wrapping_add(ODD);
            (mix(state) >> 32) as u32
        };
        let (mut a, mut b) = (vec![[0; LANES]; groups], vec![[0; LANES]; groups]);
        for (a, b) in a.iter_mut().flatten().zip(b.iter_mut().flatten()) {
            (*a, *b) = (next() | 1, next());
        }
        let oldest = (0..near.ngram).fold(1u64, |power, _| power.wrapping_mul(ODD));
        Self { bands, rows, ngram: near.ngram, oldest, a, b, arch: pulp::Arch::new() }
    }

    /// Bands.
    pub fn bands(&self) -> usize {
        self.bands
    }

    /// One hash per band, appended to `out`.
    pub fn push_bands(&self, text: &str, out: &mut Vec<u64>) {
        thread_local! {
            static SHINGLES: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
        }
        SHINGLES.with_borrow_mut(|shingles| {
            shingles.clear();
            self.shingles(text, shingles);
            let minima = self.minima(shingles);
            out.extend(minima.chunks(self.rows).take(self.bands).enumerate().map(|(band, rows)| {
                rows.iter()
                    .fold(mix(band as u64 + 1), |hash, &row| mix(hash ^ u64::from(row)).wrapping_mul(ODD))
            }));
        });
    }

    /// All minima, for those who compare them one by one.
    pub fn signature(&self, text: &str) -> Vec<u32> {
        let mut shingles = Vec::new();
        self.shingles(text, &mut shingles);
        let mut minima = self.minima(&shingles);
        minima.truncate(self.bands * self.rows);
        minima
    }

    /// Mixed 32-bit hashes of the shingles; most of those that repeat are left out.
    fn shingles(&self, text: &str, out: &mut Vec<u32>) {
        let bytes = text.as_bytes();
        let mut seen = [0u64; SEEN];
        let mut ring = [0u64; 64];
        let (mut words, mut rolling) = (0usize, 0u64);
        let mut word = |hash: u64, out: &mut Vec<u32>| {
            let slot = words % self.ngram;
            rolling = rolling.wrapping_mul(ODD).wrapping_add(hash);
            if words >= self.ngram {
                rolling = rolling.wrapping_sub(ring[slot].wrapping_mul(self.oldest));
            }
            ring[slot] = hash;
            words += 1;
            if words >= self.ngram {
                let shingle = mix(rolling);
                let at = &mut seen[shingle as usize % SEEN];
                if *at != shingle {
                    *at = shingle;
                    out.push((shingle >> 32) as u32);
                }
            }
            rolling
        };
        // Between `start` and `at` lies the word so far.
        let (mut start, mut at) = (0, 0);
        let mut open = true;
        let mut all = 0;
        while let Some(&byte) = bytes.get(at) {
            if byte.is_ascii() {
                if !WORD[byte as usize] {
                    word(word_hash(&bytes[start..at]), out);
                    start = at + 1;
                }
                at += 1;
                continue;
            }
            let Some(c) = text[at..].chars().next() else { break };
            let next = at + c.len_utf8();
            if has_no_spaces(c) {
                if start < at {
                    word(word_hash(&bytes[start..at]), out);
                }
                all = word(word_hash(&bytes[at..next]), out);
                // What follows is another such character, or ends nothing, or begins a word.
                (start, at) = match text[next..].chars().next() {
                    None => {
                        open = false;
                        break;
                    }
                    Some(after) if !is_word(after) => (next + after.len_utf8(), next + after.len_utf8()),
                    Some(_) => (next, next),
                };
                continue;
            }
            if !c.is_alphanumeric() {
                word(word_hash(&bytes[start..at]), out);
                start = next;
            }
            at = next;
        }
        if open {
            all = word(word_hash(&bytes[start..]), out);
        }
        if words < self.ngram {
            // Never taken apart above, so this is a hash of all its words.
            out.push((mix(all ^ words as u64) >> 32) as u32);
        }
    }

    fn minima(&self, shingles: &[u32]) -> Vec<u32> {
        let mut minima = vec![u32::MAX; self.a.len() * LANES];
        self.arch.dispatch(|| {
            for ((minima, a), b) in minima.as_chunks_mut::<LANES>().0.iter_mut().zip(&self.a).zip(&self.b) {
                least(shingles, a, b, minima);
            }
        });
        minima
    }
}

#[inline(always)]
fn least(shingles: &[u32], a: &[u32; LANES], b: &[u32; LANES], minima: &mut [u32; LANES]) {
    let mut least = *minima;
    for &x in shingles {
        for lane in 0..LANES {
            let y = (x ^ b[lane]).wrapping_mul(a[lane]);
            least[lane] = least[lane].min((y ^ (y >> 16)).wrapping_mul(0x9e37_79b1));
        }
    }
    *minima = least;
}

/// `[A-Za-z_0-9]`.
const WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let c = byte as u8;
        table[byte] = c.is_ascii_alphanumeric() || c == b'_';
        byte += 1;
    }
    table
};

/// `[A-Za-z_0-9]` in all scripts.
fn is_word(c: char) -> bool {
    if c.is_ascii() { WORD[c as usize & 127] } else { c.is_alphanumeric() }
}

/// Letters of scripts whose words have no spaces between them: each is a word, or a whole document would be one.
/// Thai to Tibetan, Myanmar, Khmer, kana, Han, Yi, and their compatibility and half-width forms.
fn has_no_spaces(c: char) -> bool {
    matches!(
        c,
        '\u{0e00}'..='\u{0fff}'
            | '\u{1000}'..='\u{109f}'
            | '\u{1780}'..='\u{17ff}'
            | '\u{2e80}'..='\u{a4cf}'
            | '\u{f900}'..='\u{faff}'
            | '\u{ff66}'..='\u{ff9f}'
            | '\u{1b000}'..='\u{1b16f}'
            | '\u{20000}'..='\u{3ffff}'
    ) && c.is_alphanumeric()
}

/// Eight bytes at a time; the length keeps words of zero bytes apart.
#[inline]
fn word_hash(word: &[u8]) -> u64 {
    let (eights, rest) = word.as_chunks::<8>();
    let mut hash = word.len() as u64;
    for &eight in eights {
        hash = fold(hash ^ u64::from_le_bytes(eight));
    }
    let mut last = 0u64;
    for (i, &byte) in rest.iter().enumerate() {
        last |= u64::from(byte) << (8 * i);
    }
    fold(hash ^ last ^ ODD)
}

#[inline]
fn fold(x: u64) -> u64 {
    let product = u128::from(x ^ 0x2d35_8dcc_aa6c_78a5) * u128::from(0x8bb8_4b93_962e_acc9_u64);
    product as u64 ^ (product >> 64) as u64
}

/// The finaliser of SplitMix64.
#[inline]
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Bands and rows with at most `permutations` functions whose false positives below the threshold and false
/// negatives above it, as areas under the curve 1 - (1 - s^r)^b, weigh least together: datasketch's rule, weights
/// one half each, integrated in steps of 0.001.
pub fn optimal_bands(threshold: f64, permutations: usize) -> (usize, usize) {
    const STEP: f64 = 0.001;
    let area = |from: f64, to: f64, f: &dyn Fn(f64) -> f64| {
        let mut sum = 0.0;
        let mut s = from;
        while s < to {
            sum += f(s + 0.5 * STEP) * STEP;
            s += STEP;
        }
        sum
    };
    let mut best = (f64::INFINITY, (1, 1));
    for bands in 1..=permutations {
        for rows in 1..=permutations / bands {
            let found = |s: f64| 1.0 - (1.0 - s.powi(rows as i32)).powi(bands as i32);
            let error = 0.5 * area(0.0, threshold, &found) + 0.5 * area(threshold, 1.0, &|s| 1.0 - found(s));
            if error < best.0 {
                best = (error, (bands, rows));
            }
        }
    }
    best.1
}
