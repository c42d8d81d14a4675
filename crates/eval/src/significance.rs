//! How likely chance alone is to show a difference as large as this one.

/// Two-sided probability, without any difference in truth, of a sum at least as far from 0: the exact sign-flip test where
/// each difference between pairs is -1, 0 or 1 (McNemar's exact test), as right-or-wrong metrics have it. `None` where
/// there are other differences, for which [`normal`] is near enough.
pub fn exact(differences: &[f64]) -> Option<f64> {
    if differences.iter().any(|d| *d != 0.0 && d.abs() != 1.0) {
        return None;
    }
    let ups = differences.iter().filter(|d| **d > 0.0).count();
    let downs = differences.iter().filter(|d| **d < 0.0).count();
    let (all, fewer) = (ups + downs, ups.min(downs));
    if 2 * fewer >= all {
        return Some(1.0);
    }
    // The sum of C(all, i) / 2^all for i up to `fewer`, twice; in logarithms, as the binomials of many pairs overflow.
    let mut log_term = -(all as f64) * std::f64::consts::LN_2;
    let mut tail = log_term.exp();
    for i in 1..=fewer {
        log_term += ((all - i + 1) as f64).ln() - (i as f64).ln();
        tail += log_term.exp();
    }
    Some((2.0 * tail).min(1.0))
}

/// Two-sided probability of a normal deviate at least as far from 0 as `z`.
pub fn normal(z: f64) -> f64 {
    complementary_error(z.abs() / std::f64::consts::SQRT_2)
}

/// The complementary error function for x of 0 and more: its series below 2.5, its continued fraction above.
fn complementary_error(x: f64) -> f64 {
    if x < 2.5 {
        let mut term = x;
        let mut sum = x;
        let mut n = 0.0;
        while term.abs() > 1e-17 * sum.abs() {
            n += 1.0;
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        return 1.0 - 2.0 / std::f64::consts::PI.sqrt() * sum;
    }
    // Lentz' way is not needed: sixty steps backwards are enough from 2.5 on.
    let fraction = (1..=60).rev().fold(x, |below, k| x + f64::from(k) / 2.0 / below);
    (-x * x).exp() / std::f64::consts::PI.sqrt() / fraction
}
