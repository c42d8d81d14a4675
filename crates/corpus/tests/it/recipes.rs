//! The recipes of `configs/corpus/` for the paper's sets, each from end to end on a few documents that are laid out as
//! the sets are downloaded: nobody runs them whole here.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use llama_pro_corpus::{Corpus, CorpusRecipe, Error};
use llama_pro_shards::ShardsRecord;

use super::parquet::{fixture, parquet};
use super::pipeline::run_with;
use super::support::{folder, write};

/// Every recipe that is there, by name.
pub(crate) const RECIPES: [(&str, &str); 4] = [
    ("code", include_str!("../../../../configs/corpus/code.toml")),
    ("math", include_str!("../../../../configs/corpus/math.toml")),
    ("miniature", include_str!("../../../../configs/corpus/miniature.toml")),
    ("mix", include_str!("../../../../configs/corpus/mix.toml")),
];

const GSM8K: &str =
    "A farmer of the northern valley sells forty two eggs to each of nine neighbours every single morning";
const HUMANEVAL: &str = "def almost_equal_pairs(numbers, tolerance):\n    return [(a, b) for a in numbers for b in numbers if a < b]\n";

/// A text of its own, with enough letters for the rules on code.
fn python(i: usize) -> String {
    format!(
        "# Module {i} of a small package.\ndef function_{i}(value, other):\n    \"\"\"Adds {i}.\"\"\"\n    return value + other\n\n\
         contact = 'somebody{i}@university.org'\n"
    )
}

fn mathematics(set: &str, i: usize) -> String {
    format!(
        "\\section{{Lemma {i} of {set}}} Let $x_{i}$ be a root of the polynomial; then it has {i} conjugates.\n"
    )
}

/// The sets and benchmarks as data/README.md has them fetched. Of each set two files; a duplicate within a set and one
/// over all; a benchmark in each; one file of the Stack and one line of Proof-Pile-2 are damaged.
fn sets() -> tempfile::TempDir {
    let dir = folder(&[]);
    let stack = "datasets/the-stack-dedup/data/python";
    let row = |text: String| vec![text.into_bytes(), b"pkg/module.py".to_vec(), b"Python".to_vec()];
    let mut rows: Vec<Vec<Vec<u8>>> = (0..30).map(|i| row(python(i))).collect();
    rows.push(row(python(3)));
    rows.push(row(format!("{HUMANEVAL}\n{}", python(77))));
    rows.push(row(format!("# This file is generated\n{}", python(78))));
    rows.push(row(format!("x = '{}'\n{}", "a".repeat(2000), python(79))));
    rows.push(vec![b"\xff\xfe".to_vec(), b"bad.py".to_vec(), b"Python".to_vec()]);
    let rows: Vec<Vec<&[u8]>> = rows.iter().map(|row| row.iter().map(Vec::as_slice).collect()).collect();
    let file = parquet(&["content", "max_stars_repo_path", "lang"], &rows);
    write(dir.path(), &format!("{stack}/data-00000-of-00003.parquet"), &file);
    write(dir.path(), &format!("{stack}/data-00001-of-00003.parquet"), &fixture("large_string"));
    write(dir.path(), &format!("{stack}/data-00002-of-00003.parquet"), &file[..file.len() / 2]);
    let line = |text: &str| serde_json::json!({ "text": text, "meta": { "lang": "x" } }).to_string() + "\n";
    for set in ["algebraic-stack", "open-web-math", "arxiv"] {
        let mut first: String = (0..15).map(|i| line(&mathematics(set, i))).collect();
        first += &line("The same text in all three sets of the pile.");
        first += "{\"text\": \n";
        let mut second: String = (15..30).map(|i| line(&mathematics(set, i))).collect();
        second += &line(&format!("Question: {GSM8K}. How many?"));
        for (name, text) in [("a-0000", first), ("a-0001", second)] {
            let content = zstd::encode_all(text.as_bytes(), 3).unwrap();
            write(dir.path(), &format!("datasets/proof-pile-2/{set}/train/{name}.jsonl.zst"), &content);
        }
    }
    let eval = |name: &str, object: serde_json::Value| {
        write(dir.path(), &format!("datasets/eval/{name}"), format!("{object}\n").as_bytes());
    };
    let humaneval = serde_json::json!({ "task_id": "HumanEval/900", "prompt": HUMANEVAL, "canonical_solution": "    pass\n" });
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, humaneval.to_string().as_bytes()).unwrap();
    write(dir.path(), "datasets/eval/HumanEval.jsonl.gz", &gzip.finish().unwrap());
    eval(
        "mbpp.jsonl",
        serde_json::json!({ "task_id": 11, "text": "Write a function.", "code": "def f(): pass", "test_list": [] }),
    );
    eval("gsm8k_test.jsonl", serde_json::json!({ "question": GSM8K, "answer": "378 #### 378" }));
    eval(
        "math_test.jsonl",
        serde_json::json!({ "problem": "Find $x$.", "solution": "It is 3.", "level": "Level 1" }),
    );
    dir
}

