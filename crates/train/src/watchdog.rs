//! Steps that fall out of line: a loss or gradient norm more than six standard deviations above the mean of the last 128
//! steps. The rule and its numbers are those of OLMo-core's SkipStep optimizers; llm.c has one like it.
//!
//! An outlier joins the window like any other step, so that a lasting change is taken for what it is after a few of them.
//! A step whose loss or norm is no number is an outlier too, and does not join: it says nothing about those to come.

use std::collections::VecDeque;

use crate::{Error, Outliers, Result};

/// Steps that are looked back on.
const WINDOW: usize = 128;
/// Steps that must be there before anything is judged.
const ENOUGH: usize = WINDOW / 2;
/// Standard deviations above the mean.
const SIGMAS: f64 = 6.0;
/// A window that hardly varies has a standard deviation near zero, against which every step would be an outlier: this
/// share of the mean is the least that counts as one.
const LEAST: f64 = 0.01;

/// Steps in a row that are no numbers before a run ends that skips outliers: by then it is the weights, not the batch.
const HOPELESS: u32 = 8;

/// Looks at every step before it is taken.
#[derive(Clone, Debug)]
pub(crate) struct Watchdog {
    outliers: Outliers,
    /// Loss and gradient norm of the last steps.
    recent: VecDeque<(f64, f64)>,
    /// Steps in a row, up to now, that were no numbers.
    no_numbers: u32,
}

impl Watchdog {
    /// One that has seen `recent`, the oldest first.
    pub(crate) fn new(outliers: Outliers, recent: Vec<(f64, f64)>) -> Self {
        Self { outliers, recent: recent.into(), no_numbers: 0 }
    }

    /// Whether the step, counted from 1, may be taken. It joins the window either way, if it is a number.
    ///
    /// # Errors
    /// [`Error::Outlier`] where outliers stop the run; [`Error::NonFinite`] for what is no number, unless outliers are
    /// skipped and this is not one too many.
    pub(crate) fn admit(&mut self, step: u64, loss: f64, norm: f64) -> Result<bool> {
        if !(loss.is_finite() && norm.is_finite()) {
            let (what, value) = if loss.is_finite() { ("gradient norm", norm) } else { ("loss", loss) };
            self.no_numbers += 1;
            if self.outliers != Outliers::Skip || self.no_numbers >= HOPELESS {
                return Err(Error::NonFinite { step, what, value });
            }
            tracing::warn!("step {step}: {what} is {value}: skipped, weights stay as they are");
            return Ok(false);
        }
        self.no_numbers = 0;
        if self.outliers == Outliers::Take {
            return Ok(true);
        }
        let losses = judge(self.recent.iter().map(|r| r.0), loss).map(|limit| ("loss", loss, limit));
        let norms = judge(self.recent.iter().map(|r| r.1), norm).map(|limit| ("gradient norm", norm, limit));
        self.recent.push_back((loss, norm));
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        let Some((what, value, limit)) = losses.or(norms) else { return Ok(true) };
        if self.outliers == Outliers::Stop {
            return Err(Error::Outlier { step, what, value, limit });
        }
        tracing::warn!(
            "step {step}: {what} is {value:.4}, above {limit:.4}: skipped, weights stay as they are"
        );
        Ok(false)
    }

    /// What a resumed run must know.
    pub(crate) fn recent(&self) -> Vec<(f64, f64)> {
        self.recent.iter().copied().collect()
    }
}

/// The limit that a value is above, if it is.
fn judge(window: impl ExactSizeIterator<Item = f64> + Clone, value: f64) -> Option<f64> {
    let n = window.len();
    if n < ENOUGH {
        return None;
    }
    let mean = window.clone().sum::<f64>() / n as f64;
    let variance = window.map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
    let limit = mean + SIGMAS * variance.sqrt().max(LEAST * mean.abs());
    (value > limit).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Alternating 1 and 3: mean 2, and a sample standard deviation of sqrt(n / (n - 1)), a little above 1.
    fn seen(n: usize) -> Vec<(f64, f64)> {
        (0..n).map(|i| (1.0 + 2.0 * (i % 2) as f64, 10.0)).collect()
    }

    #[test]
    fn six_sigma_over_the_window() {
        let admits = |n, loss| Watchdog::new(Outliers::Skip, seen(n)).admit(1, loss, 10.0).unwrap();
        assert!(admits(128, 8.0) && !admits(128, 8.1));
        assert!(admits(128, -50.0), "only what is too large");
        assert!(admits(63, 1e9), "too few steps to judge by");
        assert!(!admits(64, 1e9));
    }

    #[test]
    fn a_flat_window_has_a_least_width() {
        let admits = |norm| Watchdog::new(Outliers::Skip, seen(128)).admit(1, 2.0, norm).unwrap();
        assert!(admits(10.5) && !admits(10.7));
    }

    #[test]
    fn a_lasting_change_is_accepted() {
        let mut dog = Watchdog::new(Outliers::Skip, seen(128));
        let skipped = (0..60).take_while(|_| !dog.admit(1, 30.0, 10.0).unwrap()).count();
        assert!((1..20).contains(&skipped), "{skipped}");
        assert_eq!(dog.recent().len(), WINDOW);
    }

    #[test]
    fn what_is_no_number_is_never_taken() {
        for bad in [(f64::NAN, 1.0), (1.0, f64::INFINITY)] {
            for outliers in [Outliers::Take, Outliers::Stop] {
                assert!(Watchdog::new(outliers, seen(128)).admit(3, bad.0, bad.1).is_err());
            }
            // Skipped without a trace in the window, also before it is full, but not for ever.
            let mut dog = Watchdog::new(Outliers::Skip, seen(5));
            for _ in 0..3 {
                let skipped = (0..20).take_while(|_| dog.admit(1, bad.0, bad.1).is_ok_and(|taken| !taken));
                assert_eq!(skipped.count(), HOPELESS as usize - 1);
                assert!(dog.admit(1, 2.0, 10.0).unwrap());
            }
            assert_eq!(dog.recent().len(), 5 + 3);
        }
    }

    #[test]
    fn stopping_names_the_step() {
        let error = Watchdog::new(Outliers::Stop, seen(128)).admit(7, 99.0, 10.0).unwrap_err().to_string();
        assert!(error.contains("step 7: loss is 99") && error.contains("train.outliers"), "{error}");
        assert!(Watchdog::new(Outliers::Take, seen(128)).admit(7, 99.0, 10.0).unwrap());
    }
}
