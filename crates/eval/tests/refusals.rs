//! What cannot be used is one line that names file, row and what was expected; what a dying model has answered is kept;
//! and scores do not depend on how requests are put together.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;

use common::{Bytes, Silent};
use llama_pro_eval::{
    BoxError, Catalog, ChoiceRequest, ChoiceScore, DataRoot, Error, Evaluation, GenerateRequest, Journal,
    LanguageModel, Options, RowScore, TokenRow, evaluate, pass_at_k, pooled_stderr, report,
};

/// Scores by the tokens, counts what it is asked, and dies before call number `dies`.
#[derive(Default)]
struct Mortal {
    calls: usize,
    asked: usize,
    dies: Option<usize>,
    max: Option<usize>,
    answer: Option<f64>,
}

impl Mortal {
    fn live(&mut self, requests: usize) -> Result<(), BoxError> {
        if self.dies == Some(self.calls) {
            return Err("the connection was reset".into());
        }
        self.calls += 1;
        self.asked += requests;
        Ok(())
    }
}

impl LanguageModel for Mortal {
    fn score(&mut self, _: &[TokenRow]) -> Result<Vec<RowScore>, BoxError> {
        Err("benchmarks do not score rows".into())
    }

    fn max_row(&self) -> Option<usize> {
        self.max
    }

    fn choices(&mut self, requests: &[ChoiceRequest]) -> Result<Vec<Vec<ChoiceScore>>, BoxError> {
        self.live(requests.iter().map(|r| r.continuations.len()).sum())?;
        for request in requests {
            for continuation in &request.continuations {
                let read = request.context.len() + continuation.len() - 1;
                assert!(self.max.is_none_or(|max| read <= max), "{read} tokens at once");
            }
        }
        let score = |r: &ChoiceRequest, c: &[i64]| {
            let sum: i64 = r.context.iter().chain(c).enumerate().map(|(i, id)| (i as i64 + 1) * id).sum();
            let log_likelihood = self.answer.unwrap_or(-((sum % 997) as f64) / 7.0);
            ChoiceScore { log_likelihood, is_greedy: false }
        };
        Ok(requests.iter().map(|r| r.continuations.iter().map(|c| score(r, c)).collect()).collect())
    }

    fn generate(
        &mut self,
        requests: &[GenerateRequest],
        done: &mut dyn FnMut(usize, &[i64]) -> bool,
    ) -> Result<Vec<Vec<i64>>, BoxError> {
        self.live(requests.len())?;
        let text: Vec<i64> = b" 12\nQuestion".iter().map(|b| i64::from(*b)).collect();
        let length = |i| (1..text.len()).find(|n| done(i, &text[..*n])).unwrap_or(text.len());
        Ok((0..requests.len()).map(length).map(|n| text[..n].to_vec()).collect())
    }
}

fn run(
    model: &mut Mortal,
    tasks: &[&str],
    data: &Path,
    options: &Options,
    journal: &mut Journal,
) -> Result<Evaluation, Error> {
    let mut catalog = Catalog::builtin()?;
    let selection = catalog.select(tasks.iter().copied())?;
    let data = DataRoot { folder: data.to_owned(), ..DataRoot::default() };
    evaluate(model, &Bytes::ENDED, &selection, &data, options, None, journal, &mut Silent)
}

fn refused(tasks: &[&str], data: &Path, words: &[&str]) {
    let mut model = Mortal::default();
    let error = run(&mut model, tasks, data, &Options::default(), &mut Journal::in_memory()).unwrap_err();
    let line = error.to_string();
    assert!(!line.contains('\n'), "{line}");
    assert!(words.iter().all(|word| line.contains(word)), "{line}: expected {words:?}");
    assert_eq!(model.calls, 0, "the model was asked before the data was read");
}

const ARC: &str = r#"{"question":"Q?","choices":{"text":["a","b"],"label":["A","B"]},"answerKey":"A"}"#;

