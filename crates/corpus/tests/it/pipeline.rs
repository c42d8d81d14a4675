//! `prepare_corpus` from end to end: content, accounts, determinism, resume, and what training makes of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use llama_pro_corpus::{
    Corpus, CorpusRecipe, Error, Job, PrepareOptions, Progress, Stage, is_validation, prepare, prepare_corpus,
};
use llama_pro_shards::{ShardsRecord, TokenShard};

use super::support::{environment, folder, source, tokenizer, write};

pub(crate) fn recipe(toml: &str) -> CorpusRecipe {
    toml::from_str(&format!("out = \"out\"\ntokenizer = \"given\"\n{toml}")).unwrap()
}

pub(crate) fn run_with(
    recipe: &CorpusRecipe,
    dir: &Path,
    cancel: &AtomicBool,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Corpus, Error> {
    let (environment, tokenizer) = (environment(dir), tokenizer(300));
    let environment = &environment;
    prepare_corpus(&Job { recipe, environment, tokenizer: &tokenizer, force: false, cancel, progress })
}

pub(crate) fn run(toml: &str, dir: &Path) -> Result<Corpus, Error> {
    run_with(&recipe(toml), dir, &AtomicBool::new(false), &|_| {})
}

/// Every file of the output folder but the work folder.
pub(crate) fn outputs(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir.join("out")).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.is_file());
    files
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect()
}

/// Finished pieces of the work folder and when they were made.
fn pieces(dir: &Path) -> BTreeMap<String, SystemTime> {
    let mut all = BTreeMap::new();
    for kind in ["parts", "tokens"] {
        for entry in std::fs::read_dir(dir.join("out/work").join(kind)).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(!name.starts_with('.'), "{name} was left behind");
            all.insert(
                format!("{kind}/{name}"),
                path.join("part.json").metadata().unwrap().modified().unwrap(),
            );
        }
    }
    all
}

pub(crate) fn texts(dir: &Path, shard: &str) -> Vec<String> {
    let (shard, tokenizer) = (TokenShard::open(&dir.join("out").join(shard)).unwrap(), tokenizer(300));
    (0..shard.n_documents()).map(|i| tokenizer.decode(&shard.document(i)).unwrap()).collect()
}

/// Distinct texts of some words.
fn text(i: usize) -> String {
    (0..40).map(|j| format!("w{} ", (i * 7919 + j * j * 31) % 5003)).collect::<String>()
        + &format!("end {i}\n")
}

const TWO: &str = "part-bytes = 2000\n[split]\nvalidation = 0.2\nseed = 3\n[dedup.near]\n\
    [[sources]]\nname = \"code\"\nweight = 3.0\nsource = { kind = \"files\", path = \"src\", extensions = [\"py\"] }\n\
    [[sources]]\nname = \"web\"\nsource = { kind = \"jsonl\", path = \"web.jsonl\", fields = { license = \"l\" } }\n\
    [training]\nsteps = 10\nrows-per-step = 2\nsequence-length = 100\n";

fn two_sources() -> tempfile::TempDir {
    let dir = folder(&[]);
    for i in 0..40 {
        write(dir.path(), &format!("src/d{}/f{i}.py", i % 3), text(i).as_bytes());
    }
    write(dir.path(), "src/copy.py", text(5).as_bytes());
    let near = text(6).replacen("end 6", "end six", 1);
    let mut lines = vec![near];
    lines.extend((40..60).map(text));
    lines.push(text(7));
    let lines: Vec<String> =
        lines.iter().map(|text| serde_json::json!({"text": text, "l": "MIT"}).to_string()).collect();
    write(dir.path(), "web.jsonl", (lines.join("\n") + "\n").as_bytes());
    dir
}

