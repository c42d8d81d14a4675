//! A run that is killed, stopped or tampered with: it goes on to the same bits, or says in one line why it does not.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

#[path = "../../cli/tests/common/mod.rs"]
mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{STEPS, assert_unchanged, curve, flip, outcome, program, run, tree, workplace};

const START: [&str; 5] = ["pretrain", "--config", "grow.toml", "--run", "b"];
const RESUME: [&str; 4] = ["pretrain", "--resume", "--run", "b"];

/// A moment in a run, seen from outside.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// metrics.jsonl has so many lines.
    Lines(usize),
    /// Something is there.
    Exists(&'static str),
}

impl Moment {
    fn has_come(self, run: &Path) -> bool {
        match self {
            Self::Lines(n) => fs::read(run.join("metrics.jsonl"))
                .is_ok_and(|b| b.iter().filter(|&&c| c == b'\n').count() >= n),
            Self::Exists(name) => run.join(name).exists(),
        }
    }
}

fn start(dir: &Path, args: &[&str]) -> Child {
    let mut command = program(dir);
    command.args(["--threads", "1"]).args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Waits for a moment, or for the program's end.
fn wait(child: &mut Child, run: &Path, moment: Moment) {
    let begun = Instant::now();
    while !moment.has_come(run) && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{moment:?} never came");
        std::thread::sleep(Duration::from_micros(300));
    }
}

fn signal(child: &Child, name: &str) {
    let line = format!("kill -{name} {}", child.id());
    assert!(std::process::Command::new("sh").args(["-c", &line]).status().unwrap().success());
}

