//! Prompts, draws, token counts, scores and hashes against lm-evaluation-harness 0.4.13's own results on public data, in
//! `shared/data/eval-reference` beside the clone: every request and log-likelihood of 24 runs. The model is played by the
//! recorded answers, so whatever differs is this crate's doing.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod common;

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use common::Silent;
use llama_pro_eval::{
    BoxError, Catalog, ChoiceRequest, ChoiceScore, Codec, DataRoot, GenerateRequest, Group, Journal,
    LanguageModel, Options, RowScore, Selection, TokenRow, TokenizerCodec, evaluate, report,
};
use llama_pro_text::Tokenizer;
use serde_json::Value;

/// Answers with what the harness' model answered, by the token ids of the request.
#[derive(Default)]
struct Replay {
    scores: HashMap<(Vec<i64>, Vec<i64>), (f64, bool)>,
    texts: HashMap<Vec<i64>, Vec<i64>>,
}

impl LanguageModel for Replay {
    fn score(&mut self, _: &[TokenRow]) -> Result<Vec<RowScore>, BoxError> {
        Err("benchmarks do not score rows".into())
    }

    fn max_row(&self) -> Option<usize> {
        Some(512)
    }

    fn choices(&mut self, requests: &[ChoiceRequest]) -> Result<Vec<Vec<ChoiceScore>>, BoxError> {
        let one = |context: &Vec<i64>, continuation: &Vec<i64>| {
            let key = (context.clone(), continuation.clone());
            let (log_likelihood, is_greedy) =
                *self.scores.get(&key).ok_or("a request that the harness did not make")?;
            Ok(ChoiceScore { log_likelihood, is_greedy })
        };
        requests.iter().map(|r| r.continuations.iter().map(|c| one(&r.context, c)).collect()).collect()
    }

    fn generate(
        &mut self,
        requests: &[GenerateRequest],
        done: &mut dyn FnMut(usize, &[i64]) -> bool,
    ) -> Result<Vec<Vec<i64>>, BoxError> {
        let mut answers = Vec::new();
        for (i, request) in requests.iter().enumerate() {
            let tokens = self.texts.get(&request.prompt).ok_or("a prompt that the harness did not make")?;
            for n in 1..=tokens.len() {
                let stops = done(i, &tokens[..n]);
                // The harness stopped where these end, by a stop string or because there was no more room.
                assert!(!stops || n == tokens.len(), "stopped after {n} of {} tokens", tokens.len());
                assert!(stops || n < tokens.len() || n == request.max_new_tokens, "went on after {n} tokens");
            }
            answers.push(tokens.clone());
        }
        Ok(answers)
    }
}

fn shared() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let there = folder.join("eval-reference/results").is_dir() && folder.join("stories260K").is_dir();
    if !there {
        println!("skipped: shared/data/eval-reference and stories260K are not here");
    }
    there.then_some(folder)
}

fn samples(path: &Path) -> Vec<Value> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(codec: &TokenizerCodec, bos: bool, text: &str) -> Vec<i64> {
    let mut ids = if bos { vec![1] } else { vec![] };
    ids.extend(codec.encode(text).unwrap());
    ids
}

/// Token ids of a recorded request, by the rules of the README: the test's own words for what the crate does.
fn request(codec: &TokenizerCodec, bos: bool, request: &Value) -> (Vec<i64>, Vec<i64>) {
    let (ctx, cont) = (request["ctx"].as_str().unwrap(), request["cont"].as_str().unwrap());
    let head = ctx.trim_end();
    let whole = ids(codec, bos, &format!("{head}{}{cont}", &ctx[head.len()..]));
    let n = ids(codec, bos, head).len();
    assert_eq!(n as u64, request["n_ctx"].as_u64().unwrap());
    assert_eq!((whole.len() - n) as u64, request["n_cont"].as_u64().unwrap());
    let cut = request["cut"].as_u64().unwrap() as usize;
    (whole[cut..n].to_vec(), whole[n..].to_vec())
}

fn windows(codec: &TokenizerCodec, bos: bool, sample: &Value) -> Vec<(Vec<i64>, Vec<i64>)> {
    let tokens = ids(codec, bos, sample["text"].as_str().unwrap());
    assert_eq!(tokens.len() as u64, sample["n_tokens"].as_u64().unwrap());
    let mut all = vec![1]; // the prefix
    all.extend(tokens);
    let mut end = 1;
    let mut windows = Vec::new();
    for window in sample["windows"].as_array().unwrap() {
        let (ctx, cont) =
            (window["n_ctx"].as_u64().unwrap() as usize, window["n_cont"].as_u64().unwrap() as usize);
        windows.push((all[end - ctx..end].to_vec(), all[end..end + cont].to_vec()));
        end += cont;
    }
    assert_eq!(end, all.len());
    windows
}

