//! Bad input through the program: exit code 2, one line that says what and where, nothing on stdout, nothing left behind.
//! What `pretrain` and `debug` refuse is in `crates/cli-torch/tests/errors.rs`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::broken::{Level, folders, place, records};
use common::{assert_unchanged, copy, disk, edit_json, fixture, program, refused, run, tree};
use serde_json::json;

/// Every command that opens a model folder.
const COMMANDS: [&str; 4] = ["inspect m", "expand m out --blocks 1", "verify m", "strip m out"];

#[test]
fn broken_folders() {
    for broken in folders() {
        let dir = broken.place();
        // verify and strip miss the record before they count blocks.
        let commands = match broken.level {
            Level::Files => &COMMANDS[..],
            Level::Depth => &COMMANDS[..2],
            Level::Model => {
                refused(dir.path(), "inspect m", &broken.words());
                // expand may meet another sign of the same fault first.
                refused(dir.path(), "expand m out --blocks 1", &[]);
                continue;
            }
            Level::Feature => {
                // inspect shows what can be shown, and says why the model cannot be run.
                let found = run(dir.path(), "inspect m --json").ok().json();
                let said = found["supported"].as_str().unwrap();
                assert!(broken.words.iter().all(|word| said.contains(word)), "{said}");
                continue;
            }
        };
        for command in commands {
            refused(dir.path(), command, &broken.words());
        }
    }
}

#[test]
fn models_that_cannot_be_grown() {
    let dir = place("llama2");
    let dir = dir.path();
    let set = |key: &str, value| {
        edit_json(&dir.join("m/config.json"), |map| {
            map.insert(key.to_owned(), value);
        });
    };
    set("num_hidden_layers", json!(3));
    refused(dir, "expand m out --blocks 1", &["tensor model.layers.3.", "3 blocks of config.json"]);
    set("num_hidden_layers", json!(5));
    refused(
        dir,
        "expand m out --blocks 1",
        &["m: cannot be expanded: tensor model.layers.4.", "is not there"],
    );
    set("num_hidden_layers", json!(4));
    // Blocks whose zeroed outputs would not be an identity.
    set("model_type", json!("gemma2"));
    refused(dir, "expand m out --blocks 1", &["m/config.json: cannot be expanded", "gemma2"]);
}

#[test]
fn files_that_may_not_be_read() {
    let dir = place("llama2");
    let m = dir.path().join("m");
    let deny = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    deny(&m.join("model.safetensors"), 0);
    if fs::read(m.join("model.safetensors")).is_ok() {
        println!("skipped: this user may read everything");
        return;
    }
    for command in COMMANDS {
        run(dir.path(), command).refused(&["m/model.safetensors", "ermission denied"]);
    }
    deny(&m, 0);
    for command in COMMANDS {
        run(dir.path(), command).refused(&["m/config.json", "ermission denied"]);
    }
    deny(&m, 0o755);
    deny(&m.join("model.safetensors"), 0o644);
    // A folder that nothing may be written into.
    fs::create_dir(dir.path().join("closed")).unwrap();
    deny(&dir.path().join("closed"), 0o555);
    refused(dir.path(), "expand m closed/out --blocks 1", &["closed", "ermission denied"]);
    deny(&dir.path().join("closed"), 0o755);
}

#[test]
fn records_that_do_not_fit() {
    let dir = place("llama2");
    let dir = dir.path();
    run(dir, "expand m two --blocks 2").ok();
    run(dir, "expand m one --blocks 1").ok();
    fs::remove_dir_all(dir.join("m")).unwrap();
    copy(&dir.join("two"), &dir.join("m"));
    let good = fs::read_to_string(dir.join("two/expansion.json")).unwrap();
    let other = fs::read_to_string(dir.join("one/expansion.json")).unwrap();
    for (text, words) in records(&good, &other) {
        fs::write(dir.join("m/expansion.json"), text).unwrap();
        for command in COMMANDS {
            refused(dir, command, &words);
        }
    }
    // A record beside a model that was never expanded.
    fs::remove_dir_all(dir.join("m")).unwrap();
    copy(&fixture("llama2"), &dir.join("m"));
    fs::write(dir.join("m/expansion.json"), &good).unwrap();
    for command in COMMANDS {
        refused(
            dir,
            command,
            &["the record disagrees with the folder", "config.json has 4 blocks, the record 6"],
        );
    }
    // And what needs one, without.
    fs::remove_file(dir.join("m/expansion.json")).unwrap();
    refused(dir, "verify m", &["m: not an expanded model: expansion.json is not there"]);
    refused(dir, "strip m out", &["m: not an expanded model"]);
    refused(dir, "verify two --base one", &["two/expansion.json", "one has 5 blocks", "[4]"]);
    refused(dir, "verify two --base nope", &["nope is not there"]);
}