fn run(name: &str, dir: &Path) -> Result<Corpus, Error> {
    let text = RECIPES.iter().find(|(recipe, _)| *recipe == name).unwrap().1;
    // Of a few documents, a thousandth is none.
    let sets = ["split.validation=0.3".to_owned()];
    let (recipe, _) = llama_pro_run::load_recipe::<CorpusRecipe>(Path::new("r.toml"), text, &sets).unwrap();
    run_with(&recipe, dir, &AtomicBool::new(false), &|_| {})
}

#[test]
fn every_recipe_is_one_and_comes_back_as_it_was_written() {
    for (name, text) in RECIPES {
        let loaded = llama_pro_run::load_recipe::<CorpusRecipe>(Path::new(name), text, &[]);
        let (recipe, _) = loaded.unwrap_or_else(|error| panic!("{name}: {error}"));
        recipe.check().unwrap_or_else(|error| panic!("{name}: {error}"));
        let written = toml::to_string(&recipe).unwrap();
        assert_eq!(toml::from_str::<CorpusRecipe>(&written).unwrap(), recipe, "{name}");
    }
}

#[test]
fn the_recipes_of_the_papers_sets_run_from_end_to_end() {
    let dir = sets();
    let read = |name: &str| {
        let report = run(name, dir.path()).unwrap_or_else(|error| panic!("{name}: {error}")).report;
        let out = dir.path().join("corpus").join(name);
        ShardsRecord::read(&out).unwrap().unwrap().verify(&out).unwrap();
        report
    };
    let code = read("code");
    let counts = &code.sources[0].documents;
    // 35 rows, 4 of the fixture, and the file that is cut short.
    assert_eq!((counts.seen, counts.kept), (40, 34), "{counts}");
    assert_eq!(
        (counts.dropped["duplicate"], counts.dropped["contaminated"], counts.dropped["generated"]),
        (1, 1, 1)
    );
    assert_eq!(counts.dropped["starcoder2/max-mean-line-length"], 1);
    assert_eq!((counts.failed["not-utf8"], counts.failed["damaged-file"]), (1, 1));
    assert_eq!((code.contaminated, code.contaminations[0].found.item.as_str()), (1, "HumanEval/900"));
    // Duplicates are found afterwards.
    assert_eq!(code.sources[0].pii.emails, 31);

    let math = read("math");
    let names: Vec<&str> = math.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["algebraic-stack", "open-web-math", "arxiv"]);
    for (i, source) in math.sources.iter().enumerate() {
        let counts = &source.documents;
        assert_eq!((counts.seen, counts.failed["not-json"], counts.dropped["contaminated"]), (33, 1, 1));
        assert_eq!(counts.dropped.get("duplicate"), (i > 0).then_some(&1), "the first keeps what is in all");
    }
    let mix = read("mix");
    assert_eq!(mix.totals(), {
        let (a, b) = (code.totals(), math.totals());
        (a.0 + b.0, a.1 + b.1, a.2 + b.2, a.3 + b.3)
    });
    // 66.7 billion tokens in shares of 33, 11, 15 and 29.
    assert_eq!(mix.training_tokens, Some(15_900 * 1024 * 4096));
    let first = &mix.sources[0];
    let epochs = 66_689_433_600.0 * 33.0 / 88.0 / first.train.tokens as f64;
    assert!((first.epochs.unwrap() / epochs - 1.0).abs() < 1e-12);
    assert!(run("mix", dir.path()).unwrap().reused);
}
