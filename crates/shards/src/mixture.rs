//! Which source each sample comes from: exact proportions, and any sample in O(1).
//!
//! A period of Q samples has q_i of source i, from the weights by largest remainder (Hamilton's apportionment).
//! Within the period, each sample goes to the source that is furthest behind its share, the rule of Megatron-LM's
//! blended datasets (`build_blending_indices`); the period then repeats. With n sources, after k samples, the
//! count of a source minus k * q_i / Q is
//! - below 1: only a source that is not ahead is drawn (the differences sum to 0, so the largest shortfall is at
//!   least 0), and a draw adds 1 - q_i / Q;
//! - above -H(n-1), H the harmonic numbers (n = 2: 1, n = 3: 1.5, n = 5: 2.1). Let B(j) bound the mean shortfall
//!   of any j sources; B(n) = 0. If the source that is drawn is among the j, their sum does not grow. If not, it
//!   was at least as far behind as each of the j, whose sum was thus at most j * B(j+1), and grows by their shares,
//!   which are less than 1 together. So B(j) = B(j+1) + 1/j will do.
//!
//! At the end of a period every difference is an integer, none is 1 or more, and they sum to 0: the counts are
//! exact.

use crate::error::{Error, Result};

/// A repeating table of sources.
#[derive(Clone, Debug)]
pub struct Mixture {
    /// For each sample of the period: its source and its number among the period's samples of that source.
    table: Vec<(u16, u32)>,
    /// Samples of each source in a period.
    quotas: Vec<u64>,
}

/// The table takes 8 bytes per sample.
const MOST_SAMPLES: usize = 1 << 24;

/// Making the table takes time in proportion to sources times samples.
const MOST_SOURCES: usize = 1024;

impl Mixture {
    /// The table for weights of any scale and a period of 1 to 2^24 samples. A weight of 0 is a source that is
    /// never drawn; one that is negative, not finite, or too small for a single sample of the period is an error.
    pub fn new(weights: &[f64], period: usize) -> Result<Self> {
        let names: Vec<String> = (0..weights.len()).map(|source| format!("source {source}")).collect();
        Self::named(&names, weights, period)
    }

    /// As `new`, with the names that errors call the sources.
    pub(crate) fn named(names: &[String], weights: &[f64], period: usize) -> Result<Self> {
        let quotas = quotas(names, weights, period)?;
        Ok(Self { table: table(&quotas), quotas })
    }

    /// Source of sample `k`, and how many samples of that source come before it.
    pub fn at(&self, k: u64) -> (usize, u64) {
        let period = self.table.len() as u64;
        let (source, rank) = self.table[(k % period) as usize];
        let source = usize::from(source);
        (source, k / period * self.quotas[source] + u64::from(rank))
    }

    /// Samples of each source in a period.
    pub fn quotas(&self) -> &[u64] {
        &self.quotas
    }

    /// Samples in a period.
    pub fn period(&self) -> usize {
        self.table.len()
    }
}

/// Shares of the period: rounded down, then one more for the largest remainders, lower index first.
fn quotas(names: &[String], weights: &[f64], period: usize) -> Result<Vec<u64>> {
    let mixture = |what, expected: String, found: String| Err(Error::Mixture { what, expected, found });
    if !(1..=MOST_SAMPLES).contains(&period) {
        return mixture("period", format!("1 to {MOST_SAMPLES}"), period.to_string());
    }
    if !(1..=MOST_SOURCES).contains(&weights.len()) {
        return mixture("sources", format!("1 to {MOST_SOURCES}"), weights.len().to_string());
    }
    for (name, &weight) in names.iter().zip(weights) {
        if !(weight.is_finite() && weight >= 0.0) {
            return Err(Error::Weight { source_name: name.clone(), found: weight });
        }
    }
    // Scaled first: the sum of finite weights may not be finite.
    let largest = weights.iter().copied().fold(0.0, f64::max);
    if largest == 0.0 {
        return mixture("weights", "at least one above 0".into(), "all 0".into());
    }
    let total: f64 = weights.iter().map(|weight| weight / largest).sum();
    let ideal: Vec<f64> = weights.iter().map(|weight| weight / largest / total * period as f64).collect();
    let mut quotas: Vec<u64> = ideal.iter().map(|ideal| ideal.floor() as u64).collect();
    let mut order: Vec<usize> = (0..weights.len()).filter(|&source| weights[source] > 0.0).collect();
    order.sort_by(|&a, &b| ideal[b].fract().total_cmp(&ideal[a].fract()));
    // Rounding errors are far below 1 for these numbers of sources and samples: the floors never exceed the period,
    // and fewer samples are missing than there are sources.
    let missing = (period as u64).saturating_sub(quotas.iter().sum());
    for &source in order.iter().cycle().take(missing as usize) {
        quotas[source] += 1;
    }
    for (source, name) in names.iter().enumerate() {
        let weight = weights[source];
        if weight > 0.0 && quotas[source] == 0 {
            let share = weight / largest / total;
            return Err(Error::WeightTooSmall { source_name: name.clone(), weight, share, period });
        }
    }
    Ok(quotas)
}

fn table(quotas: &[u64]) -> Vec<(u16, u32)> {
    let period: u64 = quotas.iter().sum();
    let mut counts = vec![0u64; quotas.len()];
    let mut table = Vec::with_capacity(period as usize);
    for k in 0..period {
        // Exact in integers: everything times the period. At the start, as in Megatron, shares of one sample.
        let x = i128::from(k.max(1));
        let shortfall =
            |source: usize| i128::from(quotas[source]) * x - i128::from(counts[source]) * i128::from(period);
        let mut furthest: Option<(usize, i128)> = None;
        for source in (0..quotas.len()).filter(|&source| quotas[source] > 0) {
            let shortfall = shortfall(source);
            if furthest.is_none_or(|(_, most)| shortfall > most) {
                furthest = Some((source, shortfall));
            }
        }
        // A period has at least one sample, so some quota is above 0.
        let Some((source, _)) = furthest else { break };
        table.push((source as u16, counts[source] as u32));
        counts[source] += 1;
    }
    table
}
