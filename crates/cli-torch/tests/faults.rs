//! Whole runs under faults: kills at random moments, damaged checkpoints, a disk that fills, texts that vanish, and what a
//! resume may change. crates/train/tests/faults.rs has the ones that need no process.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

#[path = "../../cli/tests/common/mod.rs"]
mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{STEPS, curve, flip, json_file, metrics, outcome, program, run, tree, workplace};

const RESUME: &str = "pretrain --resume --run b";

fn start(dir: &Path, args: &str) -> Child {
    let mut command = program(dir);
    command.args(["--threads", "1"]).args(args.split(' ')).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    let line = format!("kill -{name} {}", child.id());
    assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
}

/// Waits until the run has so many lines of metrics.
fn wait(child: &mut Child, run: &Path, lines: usize) {
    let begun = Instant::now();
    let count =
        || fs::read(run.join("metrics.jsonl")).map_or(0, |b| b.iter().filter(|&&c| c == b'\n').count());
    while count() < lines && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{lines} lines never came");
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// A run that was stopped by a signal after some lines of metrics.
fn stopped(dir: &Path, args: &str, lines: usize, name: &str) -> Output {
    let mut child = start(dir, args);
    wait(&mut child, &dir.join("b"), lines);
    signal(&child, name);
    child.wait_with_output().unwrap()
}

/// xorshift: the moments differ from kill to kill and are the same in every run of the test.
fn random(state: &mut u64) -> f64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as f64 / (1u64 << 53) as f64
}

/// Fifty kills at random moments of runs that write a checkpoint after every second step: each run, begun once and gone
/// on with after every kill, ends with the bits of the one that nobody disturbed.
#[test]
fn fifty_kills_at_random_moments() {
    const KILLS: usize = 50;
    let dir = workplace();
    let dir = dir.path();
    let begin = "pretrain --config grow.toml --set train.checkpoint-every=2 --set eval.rows=4 --run";
    // The longest moment is that of a run gone on with near its end, so that every instant of a life is met.
    run(dir, &format!("{begin} a")).ok();
    let begun = Instant::now();
    run(dir, "pretrain --resume --run a").ok();
    let life = begun.elapsed().as_secs_f64();
    let (mut seed, mut killed, mut finished) = (0x9e37_79b9_7f4a_7c15_u64, 0, 0);
    while killed < KILLS {
        let b = dir.join("b");
        let args = if b.join("recipe.toml").exists() { RESUME.to_owned() } else { format!("{begin} b") };
        let mut child = start(dir, &args);
        std::thread::sleep(Duration::from_secs_f64(1.2 * life * random(&mut seed)));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        match output.status.code() {
            None => killed += 1,
            Some(code) => assert_eq!(code, 0, "{}", String::from_utf8_lossy(&output.stderr)),
        }
        if b.join("summary.json").exists() || killed == KILLS {
            run(dir, &if b.join("recipe.toml").exists() { RESUME.to_owned() } else { format!("{begin} b") })
                .ok();
            assert_eq!(curve(&dir.join("a")), curve(&b), "losses and norms");
            assert!(outcome(&dir.join("a")) == outcome(&b), "weights, optimizer or model");
            let left = tree(&b).into_keys().find(|n| n.to_string_lossy().ends_with(".partial"));
            assert_eq!(left, None, "half-written");
            fs::remove_dir_all(&b).unwrap();
            finished += 1;
        }
    }
    println!("{killed} kills over {finished} runs");
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_is_used() {
    let dir = workplace();
    let dir = dir.path();
    run(dir, "pretrain --config grow.toml --run a").ok();
    stopped(dir, "pretrain --config grow.toml --run b", 15, "INT");
    let b = dir.join("b");
    let step = curve(&b).last().unwrap().0;
    let weights = format!("checkpoints/step-{step:08}/weights.safetensors");
    flip(&b.join(&weights), 3000);
    let ran = run(dir, RESUME);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let line = ran.stderr.lines().find(|l| l.contains("damaged")).unwrap_or_else(|| panic!("{ran:#?}"));
    let before = (step - 1) / 5 * 5;
    for word in [&format!("b/{weights}"), "digest differs", &format!("going on from step {before}")] {
        assert!(line.contains(word), "`{word}` is missing: {line}");
    }
    assert_eq!(curve(&dir.join("a")), curve(&b));
    assert!(outcome(&dir.join("a")) == outcome(&b));
}

/// A limit on the size of files stands for a disk that becomes full in the middle of one: the check before sees room.
#[test]
fn a_disk_that_fills_during_a_save() {
    let dir = workplace();
    let dir = dir.path();
    let begin = "pretrain --config base.toml --set train.checkpoint-every=4 --run";
    run(dir, &format!("{begin} a")).ok();
    let optimizer =
        fs::metadata(dir.join("a/checkpoints/step-00000012/optimizer.safetensors")).unwrap().len();
    let model = fs::metadata(dir.join("a/model/model.safetensors")).unwrap().len();
    assert!(model * 3 / 2 < optimizer, "no limit lies between the two");
    let shell = |blocks: u64, args: &str| {
        let line = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" --threads 1 {args}");
        let mut command = Command::new("sh");
        command.args(["-c", &line]).arg(program(dir).get_program()).current_dir(dir);
        command.env("LLAMA_PRO_LOG", "error").output().unwrap()
    };
    // POSIX counts blocks of 512 bytes.
    let output = shell(optimizer * 3 / 4 / 512, &format!("{begin} b"));
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{line}");
    assert!(line.starts_with("error: ") && line.lines().count() == 1, "{line}");
    assert!(line.contains("b/checkpoints/") && line.contains("optimizer.safetensors"), "{line}");
    let left: Vec<_> = tree(&dir.join("b/checkpoints")).into_keys().collect();
    assert!(left.is_empty(), "half-written: {left:?}");
    // With room again it goes on, here from the beginning, to the same bits.
    run(dir, RESUME).ok();
    assert_eq!(curve(&dir.join("a")), curve(&dir.join("b")));
    let weights = |run: &str| fs::read(dir.join(run).join("model/model.safetensors")).unwrap();
    assert!(weights("a") == weights("b"));
}

