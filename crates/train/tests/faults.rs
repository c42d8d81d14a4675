//! What a run survives, and what it refuses: damaged checkpoints, gradients that are no numbers, steps out of line, other
//! settings. Everything in one process, on the fixture; crates/cli-torch/tests has the kills.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod common;

use std::fs;
use std::path::Path;

use common::tiny::{Ear, Replay, copy, file, folder, go, trainer, weights};
use llama_pro_train::{
    Batches, Best, Error, Finished, Keeps, MicroBatch, Outcome, Outliers, Result, TrainConfig,
};
use tch::{Device, Tensor};

const FILES: [&str; 4] = ["weights.safetensors", "optimizer.safetensors", "state.json", "manifest.json"];

fn config(steps: u64) -> TrainConfig {
    TrainConfig { checkpoint_every: 2, keep_checkpoints: 9, ..TrainConfig::new(steps, 8, 2e-3) }
}

fn done(outcome: Outcome) -> Finished {
    match outcome {
        Outcome::Finished(done) => done,
        Outcome::Stopped { step } => panic!("stopped after {step}"),
    }
}

/// Every way to damage a file: cut in half, emptied, one bit flipped, gone.
fn damage(path: &Path, how: usize) {
    let mut bytes = fs::read(path).unwrap();
    match how {
        0 => bytes.truncate(bytes.len() / 2),
        1 => bytes.clear(),
        2 => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        _ => return fs::remove_file(path).unwrap(),
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let (config, batches) = (config(8), Replay::new());
    let mut whole = Ear::default();
    let (undisturbed, _) = go(&dir.path().join("whole"), &config, &batches, &mut whole).unwrap();
    let stopped = dir.path().join("stopped");
    let (_, outcome) = go(&stopped, &config, &batches, &mut Ear::until(6)).unwrap();
    assert_eq!(outcome, Outcome::Stopped { step: 6 });
    for (i, name) in FILES.into_iter().enumerate() {
        for how in 0..4 {
            let run = dir.path().join(format!("{i}-{how}"));
            copy(&stopped, &run);
            damage(&file(&run, 6, name), how);
            let mut ear = Ear::default();
            let (trainer, _) = go(&run, &config, &batches, &mut ear).unwrap();
            assert_eq!(ear.resumed, Some(4), "{name}, damage {how}");
            assert_eq!(ear.losses, whole.losses[4..], "{name}, damage {how}: losses");
            assert!(weights(&trainer) == weights(&undisturbed), "{name}, damage {how}: weights");
            // The damaged one is still there to be looked at, and a whole one stands in its place.
            assert!(run.join("checkpoints/step-00000006.damaged").is_dir());
            for name in &FILES[..2] {
                let read = |dir: &Path| fs::read(file(dir, 6, name)).unwrap();
                assert!(read(&run) == read(&stopped), "{name} written again");
            }
        }
    }
}

#[test]
fn with_no_checkpoint_whole_the_newest_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (config, batches) = (config(8), Replay::new());
    go(dir.path(), &config, &batches, &mut Ear::until(4)).unwrap();
    damage(&file(dir.path(), 2, FILES[0]), 2);
    damage(&file(dir.path(), 4, FILES[1]), 1);
    let error = go(dir.path(), &config, &batches, &mut Ear::default()).err().unwrap().to_string();
    assert!(
        error.contains("step-00000004/optimizer.safetensors: damaged")
            && error.contains("no other checkpoint"),
        "{error}"
    );
    assert!(file(dir.path(), 4, FILES[0]).exists(), "nothing is moved when nothing replaces it");
}

