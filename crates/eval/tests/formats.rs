//! The same rows as JSON lines, as one list of JSON, as CSV and as Parquet (tests/reference/make_formats.py) give the same
//! result to the last byte: documents with their types, prompts, scores and hashes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};

use common::{Bytes, Silent};
use llama_pro_eval::{
    BoxError, Catalog, ChoiceRequest, ChoiceScore, DataRoot, Error, GenerateRequest, Journal, LanguageModel,
    Options, RowScore, TokenRow, evaluate, report,
};
use serde_json::Value;

/// A function of the tokens.
struct Sum;

impl LanguageModel for Sum {
    fn score(&mut self, _: &[TokenRow]) -> Result<Vec<RowScore>, BoxError> {
        Err("benchmarks do not score rows".into())
    }

    fn choices(&mut self, requests: &[ChoiceRequest]) -> Result<Vec<Vec<ChoiceScore>>, BoxError> {
        let one = |r: &ChoiceRequest, c: &[i64]| {
            let sum: i64 = r.context.iter().chain(c).enumerate().map(|(i, id)| (i as i64 + 1) * id).sum();
            ChoiceScore { log_likelihood: -((sum % 997) as f64) / 7.0, is_greedy: sum % 2 == 0 }
        };
        Ok(requests.iter().map(|r| r.continuations.iter().map(|c| one(r, c)).collect()).collect())
    }

    fn generate(
        &mut self,
        requests: &[GenerateRequest],
        _: &mut dyn FnMut(usize, &[i64]) -> bool,
    ) -> Result<Vec<Vec<i64>>, BoxError> {
        Ok(requests.iter().map(|_| b"#### 12".iter().map(|b| i64::from(*b)).collect()).collect())
    }
}

const TASKS: [&str; 13] = [
    "arc_challenge:2",
    "hellaswag:2",
    "winogrande:2",
    "piqa:2",
    "gsm8k_cot",
    "gsm8k_pot",
    "mbpp",
    "wikitext",
    "lambada_standard:1",
    "mmlu_global_facts:3",
    "truthfulqa_mc1",
    "truthfulqa_mc2",
    "unfair_tos:2",
];

fn formats() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats")
}

fn run(folder: &Path, task: &str) -> Result<Value, Error> {
    let selection = Catalog::builtin()?.select([task])?;
    let data = DataRoot { folder: folder.to_owned(), ..DataRoot::default() };
    let options = Options { predict_only: true, no_bootstrap: true, ..Options::default() };
    let mut journal = Journal::in_memory();
    let found =
        evaluate(&mut Sum, &Bytes::ENDLESS, &selection, &data, &options, None, &mut journal, &mut Silent)?;
    let mut record = report::record(&found, &options, &report::About::default(), true);
    // Which files were read, and how long it took, is not the same.
    let map = record.as_object_mut().unwrap();
    map.remove("total_evaluation_time_seconds");
    map.remove("data_files");
    Ok(record)
}

#[test]
fn every_format_gives_the_same_record() {
    for task in TASKS {
        let expected = run(&formats().join("jsonl"), task).unwrap();
        assert!(!expected["samples"].as_object().unwrap().is_empty(), "{task}");
        for format in ["json", "csv", "parquet"] {
            let found = run(&formats().join(format), task).unwrap();
            for (section, value) in expected.as_object().unwrap() {
                assert_eq!(found[section], *value, "{task} as {format}: {section}");
            }
            assert_eq!(found.to_string(), expected.to_string(), "{task} as {format}");
        }
    }
}

#[test]
fn zipped_files_are_the_files() {
    let dir = tempfile::tempdir().unwrap();
    for task in TASKS {
        let expected = run(&formats().join("jsonl"), task).unwrap();
        for format in ["jsonl", "json", "csv"] {
            let to = dir.path().join(format);
            for set in std::fs::read_dir(formats().join(format)).unwrap().flatten() {
                let folder = to.join(set.file_name());
                std::fs::create_dir_all(&folder).unwrap();
                for file in std::fs::read_dir(set.path()).unwrap().flatten() {
                    let name = format!("{}.gz", file.file_name().to_str().unwrap());
                    let zipped = std::fs::File::create(folder.join(name)).unwrap();
                    let mut zipped = flate2::write::GzEncoder::new(zipped, flate2::Compression::fast());
                    zipped.write_all(&std::fs::read(file.path()).unwrap()).unwrap();
                    zipped.finish().unwrap();
                }
            }
            assert_eq!(run(&to, task).unwrap(), expected, "{task} as {format}.gz");
        }
    }
}