#[test]
fn bad_data_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    refused(&["arc_easy"], dir, &["arc_easy", "test.jsonl", "allenai/ai2_arc"]);
    refused(&["arc_esy"], dir, &["arc_esy", "arc_easy"]);
    refused(&["none.toml"], dir, &["none.toml", "cannot read"]);
    let folder = dir.join("arc_easy");
    std::fs::create_dir(&folder).unwrap();
    let long = "x".repeat(9);
    for (row, words) in [
        (r#"{"question":"Q?","choices":{"text":["a","b"],"label":["A","B"]}}"#, ["row 2", "answerKey"]),
        (
            r#"{"question":"Q?","choices":{"text":["a","b"],"label":["A","B"]},"answerKey":"C"}"#,
            ["row 2", "C is not in"],
        ),
        (
            r#"{"question":"Q?","choices":{"text":["a",""],"label":["A","B"]},"answerKey":"A"}"#,
            ["row 2", "choice 2 is empty"],
        ),
        (
            r#"{"question":null,"choices":{"text":["a","b"],"label":["A","B"]},"answerKey":"A"}"#,
            ["row 2", "question"],
        ),
        (
            r#"{"question":"Q?","choices":{"text":["a"],"label":["A"]},"answerKey":"A"}"#,
            ["row 2", "two choices"],
        ),
        (r#"{"question":"Q?","choices":"a","answerKey":"A"}"#, ["row 2", ""]),
        ("[1]", ["line 2", "expected an object"]),
        ("{", ["line 2", "not JSON"]),
        (&long, ["line 2", "not JSON"]),
    ] {
        std::fs::write(folder.join("test.jsonl"), format!("{ARC}\n{row}\n")).unwrap();
        refused(&["arc_easy"], dir, &["test.jsonl", words[0], words[1]]);
    }
    std::fs::write(folder.join("test.jsonl"), "\n").unwrap();
    refused(&["arc_easy"], dir, &["test.jsonl", "found none"]);
    std::fs::write(folder.join("test.jsonl"), [0xff, 0xfe, b'\n']).unwrap();
    refused(&["arc_easy"], dir, &["test.jsonl", "line 1", "UTF-8"]);
    // More examples than there are, and a file that is not what its name says.
    std::fs::write(folder.join("test.jsonl"), format!("{ARC}\n")).unwrap();
    std::fs::write(folder.join("train.jsonl"), format!("{ARC}\n")).unwrap();
    refused(&["arc_easy:5"], dir, &["arc_easy", "5 examples", "1"]);
    std::fs::remove_file(folder.join("test.jsonl")).unwrap();
    std::fs::write(folder.join("test.parquet"), "PAR1").unwrap();
    refused(&["arc_easy"], dir, &["test.parquet", "not Parquet"]);
    refused(&["mini_code"], dir, &["mini_code", "nothing to run them in"]);
}

/// SHA256SUMS of the data folder is kept to; where there is none, nothing is compared, and the digest is in the result.
#[test]
fn files_are_held_against_the_list_beside_them() {
    use sha2::Digest;
    let dir = tempfile::tempdir().unwrap();
    let (data, list) = (dir.path(), dir.path().join("SHA256SUMS"));
    std::fs::create_dir(data.join("arc_easy")).unwrap();
    let text = format!("{ARC}\n");
    std::fs::write(data.join("arc_easy/test.jsonl"), &text).unwrap();
    let digest: String = sha2::Sha256::digest(&text).iter().map(|b| format!("{b:02x}")).collect();
    let record = || {
        let options = Options::default();
        let found = run(
            &mut Mortal::default(),
            &["arc_easy", "mini_arithmetic_mc"],
            data,
            &options,
            &mut Journal::in_memory(),
        )
        .unwrap();
        report::record(&found, &options, &report::About::default(), false)
    };
    let expected = serde_json::json!({
        "arc_easy": [{ "file": "arc_easy/test.jsonl", "sha256": digest, "rows": 1 }], "mini_arithmetic_mc": [],
    });
    assert_eq!(record()["data_files"], expected);
    let upper = digest.to_uppercase();
    for good in [
        format!("{digest}  arc_easy/test.jsonl\n"),
        format!("{upper} *./arc_easy/test.jsonl\n\n"),
        format!("{}  piqa/validation.jsonl\n", "0".repeat(64)),
    ] {
        std::fs::write(&list, good).unwrap();
        assert_eq!(record()["data_files"], expected);
    }
    std::fs::write(&list, format!("{}  arc_easy/test.jsonl\n", "0".repeat(64))).unwrap();
    refused(&["arc_easy"], data, &["arc_easy/test.jsonl", &"0".repeat(64), "SHA256SUMS says", &digest]);
    for bad in ["abc  arc_easy/test.jsonl", digest.as_str(), &format!("{digest}  "), "# a comment"] {
        std::fs::write(&list, format!("{digest}  arc_easy/test.jsonl\n{bad}\n")).unwrap();
        refused(&["arc_easy"], data, &["SHA256SUMS: line 2", "64 hexadecimal digits", bad.trim_end()]);
    }
}

#[test]
fn an_answer_key_out_of_range_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("piqa")).unwrap();
    for (label, words) in [("2", "out of range"), ("-1", "out of range"), ("\"x\"", "none of the 2 choices")]
    {
        let row = format!("{{\"goal\":\"g\",\"sol1\":\"a\",\"sol2\":\"b\",\"label\":{label}}}\n");
        std::fs::write(dir.path().join("piqa/validation.jsonl"), row).unwrap();
        refused(&["piqa"], dir.path(), &["validation.jsonl, row 1", words]);
    }
}