#[test]
fn another_run_is_refused_by_key_and_value() {
    let dir = tempfile::tempdir().unwrap();
    go(dir.path(), &config(8), &Replay::new(), &mut Ear::until(2)).unwrap();
    let run = folder(dir.path());
    let config = config(8);
    let inputs = [("data", "other"), ("train.clip", "2.0")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let error = llama_pro_train::resume(&run, &mut trainer(&config), &inputs).unwrap_err().to_string();
    assert!(error.contains("belongs to another run: data was fixture, is other"), "{error}");
    assert!(error.contains("train.clip was not there, is 2.0"), "{error}");
}

/// A step that is no number is passed over where outliers are, and the run goes on with the next batch.
#[test]
fn what_is_no_number_is_skipped_where_outliers_are() {
    let dir = tempfile::tempdir().unwrap();
    let poisoned = || Ear { poison: vec![3], ..Ear::default() };
    let takes = TrainConfig { validate_every: 1, ..config(6) };
    let error =
        go(&dir.path().join("take"), &takes, &Replay::new(), &mut poisoned()).err().unwrap().to_string();
    assert!(
        error.contains("step 4: gradient norm is NaN") && error.contains("train.outliers=skip"),
        "{error}"
    );
    let skips = TrainConfig { outliers: Outliers::Skip, ..takes };
    let mut ear = poisoned();
    let (trainer, outcome) = go(&dir.path().join("skip"), &skips, &Replay::new(), &mut ear).unwrap();
    assert_eq!((ear.skipped, done(outcome).skipped), (vec![4], 1));
    // The run that ended at it goes on with other settings, from its last checkpoint, to the same weights.
    let mut later = poisoned();
    let (again, _) = go(&dir.path().join("take"), &skips, &Replay::new(), &mut later).unwrap();
    assert_eq!((later.resumed, later.skipped), (Some(2), vec![4]));
    assert!(weights(&again) == weights(&trainer));
    assert!(
        weights(&trainer).iter().all(|(_, all)| all.iter().all(|bits| f32::from_bits(*bits).is_finite()))
    );
}

#[test]
fn numbers_that_float32_does_not_have_are_refused() {
    for eps in [0.0, 1e-46, 1e-39, f64::NAN, f64::INFINITY] {
        let error = TrainConfig { eps, ..config(2) }.check().unwrap_err().to_string();
        assert!(error.starts_with("train.eps"), "{error}");
    }
    assert!(TrainConfig { eps: 1e-8, ..config(2) }.check().is_ok());
}

/// A gradient of one tensor becomes NaN between two steps: the step ends the run, and no bit of weights or moments moves.
#[test]
fn a_nan_in_a_gradient_never_reaches_the_weights() {
    let batches = Replay::new();
    let config = config(8);
    let (mut clean, mut poisoned) = (trainer(&config), trainer(&config));
    let micros = |step| llama_pro_train::Batches::micro_batches(&batches, step, tch::Device::Cpu).unwrap();
    for trainer in [&mut clean, &mut poisoned] {
        trainer.step(&micros(0), 1, 1e-3).unwrap();
    }
    let name = {
        let parameter = poisoned.model().parameters().iter().filter(|p| p.trained).nth(3).unwrap();
        // Backward adds to it, so the whole step's gradient of this element is no number.
        let grad = parameter.tensor.grad();
        let _ = tch::no_grad(|| grad.flatten(0, -1).narrow(0, 5, 1).fill_(f64::NAN));
        parameter.name.clone()
    };
    let error = poisoned.step(&micros(1), 2, 1e-3).unwrap_err().to_string();
    assert!(error.contains("step 2: gradient norm is NaN"), "{name}: {error}");
    assert!(weights(&poisoned) == weights(&clean), "{name}: weights changed");
    // Masters, moments and count are as before too: the same step without the poison gives the same bits.
    for trainer in [&mut clean, &mut poisoned] {
        trainer.step(&micros(1), 2, 1e-3).unwrap();
    }
    assert!(weights(&poisoned) == weights(&clean), "{name}: something of the refused step is left");
}

/// A spoilt batch after seventy good ones: taken, skipped with nothing changed, or the end of the run.
#[test]
fn a_step_out_of_line_does_what_the_recipe_says() {
    const SPOILT: u64 = 70;
    let dir = tempfile::tempdir().unwrap();
    let batches = Replay { spoilt: vec![SPOILT], micro_rows: 8, ..Replay::new() };
    let config = |outliers| TrainConfig {
        outliers,
        checkpoint_every: SPOILT,
        warmup: 0.5,
        ..TrainConfig::new(SPOILT + 4, 8, 1e-3)
    };
    let mut taken = Ear::default();
    go(&dir.path().join("take"), &config(Outliers::Take), &batches, &mut taken).unwrap();
    assert!(taken.skipped.is_empty());

    let (skip, mut skipped) = (dir.path().join("skip"), Ear::default());
    let (trainer, outcome) = go(&skip, &config(Outliers::Skip), &batches, &mut skipped).unwrap();
    assert_eq!((skipped.skipped.as_slice(), done(outcome).skipped), (&[SPOILT + 1][..], 1));
    assert_eq!(skipped.losses[..=SPOILT as usize], taken.losses[..=SPOILT as usize]);
    assert_ne!(skipped.losses.last(), taken.losses.last(), "taking it changed nothing: no test");
    // Resumed just before it, the window is as it was: skipped again, and the same bits at the end.
    fs::remove_dir_all(skip.join(format!("checkpoints/step-{:08}", SPOILT + 4))).unwrap();
    let mut again = Ear::default();
    let (resumed, _) = go(&skip, &config(Outliers::Skip), &batches, &mut again).unwrap();
    assert_eq!((again.resumed, again.skipped.as_slice()), (Some(SPOILT), &[SPOILT + 1][..]));
    assert!(weights(&resumed) == weights(&trainer) && again.losses == skipped.losses[SPOILT as usize..]);
    // Resumed behind it, the count of real updates is the optimizer's: the same bits too.
    let behind = dir.path().join("behind");
    go(&behind, &config(Outliers::Skip), &batches, &mut Ear::until(SPOILT + 2)).unwrap();
    let (resumed, _) = go(&behind, &config(Outliers::Skip), &batches, &mut Ear::default()).unwrap();
    assert!(weights(&resumed) == weights(&trainer), "resumed behind the skipped step");

    let stop = dir.path().join("stop");
    let error = go(&stop, &config(Outliers::Stop), &batches, &mut Ear::default()).err().unwrap().to_string();
    assert!(
        error.contains(&format!("step {}:", SPOILT + 1)) && error.contains("6 standard deviations"),
        "{error}"
    );
    // The checkpoint before it is there to go on from.
    assert!(file(&stop, SPOILT, "manifest.json").exists());
}

#[test]
fn the_best_validation_is_kept_and_ends_the_run_early() {
    let dir = tempfile::tempdir().unwrap();
    let batches = Replay::new();
    let config = TrainConfig {
        keep_checkpoints: 1,
        validate_every: 2,
        early_stop: Some(3),
        result: Keeps::Best,
        ..TrainConfig::new(40, 8, 2e-3)
    };
    // Best after step 4; three validations later it is over.
    let hear = || Ear { validations: vec![3.0, 2.0, 2.5, 2.0, 2.1, 9.0], ..Ear::default() };
    let (mut ear, a) = (hear(), dir.path().join("a"));
    let (trainer, outcome) = go(&a, &config, &batches, &mut ear).unwrap();
    let finished = done(outcome);
    assert_eq!((finished.step, finished.best), (10, Some(Best { step: 4, nats: 2.0 })));
    let kept: Vec<u64> = folder(&a).checkpoints().unwrap().iter().map(|c| c.step).collect();
    assert_eq!(kept, [4, 10]);
    // The trainer holds the best weights: those of a run that ends there.
    let four = TrainConfig { early_stop: None, result: Keeps::Last, ..config.clone() };
    go(&dir.path().join("b"), &four, &batches, &mut Ear::until(4)).unwrap();
    let read = |dir: &Path| fs::read(file(dir, 4, FILES[0])).unwrap();
    assert!(read(&a) == read(&dir.path().join("b")));
    // Resumed, it is at its end and says the same.
    let mut again = Ear::default();
    let (same, outcome) = go(&a, &config, &batches, &mut again).unwrap();
    assert_eq!((done(outcome).step, again.losses.len()), (10, 0));
    assert!(weights(&same) == weights(&trainer));
    // Where nobody asks for the best, it goes like any other.
    let (d, mut ear) = (dir.path().join("d"), hear());
    go(&d, &TrainConfig { steps: 8, checkpoint_every: 2, ..four }, &batches, &mut ear).unwrap();
    assert_eq!(folder(&d).checkpoints().unwrap().iter().map(|c| c.step).collect::<Vec<_>>(), [8]);
    // Stopped in between, it counts on.
    let (c, mut early) = (dir.path().join("c"), hear());
    early.stop_at = 7;
    go(&c, &config, &batches, &mut early).unwrap();
    let mut late = Ear { validations: vec![2.0, 2.1, 9.0], ..Ear::default() };
    let (_, outcome) = go(&c, &config, &batches, &mut late).unwrap();
    assert_eq!((done(outcome).step, late.resumed), (10, Some(7)));
}

/// A run that comes no further: there are no rows any more.
struct Gone;

impl Batches for Gone {
    fn micro_batches(&self, step: u64, _: Device) -> Result<Vec<MicroBatch>> {
        Err(Error::Setup(format!("the rows of step {step} are gone")))
    }
    fn fingerprint(&self) -> String {
        Replay::new().fingerprint()
    }
}

/// A stop that comes before or in the middle of a look at held-out rows does not wait for it: the run that goes on looks
/// first, and comes to the same end.
#[test]
fn a_stop_does_not_wait_for_a_validation() {
    let dir = tempfile::tempdir().unwrap();
    let batches = Replay::new();
    let config = TrainConfig {
        checkpoint_every: 3,
        keep_checkpoints: 1,
        validate_every: 2,
        result: Keeps::Best,
        ..TrainConfig::new(8, 8, 2e-3)
    };
    // Best after step 4, which is the one that is stopped at.
    let nats = [3.0, 2.0, 2.5, 2.1];
    let mut ear = Ear { validations: nats.to_vec(), ..Ear::default() };
    let (whole, outcome) = go(&dir.path().join("whole"), &config, &batches, &mut ear).unwrap();
    let end = done(outcome);
    assert_eq!((end.best, &ear.looks[..]), (Some(Best { step: 4, nats: 2.0 }), &[2, 4, 6, 8][..]));
    for (name, stop_at, break_off) in
        [("before", 4, None), ("within", 0, Some(4)), ("last", 8, None), ("last-within", 0, Some(8))]
    {
        let at = stop_at.max(break_off.unwrap_or(0));
        let seen = at as usize / 2 - 1;
        let run = dir.path().join(name);
        let mut ear = Ear { validations: nats[..seen].to_vec(), stop_at, break_off, ..Ear::default() };
        let (_, outcome) = go(&run, &config, &batches, &mut ear).unwrap();
        assert_eq!((outcome, ear.looks.len()), (Outcome::Stopped { step: at }, seen), "{name}");
        // Stopped again before it could look: it is still due.
        let mut ear = Ear { break_off: Some(at), ..Ear::default() };
        let (_, outcome) = go(&run, &config, &batches, &mut ear).unwrap();
        assert_eq!((outcome, ear.losses.len()), (Outcome::Stopped { step: at }, 0), "{name}");
        // What is made up for is saved, and the best state with it: after a kill nothing is looked at again.
        if at < 8 {
            let mut ear = Ear { validations: vec![nats[seen]], ..Ear::default() };
            go(&run, &config, &Gone, &mut ear).err().unwrap();
            assert_eq!((&ear.looks[..], ear.losses.len()), (&[at][..], 0), "{name}");
        }
        let seen = seen + usize::from(at < 8);
        let mut ear = Ear { validations: nats[seen..].to_vec(), ..Ear::default() };
        let (trainer, outcome) = go(&run, &config, &batches, &mut ear).unwrap();
        assert_eq!(ear.looks, (seen as u64 * 2 + 2..=8).step_by(2).collect::<Vec<_>>(), "{name}");
        let done = done(outcome);
        assert_eq!((done.step, done.best), (end.step, end.best), "{name}");
        assert!(weights(&trainer) == weights(&whole), "{name}: other weights");
        let mut ear = Ear::default();
        let (_, outcome) = go(&run, &config, &batches, &mut ear).unwrap();
        assert!(matches!(outcome, Outcome::Finished(_)) && ear.looks.is_empty(), "{name}: looked again");
    }
}

/// A checkpoint written while training goes on holds the step it was asked for, and no later one.
#[test]
fn checkpoints_in_the_background_are_those_of_their_step() {
    let dir = tempfile::tempdir().unwrap();
    let batches = Replay::new();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let config = TrainConfig { checkpoint_every: 1, ..config(12) };
    let mut ear = Ear::default();
    go(&a, &config, &batches, &mut ear).unwrap();
    go(&b, &TrainConfig { background_checkpoints: false, ..config }, &batches, &mut Ear::default()).unwrap();
    assert_eq!(ear.saved, (1..=12).collect::<Vec<_>>());
    for step in 4..=12 {
        for name in &FILES[..2] {
            let read = |dir: &Path| fs::read(file(dir, step, name)).unwrap();
            assert!(read(&a) == read(&b), "step {step}: {name}");
        }
    }
}

/// Going on with other micro-batches: the same batches and, to rounding, the same run.
#[test]
fn micro_batches_may_change_at_a_resume() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(12);
    let mut whole = Ear::default();
    let (undisturbed, _) = go(&dir.path().join("a"), &config, &Replay::new(), &mut whole).unwrap();
    let b = dir.path().join("b");
    go(&b, &config, &Replay::new(), &mut Ear::until(5)).unwrap();
    let (mut ear, batches) = (Ear::default(), Replay { micro_rows: 2, ..Replay::new() });
    let (resumed, _) = go(&b, &config, &batches, &mut ear).unwrap();
    for ((step, loss, norm), (_, loss_2, norm_2)) in whole.losses[5..].iter().zip(&ear.losses) {
        let relative = |a: u64, b: u64| (f64::from_bits(a) / f64::from_bits(b) - 1.0).abs();
        assert!(relative(*loss, *loss_2) < 1e-5 && relative(*norm, *norm_2) < 1e-4, "step {step}");
    }
    let float = |w: &[u32]| Tensor::from_slice(&w.iter().map(|b| f32::from_bits(*b)).collect::<Vec<_>>());
    for ((name, a), (_, b)) in weights(&undisturbed).iter().zip(&weights(&resumed)) {
        // Adam divides by the size of a gradient, so where that is near rounding one step may differ by its rate.
        assert!(common::max_difference(&float(a), &float(b)) < 2e-4, "{name}");
    }
}