/// Starts (or goes on) and kills at a moment. Whether the program was still there to be killed.
fn kill_at(dir: &Path, args: &[&str], moment: Moment) -> bool {
    let mut child = start(dir, args);
    wait(&mut child, &dir.join("b"), moment);
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    if let Some(code) = output.status.code() {
        assert_eq!(code, 0, "{moment:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.code().is_none()
}

/// Starts a run, stops it at a moment with Ctrl-C, and gives back what it printed.
fn stop_at(dir: &Path, args: &[&str], moment: Moment) -> String {
    let mut child = start(dir, args);
    wait(&mut child, &dir.join("b"), moment);
    signal(&child, "INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn kills_at_any_moment_change_nothing() {
    let dir = workplace();
    let dir = dir.path();
    run(dir, "pretrain --config grow.toml --run a").ok();
    let moments = [
        Moment::Exists("recipe.toml"),
        Moment::Exists("expanded"),
        Moment::Exists("eval/before.json"),
        Moment::Lines(1),
        Moment::Lines(4),
        Moment::Lines(9),
        Moment::Exists("checkpoints/step-00000010"),
        Moment::Lines(23),
        Moment::Lines(24),
        Moment::Lines(41),
        Moment::Exists("checkpoints/step-00000048"),
        Moment::Exists("eval/after.json"),
        Moment::Exists("model"),
    ];
    let mut killed = 0;
    let mut begun = false;
    for moment in moments {
        killed += usize::from(kill_at(dir, if begun { &RESUME } else { &START }, moment));
        begun |= dir.join("b/recipe.toml").exists();
    }
    println!("killed {killed} times of {}", moments.len());
    assert!(killed >= 8, "killed only {killed} times: the moments are no test");
    run(dir, "pretrain --resume --run b").ok();
    let (a, b) = (dir.join("a"), dir.join("b"));
    assert_eq!(curve(&a), curve(&b), "losses and norms");
    assert!(outcome(&a) == outcome(&b), "weights, optimizer or model");
    for file in ["eval/before.json", "eval/after.json", "eval/changes.json", "recipe.toml"] {
        assert_eq!(fs::read(a.join(file)).unwrap(), fs::read(b.join(file)).unwrap(), "{file}");
    }
    let left: Vec<_> = tree(&b).into_keys().filter(|n| n.to_string_lossy().ends_with(".partial")).collect();
    assert!(left.is_empty(), "half-written: {left:?}");
    run(dir, "verify b/model --base base/model").ok();
    // Every going-on stands in the provenance.
    let provenance = common::json_file(&b.join("provenance.json"));
    assert!(provenance["resumed"].as_array().unwrap().len() >= 5, "{provenance:#}");
    // A finished run has nothing to do, and does nothing to its results.
    let before = outcome(&b);
    run(dir, "pretrain --resume --run b").ok();
    assert!(outcome(&b) == before && curve(&a) == curve(&b));
}

#[test]
fn ctrl_c_stops_with_a_checkpoint_and_the_way_on() {
    let dir = workplace();
    let dir = dir.path();
    run(dir, "pretrain --config grow.toml --run a").ok();
    let mut last = 0;
    let mut args: &[&str] = &START;
    for more in [2, 9, 1] {
        let lines = fs::read_to_string(dir.join("b/metrics.jsonl")).map_or(0, |text| text.lines().count());
        let said = stop_at(dir, args, Moment::Lines(lines + more));
        let mut words =
            said.strip_prefix("stopped after step ").unwrap_or_else(|| panic!("{said}")).split(' ');
        let step: u64 = words.next().unwrap().parse().unwrap();
        assert!(step > last && step < STEPS, "{said}");
        assert!(
            said.contains(&format!("of {STEPS};")) && said.contains("pretrain --resume --run b"),
            "{said}"
        );
        assert!(dir.join(format!("b/checkpoints/step-{step:08}/manifest.json")).exists(), "{said}");
        assert_eq!(curve(&dir.join("b")).last().unwrap().0, step, "a step more or less in metrics.jsonl");
        assert!(!dir.join("b/model").exists());
        (last, args) = (step, &RESUME);
    }
    run(dir, "pretrain --resume --run b").ok();
    assert_eq!(curve(&dir.join("a")), curve(&dir.join("b")));
    assert!(outcome(&dir.join("a")) == outcome(&dir.join("b")));
}

#[test]
fn ctrl_c_before_the_first_step_is_heard() {
    let dir = workplace();
    let dir = dir.path();
    for moment in ["recipe.toml", "expanded", "provenance.json", "eval/before.json"] {
        let before = tree(dir);
        let mut child = start(dir, &START);
        wait(&mut child, &dir.join("b"), Moment::Exists(moment));
        signal(&child, "INT");
        let output = child.wait_with_output().unwrap();
        let (said, why) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        if output.status.code() == Some(0) {
            // The first step was near: it is taken, and can be gone on from.
            assert!(said.starts_with("stopped after step "), "{moment}: {said}");
            assert!(curve(&dir.join("b")).len() < STEPS as usize / 2, "{moment}: it went on all the same");
            fs::remove_dir_all(dir.join("b")).unwrap();
        } else {
            assert_eq!((output.status.code(), said.as_str()), (Some(2), ""), "{moment}: {why}");
            assert!(
                why.starts_with("error: ") && why.contains("stopped") && why.lines().count() == 1,
                "{why}"
            );
        }
        // Nothing is left, but for token shards that were finished.
        let mut after = tree(dir);
        after.retain(|name, _| before.contains_key(name) || !name.starts_with("runs"));
        assert!(after == before, "{moment}: something is left");
    }
}

/// Ctrl-C when every step is done and the closing scores or the export are under way: saved, exit code 0, and the way to go
/// on, which ends with the model of the undisturbed run.
#[test]
fn a_stop_in_the_closing_stage_can_be_gone_on_from() {
    let dir = workplace();
    let dir = dir.path();
    run(dir, "pretrain --config grow.toml --run a").ok();
    for moment in [Moment::Lines(STEPS as usize + 6), Moment::Exists("eval/after.json")] {
        let said = stop_at(dir, &START, moment);
        // What came too late ended as if nothing had been asked.
        if dir.join("b/summary.json").exists() {
            println!("{moment:?}: the run was done before the signal");
        } else {
            assert!(
                said.starts_with(&format!("stopped after step {STEPS} of {STEPS}")),
                "{moment:?}: {said}"
            );
            assert!(said.contains("pretrain --resume --run b"), "{said}");
            run(dir, &RESUME.join(" ")).ok();
        }
        assert!(tree(&dir.join("b/model")) == tree(&dir.join("a/model")), "{moment:?}");
        fs::remove_dir_all(dir.join("b")).unwrap();
    }
}

/// A clock that was set back leaves files from the future: runs are told apart by names that go on counting, checkpoints
/// and events go on after those that are there, and the result is that of the undisturbed run.
#[test]
fn a_clock_that_was_set_back_changes_nothing() {
    let dir = workplace();
    let dir = dir.path();
    run(dir, "pretrain --config grow.toml --run a").ok();
    let runs = dir.join("runs");
    fs::create_dir_all(&runs).unwrap();
    let future = runs.join("pretrain-20991231-235959");
    let mut child =
        start(dir, &["pretrain", "--config", "grow.toml", "--run", "runs/pretrain-20991231-235959"]);
    wait(&mut child, &future, Moment::Lines(20));
    signal(&child, "INT");
    assert!(child.wait_with_output().unwrap().status.success());
    // Everything in it is of the year 2099.
    let late = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_799);
    let events = fs::read_dir(&future).unwrap().map(|e| e.unwrap().path());
    for path in events.filter(|p| p.to_string_lossy().contains("tfevents")) {
        fs::rename(&path, future.join("events.out.tfevents.4102444799.llama-pro.000")).unwrap();
    }
    for path in tree(&future).keys() {
        let path = future.join(path);
        if path.is_file() {
            fs::File::options().write(true).open(path).unwrap().set_modified(late).unwrap();
        }
    }
    // With no name given the newest is meant, which is this one.
    let went_on = run(dir, "pretrain --resume").ok();
    assert!(went_on.stdout.contains("pretrain-20991231-235959"), "{}", went_on.stdout);
    assert!(tree(&future.join("model")) == tree(&dir.join("a/model")));
    assert!(curve(&future) == curve(&dir.join("a")));
    let mut events: Vec<String> =
        fs::read_dir(&future).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    events.retain(|name| name.contains("tfevents"));
    events.sort();
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[1].as_str() > "events.out.tfevents.4102444799.llama-pro.000", "{events:?}");
    // A new run is named to come last, so that the one after it finds it.
    run(dir, "pretrain --config grow.toml --set train.steps=2").ok();
    let mut names: Vec<String> =
        fs::read_dir(&runs).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("pretrain-"));
    assert_eq!(names.len(), 2);
    let newest = llama_pro_run::RunFolder::latest(&runs, "pretrain").unwrap().unwrap();
    assert_ne!(newest, future);
}