/// The tasks of the reference that this crate does not have.
fn catalog() -> Catalog {
    let mut catalog = Catalog::builtin().unwrap();
    let rolling = "task = \"tinystories_rolling\"\nversion = 1.0\noutput_type = \"loglikelihood_rolling\"\n\
        test_split = \"test\"\ndoc_to_target = \"{{page}}\"\n\
        metrics = [\"word_perplexity\", \"byte_perplexity\", \"bits_per_byte\"]\n[data]\nplaces = [\"tinystories_rolling\"]\n";
    catalog.add(Path::new("tinystories_rolling.toml"), rolling).unwrap();
    catalog
}

fn select(task: &str) -> Selection {
    if task == "mmlu_open" {
        let mut selection = catalog().select(["mmlu_abstract_algebra", "mmlu_anatomy"]).unwrap();
        let members = selection.tasks.iter().map(|(t, _)| t.task.clone()).collect();
        let (name, alias) = ("mmlu_open".to_owned(), "mmlu_open".to_owned());
        selection.groups.push(Group { name, alias, version: 2.0, members });
        return selection;
    }
    catalog().select([task]).unwrap()
}

/// Runs one recorded run again and compares everything that was recorded.
fn check(shared: &Path, plan: &Value) {
    let name = plan["name"].as_str().unwrap();
    let folder = shared.join("eval-reference/results").join(name);
    let expected: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("results.json")).unwrap()).unwrap();
    let codec = TokenizerCodec::new(Tokenizer::from_dir(&shared.join("stories260K")).unwrap(), true);
    let bos = plan["bos"].as_bool().unwrap_or(true);
    let selection = select(plan["task"].as_str().unwrap());
    let of = |task: &str| match selection.tasks.len() {
        1 => samples(&folder.join("samples.jsonl.gz")),
        _ => samples(&folder.join(format!("samples_{task}.jsonl.gz"))),
    };
    let mut model = Replay::default();
    for (spec, _) in &selection.tasks {
        for sample in of(&spec.task) {
            for r in sample["requests"].as_array().into_iter().flatten() {
                let answer = (r["ll"].as_f64().unwrap(), r["greedy"].as_bool().unwrap());
                model.scores.insert(request(&codec, bos, r), answer);
            }
            if sample["windows"].is_array() {
                for (ids, w) in
                    windows(&codec, bos, &sample).into_iter().zip(sample["windows"].as_array().unwrap())
                {
                    model.scores.insert(ids, (w["ll"].as_f64().unwrap(), false));
                }
            }
            if let Some(tokens) = sample["gen_ids"].as_array() {
                let prompt = ids(&codec, bos, sample["ctx"].as_str().unwrap());
                assert_eq!(prompt.len() as u64, sample["n_ctx"].as_u64().unwrap());
                let used = sample["n_ctx_used"].as_u64().unwrap() as usize;
                let tokens = tokens.iter().map(|t| t.as_i64().unwrap()).collect();
                model.texts.insert(prompt[prompt.len() - used..].to_vec(), tokens);
            }
        }
    }
    let until = plan["gen"]["until"].as_array();
    // "max_gen_toks=96", or the same in an object.
    let tokens = plan["gen"].as_str().and_then(|text| text.strip_prefix("max_gen_toks=")?.parse().ok());
    let options = Options {
        add_bos: plan["bos"].as_bool(),
        shots: plan["shots"].as_u64().map(|n| n as usize),
        limit: plan["limit"].as_u64().map(|n| n as usize),
        max_gen_toks: tokens.or(plan["gen"]["max_gen_toks"].as_u64().map(|n| n as usize)),
        until: until.map(|all| all.iter().map(|s| s.as_str().unwrap().to_owned()).collect()),
        predict_only: plan["predict_only"].as_bool().unwrap_or(false),
        ..Options::default()
    };
    let data = DataRoot { folder: shared.join("eval-reference/data"), ..DataRoot::default() };
    let mut journal = Journal::in_memory();
    let found =
        evaluate(&mut model, &codec, &selection, &data, &options, None, &mut journal, &mut Silent).unwrap();
    for task in &found.tasks {
        let mut ours = task.samples.iter();
        let filters: Vec<String> = task.spec.filters.iter().map(|f| f.name.clone()).collect();
        let recorded = of(&task.spec.task);
        for filter in if filters.is_empty() { vec!["none".to_owned()] } else { filters } {
            for theirs in &recorded {
                let sample = ours.next().unwrap();
                let place = format!("{name}, {} {}", task.spec.task, theirs["doc_id"]);
                assert_eq!(sample.id as u64, theirs["doc_id"].as_u64().unwrap(), "{place}");
                // Texts first: their difference says more than that of hashes.
                for (i, r) in theirs["requests"].as_array().into_iter().flatten().enumerate() {
                    let arguments = &sample.record["arguments"][format!("gen_args_{i}")];
                    assert_eq!(arguments["arg_0"], r["ctx"], "{place}");
                    assert_eq!(arguments["arg_1"], r["cont"], "{place}");
                }
                if theirs["ctx"].is_string() {
                    assert_eq!(sample.record["arguments"]["gen_args_0"]["arg_0"], theirs["ctx"], "{place}");
                    assert_eq!(sample.record["resps"][0][0], theirs["text"], "{place}");
                }
                assert_eq!(sample.doc_hash, theirs["doc_hash"].as_str().unwrap(), "{place}");
                assert_eq!(sample.prompt_hash, theirs["prompt_hash"].as_str().unwrap(), "{place}");
                assert_eq!(sample.target_hash, theirs["target_hash"].as_str().unwrap(), "{place}");
                let filtered = &theirs["filtered"][&filter];
                if filtered["answer"].is_string() {
                    assert_eq!(sample.record["filtered_resps"][0], filtered["answer"], "{place}");
                }
                let metrics = if filtered.is_object() { &filtered["metrics"] } else { &theirs["metrics"] };
                for (metric, value) in
                    metrics.as_object().into_iter().flatten().filter(|(m, _)| *m != "bypass")
                {
                    let ours = &sample.record[metric];
                    let pair =
                        |v: &Value| v.get(0).and_then(Value::as_f64).zip(v.get(1).and_then(Value::as_f64));
                    match (value.as_f64(), pair(value)) {
                        (Some(v), _) => {
                            assert!((ours.as_f64().unwrap() - v).abs() < 1e-12, "{place} {metric}")
                        }
                        (_, Some(v)) => {
                            let ours = pair(ours).unwrap();
                            assert!(
                                (ours.0 - v.0).abs() < 1e-3 && ours.1 == v.1,
                                "{place} {metric} {ours:?} {v:?}"
                            );
                        }
                        other => panic!("{place} {metric}: {other:?}"),
                    }
                }
            }
        }
        assert!(ours.next().is_none());
        assert_eq!(task.hash, expected["task_hashes"][&task.spec.task].as_str().unwrap(), "{name}");
    }
    let record = report::record(&found, &options, &report::About::default(), true);
    for section in ["versions", "n-samples", "group_subtasks", "higher_is_better", "request_counts", "n-shot"]
    {
        for (task, value) in expected[section].as_object().into_iter().flatten() {
            let bypassed =
                value.get("bypass").is_some() || section == "higher_is_better" && task == "mmlu_open";
            let same = record[section][task] == *value
                || value.as_str() == Some("2") && record[section][task] == 2.0;
            assert!(bypassed || same, "{name} {section} {task}: {} {value}", record[section][task]);
        }
    }
    for (task, row) in expected["results"].as_object().unwrap() {
        for (key, value) in row.as_object().unwrap() {
            if key.starts_with("bypass") || key == "sample_count" {
                continue;
            }
            let ours = &record["results"][task][key];
            match value.as_f64() {
                Some(v) => {
                    let close = (ours.as_f64().unwrap() - v).abs() <= 1e-9 * v.abs().max(1.0);
                    assert!(close, "{name} {task} {key}: {ours} {value}");
                }
                None => assert_eq!(ours, value, "{name} {task} {key}"),
            }
        }
    }
}

#[test]
fn every_recorded_run_is_met() {
    let Some(shared) = shared() else { return };
    let plan: Value =
        serde_json::from_str(&std::fs::read_to_string(shared.join("eval-reference/plan.json")).unwrap())
            .unwrap();
    let mut runs = 0;
    for run in plan.as_array().unwrap() {
        if shared
            .join("eval-reference/results")
            .join(run["name"].as_str().unwrap())
            .join("results.json")
            .exists()
        {
            check(&shared, run);
            runs += 1;
        }
    }
    assert_eq!(runs, 24);
}