#[test]
fn shards_hold_what_is_left_and_the_account_adds_up() {
    let dir = two_sources();
    let corpus = run(TWO, dir.path()).unwrap();
    assert!(!corpus.reused);
    let report = &corpus.report;
    assert_eq!(report.totals(), (63, 60, 3, 0));
    assert_eq!((report.duplicates.exact, report.duplicates.near), (2, 1));
    let web = &report.sources[1].documents;
    assert_eq!((web.seen, web.kept, web.dropped["duplicate"], web.dropped["near-duplicate"]), (22, 20, 1, 1));
    let example = report.duplicates.examples.iter().find(|example| example.near).unwrap();
    // Files come in the order of their paths: d0 has f0, f12, f15, ..., f6.
    assert_eq!((example.dropped.as_str(), example.kept.as_str()), ("web.jsonl:1", "d0/f6.py"));

    let mut expected: Vec<String> = (40..60).map(text).collect();
    expected.retain(|text| !is_validation(text, 0.2, 3));
    assert_eq!(texts(dir.path(), "web-train"), expected);
    let held: usize = ["code-validation", "web-validation"].iter().map(|s| texts(dir.path(), s).len()).sum();
    assert_eq!(held, (0..60).filter(|&i| is_validation(&text(i), 0.2, 3)).count());

    let record = ShardsRecord::read(&dir.path().join("out")).unwrap().unwrap();
    record.verify(&dir.path().join("out")).unwrap();
    assert_eq!(record.sources.iter().map(|source| source.kept).sum::<u64>(), 60);
    let tokens = TokenShard::open(&dir.path().join("out/code-train")).unwrap().n_tokens();
    let code = &report.sources[0];
    assert_eq!(code.train.tokens, tokens as u64);
    // 2,000 tokens in all, three quarters of them from code.
    assert!((code.epochs.unwrap() - 1500.0 / tokens as f64).abs() < 1e-12);

    let lines = std::fs::read(dir.path().join("out/web-train.documents.jsonl.zst")).unwrap();
    let lines = String::from_utf8(zstd::decode_all(&lines[..]).unwrap()).unwrap();
    assert_eq!(lines.lines().count(), expected.len());
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(
        (first["license"][0].as_str(), first["bytes"].as_u64()),
        (Some("MIT"), Some(expected[0].len() as u64))
    );
    let html = std::fs::read_to_string(dir.path().join("out/report.html")).unwrap();
    assert!(html.contains("<svg") && html.contains("near-duplicate") && !html.contains("http"));

    let before = outputs(dir.path());
    let again = run(TWO, dir.path()).unwrap();
    assert!(again.reused && again.report.totals() == (63, 60, 3, 0));
    assert_eq!(outputs(dir.path()), before);
}

#[test]
fn neither_threads_nor_the_order_of_listing_change_a_byte() {
    let (first, second) = (two_sources(), folder(&[]));
    for i in (0..40).rev() {
        write(second.path(), &format!("src/d{}/f{i}.py", i % 3), text(i).as_bytes());
    }
    write(second.path(), "src/copy.py", text(5).as_bytes());
    std::fs::copy(first.path().join("web.jsonl"), second.path().join("web.jsonl")).unwrap();
    for (dir, threads) in [(&first, 1), (&second, 5)] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(TWO, dir.path())).unwrap();
    }
    assert_eq!(outputs(first.path()), outputs(second.path()));
    // Parts of another size are other pieces of the same whole.
    let third = two_sources();
    let other = TWO.replace("part-bytes = 2000", "part-bytes = 900000\nkeep-work = false");
    run(&other, third.path()).unwrap();
    for (name, content) in
        outputs(third.path()).iter().filter(|(name, _)| !name.contains("json") && !name.ends_with("html"))
    {
        assert_eq!(content, &outputs(first.path())[name], "{name}");
    }
    assert!(!third.path().join("out/work").exists());
}

#[test]
fn a_small_memory_for_sorting_changes_no_byte() {
    // 1 MiB, the least, sorts 32,768 documents at a time: two passes for the whole, two for each band.
    let small = "[dedup]\nmemory = 1_048_576\n[dedup.near]\nbands = 4\nrows = 4\nngram = 2\n[[sources]]\n\
        name = \"web\"\nsource = { kind = \"jsonl\", path = \"web.jsonl\" }\n";
    let n = 70_000;
    let line = |i: usize| {
        let text = match i % 10 {
            0 => format!("v{} the same", i / 7),
            1 => format!("w{} w{} w{} tail {}", i / 50, i / 50 + 1, i / 50 + 2, i % 3),
            _ => format!("a{i} b{} c{}", i * 31, i * 17),
        };
        serde_json::json!({ "text": text }).to_string() + "\n"
    };
    let lines: String = (0..n).map(line).collect();
    let results = [small.to_owned(), small.replace("1_048_576", "268_435_456")].map(|toml| {
        let dir = folder(&[("web.jsonl", lines.as_bytes())]);
        let report = run(&toml, dir.path()).unwrap().report;
        assert!(report.duplicates.exact > 1000 && report.duplicates.near > 1000, "{:?}", report.duplicates);
        outputs(dir.path())
    });
    assert!(results[0] == results[1]);
}