#[test]
fn one_run_folder_has_one_process() {
    let dir = workplace();
    let dir = dir.path();
    let mut child = start(dir, &START);
    wait(&mut child, &dir.join("b"), Moment::Lines(3));
    signal(&child, "STOP");
    let before = tree(&dir.join("b"));
    let second = run(dir, "pretrain --resume --run b");
    let third = run(dir, "pretrain --config grow.toml --run b");
    assert_unchanged(&before, &dir.join("b"));
    signal(&child, "CONT");
    signal(&child, "INT");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    second.refused(&["b: the run is in use by another process"]);
    third.refused(&["b: cannot make a run here", "resume it"]);
}

#[test]
fn what_was_tampered_with_is_refused() {
    let dir = workplace();
    let dir = dir.path();
    stop_at(dir, &START, Moment::Lines(12));
    let b = dir.join("b");
    let step = curve(&b).last().unwrap().0;
    // Of a refused resume, only the record of the attempt may change.
    let keep = || {
        let mut all = tree(&b);
        all.remove(Path::new("provenance.json"));
        all
    };
    let refused = |words: &[&str]| {
        let before = keep();
        run(dir, "pretrain --resume --run b").refused(words);
        assert!(keep() == before, "a refused resume changed the run folder");
    };
    // Another learning rate in the recipe.
    let recipe = fs::read_to_string(b.join("recipe.toml")).unwrap();
    let edited = recipe.replace("learning-rate = 0.01\n", "learning-rate = 0.02\n");
    assert_ne!(recipe, edited);
    fs::write(b.join("recipe.toml"), &edited).unwrap();
    refused(&[
        "b: cannot go on",
        "no longer what the run was made of: recipe train.learning-rate was 0.01, is 0.02",
    ]);
    fs::write(b.join("recipe.toml"), recipe.replace("learning-rate", "learning-rat")).unwrap();
    refused(&["recipe.toml", "unknown key `learning-rat`", "did you mean `learning-rate`?"]);
    fs::write(b.join("recipe.toml"), &recipe).unwrap();

    // Another number of threads gives other last bits.
    let output = program(dir).args(RESUME).args(["--threads", "2"]).output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert!(line.contains("made of: threads") && line.lines().count() == 1, "{line}");

    // Other text to learn from.
    let text = fs::read_to_string(dir.join("keep.txt")).unwrap();
    fs::write(dir.join("keep.txt"), text.replace("boats", "ships")).unwrap();
    refused(&["b: cannot go on", "made of: data was blake3:", "; data text was blake3:"]);
    fs::write(dir.join("keep.txt"), &text).unwrap();

    // A frozen weight of the expanded model.
    let (file, at) = common::place_of(&b.join("expanded"), "model.embed_tokens.weight");
    flip(&file, at);
    refused(&["b: cannot go on", "made of: model"]);
    flip(&file, at);

    // Without the record of what it was made of, the checkpoint still knows.
    let record = fs::read(b.join("provenance.json")).unwrap();
    fs::remove_file(b.join("provenance.json")).unwrap();
    fs::write(b.join("recipe.toml"), &edited).unwrap();
    let words = ["belongs to another run", "recipe train.learning-rate was 0.01, is 0.02"];
    refused(&[&format!("step-{step:08}"), words[0], words[1]]);
    fs::write(b.join("recipe.toml"), &recipe).unwrap();
    fs::write(b.join("provenance.json"), record).unwrap();

    // All put back: it goes on.
    run(dir, "pretrain --resume --run b").ok();
    assert_eq!(curve(&b).len(), STEPS as usize);
    run(dir, "verify b/model --base base/model").ok();
}
