//! Fill-in-the-middle in `prepare`: what the shards hold is un-permuted here and compared with the documents.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use llama_pro_corpus::{Corpus, Error, Job, is_validation, prepare_corpus};
use llama_pro_shards::{ShardsRecord, TokenShard};
use llama_pro_text::{Tokenizer, train_byte_bpe};

use super::pipeline::recipe;
use super::support::{environment, folder};

const NAMES: [&str; 3] = ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"];

/// The byte-level tokenizer of the other tests, with StarCoder's three tokens.
fn tokenizer() -> Tokenizer {
    let text = "the quick brown fox jumps over the lazy dog; problem solution answer fn let ".repeat(20);
    let trained = train_byte_bpe(std::iter::once(text), 300).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&trained.tokenizer_json).unwrap();
    for content in NAMES {
        json["added_tokens"].as_array_mut().unwrap().push(serde_json::json!({
            "id": 0, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }));
    }
    Tokenizer::from_bytes(Path::new("tokenizer.json"), json.to_string().as_bytes()).unwrap()
}

fn run(toml: &str, dir: &Path, tokenizer: &Tokenizer) -> Result<Corpus, Error> {
    let (recipe, cancel) = (recipe(toml), AtomicBool::new(false));
    let environment = environment(dir);
    let (recipe, environment, cancel) = (&recipe, &environment, &cancel);
    prepare_corpus(&Job { recipe, environment, tokenizer, force: false, cancel, progress: &|_| {} })
}

fn text(i: usize) -> String {
    (0..20 + i % 7).map(|j| format!("é{} 世 the fox\n", (i * 7919 + j * 31) % 5003)).collect()
}

const SOURCES: &str = "[split]\nvalidation = 0.2\n\
    [[sources]]\nname = \"code\"\nsource = { kind = \"jsonl\", path = \"code.jsonl\" }\n\
    [[sources]]\nname = \"math\"\nfim = false\nsource = { kind = \"jsonl\", path = \"math.jsonl\" }\n";

fn place() -> tempfile::TempDir {
    let lines = |range: std::ops::Range<usize>| {
        range.map(|i| serde_json::json!({ "text": text(i) }).to_string() + "\n").collect::<String>()
    };
    folder(&[("code.jsonl", lines(0..600).as_bytes()), ("math.jsonl", lines(600..700).as_bytes())])
}

/// The documents of a shard, put together again; and how many were PSM and SPM.
fn documents(dir: &Path, shard: &str, tokenizer: &Tokenizer) -> (Vec<String>, [u64; 2]) {
    let [pre, suf, mid] = NAMES.map(|name| tokenizer.id(name).unwrap());
    let shard = TokenShard::open(&dir.join("out").join(shard)).unwrap();
    let mut turned = [0, 0];
    let whole = (0..shard.n_documents()).map(|i| {
        let ids = shard.document(i);
        let [bos, inner @ .., eos] = &ids[..] else { panic!("no marks") };
        assert_eq!((*bos, *eos), (tokenizer.bos().unwrap(), tokenizer.eos().unwrap()));
        let mut marks = inner.iter().filter(|id| [pre, suf, mid].contains(id));
        let inner = if marks.next().is_none() {
            inner.to_vec()
        } else {
            // prefix P suffix S middle M, or prefix suffix S middle P M, whose P M is one piece of text.
            assert_eq!(marks.count(), 2);
            let at = |mark: u32| inner.iter().position(|&id| id == mark).unwrap();
            assert!(at(pre) == 0 && at(suf) < at(mid));
            let (first, s, last) = (&inner[1..at(suf)], &inner[at(suf) + 1..at(mid)], &inner[at(mid) + 1..]);
            // A prefix may be empty in PSM too, and is then as in SPM.
            turned[usize::from(first.is_empty())] += 1;
            [first, last, s].concat()
        };
        tokenizer.decode(&inner).unwrap()
    });
    (whole.collect(), turned)
}

