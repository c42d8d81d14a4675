//! `llama-pro prepare` as a user runs it: the account, bad recipes, a full disk, and SIGKILL at any moment.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

#[path = "common/mod.rs"]
mod common;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{disk, program, run, tree};

const RECIPE: &str = "out = \"out\"\ntokenizer = \"embedded\"\npart-bytes = 60_000\n[dedup.near]\n\
    [[sources]]\nname = \"code\"\nfilters = { starcoder2 = true, encoded = true, pii = true }\n\
    source = { kind = \"files\", path = \"src\", extensions = [\"py\"] }\n\
    [[sources]]\nname = \"math\"\nnear-dedup = false\nsource = { kind = \"math\", seed = 1, documents = 2000 }\n";

/// A folder with the recipe and a megabyte of code, most of it distinct.
fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("src")).unwrap();
    fs::write(dir.path().join("r.toml"), RECIPE).unwrap();
    for i in 0..150u64 {
        let mut text = String::new();
        for j in 0..160 {
            let x = (i / 2 * 1_000 + j).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
            writeln!(text, "def f_{x:x}(value):\n    return value + {x}").unwrap();
        }
        writeln!(text, "# file {i}, me{i}@home.org").unwrap();
        fs::write(dir.path().join(format!("src/f{i}.py")), text).unwrap();
    }
    dir
}

/// What is for the reader: everything but work and lock.
fn outputs(dir: &Path) -> common::Tree {
    let mut all = tree(&dir.join("out"));
    all.retain(|name, _| !name.starts_with("work") && !name.starts_with(".lock"));
    all
}

#[test]
fn the_account_is_printed_and_a_second_run_finds_everything_done() {
    let dir = place();
    let ran = run(dir.path(), "prepare --config r.toml --json").ok();
    let json = ran.json();
    let sum = |key: &str, source: &serde_json::Value| -> u64 {
        source["documents"][key].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum()
    };
    for source in json["sources"].as_array().unwrap() {
        let counts = &source["documents"];
        let all = counts["kept"].as_u64().unwrap() + sum("dropped", source) + sum("failed", source);
        assert_eq!(counts["seen"].as_u64().unwrap(), all);
    }
    // Files come in pairs that differ in one line, and still do once the addresses are replaced.
    assert_eq!(json["sources"][0]["documents"]["dropped"]["near-duplicate"], 75);
    assert_eq!(json["sources"][0]["pii"]["emails"], 150);
    let before = outputs(dir.path());
    let again = run(dir.path(), "prepare --config r.toml").ok();
    assert!(again.stdout.contains("was up to date"), "{}", again.stdout);
    assert!(again.stdout.contains("checked: 2150 in = "), "{}", again.stdout);
    assert!(outputs(dir.path()) == before);
    assert!(run(dir.path(), "prepare --config r.toml --force").ok().stdout.contains("token shards"));
    assert!(outputs(dir.path()) == before, "--force ends with the same bytes");
    // What is refused costs the corpus that is there nothing.
    run(dir.path(), "prepare --config r.toml --set split.validation=0.0000001")
        .refused(&["falls into validation"]);
    assert!(outputs(dir.path()) == before, "a refused run changed the corpus");
    // What a person put into the work folder is no piece of a run.
    let work = dir.path().join("out/work");
    fs::write(work.join("thesis.txt"), "mine").unwrap();
    run(dir.path(), "prepare --config r.toml --force --threads 2 --set keep-work=false").ok();
    assert_eq!(tree(&work).into_keys().collect::<Vec<_>>(), [Path::new("thesis.txt")]);
}

