//! HellaSwag, WinoGrande, GSM8K with worked examples, MBPP, WikiText, both LAMBADA, PIQA and ARC against what
//! lm-evaluation-harness itself makes of small data of ours (tests/reference/make_eval_reference.py). The model on both
//! sides is the same function of the text, so every prompt, draw, score and hash must be equal.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::{Path, PathBuf};

use common::{Bytes, Silent, bytes};
use llama_pro_eval::{
    BoxError, Catalog, ChoiceRequest, ChoiceScore, CodeRunner, DataRoot, GenerateRequest, Journal,
    LanguageModel, Options, Outcome, Program, PythonRandom, RowScore, TokenRow, evaluate, report,
};
use serde_json::Value;

/// The model of the script: a function of context and continuation. Blanks at the end of a context have moved to the
/// continuation by then, so the bytes are hashed as one, with the border where the script's strings have it.
struct Hash {
    text: Vec<u8>,
    delimiters: Vec<usize>,
}

fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |value, byte| (value ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

impl LanguageModel for Hash {
    fn score(&mut self, _: &[TokenRow]) -> Result<Vec<RowScore>, BoxError> {
        Err("benchmarks do not score rows".into())
    }

    fn choices(&mut self, requests: &[ChoiceRequest]) -> Result<Vec<Vec<ChoiceScore>>, BoxError> {
        self.delimiters.push(requests.len());
        let one = |context: &[i64], continuation: &[i64]| {
            let hash = fnv(bytes(context).into_iter().chain([0]).chain(bytes(continuation)));
            ChoiceScore { log_likelihood: -((hash % 10007) as f64) / 64.0, is_greedy: hash.is_multiple_of(3) }
        };
        Ok(requests.iter().map(|r| r.continuations.iter().map(|c| one(&r.context, c)).collect()).collect())
    }

    fn generate(
        &mut self,
        requests: &[GenerateRequest],
        done: &mut dyn FnMut(usize, &[i64]) -> bool,
    ) -> Result<Vec<Vec<i64>>, BoxError> {
        let all: Vec<i64> = self.text.iter().map(|b| i64::from(*b)).collect();
        let length = |i| (1..all.len()).find(|n| done(i, &all[..*n])).unwrap_or(all.len());
        Ok((0..requests.len()).map(length).map(|n| all[..n].to_vec()).collect())
    }
}

/// Says that everything passes.
struct Passes;

impl CodeRunner for Passes {
    fn run(&mut self, programs: &[Program]) -> Result<Vec<Outcome>, BoxError> {
        Ok(programs.iter().map(|_| Outcome { result: Ok(()), stdout: String::new() }).collect())
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/harness")
}

fn expected() -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder().join("expected.json")).unwrap()).unwrap()
}

#[test]
fn every_prompt_draw_score_and_hash_is_the_harness() {
    let expected = expected();
    assert_eq!(expected["lm_eval"], report::HARNESS);
    let mut runs = 0;
    for run in expected["runs"].as_array().unwrap() {
        let (task, shots) = (run["task"].as_str().unwrap(), run["shots"].as_u64().unwrap() as usize);
        let mut catalog = Catalog::builtin().unwrap();
        let selection = catalog.select([task]).unwrap();
        let data = DataRoot { folder: folder(), ..DataRoot::default() };
        let options = Options { shots: Some(shots), ..Options::default() };
        let text = expected["text"].as_str().unwrap().as_bytes().to_vec();
        let mut model = Hash { text, delimiters: Vec::new() };
        let (mut journal, mut runner) = (Journal::in_memory(), Passes);
        let found = evaluate(
            &mut model,
            &Bytes::ENDLESS,
            &selection,
            &data,
            &options,
            Some(&mut runner),
            &mut journal,
            &mut Silent,
        )
        .unwrap();
        let ours = &found.tasks[0];
        let theirs = run["samples"].as_array().unwrap();
        assert_eq!(ours.samples.len(), theirs.len(), "{task}");
        for (sample, theirs) in ours.samples.iter().zip(theirs) {
            let place = format!("{task}, {shots} shots, document {}", theirs["doc_id"]);
            assert_eq!(sample.id as u64, theirs["doc_id"].as_u64().unwrap(), "{place}");
            for (i, arguments) in theirs["arguments"].as_array().unwrap().iter().enumerate() {
                let ours = &sample.record["arguments"][format!("gen_args_{i}")];
                assert_eq!(ours["arg_0"], arguments[0], "{place}");
                if arguments.as_array().unwrap().len() > 1 {
                    assert_eq!(ours["arg_1"], arguments[1], "{place}");
                }
            }
            if !theirs["filtered"].is_null() {
                assert_eq!(sample.record["filtered_resps"], theirs["filtered"], "{place}");
            }
            assert_eq!(sample.doc_hash, theirs["doc_hash"].as_str().unwrap(), "{place}");
            assert_eq!(sample.prompt_hash, theirs["prompt_hash"].as_str().unwrap(), "{place}");
            assert_eq!(sample.target_hash, theirs["target_hash"].as_str().unwrap(), "{place}");
        }
        let record = report::record(&found, &options, &report::About::default(), false);
        assert_eq!(record["versions"][task], run["version"], "{task}");
        for (key, value) in run["results"].as_object().unwrap() {
            let ours = &record["results"][task][key];
            match value.as_f64() {
                Some(v) => {
                    let close = (ours.as_f64().unwrap_or(f64::NAN) - v).abs() <= 1e-9 * v.abs().max(1.0);
                    assert!(close, "{task}, {shots} shots, {key}: {ours}, expected {v}");
                }
                None => assert_eq!(ours, value, "{task} {key}"),
            }
        }
        runs += 1;
    }
    assert_eq!(runs, 13);
}

