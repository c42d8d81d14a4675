//! CPython's `random.Random`: the Mersenne Twister MT19937 (Matsumoto and Nishimura 1998) seeded with `init_by_array`,
//! and the methods `sample`, `shuffle` and `choices` as CPython 3.9 to 3.13 define them.

const N: usize = 624;
const M: usize = 397;

/// A generator with the state that `random.Random(seed)` has.
#[derive(Clone)]
pub struct PythonRandom {
    state: [u32; N],
    next: usize,
}

impl PythonRandom {
    /// `random.Random(seed)` for a seed that is not negative.
    pub fn new(seed: u64) -> Self {
        let mut key = vec![seed as u32];
        if seed >> 32 != 0 {
            key.push((seed >> 32) as u32);
        }
        let mut state = init(19_650_218);
        let (mut i, mut j) = (1, 0);
        for _ in 0..N.max(key.len()) {
            let mixed = (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(1_664_525);
            state[i] = (state[i] ^ mixed).wrapping_add(key[j]).wrapping_add(j as u32);
            i += 1;
            j += 1;
            if i == N {
                state[0] = state[N - 1];
                i = 1;
            }
            if j == key.len() {
                j = 0;
            }
        }
        for _ in 0..N - 1 {
            let mixed = (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(1_566_083_941);
            state[i] = (state[i] ^ mixed).wrapping_sub(i as u32);
            i += 1;
            if i == N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        state[0] = 0x8000_0000;
        Self { state, next: N }
    }

    /// `sample(range(n), k)`: `k` distinct numbers below `n`. `None` when `k` is more than `n`, where Python raises.
    pub fn sample(&mut self, n: usize, k: usize) -> Option<Vec<usize>> {
        if k > n {
            return None;
        }
        // Python keeps a set where the pool would take more room than the set.
        let mut set_size = 21_usize;
        if k > 5 {
            // 4 ** ceil(log(3k, 4)), in whole numbers.
            let mut power = 1_usize;
            while power < 3 * k {
                power *= 4;
            }
            set_size += power;
        }
        let mut result = Vec::with_capacity(k);
        if n <= set_size {
            let mut pool: Vec<usize> = (0..n).collect();
            for i in 0..k {
                let j = self.below(n - i);
                result.push(pool[j]);
                pool[j] = pool[n - i - 1];
            }
        } else {
            let mut selected = std::collections::HashSet::new();
            for _ in 0..k {
                let mut j = self.below(n);
                while !selected.insert(j) {
                    j = self.below(n);
                }
                result.push(j);
            }
        }
        Some(result)
    }

    /// `shuffle(items)`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i + 1);
            items.swap(i, j);
        }
    }

    /// One index of `choices(range(n))`; `n` is at least 1.
    pub fn choice(&mut self, n: usize) -> usize {
        (self.float() * n as f64) as usize
    }

    /// `random()`: 53 bits in [0, 1).
    pub fn float(&mut self) -> f64 {
        let (a, b) = (self.word() >> 5, self.word() >> 6);
        (f64::from(a) * 67_108_864.0 + f64::from(b)) / 9_007_199_254_740_992.0
    }

    /// `_randbelow(n)`: bits are drawn until they are below `n`. Python answers 0 for 0.
    fn below(&mut self, n: usize) -> usize {
        if n == 0 {
            return 0;
        }
        let bits = usize::BITS - n.leading_zeros();
        loop {
            let r = self.bits(bits);
            if r < n as u64 {
                return r as usize;
            }
        }
    }

    /// `getrandbits(k)` for 1 to 64 bits: whole words, the lowest first, the last one from its top bits.
    fn bits(&mut self, k: u32) -> u64 {
        if k <= 32 {
            return u64::from(self.word() >> (32 - k));
        }
        let low = u64::from(self.word());
        low | u64::from(self.word() >> (64 - k)) << 32
    }

    fn word(&mut self) -> u32 {
        if self.next == N {
            self.refill();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn refill(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ twist;
        }
        self.next = 0;
    }
}

fn init(seed: u32) -> [u32; N] {
    let mut state = [0; N];
    state[0] = seed;
    for i in 1..N {
        let before: u32 = state[i - 1];
        state[i] = 1_812_433_253_u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
    }
    state
}
