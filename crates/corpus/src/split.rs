//! Training or validation, decided by the text alone.
//!
//! The side of a document is a hash of (seed, text) against the fraction. It does not depend on the order or
//! the number of documents, so a corpus that grows keeps every document on its side, and a larger fraction
//! only adds to validation.

/// Whether a text belongs to validation at this fraction (0 to 1) and seed.
pub fn is_validation(text: &str, fraction: f64, seed: u64) -> bool {
    // 53 bits are exact in an f64, so the comparison is too.
    let unit = (keyed_u128("llama-pro corpus split 1", text, seed) >> 75) as f64 / (1u64 << 53) as f64;
    unit < fraction
}

/// The place of a text in the order in which a limited sample is taken: smallest first.
pub fn sample_key(text: &str, seed: u64) -> u128 {
    keyed_u128("llama-pro corpus sample 1", text, seed)
}

fn keyed_u128(context: &str, text: &str, seed: u64) -> u128 {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(&seed.to_le_bytes()).update(text.as_bytes());
    let mut key = [0; 16];
    key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_be_bytes(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(crate::cases::cases(256))]

        #[test]
        fn a_larger_fraction_only_adds(text in ".{0,80}", seed: u64, a in 0.0..1.0f64, b in 0.0..1.0f64) {
            let (small, large) = (a.min(b), a.max(b));
            prop_assert!(!is_validation(&text, small, seed) || is_validation(&text, large, seed));
        }

        #[test]
        fn nothing_at_zero_and_everything_at_one(text in ".{0,80}", seed: u64) {
            prop_assert!(!is_validation(&text, 0.0, seed));
            prop_assert!(is_validation(&text, 1.0, seed));
        }
    }

    #[test]
    fn the_share_is_the_fraction_and_seeds_are_independent() {
        let texts: Vec<String> = (0..20_000).map(|i| format!("document {i}")).collect();
        let side = |seed| texts.iter().map(|text| is_validation(text, 0.1, seed)).collect::<Vec<_>>();
        let (first, second) = (side(1), side(2));
        let count = first.iter().filter(|&&v| v).count() as f64;
        // Five standard deviations of a binomial with p = 0.1.
        assert!((count - 2000.0).abs() < 5.0 * 1800f64.sqrt(), "{count}");
        let both = first.iter().zip(&second).filter(|(a, b)| **a && **b).count() as f64;
        assert!((both - 200.0).abs() < 5.0 * 198f64.sqrt(), "{both}");
    }

    #[test]
    fn the_sample_order_tells_nothing_of_the_side() {
        let low: Vec<bool> = (0..20_000)
            .map(|i| format!("document {i}"))
            .filter(|text| is_validation(text, 0.1, 7))
            .map(|text| sample_key(&text, 7) < u128::MAX / 2)
            .collect();
        let share = low.iter().filter(|&&l| l).count() as f64 / low.len() as f64;
        assert!((share - 0.5).abs() < 0.06, "{share}");
    }
}
