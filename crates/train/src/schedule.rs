//! Learning rates: linear warm-up, then a cosine (the paper's schedule, section 4.1), warm-up-stable-decay (MiniCPM, arXiv
//! 2404.06395, with a straight line down) or the peak to the end.

use std::f64::consts::PI;

use crate::{Schedule, TrainConfig};

/// Learning rate of `step`, counted from 0: `peak * (step + 1) / warm` during the first `warm` steps, then what the schedule
/// says. Cosine and decay would reach the minimum one step after the last.
pub fn learning_rate(config: &TrainConfig, step: u64) -> f64 {
    let (peak, low) = (config.learning_rate, config.min_learning_rate);
    let warm = config.warmup_steps();
    if step < warm {
        return peak * (step + 1) as f64 / warm as f64;
    }
    match config.schedule {
        Schedule::Constant => peak,
        Schedule::Cosine => {
            let progress = (step - warm) as f64 / (config.steps - warm).max(1) as f64;
            low + (peak - low) * 0.5 * (1.0 + (PI * progress.min(1.0)).cos())
        }
        Schedule::Wsd => {
            let decay = config.decay_steps();
            let into = step.saturating_sub(config.steps - decay) as f64 / decay as f64;
            peak + (low - peak) * into.min(1.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values worked out by hand.
    #[test]
    fn the_three_schedules() {
        let base =
            TrainConfig { min_learning_rate: 0.1, warmup_steps: Some(2), ..TrainConfig::new(12, 1, 1.0) };
        let rates = |schedule| {
            let config = TrainConfig { schedule, decay: 0.4, ..base.clone() };
            config.check().unwrap();
            (0..12).map(|s| learning_rate(&config, s)).collect::<Vec<_>>()
        };
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(rates(Schedule::Constant).iter().skip(1).all(|&r| near(r, 1.0)));
        assert!(near(rates(Schedule::Constant)[0], 0.5));
        let wsd = rates(Schedule::Wsd);
        // 0.4 * 12 rounds up to 5 steps: steps 7 to 11 are 0 to 4 fifths of the way down.
        assert!(wsd[1..=7].iter().all(|&r| near(r, 1.0)), "{wsd:?}");
        assert!((8..12).all(|s| near(wsd[s], 1.0 - 0.9 * (s as f64 - 7.0) / 5.0)), "{wsd:?}");
        let cosine = rates(Schedule::Cosine);
        assert!(near(cosine[2], 1.0) && near(cosine[7], 0.55), "{cosine:?}");
        assert!(cosine.windows(2).skip(1).all(|w| w[1] < w[0] || near(w[0], w[1])));
    }

    #[test]
    fn warm_up_in_steps_or_as_a_share() {
        let share = TrainConfig { warmup: 0.06, ..TrainConfig::new(48, 1, 1.0) };
        assert_eq!(share.warmup_steps(), 3);
        assert_eq!(TrainConfig { warmup_steps: Some(0), ..share.clone() }.warmup_steps(), 0);
        assert!(TrainConfig { warmup_steps: Some(48), ..share }.check().is_err());
        let long =
            TrainConfig { schedule: Schedule::Wsd, warmup: 0.5, decay: 0.6, ..TrainConfig::new(10, 1, 1.0) };
        assert!(long.check().unwrap_err().to_string().contains("train.decay = 0.6"));
    }
}