/// The prompt of bigcode-evaluation-harness for the question "test", by its SHA-256: 8 examples of PAL.
#[test]
fn the_prompt_of_programs_is_bigcodes() {
    use sha2::Digest;
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("gsm8k")).unwrap();
    let rows = "{\"question\": \"test\", \"answer\": \"x\\n#### 1,234\"}\n";
    std::fs::write(dir.path().join("gsm8k/test.jsonl"), rows).unwrap();
    let selection = Catalog::builtin().unwrap().select(["gsm8k_pot"]).unwrap();
    let data = DataRoot { folder: dir.path().to_owned(), ..DataRoot::default() };
    let mut model =
        Hash { text: b"def solution():\n    return 1234\n\n\nx".to_vec(), delimiters: Vec::new() };
    let (mut journal, mut runner) = (Journal::in_memory(), Prints("1234.0\n"));
    let options = Options::default();
    let run = |runner: &mut Prints, model: &mut Hash, journal: &mut Journal| {
        evaluate(model, &Bytes::ENDLESS, &selection, &data, &options, Some(runner), journal, &mut Silent)
            .unwrap()
    };
    let found = run(&mut runner, &mut model, &mut journal);
    let sample = &found.tasks[0].samples[0];
    let prompt = sample.record["arguments"]["gen_args_0"]["arg_0"].as_str().unwrap();
    let hash: String = sha2::Sha256::digest(prompt.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hash, "dce6308ca2407dd632af747d71b57724d1e1142bd765146f2bb95c78e8684be4");
    let program = sample.record["filtered_resps"][0][0].as_str().unwrap();
    assert_eq!(program, "def solution():\n    return 1234\nprint(solution())");
    assert_eq!(found.tasks[0].scores[0].value, 1.0);
    for (printed, right) in [("9\n1234.0004\n", 1.0), ("1235\n", 0.0), ("none\n", 0.0), ("", 0.0)] {
        let found = run(&mut Prints(printed), &mut model, &mut journal);
        assert_eq!(found.tasks[0].scores[0].value, right, "{printed}");
    }
}

/// Says that everything passes and prints this.
struct Prints(&'static str);

impl CodeRunner for Prints {
    fn run(&mut self, programs: &[Program]) -> Result<Vec<Outcome>, BoxError> {
        Ok(programs.iter().map(|_| Outcome { result: Ok(()), stdout: self.0.to_owned() }).collect())
    }
}

/// Numbers of CPython 3.11, asked in this order of `random.Random(seed)`.
#[test]
fn draws_are_pythons() {
    for (seed, floats, two, six, five, shuffled, chosen) in [
        (
            0_u64,
            [0.844_421_851_525_048_1, 0.757_954_402_940_302_5],
            [66, 130],
            [15, 12, 9, 19, 11, 17],
            [7304, 7439, 1789, 4134, 1140],
            [7, 1, 5, 0, 8, 4, 6, 2, 10, 11, 9, 3],
            [84, 96, 47, 29, 28, 12],
        ),
        (
            42,
            [0.639_426_798_457_883_7, 0.025_010_755_222_666_936],
            [57, 35],
            [3, 17, 2, 13, 1, 0],
            [767, 1791, 1905, 4139, 4931],
            [7, 2, 5, 8, 6, 10, 9, 4, 11, 0, 1, 3],
            [61, 35, 35, 20, 25, 90],
        ),
        (
            1234,
            [0.966_453_535_692_138_8, 0.440_732_599_175_352_7],
            [149, 8],
            [2, 3, 11, 7, 0, 15],
            [6461, 129, 2835, 5311, 5105],
            [5, 8, 9, 1, 3, 4, 10, 0, 11, 6, 7, 2],
            [13, 90, 74, 92, 13, 29],
        ),
        (
            (1 << 40) + 7,
            [0.613_703_777_993_651_1, 0.814_916_297_330_948_7],
            [146, 180],
            [15, 8, 4, 16, 12, 18],
            [5896, 2974, 3220, 3628, 3681],
            [1, 9, 8, 6, 11, 4, 5, 10, 0, 7, 2, 3],
            [71, 67, 60, 85, 43, 71],
        ),
    ] {
        let mut random = PythonRandom::new(seed);
        let found = [random.float(), random.float(), random.float()];
        assert_eq!(found[..2], floats, "{seed}");
        assert_eq!(random.sample(200, 2).unwrap(), two, "{seed}");
        assert_eq!(random.sample(20, 6).unwrap(), six, "{seed}");
        assert_eq!(random.sample(7473, 5).unwrap(), five, "{seed}");
        assert_eq!(random.sample(1119, 25).unwrap().len(), 25);
        assert_eq!(random.sample(100_000, 8).unwrap().len(), 8);
        let mut all: Vec<usize> = (0..12).collect();
        random.shuffle(&mut all);
        assert_eq!(all, shuffled, "{seed}");
        assert_eq!([(); 6].map(|()| random.choice(97)), chosen, "{seed}");
    }
    assert_eq!(PythonRandom::new(1).sample(3, 4), None);
}
