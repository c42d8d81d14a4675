//! The protocols of older harnesses against tests/reference/make_protocol_reference.py, which writes down once more, with
//! CPython's own random numbers, what they asked: order of documents, draws, prompts, answers, and how GSM8K was scored.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::{Path, PathBuf};

use common::{BOS, Bytes, EOS, Silent};
use llama_pro_eval::{
    BoxError, Catalog, ChoiceRequest, ChoiceScore, DataRoot, Evaluation, GenerateRequest, Journal,
    LanguageModel, Options, Protocol, RowScore, TokenRow, evaluate, report,
};
use serde_json::Value;

/// Keeps what it is asked, and answers every prompt with one text.
#[derive(Default)]
struct Asked {
    pairs: Vec<(Vec<i64>, Vec<i64>)>,
    prompts: Vec<Vec<i64>>,
    reply: Vec<i64>,
}

impl LanguageModel for Asked {
    fn score(&mut self, _: &[TokenRow]) -> Result<Vec<RowScore>, BoxError> {
        Err("benchmarks do not score rows".into())
    }

    fn choices(&mut self, requests: &[ChoiceRequest]) -> Result<Vec<Vec<ChoiceScore>>, BoxError> {
        let mut one = |context: &Vec<i64>, continuation: &Vec<i64>| {
            self.pairs.push((context.clone(), continuation.clone()));
            ChoiceScore { log_likelihood: -1.0, is_greedy: false }
        };
        Ok(requests.iter().map(|r| r.continuations.iter().map(|c| one(&r.context, c)).collect()).collect())
    }