#[test]
fn texts_that_vanish() {
    let dir = workplace();
    let dir = dir.path();
    run(dir, "pretrain --config grow.toml --run a").ok();
    let text = fs::read(dir.join("keep.txt")).unwrap();
    // While the run goes, the held-out text and the shards made from it go: what is open stays readable.
    let mut child = start(dir, "pretrain --config grow.toml --run b");
    wait(&mut child, &dir.join("b"), 3);
    signal(&child, "STOP");
    fs::remove_file(dir.join("keep.txt")).unwrap();
    fs::remove_dir_all(dir.join("runs/data")).unwrap();
    signal(&child, "CONT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(outcome(&dir.join("a")) == outcome(&dir.join("b")));
    assert_eq!(
        fs::read(dir.join("a/eval/after.json")).unwrap(),
        fs::read(dir.join("b/eval/after.json")).unwrap()
    );
    fs::remove_dir_all(dir.join("b")).unwrap();

    // Between two parts of a run: one line, nothing lost, and with the text back the run goes on.
    fs::write(dir.join("keep.txt"), &text).unwrap();
    stopped(dir, "pretrain --config grow.toml --run b", 12, "INT");
    let before = tree(&dir.join("b"));
    fs::remove_file(dir.join("keep.txt")).unwrap();
    fs::remove_dir_all(dir.join("runs/data")).unwrap();
    run(dir, RESUME).refused(&["keep.txt", "No such file"]);
    common::assert_unchanged(&before, &dir.join("b"));
    fs::write(dir.join("keep.txt"), &text).unwrap();
    run(dir, RESUME).ok();
    assert_eq!(curve(&dir.join("a")), curve(&dir.join("b")));
    assert!(outcome(&dir.join("a")) == outcome(&dir.join("b")));
}

/// A log on a full disk ends no run.
#[test]
fn a_log_that_cannot_be_written() {
    let Ok(full) = fs::File::options().write(true).open("/dev/full") else {
        println!("skipped: there is no /dev/full");
        return;
    };
    let dir = workplace();
    let args = "pretrain --config grow.toml --run a --set train.log-every=1 --set train.steps=6";
    let mut program = program(dir.path());
    program.args(args.split(' ')).stdout(Stdio::null()).stderr(full);
    assert_eq!(program.status().unwrap().code(), Some(0));
    assert!(dir.path().join("a/summary.json").exists());
}

/// SIGTERM, as batch systems send it; then on with what may change, and not with what may not.
#[test]
fn what_a_resume_may_change() {
    let dir = workplace();
    let dir = dir.path();
    // Three forward passes a step: 2,048 places are 64 rows.
    let grow = "pretrain --config grow.toml --set train.rows-per-step=144 --set train.micro-rows=72 \
                --set train.validate-every=1 --run";
    run(dir, &format!("{grow} a")).ok();
    let output = stopped(dir, &format!("{grow} b"), 5, "TERM");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("cargo xtask pretrain --resume --run b"), "{said}");
    let b = dir.join("b");
    for (set, words) in [
        ("train.clip=2.0", "recipe train.clip was 1.0, is 2.0"),
        ("train.rows-per-step=8 --set train.micro-rows=4", "recipe train.rows-per-step was 144, is 8"),
        ("keep.kl=1.0", "recipe keep.kl was 0.5, is 1"),
        ("data.sequence-length=16", "data was blake3:"),
    ] {
        run(dir, &format!("{RESUME} --set {set}")).refused(&["b: cannot go on", words]);
    }
    run(dir, "sft --resume --run b").refused(&["b: this is a run of pretrain", "pretrain --resume --run b"]);
    let begun = fs::read(b.join("recipe.toml")).unwrap();
    let stop = curve(&b).len();
    let more = "--set train.checkpoint-every=3 --set train.keep-checkpoints=4 --set train.log-every=1";
    run(dir, &format!("{RESUME} {more} --set train.micro-rows=4")).ok();
    assert_eq!(fs::read(b.join("recipe.toml")).unwrap(), begun, "the recipe is that of the beginning");
    // However the recipe cuts a step, the sums of its gradient are made in the same order.
    let (whole, other) = (curve(&dir.join("a")), curve(&b));
    assert!(stop < whole.len(), "the run was not stopped");
    assert_eq!(whole, other);
    assert!(outcome(&dir.join("a")) == outcome(&b));
    // The stop came before a look at held-out text, or in the middle of one: it is made up for, and said once.
    let looks = |run: &Path| {
        let lines = metrics(run).into_iter().filter(|line| line.get("validation").is_some());
        lines.collect::<Vec<_>>()
    };
    assert_eq!((looks(&b).len(), looks(&b)), (47, looks(&dir.join("a"))));
}