#[test]
fn a_run_that_is_stopped_anywhere_goes_on_and_ends_with_the_same_bytes() {
    let whole = two_sources();
    run(TWO, whole.path()).unwrap();
    let dir = two_sources();
    let recipe = recipe(TWO);
    let mut stops = 0;
    for (stage, least) in [(Stage::Read, 2), (Stage::Read, 5), (Stage::Tokenize, 1), (Stage::Tokenize, 4)] {
        let before = pieces(dir.path());
        let cancel = AtomicBool::new(false);
        let result = run_with(&recipe, dir.path(), &cancel, &|told| {
            if told.stage == stage && told.done >= least {
                cancel.store(true, Ordering::Relaxed);
            }
        });
        assert!(matches!(result, Err(Error::Stopped)), "{stage:?} {least}");
        assert!(!dir.path().join("out/shards.json").exists());
        let after = pieces(dir.path());
        assert!(after.len() > before.len(), "{stage:?}: something new was finished");
        assert!(
            before.iter().all(|(name, time)| after[name] == *time),
            "what was finished is not done again"
        );
        stops += 1;
    }
    assert_eq!(stops, 4);
    run(TWO, dir.path()).unwrap();
    assert_eq!(outputs(dir.path()), outputs(whole.path()));
}

#[test]
fn a_change_redoes_what_it_concerns_and_nothing_else() {
    let dir = two_sources();
    run(TWO, dir.path()).unwrap();
    let before = pieces(dir.path());
    write(dir.path(), "src/d1/f1.py", text(100).as_bytes());
    assert!(!run(TWO, dir.path()).unwrap().reused);
    let after = pieces(dir.path());
    let new: Vec<_> = after.keys().filter(|name| !before.contains_key(*name)).collect();
    assert_eq!(new.len(), 2, "one part and its tokens: {new:?}");
    // A parameter of one source leaves the parts of the other alone.
    let stricter = TWO.replace("kind = \"jsonl\"", "kind = \"jsonl\", max-ratio = 100");
    run(&stricter, dir.path()).unwrap();
    let more: Vec<_> = pieces(dir.path()).keys().filter(|name| !after.contains_key(*name)).cloned().collect();
    assert!(more.len() == 2 && more.iter().all(|name| name.contains('/')), "{more:?}");
    // A damaged output is noticed and made anew.
    let whole = outputs(dir.path());
    let path = dir.path().join("out/code-train.bin");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[3] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(!run(&stricter, dir.path()).unwrap().reused);
    assert_eq!(outputs(dir.path()), whole);
}

#[test]
fn a_source_that_goes_takes_its_shards_along() {
    let dir = two_sources();
    run(TWO, dir.path()).unwrap();
    // Files of others stay, also those whose names look like ours.
    write(dir.path(), "out/web-notes.txt", b"mine");
    write(dir.path(), "out/other-train.bin", b"mine");
    let one = TWO.split("[[sources]]\nname = \"web\"").next().unwrap().replace("0.2", "0.0");
    run(&one, dir.path()).unwrap();
    let left: Vec<String> = outputs(dir.path()).into_keys().collect();
    let expected = [
        ".lock",
        "code-train.bin",
        "code-train.documents.jsonl.zst",
        "code-train.hashes",
        "code-train.idx",
        "other-train.bin",
        "report.html",
        "report.json",
        "shards.json",
        "web-notes.txt",
    ];
    assert_eq!(left, expected);
}