#[test]
fn bad_task_files_name_their_line() {
    let good = "task = \"t\"\nversion = 1.0\noutput_type = \"multiple_choice\"\ntest_split = \"test\"\n\
        doc_to_text = \"{{q}}\"\ndoc_to_choice = \"c\"\ndoc_to_target = \"a\"\nmetrics = [\"acc\"]\n[data]\nplaces = [\"t\"]\n";
    let mut catalog = Catalog::builtin().unwrap();
    assert_eq!(catalog.add(Path::new("t.toml"), good).unwrap(), "t");
    for (from, to, words) in [
        ("metrics", "metrisc", "metrisc"),
        ("\"acc\"", "\"acd\"", "acd"),
        ("\"acc\"", "\"perplexity\"", "does not fit"),
        ("doc_to_choice = \"c\"\n", "", "doc_to_choice"),
        ("test_split = \"test\"\n", "", "test_split"),
        ("places = [\"t\"]", "places = []", "places"),
        ("task = \"t\"", "task = \"../t\"", "../t"),
        ("version = 1.0", "version = ", "line 2"),
        ("multiple_choice", "generate_until", "[generation]"),
    ] {
        let line = catalog.add(Path::new("t.toml"), &good.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(line.contains(words) && line.starts_with("t.toml: ") && !line.contains('\n'), "{line}");
    }
    // A template that is wrong is the task's fault, with its name.
    catalog.add(Path::new("t.toml"), &good.replacen("{{q}}", "{{q", 1)).unwrap();
    let selection = catalog.select(["t"]).unwrap();
    let mut model = Mortal::default();
    let data = DataRoot::default();
    let mut journal = Journal::in_memory();
    let found = evaluate(
        &mut model,
        &Bytes::ENDED,
        &selection,
        &data,
        &Options::default(),
        None,
        &mut journal,
        &mut Silent,
    );
    assert!(found.unwrap_err().to_string().starts_with("t: "));
}

#[test]
fn what_a_dead_model_answered_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("r.json.answers");
    let tasks = ["mini_prose_ppl", "mini_arithmetic_mc", "mini_arithmetic"];
    let options = Options::default();
    let mut whole = Mortal::default();
    let expected = run(&mut whole, &tasks, dir.path(), &options, &mut Journal::in_memory()).unwrap();
    for dies in 0..whole.calls {
        let mut journal = Journal::open(&place, "m", false).unwrap();
        let mut model = Mortal { dies: Some(dies), ..Mortal::default() };
        let line = run(&mut model, &tasks, dir.path(), &options, &mut journal).unwrap_err().to_string();
        let kept = format!("{} answers are kept", model.asked);
        assert!(line.contains("connection was reset") && line.contains(&kept), "{line}: {kept}");
        drop(journal);
        // A kill in the middle of a line leaves half of it.
        let mut text = std::fs::read(&place).unwrap();
        text.extend(b"{\"k\":\"12");
        std::fs::write(&place, text).unwrap();
        assert!(Journal::open(&place, "another", true).unwrap_err().to_string().contains("another model"));
        let mut journal = Journal::open(&place, "m", true).unwrap();
        assert_eq!(journal.len(), model.asked);
        let mut rest = Mortal::default();
        let found = run(&mut rest, &tasks, dir.path(), &options, &mut journal).unwrap();
        assert_eq!(rest.asked + model.asked, whole.asked);
        for (a, b) in found.tasks.iter().zip(&expected.tasks) {
            assert_eq!((&a.scores, &a.hash), (&b.scores, &b.hash));
        }
    }
}