/// The other ways to say things, and what validation says besides scores.
#[test]
fn tokens_per_step_early_stop_and_the_watch() {
    let dir = workplace();
    let dir = dir.path();
    run(dir, "pretrain --config grow.toml --run a").ok();
    let tokens = common::GROW_RECIPE.replace("rows-per-step = 4\n", "tokens-per-step = 128\n");
    fs::write(dir.join("tokens.toml"), &tokens).unwrap();
    run(dir, "pretrain --config tokens.toml --run t").ok();
    assert!(outcome(&dir.join("a")) == outcome(&dir.join("t")));
    let refused = |set: &str, words: &[&str]| {
        run(dir, &format!("pretrain --config tokens.toml --run bad --set {set}")).refused(words);
    };
    refused(
        "train.tokens-per-step=100",
        &["train.tokens-per-step = 100", "multiple of data.sequence-length"],
    );
    refused("train.rows-per-step=5", &["train.tokens-per-step = 128", "another number of rows"]);
    refused("train.monitor=nothing", &["train.monitor", "expected one of math, text"]);
    refused("train.schedule=step", &["unknown value `step`"]);

    // What the watch says: at step 7 the new blocks have learned something, and the text to keep shows it.
    let lines = metrics(&dir.join("a"));
    let watch: Vec<_> = lines.iter().filter(|l| l.get("validation").is_some()).collect();
    assert_eq!(watch.len(), 6);
    for line in &watch {
        let share = |key: &str| line[key]["text"].as_f64().unwrap_or_else(|| panic!("{key}: {line}"));
        assert!((share("unshifted") + share("marginal") + share("shifted") - 1.0).abs() < 1e-12, "{line}");
        assert!(share("kl_to_base") > 0.0 && line["kl_to_base"].get("math").is_none(), "{line}");
    }

    // A learning rate that ruins the text to keep: the best validation is an early one, and the run ends by it.
    let early = "--set train.early-stop=2 --set train.result=best --set train.monitor=text --set train.learning-rate=0.3 \
                 --set train.validate-every=3 --set keep.kl=0 --set keep.replay=0.001";
    run(dir, &format!("pretrain --config grow.toml --run early {early}")).ok();
    let early = dir.join("early");
    let summary = json_file(&early.join("summary.json"));
    let (steps, best) = (summary["steps"].as_u64().unwrap(), summary["best_step"].as_u64().unwrap());
    assert!(steps == best + 6 && steps < STEPS, "{summary:#}");
    let scores: Vec<(u64, f64)> = metrics(&early)
        .iter()
        .filter_map(|l| Some((l["step"].as_u64()?, l["validation"]["text"].as_f64()?)))
        .collect();
    assert_eq!(scores.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0, best);
    // The model is that of the best checkpoint, bit for bit.
    let weights = common::tensors_of(&early.join(format!("checkpoints/step-{best:08}/weights.safetensors")));
    let model = common::model_tensors(&early.join("model"));
    assert!(weights.iter().all(|(name, tensor)| model[name] == *tensor));
}
