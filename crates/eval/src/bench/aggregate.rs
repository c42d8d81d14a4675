//! From the scores of documents to the score of a task, with its standard error, as the harness computes both.

use crate::python::PythonRandom;
use crate::tasks::Metric;

/// Bootstrap resamples of a perplexity, in chunks with a generator each.
const CHUNKS: u64 = 100;
const PER_CHUNK: usize = 1000;

/// A score of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// What was measured.
    pub metric: Metric,
    /// How answers were found.
    pub filter: String,
    /// The score.
    pub value: f64,
    /// Its standard error, where it has one.
    pub stderr: Option<f64>,
}

/// The value of one document: a number, or a log-likelihood and what it is counted over.
pub(super) type Item = (f64, f64);

/// The score of all documents. `items` has one entry at least.
pub(super) fn aggregate(metric: Metric, items: &[Item], bootstrap: bool) -> (f64, Option<f64>) {
    let sum = |f: fn(&Item) -> f64| items.iter().map(f).sum::<f64>();
    match metric {
        Metric::Perplexity => {
            let lls: Vec<f64> = items.iter().map(|(ll, _)| *ll).collect();
            let value = (-lls.iter().sum::<f64>() / lls.len() as f64).exp();
            (value, bootstrap.then(|| bootstrap_perplexity(&lls)))
        }
        Metric::WordPerplexity | Metric::BytePerplexity => ((-sum(|i| i.0) / sum(|i| i.1)).exp(), None),
        Metric::BitsPerByte => (-sum(|i| i.0) / sum(|i| i.1) / std::f64::consts::LN_2, None),
        _ => {
            let values: Vec<f64> = items.iter().map(|(value, _)| *value).collect();
            (values.iter().sum::<f64>() / values.len() as f64, mean_stderr(&values))
        }
    }
}

/// The standard error of a mean: the standard deviation with n - 1, over the root of n. `None` below two values.
pub fn mean_stderr(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    Some((squares / (n - 1.0)).sqrt() / n.sqrt())
}

/// The standard error of a mean over groups of documents, from those of the groups: pairs of standard error and size.
pub fn pooled_stderr(groups: &[(f64, usize)]) -> Option<f64> {
    let sizes: usize = groups.iter().map(|(_, n)| n).sum();
    let free = sizes.checked_sub(groups.len()).filter(|free| *free > 0)?;
    let squares: f64 = groups.iter().map(|(e, n)| (*n as f64 - 1.0) * e * e * *n as f64).sum();
    Some((squares / free as f64 / sizes as f64).sqrt())
}

/// The probability that at least one of `k` of `n` programs passes when `c` do, without bias (Chen et al. 2021). `None`
/// where `k` is more than `n`.
pub fn pass_at_k(n: usize, c: usize, k: usize) -> Option<f64> {
    if k > n || c > n {
        return None;
    }
    if n - c < k {
        return Some(1.0);
    }
    // 1 - C(n - c, k) / C(n, k) = 1 - the product of 1 - k / i: by logarithms, so that a small chance keeps its digits.
    let logarithm: f64 = (n - c + 1..=n).map(|i| (-(k as f64) / i as f64).ln_1p()).sum();
    Some(0.0 - logarithm.exp_m1())
}

/// The standard deviation of the perplexities of resamples drawn as Python's `choices` draws them.
fn bootstrap_perplexity(lls: &[f64]) -> f64 {
    use rayon::prelude::*;
    let chunk = |seed: u64| -> Vec<f64> {
        let mut random = PythonRandom::new(seed);
        let resample = |_| {
            let sum: f64 = (0..lls.len()).map(|_| lls[random.choice(lls.len())]).sum();
            (-sum / lls.len() as f64).exp()
        };
        (0..PER_CHUNK).map(resample).collect()
    };
    let values: Vec<f64> = (0..CHUNKS).into_par_iter().flat_map_iter(chunk).collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
}