    fn generate(
        &mut self,
        requests: &[GenerateRequest],
        done: &mut dyn FnMut(usize, &[i64]) -> bool,
    ) -> Result<Vec<Vec<i64>>, BoxError> {
        self.prompts.extend(requests.iter().map(|r| r.prompt.clone()));
        let all = self.reply.clone();
        let length = |i| (1..all.len()).find(|n| done(i, &all[..*n])).unwrap_or(all.len());
        Ok((0..requests.len()).map(length).map(|n| all[..n].to_vec()).collect())
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn expected() -> Value {
    let text = std::fs::read_to_string(fixtures().join("protocols/expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A task without a part for training.
const PLAIN: &str = "task = \"plain\"\nversion = 1.0\noutput_type = \"multiple_choice\"\nvalidation_split = \"validation\"\n\
    doc_to_text = \"{{text}}\"\ndoc_to_choice = \"{{['yes', 'no']}}\"\ndoc_to_target = \"label\"\nmetrics = [\"acc\"]\n\
    [data]\nplaces = [\"plain\"]\n";

fn run(model: &mut Asked, task: &str, folder: &Path, options: &Options) -> Evaluation {
    let mut catalog = Catalog::builtin().unwrap();
    catalog.add(Path::new("plain.toml"), PLAIN).unwrap();
    let selection = catalog.select([task]).unwrap();
    let data = DataRoot { folder: folder.to_owned(), ..DataRoot::default() };
    evaluate(model, &Bytes::ENDED, &selection, &data, options, None, &mut Journal::in_memory(), &mut Silent)
        .unwrap()
}

fn protocol(name: &str) -> Protocol {
    [Protocol::Current, Protocol::V040, Protocol::Leaderboard].into_iter().find(|p| p.name() == name).unwrap()
}

#[test]
fn documents_draws_and_prompts_are_those_of_the_older_harnesses() {
    let expected = expected();
    let mut differ = 0;
    for wanted in expected["runs"].as_array().unwrap() {
        let task = wanted["task"].as_str().unwrap();
        let options = Options {
            protocol: protocol(wanted["protocol"].as_str().unwrap()),
            shots: wanted["shots"].as_u64().map(|n| n as usize),
            limit: wanted["limit"].as_u64().map(|n| n as usize),
            ..Options::default()
        };
        let mut model = Asked { reply: vec![i64::from(b'1')], ..Asked::default() };
        let found = run(&mut model, task, &fixtures().join("protocols"), &options);
        let documents = wanted["documents"].as_array().unwrap();
        // GSM8K has every document twice, once for each way to find the answer.
        let samples = &found.tasks[0].samples[..documents.len()];
        assert_eq!(found.tasks[0].samples.len() % documents.len(), 0);
        for (sample, document) in samples.iter().zip(documents) {
            let place = format!("{} {task} {} shots, {}", wanted["protocol"], wanted["shots"], sample.id);
            for (i, request) in document["requests"].as_array().unwrap().iter().enumerate() {
                let ours = &sample.record["arguments"][format!("gen_args_{i}")];
                assert_eq!(ours["arg_0"], request[0], "{place}");
                assert!(request[1].is_null() || ours["arg_1"] == request[1], "{place}: {ours} {request}");
            }
            let count = document["requests"].as_array().unwrap().len();
            assert!(sample.record["arguments"].get(format!("gen_args_{count}")).is_none(), "{place}");
        }
        // Neither puts BOS in front of a text.
        assert!(model.pairs.iter().all(|(context, _)| context[0] != BOS), "{task}");
        assert!(model.prompts.iter().all(|prompt| prompt[0] != BOS), "{task}");
        let current = run(
            &mut Asked::default(),
            task,
            &fixtures().join("protocols"),
            &Options { protocol: Protocol::Current, ..options.clone() },
        );
        differ += usize::from(current.tasks[0].hash != found.tasks[0].hash);
        let record = report::record(&found, &options, &report::About::default(), false);
        assert_eq!(record["config"]["protocol"], wanted["protocol"]);
    }
    assert!(differ >= 10, "the versions ask different things of these documents: {differ}");
}

#[test]
fn the_leaderboards_gsm8k_is_scored_as_it_was() {
    for wanted in expected()["gsm8k"].as_array().unwrap() {
        let reply = wanted["reply"].as_str().unwrap();
        let options = Options { protocol: Protocol::Leaderboard, shots: Some(2), ..Options::default() };
        let mut model = Asked { reply: reply.bytes().map(i64::from).collect(), ..Asked::default() };
        let found = run(&mut model, "gsm8k", &fixtures().join("protocols"), &options);
        let strict: Vec<&_> = found.tasks[0].samples.iter().filter(|s| s.filter == "strict-match").collect();
        assert_eq!(strict[0].record["resps"][0][0], wanted["cut"], "{reply}");
        let values: Vec<f64> = strict.iter().map(|s| s.values[0].1.0).collect();
        assert_eq!(Value::from(values), wanted["right"], "{reply}");
    }
}

/// What stands before a text without a context, and whether BOS is there twice.
#[test]
fn texts_begin_as_each_version_began_them() {
    for (protocol, prefix, bos) in
        [(Protocol::Current, BOS, true), (Protocol::V040, BOS, false), (Protocol::Leaderboard, EOS, false)]
    {
        let options = Options { protocol, ..Options::default() };
        let mut model = Asked::default();
        run(&mut model, "lambada_standard", &fixtures().join("harness"), &options);
        // One row of the fixture is one word, so nothing comes before it.
        let word: Vec<i64> = b" word".iter().map(|b| i64::from(*b)).collect();
        assert!(model.pairs.contains(&(vec![prefix], word)), "{protocol:?}");
        let others = model.pairs.iter().filter(|(context, _)| context.len() > 1);
        assert!(
            others.clone().count() > 0 && others.clone().all(|(c, _)| (c[0] == BOS) == bos),
            "{protocol:?}"
        );
        let mut model = Asked::default();
        run(&mut model, "wikitext", &fixtures().join("harness"), &options);
        for (context, text) in &model.pairs {
            assert_eq!((context.as_slice(), text[0] == BOS), ([prefix].as_slice(), bos), "{protocol:?}");
        }
    }
}

/// The leaderboard averaged subjects, whatever their size; the harness now averages documents.
#[test]
fn the_leaderboards_groups_are_means_of_their_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let row = |label: usize| {
        format!("{{\"question\": \"q\", \"choices\": [\"a\", \"b\", \"c\", \"d\"], \"answer\": {label}}}\n")
    };
    // The model finds all choices equally likely, so it answers A. 1 of 4, 2 of 2, and 0 of 3 elsewhere.
    for name in Catalog::builtin().unwrap().select(["mmlu_humanities"]).unwrap().tasks.iter() {
        let rows = match name.0.task.as_str() {
            "mmlu_formal_logic" => [0, 1, 2, 3].map(row).concat(),
            "mmlu_philosophy" => [0, 0].map(row).concat(),
            _ => [1, 1, 1].map(row).concat(),
        };
        std::fs::create_dir(dir.path().join(&name.0.task)).unwrap();
        std::fs::write(dir.path().join(&name.0.task).join("test.jsonl"), rows).unwrap();
    }
    for (protocol, value) in
        [(Protocol::Leaderboard, 1.25 / 13.0), (Protocol::V040, 3.0 / 39.0), (Protocol::Current, 3.0 / 39.0)]
    {
        let options = Options { protocol, ..Options::default() };
        let found = run(&mut Asked::default(), "mmlu_humanities", dir.path(), &options);
        let group = &found.groups[0];
        assert_eq!(group.tasks.len(), 13);
        assert!((group.scores[0].value - value).abs() < 1e-12, "{protocol:?}: {}", group.scores[0].value);
        // Of the leaderboard: the tasks are independent, so the variances add up.
        if protocol == Protocol::Leaderboard {
            let of = |task: &str| {
                found.tasks.iter().find(|t| t.spec.task == task).unwrap().scores[0].stderr.unwrap()
            };
            let stderr = (of("mmlu_formal_logic").powi(2) + of("mmlu_philosophy").powi(2)).sqrt() / 13.0;
            assert!((group.scores[0].stderr.unwrap() - stderr).abs() < 1e-12);
        }
    }
}