#[test]
fn answers_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for answer in [f64::NAN, f64::INFINITY, 3.0] {
        let mut model = Mortal { answer: Some(answer), ..Mortal::default() };
        let found = run(
            &mut model,
            &["mini_arithmetic_mc"],
            dir.path(),
            &Options::default(),
            &mut Journal::in_memory(),
        );
        assert!(found.unwrap_err().to_string().contains("log-likelihood"));
    }
}

#[test]
fn long_contexts_are_cut_on_the_left_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Mortal { max: Some(90), ..Mortal::default() };
    let options = Options { shots: Some(4), ..Options::default() };
    let mut journal = Journal::in_memory();
    let found = run(&mut model, &["mini_arithmetic_mc"], dir.path(), &options, &mut journal).unwrap();
    assert_eq!(found.tasks[0].samples.len(), 200);
    let record = report::record(&found, &options, &report::About::default(), false);
    assert_eq!(record["request_counts"]["mini_arithmetic_mc"]["left_truncated"], 800);
    // A continuation that does not fit at all cannot be scored.
    let mut model = Mortal { max: Some(2), ..Mortal::default() };
    let found = run(&mut model, &["mini_arithmetic_mc"], dir.path(), &options, &mut journal);
    assert!(found.unwrap_err().to_string().contains("reads at most 2"));
    // No room for a prompt.
    let mut model = Mortal { max: Some(16), ..Mortal::default() };
    let found = run(&mut model, &["mini_arithmetic"], dir.path(), &options, &mut journal);
    assert!(found.unwrap_err().to_string().contains("no room for the prompt"));
}

#[test]
fn figures_are_those_of_their_definitions() {
    // n = 4, c = 2: 1 - C(2, 2) / C(4, 2).
    assert!((pass_at_k(4, 2, 2).unwrap() - 5.0 / 6.0).abs() < 1e-15);
    assert_eq!((pass_at_k(5, 0, 3), pass_at_k(5, 5, 1), pass_at_k(2, 1, 3)), (Some(0.0), Some(1.0), None));
    // mmlu_open-5 of the reference: two subjects of 100 and 135 documents.
    let pooled = pooled_stderr(&[(0.04163331998932269, 100), (0.03944624162501116, 135)]).unwrap();
    assert!((pooled - 0.028_765_787_262_196_696).abs() < 1e-15, "{pooled}");
}

#[test]
fn records_are_compared_document_by_document() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::default();
    let of = |answer| {
        let mut model = Mortal { answer, ..Mortal::default() };
        let found = run(&mut model, &["mini_arithmetic_mc"], dir.path(), &options, &mut Journal::in_memory())
            .unwrap();
        report::record(&found, &options, &report::About::default(), true)
    };
    let (a, b) = (of(None), of(Some(-1.0)));
    let same = report::changes(&a, &a).unwrap();
    assert_eq!((same[0].z(), same[0].paired, same[0].verdict()), (Some(0.0), true, "no difference seen"));
    let changed = report::changes(&a, &b).unwrap().remove(0);
    // The definition: the mean of the differences over its standard error.
    let value =
        |r: &serde_json::Value, i: usize| r["samples"]["mini_arithmetic_mc"][i]["acc"].as_f64().unwrap();
    let differences: Vec<f64> = (0..200).map(|i| value(&b, i) - value(&a, i)).collect();
    let mean = differences.iter().sum::<f64>() / 200.0;
    let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / 199.0;
    assert!((changed.z().unwrap() - mean / (variance / 200.0).sqrt()).abs() < 1e-9);
    assert!(report::changes(&a, &serde_json::json!({})).unwrap_err().contains("no result file"));
}
