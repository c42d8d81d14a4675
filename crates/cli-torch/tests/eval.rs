//! `eval` end to end: the tiny model's log-likelihoods and texts against lm-evaluation-harness' in
//! `shared/data/eval-reference` beside the clone, and what the command refuses.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The closeness of log-likelihoods, and of the sums over the windows of a text.
const NEAR: f64 = 2e-4;
const NEAR_TEXT: f64 = 2e-3;

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llama-pro-torch"));
    command.env("LLAMA_PRO_LOG", "warn");
    command
}

fn eval(folder: &Path, words: &[&str]) -> Output {
    program().arg("--threads").arg("1").arg("eval").args(words).current_dir(folder).output().unwrap()
}

fn shared() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let there = folder.join("eval-reference/results").is_dir() && folder.join("stories260K").is_dir();
    if !there {
        println!("skipped: shared/data/eval-reference and stories260K are not here");
    }
    there.then(|| folder.canonicalize().unwrap())
}

fn samples(path: &Path) -> Vec<Value> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const ROLLING: &str = "task = \"tinystories_rolling\"\nversion = 1.0\noutput_type = \"loglikelihood_rolling\"\n\
    test_split = \"test\"\ndoc_to_target = \"{{page}}\"\n\
    metrics = [\"word_perplexity\", \"byte_perplexity\", \"bits_per_byte\"]\n[data]\nplaces = [\"tinystories_rolling\"]\n";

#[test]
fn log_likelihoods_and_texts_are_the_harness() {
    let Some(shared) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path();
    std::fs::write(out.join("rolling.toml"), ROLLING).unwrap();
    let model = shared.join("stories260K");
    let data = shared.join("eval-reference/data");
    let (model, data) = (model.to_str().unwrap(), data.to_str().unwrap());
    let (mut compared, mut wanted) = (0, 0);
    // The README names four documents with a step whose two best logits are nearer than float32 can tell.
    let mut other_texts = 0;
    for (run, tasks, words) in [
        ("arc_easy-2", "arc_easy", "--shots 2"),
        ("arc_easy-2-nobos", "arc_easy", "--shots 2 --protocol 0.4.0"),
        ("piqa-0", "piqa", ""),
        ("truthfulqa_mc2-0", "truthfulqa_mc2", ""),
        ("mmlu_open-5", "mmlu_abstract_algebra,mmlu_anatomy", "--shots 5"),
        ("tinystories_rolling-0", "rolling.toml", ""),
        ("gsm8k-1", "gsm8k", "--shots 1 --max-gen-toks 64"),
        ("gsm8k-1-stops-nobos", "gsm8k", "--shots 1 --max-gen-toks 96 --add-bos false --limit 20"),
        ("humaneval-0", "humaneval", "--max-gen-toks 64 --predict-only"),
    ] {
        let mut all = vec![model, "--data", data, "--tasks", tasks, "--out", "r.json"];
        all.extend(words.split_whitespace());
        if run.contains("stops") {
            all.extend(["--until", "\n"]);
        }
        let output = eval(out, &all);
        assert!(output.status.success(), "{run}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!out.join("r.json.answers").exists());
        let record: Value =
            serde_json::from_str(&std::fs::read_to_string(out.join("r.json")).unwrap()).unwrap();
        let folder = shared.join("eval-reference/results").join(run);
        let expected: Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join("results.json")).unwrap()).unwrap();
        assert_eq!(record["task_hashes"], expected["task_hashes"], "{run}");
        for (task, ours) in record["samples"].as_object().unwrap() {
            let one = folder.join("samples.jsonl.gz");
            let theirs =
                samples(&if one.exists() { one } else { folder.join(format!("samples_{task}.jsonl.gz")) });
            // Two filters list every document twice; here one of them is enough.
            let ours = ours.as_array().unwrap();
            assert_eq!(ours.len() % theirs.len(), 0, "{run} {task}");
            let scored: u64 =
                theirs.iter().map(|t| t["requests"].as_array().map_or(0, |r| r.len() as u64)).sum();
            let counted = expected["request_counts"][task]["requests"].as_u64().unwrap_or(0);
            assert_eq!(scored, counted, "{run} {task}: not every request is recorded");
            wanted += if scored > 0 { scored as usize } else { theirs.len() };
            for (ours, theirs) in ours.iter().zip(&theirs) {
                let place = format!("{run} {task} {}", theirs["doc_id"]);
                for (i, request) in theirs["requests"].as_array().into_iter().flatten().enumerate() {
                    let (ll, greedy) = (&ours["filtered_resps"][i][0], &ours["filtered_resps"][i][1]);
                    let off = (ll.as_f64().unwrap() - request["ll"].as_f64().unwrap()).abs();
                    assert!(off <= NEAR, "{place} request {i}: off by {off}");
                    assert_eq!(*greedy, request["greedy"], "{place} request {i}");
                    compared += 1;
                }
                if let Some(ll) = theirs["ll"].as_f64() {
                    let off = (ours["filtered_resps"][0][0].as_f64().unwrap() - ll).abs();
                    assert!(off <= NEAR_TEXT, "{place}: off by {off}");
                    compared += 1;
                }
                if theirs["text"].is_string() && theirs["gen_ids"].is_array() {
                    other_texts += usize::from(ours["resps"][0][0] != theirs["text"]);
                    compared += 1;
                }
            }
        }
        for (task, row) in record["results"].as_object().unwrap() {
            for (key, value) in row.as_object().unwrap() {
                let theirs = &expected["results"][task][key];
                let (Some(a), Some(b)) = (value.as_f64(), theirs.as_f64()) else { continue };
                // Shares of right answers are the same number; what is a mean of likelihoods is near.
                let near = if key.contains("perplexity") || key.contains("bits") || run.contains("mc2") {
                    1e-4
                } else {
                    1e-12
                };
                assert!((a - b).abs() <= near * b.abs().max(1.0), "{run} {task} {key}: {a}, expected {b}");
            }
        }
    }
    assert_eq!(compared, wanted);
    assert!(other_texts <= 4, "{other_texts} texts differ");
    println!("{compared} answers compared, {other_texts} texts differ");
}