#[test]
fn places_and_outputs() {
    let dir = place("llama2");
    let dir = dir.path();
    for (args, words) in [
        ("", ["--blocks N", "--at"]),
        ("--blocks 0", ["must be 1 to 4", "found 0"]),
        ("--blocks 5", ["5 groups do not fit 4 blocks", "at most 4"]),
        ("--blocks 99999999999", ["99999999999", "at most 4"]),
        ("--blocks 3 --per-group 2", ["3 new blocks", "multiple of 2 per group"]),
        ("--blocks 2 --per-group 0", ["at least 1", "found 0"]),
        ("--at 0", ["position 0", "start at 1"]),
        ("--at 99", ["position 99 is out of range", "1 to 4"]),
        ("--at 3,3", ["position 3", "twice"]),
    ] {
        refused(dir, &format!("expand m out {args}"), &words);
        refused(dir, &format!("expand m out --dry-run {args}"), &words);
    }
    fs::create_dir(dir.join("there")).unwrap();
    fs::write(dir.join("there/notes.txt"), "mine").unwrap();
    fs::write(dir.join("file"), "mine").unwrap();
    std::os::unix::fs::symlink("m", dir.join("link")).unwrap();
    run(dir, "expand m grown --blocks 1").ok();
    for (command, words) in [
        ("expand m there --blocks 1", ["there: ", "exists"]),
        ("expand m file --blocks 1", ["file: ", "exists"]),
        ("expand m there --blocks 1 --force", ["there", "no config.json"]),
        ("expand m file --blocks 1 --force", ["file", "no folder"]),
        ("expand m m --blocks 1", ["m: ", "is the input folder"]),
        ("expand m link --blocks 1 --force", ["link: ", "is the input folder"]),
        ("expand m m/out --blocks 1", ["m/out: ", "inside the input folder m"]),
        ("expand m link/out --blocks 1", ["link/out: ", "inside the input folder m"]),
        ("expand m . --blocks 1 --force", [".: ", "contains the input folder m"]),
        ("expand m no/out --blocks 1", ["no", "is not there"]),
        ("strip grown m", ["m: ", "exists"]),
        ("strip grown grown/out", ["grown/out: ", "inside the input folder"]),
        ("report nope", ["nope", "no such run folder"]),
        ("report m", ["m: not a run folder", "recipe.toml"]),
    ] {
        refused(dir, command, &words);
    }
}