#[test]
fn recipes_that_cannot_be_are_one_line() {
    let dir = place();
    for (args, words) in [
        ("prepare --config nope.toml", vec!["nope.toml"]),
        ("prepare --config r.toml --set on-eror=skip", vec!["on-eror", "on-error"]),
        ("prepare --config r.toml --set sources.code.filters.starcoder2.max-line=3", vec!["max-line"]),
        ("prepare --config r.toml --set sources.code.filters.starcoder2=3", vec!["true, false or a table"]),
        ("prepare --config r.toml --set split.validation=2", vec!["split.validation", "2"]),
        ("prepare --config r.toml --set tokenizer=none.json", vec!["none.json"]),
    ] {
        run(dir.path(), args).refused(&words);
        assert!(!dir.path().join("out").exists(), "{args}");
    }
    for (args, words) in [
        ("prepare --config r.toml --set out=", vec!["out: ", "expected a folder"]),
        ("prepare --config r.toml --set out=src", vec!["src: ", "expected a new folder", "`f0.py`"]),
        ("prepare --config r.toml --set sources.math.weight=-1", vec!["weight: ", "source math", "-1"]),
        ("prepare --config r.toml --threads 5000", vec!["5000"]),
    ] {
        let ran = run(dir.path(), args);
        assert!(ran.code == Some(2) && words.iter().all(|word| ran.stderr.contains(word)), "{args}: {ran:?}");
        assert!(!dir.path().join("out").exists() && !dir.path().join(".lock").exists(), "{args}");
    }
    run(dir.path(), "prepare --config r.toml --set sources.code.source.path=gone").refused(&["gone"]);
}

#[test]
fn a_full_disk_is_one_line_and_room_makes_the_next_run_go_on() {
    let dir = place();
    let Some(small) = disk::Small::mount(&dir.path().join("small"), "700k") else { return };
    let args = "prepare --config r.toml --set out=small/out";
    disk::full(run(dir.path(), args), &["No space left on device"]);
    assert!(!small.path().join("out/shards.json").exists());
    small.resize("64m");
    run(dir.path(), args).ok();
}

#[test]
fn a_kill_at_any_moment_costs_no_finished_part_and_no_byte() {
    let dir = place();
    // The second time everything that it reads is in memory, as in the runs that are killed.
    run(dir.path(), "prepare --config r.toml").ok();
    fs::remove_dir_all(dir.path().join("out")).unwrap();
    let started = Instant::now();
    run(dir.path(), "prepare --config r.toml").ok();
    let whole = (outputs(dir.path()), started.elapsed());
    let mut killed = 0;
    for i in 0..14u32 {
        if i % 7 == 0 && dir.path().join("out").exists() {
            fs::remove_dir_all(dir.path().join("out")).unwrap();
        }
        let mut child = program(dir.path())
            .args(["--threads", "1", "prepare", "--config", "r.toml"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(whole.1 * (i % 7 + 1) / 16 + Duration::from_millis(5));
        child.kill().unwrap();
        killed += u32::from(child.wait().unwrap().code().is_none());
        // What is there under its name is whole, and stays.
        let pieces = |kind: &str| -> Vec<_> {
            let entries = fs::read_dir(dir.path().join("out/work").join(kind)).into_iter().flatten();
            let named =
                entries.map(Result::unwrap).filter(|e| !e.file_name().as_encoded_bytes().starts_with(b"."));
            let records = named.map(|entry| entry.path().join("part.json"));
            records
                .filter(|r| r.exists())
                .map(|r| (r.clone(), r.metadata().unwrap().modified().unwrap()))
                .collect()
        };
        let before = [pieces("parts"), pieces("tokens")].concat();
        if i % 7 == 6 {
            run(dir.path(), "prepare --config r.toml").ok();
            let again = outputs(dir.path());
            let differ: Vec<_> = again
                .iter()
                .filter(|(name, bytes)| whole.0.get(*name) != Some(bytes))
                .map(|(name, _)| name.display().to_string())
                .chain(
                    whole
                        .0
                        .keys()
                        .filter(|n| !again.contains_key(*n))
                        .map(|n| format!("{} gone", n.display())),
                )
                .collect();
            assert!(differ.is_empty(), "after kills, other bytes: {differ:?}");
            let after = [pieces("parts"), pieces("tokens")].concat();
            assert!(before.iter().all(|piece| after.contains(piece)), "what was finished is not done again");
            let left: Vec<_> = tree(&dir.path().join("out"))
                .into_keys()
                .filter(|n| n.to_string_lossy().contains(".partial"))
                .collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
    assert!(killed >= 4, "killed only {killed} of 14: this is no test");
}
