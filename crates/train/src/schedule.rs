//! Linear warm-up, then a cosine to the end of the run (the paper's schedule, section 4.1).

use std::f64::consts::PI;

use crate::TrainConfig;

/// Learning rate of `step`, counted from 0: `peak * (step + 1) / warm` during the first `warm = ceil(warmup * steps)`
/// steps, then a cosine from the peak down to the minimum, which a step after the last would reach.
pub fn learning_rate(config: &TrainConfig, step: u64) -> f64 {
    let (peak, low) = (config.learning_rate, config.min_learning_rate);
    let warm = (config.warmup * config.steps as f64).ceil() as u64;
    if step < warm {
        return peak * (step + 1) as f64 / warm as f64;
    }
    let progress = (step - warm) as f64 / (config.steps - warm).max(1) as f64;
    low + (peak - low) * 0.5 * (1.0 + (PI * progress.min(1.0)).cos())
}
