//! Permutation, mixture and sampler against their definitions: bijective, exact, the same from anywhere.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

mod common;

use std::collections::HashSet;

use common::rows;
use llama_pro_shards::{Error, MIXTURE_PERIOD, Mixture, PackedRows, Permutation, Sample, Sampler};
use proptest::prelude::*;

#[test]
fn permutations_are_bijections() {
    for key in [0, 1, 2, u64::MAX, 0x0123_4567_89ab_cdef] {
        for n in 1..=300 {
            let permutation = Permutation::new(n, key);
            let mut seen = vec![false; n as usize];
            for i in 0..n {
                assert!(
                    !std::mem::replace(&mut seen[permutation.at(i) as usize], true),
                    "n {n} key {key} i {i}"
                );
            }
        }
    }
}

#[test]
fn permutations_of_wide_ranges_stay_inside_and_do_not_collide() {
    for n in [1 << 16, (1 << 20) + 1, (1 << 32) - 1, 1 << 32, (1 << 63) + 1, u64::MAX] {
        let permutation = Permutation::new(n, 7);
        let places = (0..1000).chain(n - 1000..n);
        let values: HashSet<u64> = places.map(|place| permutation.at(place)).collect();
        assert_eq!(values.len(), 2000);
        assert!(values.iter().all(|&value| value < n));
    }
}

/// Over many keys, each number should stand in each place equally often, and so should each pair in the first two
/// places. Chi-squared, with limits that a fair shuffle exceeds about once in 10^5 times; keys are fixed.
#[test]
fn permutations_are_uniform_enough() {
    for n in [2_usize, 3, 5, 10, 37, 64] {
        let trials = 400 * n;
        let mut places = vec![vec![0_u32; n]; n];
        let mut first_two = vec![vec![0_u32; n]; n];
        for key in 0..trials as u64 {
            let order: Vec<usize> = {
                let permutation = Permutation::new(n as u64, key);
                (0..n as u64).map(|i| permutation.at(i) as usize).collect()
            };
            for (place, &value) in order.iter().enumerate() {
                places[place][value] += 1;
            }
            first_two[order[0]][order[1]] += 1;
        }
        let (mean, freedom) = (trials as f64 / n as f64, (n * n - 2 * n + 1) as f64);
        let chi = chi_squared(places.iter().flatten(), mean);
        assert!(chi < limit(freedom), "n {n}: places: {chi} for {freedom} degrees of freedom");
        let pairs = (n * n - n) as f64;
        let off_diagonal = (0..n).flat_map(|i| (0..n).filter(move |&j| i != j).map(move |j| (i, j)));
        let chi = chi_squared(off_diagonal.map(|(i, j)| &first_two[i][j]), trials as f64 / pairs);
        assert!(chi < limit(pairs - 1.0), "n {n}: pairs: {chi} for {} degrees of freedom", pairs - 1.0);
    }
}

/// A sequence as long as an epoch must not be close to sorted either: neighbours in, neighbours out would be.
#[test]
fn neighbours_are_torn_apart() {
    let n = 10_000;
    let permutation = Permutation::new(n, 42);
    let order: Vec<i64> = (0..n).map(|i| permutation.at(i) as i64).collect();
    let mean = order.windows(2).map(|pair| (pair[0] - pair[1]).abs() as f64).sum::<f64>() / (n - 1) as f64;
    // Independent numbers below n differ by n/3 on average, with a standard error of 0.24 n / sqrt(n).
    assert!((mean - n as f64 / 3.0).abs() < 5.0 * 0.24 * (n as f64).sqrt(), "{mean}");
    let fixed = order.iter().zip(0..).filter(|(value, place)| **value == *place).count();
    assert!(fixed < 10, "{fixed} fixed points, one is expected");
}

fn chi_squared<'a>(counts: impl Iterator<Item = &'a u32>, mean: f64) -> f64 {
    counts.map(|&count| (f64::from(count) - mean).powi(2) / mean).sum()
}

/// Wilson and Hilferty's approximation of the quantile 4.3 standard deviations out.
fn limit(freedom: f64) -> f64 {
    let spread = 2.0 / (9.0 * freedom);
    freedom * (1.0 - spread + 4.3 * spread.sqrt()).powi(3)
}

