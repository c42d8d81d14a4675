//! `llama-pro generate` against transformers' greedy text, and what it refuses.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

#[path = "../../cli/tests/common/mod.rs"]
mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::{fixture, run_list};
use serde_json::Value;

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/base-tiny")
}

fn reference(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn json(model: &Path, args: &[&str]) -> Vec<Value> {
    let model = model.to_str().unwrap();
    let list = [&["generate", model, "--json", "--dtype", "f32"], args].concat();
    let ran = run_list(Path::new("."), &list).ok();
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Ids and text of every prompt alone, and of all side by side.
fn check(model: &Path, expected: &[Value]) {
    let prompts: Vec<&str> = expected.iter().map(|e| e["prompt"].as_str().unwrap()).collect();
    let mut all = vec!["--max-new-tokens", "80"];
    for prompt in &prompts {
        all.extend(["--prompt", prompt]);
    }
    let together = json(model, &all);
    assert_eq!(together.len(), prompts.len());
    for ((prompt, expected), together) in prompts.iter().zip(expected).zip(&together) {
        assert_eq!(together["tokens"], expected["new_ids"], "{prompt:?} side by side");
        let whole = expected["text"].as_str().unwrap();
        assert_eq!(format!("{prompt}{}", together["text"].as_str().unwrap()), whole);
    }
    // A program each: some of them.
    for (prompt, expected) in prompts.iter().zip(expected).skip(4).take(2) {
        let alone = json(model, &["--max-new-tokens", "80", "--prompt", prompt]).remove(0);
        assert_eq!(alone["tokens"], expected["new_ids"], "{prompt:?}");
        assert_eq!(alone["prompt_tokens"], expected["prompt_ids"].as_array().unwrap().len(), "{prompt:?}");
        let text = format!("{prompt}{}", alone["text"].as_str().unwrap());
        let whole = expected["text"].as_str().unwrap();
        assert_eq!(text, whole, "{prompt:?}");
        let plain = ["generate", model.to_str().unwrap(), "--max-new-tokens", "80", "--prompt", prompt];
        let streamed = run_list(Path::new("."), &[&plain[..], &["--dtype", "f32"]].concat()).ok();
        assert_eq!(streamed.stdout, format!("{text}\n"), "{prompt:?} streamed");
    }
}

#[test]
fn greedy_text_of_the_embedded_model_is_that_of_transformers() {
    check(&tiny(), &reference("base-tiny-greedy.json"));
}

#[test]
fn greedy_text_of_stories260k_is_that_of_transformers() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/stories260K");
    if !model.exists() {
        println!("skipped: ../shared/data/stories260K is not there");
        return;
    }
    check(&model, &reference("stories260k-greedy.json"));
}

#[test]
fn stop_strings_limits_seeds_and_samples() {
    let whole = &reference("base-tiny-greedy.json")[0];
    let (prompt, text) = (whole["prompt"].as_str().unwrap(), whole["text"].as_str().unwrap());
    let new = &text[prompt.len()..];
    let middle = new.char_indices().nth(new.chars().count() / 2).unwrap().0;
    let stop: String = new[middle..].chars().take(4).collect();
    let stopped = json(&tiny(), &["--prompt", prompt, "--stop", &stop]).remove(0);
    assert_eq!(stopped["text"], new.split(&stop).next().unwrap());
    assert_eq!(stopped["finish"], "stop");
    let short = json(&tiny(), &["--prompt", prompt, "--max-new-tokens", "3"]).remove(0);
    assert_eq!((short["tokens"].as_array().unwrap().len(), &short["finish"]), (3, &Value::from("length")));
    let sample = |seed: &str| {
        let args = ["--prompt", prompt, "--temperature", "1", "--samples", "3", "--seed", seed];
        let texts = json(&tiny(), &[&args[..], &["--max-new-tokens", "20"]].concat());
        texts.iter().map(|t| t["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let texts = sample("1");
    assert_eq!(texts, sample("1"));
    assert_ne!(texts, sample("2"));
    assert!(texts[0] != texts[1] && texts[1] != texts[2]);
}

#[test]
fn prompts_come_from_a_file_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prompts.jsonl");
    fs::write(&path, "{\"prompt\": \"The\\nfirst\"}\n\nplain line\n").unwrap();
    let texts = json(&tiny(), &["--prompts", path.to_str().unwrap(), "--max-new-tokens", "2"]);
    let prompts: Vec<&str> = texts.iter().map(|t| t["prompt"].as_str().unwrap()).collect();
    assert_eq!(prompts, ["The\nfirst", "plain line"]);
    fs::write(&path, "fine\n{\"text\": 3}\n").unwrap();
    let args = ["generate", tiny().to_str().unwrap(), "--prompts", path.to_str().unwrap()].map(str::to_owned);
    let ran = run_list(dir.path(), &args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("prompts.jsonl: line 2: no string `prompt`"), "{}", ran.stderr);
}

#[test]
fn what_cannot_be_generated_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = tiny();
    let tiny = tiny.to_str().unwrap();
    let refused = |args: &[&str]| {
        let ran = run_list(dir.path(), &[&["generate"], args].concat());
        assert_eq!((ran.code, ran.stderr.lines().count()), (Some(2), 1), "{ran:#?}");
        assert_eq!(ran.stdout, "", "{ran:#?}");
        ran.stderr
    };
    let bare = fixture("llama2");
    assert!(refused(&[bare.to_str().unwrap(), "--prompt", "x"]).contains("tokenizer"));
    assert!(refused(&["nowhere", "--prompt", "x"]).contains("nowhere"));
    assert!(refused(&[tiny, "--prompt", "x", "--temperature=-1"]).contains("temperature is -1"));
    assert!(refused(&[tiny, "--prompt", "x", "--top-p", "1.5"]).contains("top-p is 1.5"));
    assert!(refused(&[tiny, "--prompt", "x", "--stop", ""]).contains("--stop"));
    assert!(refused(&[tiny, "--prompt", "x", "--base-path"]).contains("no base path"));
    let long = "word ".repeat(4000);
    assert!(refused(&[tiny, "--prompt", &long]).contains("the model reads at most"));
    // A tokenizer of another model.
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(bare.join(name), other.join(name)).unwrap();
    }
    fs::copy(Path::new(tiny).join("tokenizer.json"), other.join("tokenizer.json")).unwrap();
    assert!(refused(&["other", "--prompt", "x"]).contains("do not belong together"));
}

/// `… | head -1`: a reader that goes away is no error.
#[test]
fn a_closed_pipe_is_silent() {
    let mut command = common::program(Path::new("."));
    command.args(["generate", tiny().to_str().unwrap(), "--prompt", "fn main", "--max-new-tokens", "60"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(1), ""));
}

/// Holds a conversation through pipes: exit code, answers and messages.
fn chat(model: &str, input: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let mut command = common::program(Path::new("."));
    command.args(["--threads", "1", "generate", model, "--chat", "--dtype", "f32", "--max-new-tokens", "12"]);
    command.args(more).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Each answer is the continuation of the whole conversation as the template writes it. The template here has no special
/// tokens, so that `--prompt` can be given the same text.
#[test]
fn a_conversation_goes_on_from_its_history() {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(tiny()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}\
        {% if add_generation_prompt %}[assistant] {% endif %}";
    fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    let questions = ["def add(a, b):", "The first of them", "import os"];
    let (mut history, mut expected) = (String::new(), String::new());
    for question in questions {
        history += &format!("[user] {question}\n[assistant] ");
        let args = ["--prompt", &history, "--max-new-tokens", "12", "--stop", "\\n[user]"];
        let answer = json(dir.path(), &args).remove(0)["text"].as_str().unwrap().to_owned();
        history += &format!("{answer}\n");
        expected += &format!("{answer}\n");
        if question != questions[0] {
            let alone = format!("[user] {question}\n[assistant] ");
            let alone = json(dir.path(), &["--prompt", &alone, "--max-new-tokens", "12"]).remove(0);
            assert_ne!(alone["text"], answer, "this question cannot tell whether the history counts");
        }
    }
    let (code, out, err) = chat(dir.path().to_str().unwrap(), &(questions.join("\n\n") + "\n"), &[]);
    assert_eq!((code, out), (Some(0), expected), "{err}");
}

/// A built-in template, the commands of a conversation, and what it refuses.
#[test]
fn a_conversation_can_be_started_anew() {
    let tiny = tiny();
    let tiny = tiny.to_str().unwrap();
    // What the built-in template says, by hand; `</s>` between the turns is a token of its own, so text cannot give it.
    let first = "<|system|>\nBe brief\n<|user|>\nWhat is it?\n<|assistant|>\n";
    let answer = json(Path::new(tiny), &["--prompt", first, "--max-new-tokens", "12"]).remove(0);
    let answer = answer["text"].as_str().unwrap();
    let args = ["--template", "tulu", "--system", "Be brief"];
    let input = "What is it?\n/new\nWhat is it?\n/what\n</s>\n/system\nWhat is it?\n";
    let (code, out, err) = chat(tiny, input, &args);
    assert_eq!(code, Some(0), "{err}");
    let (_, without_system, _) = chat(tiny, "What is it?\n", &["--template", "tulu"]);
    assert_eq!(out, format!("{answer}\n{answer}\n{without_system}"));
    assert!(err.contains("no command /what") && err.contains("`</s>` would be read"), "{err}");
    let (code, out, err) = chat(tiny, "x\n", &[]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("has no chat template: --template names one of tulu"), "{err}");
}