#[test]
fn turned_documents_are_the_documents() {
    let (dir, tokenizer) = (place(), tokenizer());
    let toml = format!("[fim]\nrate = 0.5\nspm-rate = 0.25\nseed = 7\n{SOURCES}");
    let corpus = run(&toml, dir.path(), &tokenizer).unwrap();
    let expected = |range: std::ops::Range<usize>, held_out: bool| -> Vec<String> {
        range.map(text).filter(|text| is_validation(text, 0.2, 0) == held_out).collect()
    };
    let (code, [psm, spm]) = documents(dir.path(), "code-train", &tokenizer);
    assert_eq!(code, expected(0..600, false));
    // Held-out documents and those of a source that does not want it stay as they are.
    for (shard, range, held_out) in [
        ("code-validation", 0..600, true),
        ("math-train", 600..700, false),
        ("math-validation", 600..700, true),
    ] {
        assert_eq!(documents(dir.path(), shard, &tokenizer), (expected(range, held_out), [0, 0]), "{shard}");
    }
    // Six standard deviations of n/2 and of a quarter of those.
    let n = code.len() as f64;
    let (turned, spm_share) = ((psm + spm) as f64, spm as f64 / (psm + spm) as f64);
    assert!((turned - n * 0.5).abs() < 6.0 * (n * 0.25).sqrt(), "{turned} of {n}");
    assert!((spm_share - 0.25).abs() < 6.0 * (0.1875 / turned).sqrt(), "{spm_share}");
    // The account says so, and the record which ids it was. A prefix that is empty in PSM is counted as SPM above.
    let told = corpus.report.sources[0].fim.unwrap();
    assert_eq!(told.psm + told.spm, psm + spm);
    assert!(told.spm <= spm && spm - told.spm < 10, "{told:?} {spm}");
    assert_eq!(corpus.report.sources[1].fim, None);
    let record = ShardsRecord::read(&dir.path().join("out")).unwrap().unwrap();
    let [prefix, suffix, middle] = NAMES.map(|name| tokenizer.id(name).unwrap());
    let ids = serde_json::json!({ "prefix": prefix, "suffix": suffix, "middle": middle });
    assert_eq!(record.parameters["fim-ids"], ids);
    assert_eq!(record.parameters["recipe"]["fim"]["spm-rate"], 0.25);
    let lines = std::fs::read(dir.path().join("out/code-train.documents.jsonl.zst")).unwrap();
    let lines = String::from_utf8(zstd::decode_all(&lines[..]).unwrap()).unwrap();
    let forms = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut counted = BTreeMap::<String, u64>::new();
    forms.filter_map(|line| line["fim"].as_str().map(str::to_owned)).for_each(|form| {
        *counted.entry(form).or_default() += 1;
    });
    assert_eq!((counted["psm"], counted["spm"]), (told.psm, told.spm));
}

#[test]
fn it_is_off_unless_asked_for_and_a_change_of_it_makes_tokens_anew() {
    let (dir, tokenizer) = (place(), tokenizer());
    let bin = |name: &str| std::fs::read(dir.path().join("out").join(name)).unwrap();
    run(SOURCES, dir.path(), &tokenizer).unwrap();
    let record = ShardsRecord::read(&dir.path().join("out")).unwrap().unwrap();
    assert!(record.parameters.get("fim-ids").is_none() && record.parameters["recipe"].get("fim").is_none());
    let (plain, math) = (bin("code-train.bin"), bin("math-train.bin"));
    assert!(!run(&format!("[fim]\nrate = 1.0\n{SOURCES}"), dir.path(), &tokenizer).unwrap().reused);
    let one = bin("code-train.bin");
    assert!(one != plain && bin("math-train.bin") == math);
    let (_, [psm, spm]) = documents(dir.path(), "code-train", &tokenizer);
    assert_eq!(psm + spm, TokenShard::open(&dir.path().join("out/code-train")).unwrap().n_documents() as u64);
    assert!(run(&format!("[fim]\nrate = 1.0\n{SOURCES}"), dir.path(), &tokenizer).unwrap().reused);
    run(&format!("[fim]\nrate = 1.0\nseed = 1\n{SOURCES}"), dir.path(), &tokenizer).unwrap();
    assert!(bin("code-train.bin") != one);
    run(SOURCES, dir.path(), &tokenizer).unwrap();
    assert!(bin("code-train.bin") == plain);
}

#[test]
fn a_tokenizer_without_the_tokens_and_rates_that_are_none_are_refused() {
    let (dir, with) = (place(), tokenizer());
    let without = super::support::tokenizer(300);
    let says = |toml: &str, tokenizer: &Tokenizer| {
        let error = run(&format!("{toml}\n{SOURCES}"), dir.path(), tokenizer).err().unwrap().to_string();
        assert!(!error.contains('\n') && !dir.path().join("out").exists(), "{error}");
        error
    };
    assert!(
        says("[fim]", &without).contains("does not have the tokens <fim_prefix> <fim_suffix> <fim_middle>")
    );
    assert!(says("[fim]\ntokens = [\"<a>\", \"<b>\", \"<c>\"]", &with).contains("the tokens <a> <b> <c>"));
    assert!(says("[fim]\nrate = 1.5", &with).contains("rate: expected 0 to 1, found 1.5"));
}