/// Megatron-LM's `build_blending_indices`, in floating point as there.
fn megatron(weights: &[f64], size: usize) -> Vec<(usize, u64)> {
    let mut counts = vec![0_u64; weights.len()];
    (0..size)
        .map(|k| {
            let x = (k as f64).max(1.0);
            let mut most = (0, weights[0] * x - counts[0] as f64);
            for source in 1..weights.len() {
                let error = weights[source] * x - counts[source] as f64;
                if error > most.1 {
                    most = (source, error);
                }
            }
            counts[most.0] += 1;
            (most.0, counts[most.0] - 1)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn mixtures_are_exact_and_even(
        weights in prop::collection::vec(0.02f64..10.0, 1..8),
        period in prop::sample::select(vec![1024_usize, 1000, 4096, 2503]),
    ) {
        let mixture = Mixture::new(&weights, period).unwrap();
        let (quotas, n) = (mixture.quotas().to_vec(), weights.len());
        prop_assert_eq!(quotas.iter().sum::<u64>(), period as u64);
        let total: f64 = weights.iter().sum();
        for (&quota, weight) in quotas.iter().zip(&weights) {
            prop_assert!((quota as f64 - weight / total * period as f64).abs() < 1.0);
        }
        // The bounds that mixture.rs proves.
        let behind: f64 = (1..n).map(|j| 1.0 / j as f64).sum();
        let mut counts = vec![0_u64; n];
        for k in 0..3 * period as u64 {
            let (source, number) = mixture.at(k);
            prop_assert_eq!(number, counts[source]);
            counts[source] += 1;
            for (source, &count) in counts.iter().enumerate() {
                let error = count as f64 - (k + 1) as f64 * quotas[source] as f64 / period as f64;
                prop_assert!(error < 1.0 && error > -behind - 1e-9, "{} at {}", error, k);
            }
            if (k + 1) % period as u64 == 0 {
                let periods = (k + 1) / period as u64;
                prop_assert!(counts.iter().zip(&quotas).all(|(&count, &quota)| count == periods * quota));
            }
        }
    }

    /// A period that is a power of two makes the shares exact in floating point.
    #[test]
    fn one_period_is_megatrons(weights in prop::collection::vec(0.02f64..10.0, 1..8)) {
        let mixture = Mixture::new(&weights, 2048).unwrap();
        let shares: Vec<f64> = mixture.quotas().iter().map(|&quota| quota as f64 / 2048.0).collect();
        let table: Vec<_> = (0..2048).map(|k| mixture.at(k)).collect();
        prop_assert_eq!(table, megatron(&shares, 2048));
    }
}

#[test]
fn mixture_of_the_paper() {
    // Table 6 of the paper gives weights 1.00 and 1.50.
    let mixture = Mixture::new(&[1.0, 1.5], 10).unwrap();
    let sources: Vec<usize> = (0..10).map(|k| mixture.at(k).0).collect();
    assert_eq!(sources, [1, 0, 1, 0, 1, 0, 1, 1, 0, 1]);
    assert_eq!(mixture.at(10), (1, 6));
    // Far out, where floating point would have lost count.
    assert_eq!(mixture.at(10_u64.pow(18)), (1, 6 * 10_u64.pow(17)));
}

#[test]
fn largest_remainders_get_the_rest() {
    assert_eq!(Mixture::new(&[1.0, 1.0, 1.0], 10).unwrap().quotas(), [4, 3, 3]);
    assert_eq!(Mixture::new(&[0.5, 0.26, 0.24], 10).unwrap().quotas(), [5, 3, 2]);
    assert_eq!(Mixture::new(&[0.0, 3.0, 1.0], 8).unwrap().quotas(), [0, 6, 2]);
    assert_eq!(Mixture::new(&[f64::MAX, f64::MAX], 8).unwrap().quotas(), [4, 4]);
    // Half way through, nobody is ahead or behind; the source without weight is still not drawn.
    let mixture = Mixture::new(&[0.0, 1.0, 1.0], 8).unwrap();
    assert!((0..8).all(|k| mixture.at(k).0 != 0));
}

#[test]
fn senseless_mixtures_are_refused() {
    let message = |weights: &[f64], period| Mixture::new(weights, period).unwrap_err().to_string();
    assert_eq!(message(&[], 8), "mixture: sources: expected 1 to 1024, found 0");
    assert_eq!(message(&[1.0], 0), "mixture: period: expected 1 to 16777216, found 0");
    assert_eq!(message(&[0.0, 0.0], 8), "mixture: weights: expected at least one above 0, found all 0");
    for bad in [-1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(message(&[1.0, bad], 8).starts_with("weight of source 1: expected a finite number"));
    }
    let message = message(&[1000.0, 1.0], 8);
    assert!(message.starts_with("weight of source 1: 1 is 9.99e-4 of all weights"), "{message}");
}

fn sampler(seed: u64) -> Sampler {
    let sources = vec![("code".into(), rows(0, 50, 4), 1.5), ("math".into(), rows(1000, 7, 4), 1.0)];
    Sampler::new(sources, seed).unwrap()
}

#[test]
fn each_epoch_visits_each_row_once_in_its_own_order() {
    let sampler = sampler(1);
    for (source, n_rows) in [(0, 50), (1, 7)] {
        let drawn: Vec<Sample> =
            (0..).map(|k| sampler.at(k)).filter(|s| s.source == source).take(4 * n_rows).collect();
        let mut orders = HashSet::new();
        for (epoch, samples) in drawn.chunks(n_rows).enumerate() {
            assert!(samples.iter().all(|sample| sample.epoch == epoch as u64));
            let order: Vec<usize> = samples.iter().map(|sample| sample.row).collect();
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..n_rows).collect::<Vec<_>>());
            orders.insert(order);
        }
        assert_eq!(orders.len(), 4, "epochs repeat the same order");
    }
}