#[test]
fn a_limit_on_tokens_takes_the_same_sample_as_pretraining_would() {
    let dir = two_sources();
    let jsonl = "kind = \"jsonl\"\npath = \"web.jsonl\"\n";
    let limited = "[split]\nvalidation = 0.2\nseed = 3\n[[sources]]\nname = \"web\"\nmax-tokens = 1500\n\
                   source = { kind = \"jsonl\", path = \"web.jsonl\" }\n";
    let corpus = run(limited, dir.path()).unwrap();
    let options = PrepareOptions {
        validation: 0.2,
        split_seed: 3,
        max_tokens: Some(1500),
        ..PrepareOptions::default()
    };
    let prepared = prepare(
        "web",
        &source(jsonl),
        &environment(dir.path()),
        &tokenizer(300),
        &options,
        &dir.path().join("p"),
    );
    let prepared = prepared.unwrap();
    let tokenizer = tokenizer(300);
    let shard = TokenShard::open(&prepared.train).unwrap();
    let mut expected: Vec<String> =
        (0..shard.n_documents()).map(|i| tokenizer.decode(&shard.document(i)).unwrap()).collect();
    let mut found = texts(dir.path(), "web-train");
    expected.sort();
    found.sort();
    assert!(!found.is_empty());
    assert_eq!(found, expected);
    let left_out = corpus.report.sources[0].documents.dropped["over-max-tokens"];
    assert_eq!(left_out, prepared.manifest.train.left_out);
    // At least so many, and with one document less there would be fewer.
    let tokens = corpus.report.sources[0].train.tokens;
    let longest = (0..shard.n_documents()).map(|i| shard.document(i).len() as u64).max().unwrap();
    assert!((1500..1500 + longest).contains(&tokens), "{tokens}");
}

#[test]
fn training_takes_prepared_shards_and_refuses_those_that_are_not_what_it_thinks() {
    let dir = two_sources();
    run(TWO, dir.path()).unwrap();
    let open = |options: &PrepareOptions, vocabulary: usize, name: &str| {
        let toml = format!("kind = \"prepared\"\npath = \"out\"\nname = \"{name}\"\n");
        let tokenizer = tokenizer(vocabulary);
        prepare(
            "x",
            &source(&toml),
            &environment(dir.path()),
            &tokenizer,
            options,
            &dir.path().join("unused"),
        )
    };
    let right = PrepareOptions { validation: 0.1, split_seed: 3, ..PrepareOptions::default() };
    let prepared = open(&right, 300, "code").unwrap();
    assert_eq!(prepared.train, dir.path().join("out/code-train"));
    assert_eq!(prepared.validation, Some(dir.path().join("out/code-validation")));
    assert_eq!(
        prepared.manifest.train.documents as usize,
        TokenShard::open(&prepared.train).unwrap().n_documents()
    );
    assert!(!dir.path().join("unused").exists());
    for (options, vocabulary, name, says) in [
        (right.clone(), 300, "nope", "no source `nope`; it has code, web"),
        (right.clone(), 301, "code", "tokenizer"),
        (PrepareOptions { split_seed: 4, ..right.clone() }, 300, "code", "split with seed 3, expected 4"),
        (PrepareOptions { eos: false, ..right.clone() }, 300, "code", "set bos and eos alike"),
        (PrepareOptions { max_tokens: Some(5), ..right.clone() }, 300, "code", "max-tokens"),
    ] {
        let error = open(&options, vocabulary, name).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    std::fs::write(dir.path().join("out/web-train.bin"), b"xx").unwrap();
    assert!(open(&right, 300, "code").unwrap_err().to_string().contains("web-train.bin"));
}

#[test]
fn one_process_at_a_time_and_recipes_that_cannot_be_are_refused() {
    let dir = two_sources();
    let nested = AtomicBool::new(false);
    let recipe = recipe(TWO);
    run_with(&recipe, dir.path(), &AtomicBool::new(false), &|_| {
        if !nested.swap(true, Ordering::Relaxed) {
            assert!(matches!(run(TWO, dir.path()), Err(Error::Busy { .. })));
        }
    })
    .unwrap();
    assert!(nested.load(Ordering::Relaxed));
    for (from, to, says) in [
        ("validation = 0.2", "validation = 1.0", "split.validation"),
        ("name = \"web\"", "name = \"code\"", "used twice"),
        ("weight = 3.0", "weight = -1.0", "weight"),
        ("part-bytes = 2000", "part-bytes = 0", "part-bytes"),
        ("[dedup.near]", "[dedup.near]\nthreshold = 1.5", "dedup.near.threshold"),
        ("[dedup.near]", "[dedup.near]\nbands = 5000", "dedup.near.bands"),
        ("[dedup.near]", "[dedup.near]\nrows = 0", "dedup.near.rows: expected 1 to 4096, found 0"),
        (
            "[dedup.near]",
            "[dedup.near]\npermutations = 5000",
            "dedup.near.permutations: expected 1 to 4096, found 5000",
        ),
    ] {
        let error = run(&TWO.replace(from, to), dir.path()).err().unwrap().to_string();
        assert!(error.contains(says), "{error}");
    }
}