#[test]
fn arguments_that_clap_refuses() {
    let dir = place("llama2");
    let before = tree(dir.path());
    for args in [
        "",
        "nonsense",
        "inspect",
        "inspect m more",
        "expand m",
        "expand m out --blocks many",
        "expand m out --blocks -1",
        "expand m out --blocks 1 --at 2",
        "expand m out --at 2 --per-group 1",
        "expand m out --at 1,x",
        "verify m --unknown",
        "--threads many inspect m",
    ] {
        let ran = run(dir.path(), args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:#?}");
        assert!(!ran.stderr.is_empty() && !ran.stderr.contains("panicked"), "{ran:#?}");
        assert_unchanged(&before, dir.path());
    }
}

#[test]
fn a_full_disk() {
    let dir = place("llama2");
    let dir = dir.path();
    run(dir, "expand m grown --blocks 2").ok();
    let Some(small) = disk::Small::mount(&dir.join("small"), "600k") else { return };
    fs::write(small.path().join("mine"), "stays").unwrap();
    let before = tree(small.path());
    for command in ["expand m small/out --blocks 2", "strip grown small/out"] {
        disk::full(run(dir, command), &["small/out", "needed"]);
        assert_unchanged(&before, small.path());
    }
}

/// The fixture with a vocabulary of 160,000: 80 MB, so that writing takes a while. Expansion moves bytes and asks for no
/// more than the names of blocks.
fn large_copy(from: &Path, to: &Path) {
    copy(from, to);
    // Of a family that is not computed here, so that its tensors are not held against its sizes.
    edit_json(&to.join("config.json"), |map| {
        map.insert("model_type".to_owned(), json!("qwen3"));
    });
    let path = to.join("model.safetensors");
    let (mut header, mut data) = common::open_tensors(&path);
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        let begin = data.len();
        data.extend((0..160_000u32 * 64).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()));
        let entry = json!({ "dtype": "F32", "shape": [160_000, 64], "data_offsets": [begin, data.len()] });
        header.insert(format!("large.{name}"), entry);
    }
    common::write_tensors(&path, &serde_json::Value::Object(header).to_string(), &data);
}

#[test]
fn ctrl_c_while_expanding() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    large_copy(&fixture("llama2"), &dir.join("big"));
    run(dir, "expand big whole --blocks 4").ok();
    let whole = tree(&dir.join("whole"));
    let before = tree(dir);
    let mut stopped = 0;
    for (i, signal) in ["INT", "KILL", "TERM"].iter().cycle().take(12).enumerate() {
        let mut child = program(dir)
            .args(["expand", "big", "out", "--blocks", "4"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // From the moment that something lies there, more and more of it.
        while !dir.join(".out.partial").exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_millis(3 * (i as u64 / 3)));
        let line = format!("kill -{signal} {} 2>/dev/null", child.id());
        let _ = Command::new("sh").args(["-c", &line]).status();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        match output.status.code() {
            Some(0) => {
                assert!(tree(&dir.join("out")) == whole, "finished, and not whole");
                fs::remove_dir_all(dir.join("out")).unwrap();
            }
            Some(code) => {
                assert!(code == 2 && said.lines().count() == 1, "{code}: {said}");
                assert!(said.starts_with("error: ") && said.contains("out was stopped"), "{said}");
                stopped += 1;
            }
            None => {
                // SIGKILL cannot be heard: the next run takes up what lies there, and its result is whole.
                assert_eq!(*signal, "KILL", "{said}");
                assert!(!dir.join("out").exists());
                run(dir, "expand big out --blocks 4").ok();
                assert!(tree(&dir.join("out")) == whole, "taken up after a kill, and not the same");
                fs::remove_dir_all(dir.join("out")).unwrap();
                stopped += 1;
            }
        }
        assert_unchanged(&before, dir);
    }
    println!("stopped {stopped} of 12");
    assert!(stopped >= 3, "stopped only {stopped} of 12: this is no test");
}

/// `llama-pro … | head -1`: a reader that goes away is no defect of ours.
#[test]
fn a_closed_pipe_is_silent() {
    let dir = place("llama2");
    let mut child = program(dir.path())
        .args(["inspect", "m"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// A log on a full disk says nothing any more, and the exit code still does; a result that cannot be written is an error.
#[test]
fn outputs_on_a_full_disk() {
    let Ok(full) = fs::File::options().write(true).open("/dev/full") else {
        println!("skipped: there is no /dev/full");
        return;
    };
    let dir = place("llama2");
    let code = |args: &str| {
        let mut program = program(dir.path());
        program.args(args.split(' ')).stdout(Stdio::null()).stderr(full.try_clone().unwrap());
        program.status().unwrap().code()
    };
    assert_eq!(code("inspect nowhere"), Some(2));
    assert_eq!(code("expand m grown --blocks 2"), Some(0));
    let output =
        program(dir.path()).args(["inspect", "m"]).stdout(full.try_clone().unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: stdout: cannot write: ") && said.lines().count() == 1, "{said}");
}