#[test]
fn refusals_are_one_line_and_leave_nothing() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/base-tiny").canonicalize().unwrap();
    let base = base.to_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("bare")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(Path::new(base).join(name), dir.path().join("bare").join(name)).unwrap();
    }
    std::fs::write(dir.path().join("a.json"), "{}").unwrap();
    for (words, expected) in [
        (vec!["none"], "none"),
        (vec!["bare"], "tokenizer"),
        (vec![base, "--tasks", "arc_easy"], "arc_easy: no data"),
        (vec![base, "--tasks", "arc_esy"], "did you mean \"arc_easy\""),
        (vec![base, "--tasks", "mini_arithmetic_mc", "--out", "no/r.json"], "there is no such folder"),
        (vec![base, "--tasks", "mini_arithmetic_mc", "--out", "bare"], "found a folder"),
        (vec!["--compare", "a.json", "a.json"], "no result file"),
        (vec!["--compare", "a.json", "b.json"], "b.json: cannot read"),
    ] {
        let output = eval(dir.path(), &words);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {stderr}");
        assert!(stderr.contains(expected) && stderr.lines().count() == 1, "{words:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{words:?}");
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(left.len(), 2, "{words:?}: {left:?}");
    }
}

#[test]
fn tasks_without_data_and_a_comparison() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/base-tiny").canonicalize().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let tasks = "mini_prose_ppl,mini_arithmetic_mc,mini_arithmetic";
    for out in ["a.json", "b.json"] {
        let words = [base.to_str().unwrap(), "--tasks", tasks, "--limit", "12", "--out", out];
        let output = eval(dir.path(), &words);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            ["mini_arithmetic_mc", "byte_perplexity", "stderr"].iter().all(|w| table.contains(w)),
            "{table}"
        );
    }
    let read = |name: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(dir.path().join(name)).unwrap()).unwrap()
    };
    assert_eq!(read("a.json")["results"], read("b.json")["results"]);
    let output = eval(dir.path(), &["--compare", "a.json", "b.json", "--json"]);
    let lines: Vec<Value> =
        String::from_utf8_lossy(&output.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(lines.iter().any(|l| l["task"] == "mini_arithmetic_mc" && l["verdict"] == "no difference seen"));
    assert!(lines.iter().all(|l| l["difference"] == 0.0));
}