/// What a table without types can be read as, and what it cannot.
#[test]
fn cells_of_a_table_keep_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("piqa");
    std::fs::create_dir(&folder).unwrap();
    let samples = |text: &str| {
        std::fs::write(folder.join("validation.csv"), text).unwrap();
        run(dir.path(), "piqa").map(|record| record["samples"]["piqa"].clone())
    };
    // Digits that a number would not be written with stay text; so does a column where one cell is no number.
    let found = samples("goal,sol1,sol2,label\n007,+1,1.0,0\n008,+2,2.0,1\n").unwrap();
    let doc = |i: usize| found[i]["doc"].to_string();
    assert_eq!(doc(0), r#"{"goal":"007","sol1":"+1","sol2":"1.0","label":0}"#);
    let found = samples("goal,sol1,sol2,label\n7,[1],[x,1\nseven,[2],[2],0\n").unwrap();
    assert_eq!(found[0]["doc"].to_string(), r#"{"goal":"7","sol1":[1],"sol2":"[x","label":1}"#);
    // A row that is longer or shorter than the head is no row.
    let error = samples("goal,sol1,sol2,label\na,b,c\n").unwrap_err().to_string();
    assert!(error.contains("validation.csv: not a table") && !error.contains('\n'), "{error}");
    // A list as Python writes it is not JSON.
    let folder = dir.path().join("arc_easy");
    std::fs::create_dir(&folder).unwrap();
    let text = "question,choices,answerKey\nq,\"{'text': ['a', 'b'], 'label': ['A', 'B']}\",A\n";
    std::fs::write(folder.join("test.csv"), text).unwrap();
    let error = run(dir.path(), "arc_easy").unwrap_err().to_string();
    assert!(error.contains("test.csv, row 1") && !error.contains('\n'), "{error}");
}

/// The prompt of Unfair-ToS is this project's own; docs/evaluation.md gives it, and this holds it to that.
#[test]
fn unfair_tos_asks_what_its_documentation_says() {
    let record = run(&formats().join("jsonl"), "unfair_tos:0").unwrap();
    let samples = record["samples"]["unfair_tos"].as_array().unwrap();
    let prompt = "Each clause comes from terms of service. Name the way in which it may be unfair to the consumer.\n\n\
        Clause: [3] The laws of Utopia apply,\nand its courts decide.\nUnfair by:";
    let sample = samples.iter().find(|s| s["doc"]["labels"].as_array().unwrap().len() == 2).unwrap();
    let choices = [
        " limitation of liability",
        " unilateral termination",
        " unilateral change",
        " content removal",
        " contract by using",
        " choice of law",
        " jurisdiction",
        " arbitration",
        " none of these",
    ];
    assert_eq!(sample["arguments"].as_object().unwrap().len(), choices.len());
    for (i, choice) in choices.into_iter().enumerate() {
        let request = &sample["arguments"][format!("gen_args_{i}")];
        assert_eq!((request["arg_0"].as_str(), request["arg_1"].as_str()), (Some(prompt), Some(choice)));
    }
    assert_eq!(sample["target"], serde_json::json!([5, 6]));
    let none = samples.iter().find(|s| s["doc"]["labels"].as_array().unwrap().is_empty()).unwrap();
    assert_eq!(none["target"], serde_json::json!([8]));
}

/// Every set has its row in data/README.md: where its files lie and where it comes from.
#[test]
fn every_set_is_in_the_manifest() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let mut catalog = Catalog::builtin().unwrap();
    let names: Vec<String> = catalog.names().map(str::to_owned).collect();
    let selection = catalog.select(names.iter().map(String::as_str)).unwrap();
    let mut sets = 0;
    for (task, _) in selection.tasks.iter().filter(|(task, _)| task.data.embedded.is_none()) {
        let subject = task.task.strip_prefix("mmlu_");
        let place = if subject.is_some() { "mmlu_SUBJECT" } else { task.data.places[0].as_str() };
        let origin = task.data.origin.split([',', ' ']).next().unwrap();
        let row = readme.lines().find(|line| {
            line.starts_with('|') && line.contains(&format!("`{place}/")) && line.contains(".EXT`")
        });
        let row = row.unwrap_or_else(|| panic!("{}: {place} is not in data/README.md", task.task));
        assert!(task.task == "text_ppl" || row.contains(origin), "{}: {origin} is not in {row}", task.task);
        sets += 1;
    }
    assert!(sets > 57 + 12, "{sets}");
}
