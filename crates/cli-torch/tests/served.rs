//! `eval --url` from the command line to the result file, against a small server on this machine: a run through, and
//! servers that stall, talk nonsense or die midway, each followed by `--resume`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../eval/tests/common/server.rs"]
mod server;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use server::{Fault, Server};

/// Any folder with a tokenizer will do.
fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/base-tiny").canonicalize().unwrap()
}

const TASKS: &str = "mini_prose_ppl,mini_arithmetic_mc:2,mini_arithmetic";

fn eval(folder: &Path, url: &str, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llama-pro-torch"));
    command.env("LLAMA_PRO_LOG", "error").arg("eval").arg(model());
    command.args([
        "--url",
        url,
        "--timeout",
        "0.5",
        "--tasks",
        TASKS,
        "--limit",
        "12",
        "--max-gen-toks",
        "16",
    ]);
    command.args(words).current_dir(folder).output().unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Lines of answers, without the head.
fn answers(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count().saturating_sub(1))
}

#[test]
fn a_served_model_is_scored_and_a_run_that_was_cut_off_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let whole = Server::start("127.0.0.1:0", Fault::None, 0);
    let output = eval(dir.path(), &whole.url, &["--served-as", "toy", "--out", "whole.json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = read(&dir.path().join("whole.json"));
    assert_eq!(expected["results"].as_object().unwrap().len(), 3);
    assert_eq!(expected["samples"]["mini_arithmetic_mc"].as_array().unwrap().len(), 12);
    assert!(!dir.path().join("whole.json.answers").exists());
    let (requests, prompts) = (whole.requests(), whole.prompts());
    for (fault, after) in [
        (Fault::Stalls, 2),
        (Fault::Garbage, 3),
        (Fault::Page, 0),
        (Fault::Half, requests - 1),
        (Fault::Dies, requests / 2),
        (Fault::Nonsense, 1),
    ] {
        let out = format!("{fault:?}.json");
        let (result, journal) = (dir.path().join(&out), dir.path().join(format!("{out}.answers")));
        let server = Server::start("127.0.0.1:0", fault, after);
        let address = server.address().to_owned();
        let words = ["--served-as", "toy", "--out", &out];
        let output = eval(dir.path(), &server.url, &words);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let place = format!("{fault:?} after {after} of {requests}: {stderr}");
        assert!(!output.status.success() && output.stdout.is_empty(), "{place}");
        assert!(stderr.lines().count() == 1 && stderr.contains(&address), "{place}");
        let kept = answers(&journal);
        assert!(stderr.contains(&format!("{kept} answers are kept, --resume goes on")), "{place}");
        assert!(!result.exists() && journal.exists(), "{place}");
        assert!(after < 2 || kept > 0, "{place}");
        drop(server);
        let server = Server::start(&address, Fault::None, 0);
        let output = eval(dir.path(), &server.url, &[words.as_slice(), &["--resume"]].concat());
        assert!(output.status.success(), "{place}{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(server.prompts() + kept, prompts, "{place}");
        let found = read(&result);
        for section in ["results", "samples", "task_hashes", "n-samples"] {
            assert_eq!(found[section], expected[section], "{section}: {place}");
        }
        assert!(!journal.exists(), "{place}");
    }
}

#[test]
fn another_model_does_not_take_up_its_answers() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start("127.0.0.1:0", Fault::Dies, 3);
    let address = server.address().to_owned();
    assert!(!eval(dir.path(), &server.url, &["--served-as", "toy", "--out", "r.json"]).status.success());
    drop(server);
    let server = Server::start(&address, Fault::None, 0);
    let output = eval(dir.path(), &server.url, &["--served-as", "other", "--out", "r.json", "--resume"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && stderr.contains("of another model"), "{stderr}");
    assert_eq!(server.requests(), 0);
    // Without --url there is nothing that a time limit could be for.
    let words = ["eval", model().to_str().unwrap(), "--timeout", "3"].map(str::to_owned);
    let output = Command::new(env!("CARGO_BIN_EXE_llama-pro-torch")).args(words).output().unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("--url"));
}
