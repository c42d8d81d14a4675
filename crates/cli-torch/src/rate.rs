//! How fast this machine multiplies matrices: what the arithmetic of a step is held against.

use std::time::Instant;

use tch::{Cuda, Device, Kind, Tensor};

/// Longest that a rate is looked for, in seconds, after one round.
const ENOUGH: f64 = 1.0;

/// Operations per second of the three products of a feed-forward matrix `[inner, width]` with `rows` tokens: forward, and the
/// gradients of both sides. The best of up to eight rounds.
pub(crate) fn products(rows: i64, width: i64, inner: i64, kind: Kind, device: Device) -> f64 {
    let random = |shape: [i64; 2]| Tensor::randn(shape, (Kind::Float, device)).to_kind(kind);
    let (x, w, g) = (random([rows, width]), random([inner, width]), random([rows, inner]));
    let round = || {
        settle(device);
        let started = Instant::now();
        for product in [x.matmul(&w.tr()), g.matmul(&w), g.tr().matmul(&x)] {
            drop(product);
        }
        settle(device);
        started.elapsed().as_secs_f64()
    };
    let begun = Instant::now();
    let mut best = f64::INFINITY;
    for _ in 0..8 {
        best = best.min(round());
        if begun.elapsed().as_secs_f64() > ENOUGH {
            break;
        }
    }
    6.0 * (rows * width * inner) as f64 / best
}

/// Waits until a GPU has done what it was given.
pub(crate) fn settle(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}
