//! Moments in 8 bits: how far the curve is from that of float32 moments, what they take, and that a run which was stopped
//! goes on to the same bits.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod common;

use std::path::Path;

use common::tiny::{Ear, Replay, go, trainer, weights};
use llama_pro_train::{MomentKind, TrainConfig};

fn config(moments: MomentKind) -> TrainConfig {
    TrainConfig { checkpoint_every: 4, moments, ..TrainConfig::new(40, 8, 2e-3) }
}

#[test]
fn the_curve_stays_near_that_of_float32() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, moments| {
        let mut ear = Ear::default();
        go(&dir.path().join(name), &config(moments), &Replay::new(), &mut ear).unwrap();
        ear.losses.iter().map(|&(_, loss, _)| f64::from_bits(loss)).collect::<Vec<f64>>()
    };
    let (full, eight) = (run("f32", MomentKind::Float32), run("8bit", MomentKind::Eight));
    assert_eq!(full.len(), 40);
    let apart = |i: usize| (eight[i] - full[i]).abs() / full[i];
    let worst = (0..40).map(apart).fold(0.0, f64::max);
    println!("8-bit moments: losses at most {worst:.1e} apart, relative; at the last step {:.1e}", apart(39));
    assert!(worst > 0.0, "the recipe's key does something");
    assert!(worst < 1e-2, "{worst}");
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let go = |name: &str, ear: &mut Ear| {
        go(&dir.path().join(name), &config(MomentKind::Eight), &Replay::new(), ear).unwrap().0
    };
    let mut whole = Ear::default();
    let undisturbed = go("whole", &mut whole);
    go("stopped", &mut Ear::until(13));
    let mut rest = Ear::default();
    let resumed = go("stopped", &mut rest);
    assert_eq!(rest.losses, whole.losses[13..]);
    assert!(weights(&resumed) == weights(&undisturbed));
    let read = |name: &str| {
        let at = dir.path().join(name).join("checkpoints/step-00000040");
        ["weights.safetensors", "optimizer.safetensors"]
            .map(|file| std::fs::read(Path::new(&at).join(file)).unwrap())
    };
    assert!(read("whole") == read("stopped"), "moments too");
}

#[test]
fn they_take_a_quarter() {
    let bytes = |moments| trainer(&config(moments)).state_bytes().0 as f64;
    let share = bytes(MomentKind::Eight) / bytes(MomentKind::Float32);
    assert!((0.25..0.27).contains(&share), "{share}");
}