#[test]
fn any_sample_from_anywhere() {
    let (a, b) = (sampler(1), sampler(1));
    let forward: Vec<Sample> = (0..500).map(|k| a.at(k)).collect();
    let backward: Vec<Sample> = (0..500).rev().map(|k| b.at(k)).collect();
    assert!(forward.iter().eq(backward.iter().rev()));
    // The same whatever the batch size.
    for rows_per_step in [1, 4, 20] {
        let steps = (0..500 / rows_per_step as u64).flat_map(|step| a.batch(step, rows_per_step));
        assert!(steps.eq(forward.iter().copied()));
    }
    assert_eq!(a.fingerprint(), b.fingerprint());
    let row = a.row(&forward[0]);
    assert_eq!(row, a.rows()[forward[0].source].row(forward[0].row));
    // The last sample numbers there are: nothing overflows.
    a.at(u64::MAX);
    a.batch(u64::MAX, 3);
}

#[test]
fn seeds_and_epochs_do_not_alias() {
    let order = |seed, epoch: usize| {
        let sampler = sampler(seed);
        let samples = (0..).map(|k| sampler.at(k)).filter(|s| s.source == 0).skip(50 * epoch);
        samples.take(50).map(|sample| sample.row).collect::<Vec<_>>()
    };
    let orders: HashSet<_> = (0..6).flat_map(|seed| (0..6).map(move |epoch| order(seed, epoch))).collect();
    assert_eq!(orders.len(), 36);
}

#[test]
fn proportions_are_those_of_the_weights() {
    let sampler = sampler(3);
    let period = MIXTURE_PERIOD as u64;
    let code = (0..period).filter(|&k| sampler.at(k).source == 0).count();
    assert_eq!(code, 39_322); // 1.5 / 2.5 of 65,536 is 39,321.6
}

#[test]
fn fingerprints_change_with_what_decides_the_batches() {
    let build = |name: &str, first, length, mask, weight, seed| {
        let packed = rows(first, 9, length).mask_documents(mask);
        let sources = vec![(name.to_owned(), packed, weight), ("other".into(), rows(0, 3, length), 1.0)];
        Sampler::new(sources, seed).unwrap().fingerprint()
    };
    let all = [
        build("a", 0, 4, true, 1.0, 0),
        build("b", 0, 4, true, 1.0, 0),
        build("a", 1, 4, true, 1.0, 0),
        build("a", 0, 3, true, 1.0, 0),
        build("a", 0, 4, false, 1.0, 0),
        build("a", 0, 4, true, 2.0, 0),
        build("a", 0, 4, true, 1.0, 1),
    ];
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    assert_eq!(all[0], build("a", 0, 4, true, 1.0, 0));
}

#[test]
fn errors_name_the_source() {
    let message = |sources: Vec<(&str, PackedRows, f64)>| {
        let sources =
            sources.into_iter().map(|(name, rows, weight)| (name.to_owned(), rows, weight)).collect();
        Sampler::new(sources, 0).unwrap_err().to_string()
    };
    let good = || ("code", rows(0, 5, 4), 1.0);
    let empty =
        message(vec![good(), ("math", PackedRows::new(common::shard(&[vec![1; 4]], 10), 4).unwrap(), 1.0)]);
    assert!(empty.starts_with("source math: "), "{empty}");
    assert!(empty.ends_with("4 tokens are less than one row: 4 inputs need 5"), "{empty}");
    for bad in [-0.5, f64::NAN, f64::INFINITY] {
        let message = message(vec![good(), ("math", rows(0, 5, 4), bad)]);
        assert!(message.starts_with("weight of math: expected a finite number from 0 up"), "{message}");
    }
    assert!(
        message(vec![good(), ("math", rows(0, 5, 4), 1e-9)]).starts_with("weight of math: 0.000000001 is")
    );
    assert_eq!(message(vec![good(), good()]), "source code: the name is used twice");
    let lengths = message(vec![good(), ("math", rows(0, 5, 3), 1.0)]);
    assert_eq!(lengths, "source math: expected rows of 4 tokens as in the first source, found 3");
    assert!(matches!(Sampler::new(vec![], 0), Err(Error::Mixture { what: "sources", .. })));
}

#[test]
fn can_be_shared_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<Sampler>();
}
