//! From a source to shards: content, determinism, reuse.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use llama_pro_corpus::{
    Error, PrepareOptions, Prepared, documents, is_validation, prepare, problem, sample_key,
};
use llama_pro_shards::TokenShard;

use super::support::{environment, folder, source, tokenizer, write};

const MATH: &str = "kind = \"math\"\nseed = 5\ndocuments = 300\n";

fn run(name: &str, toml: &str, dir: &Path, options: &PrepareOptions) -> Result<Prepared, Error> {
    prepare(name, &source(toml), &environment(dir), &tokenizer(300), options, &dir.join("out"))
}

/// Name -> (content, time of the last change) of the output folder.
fn outputs(dir: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    std::fs::read_dir(dir.join("out"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, (std::fs::read(&path).unwrap(), path.metadata().unwrap().modified().unwrap()))
        })
        .collect()
}

fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    outputs(dir).into_iter().map(|(name, (content, _))| (name, content)).collect()
}

fn shard_texts(prefix: &Path) -> Vec<String> {
    let (shard, tokenizer) = (TokenShard::open(prefix).unwrap(), tokenizer(300));
    (0..shard.n_documents()).map(|i| tokenizer.decode(&shard.document(i)).unwrap()).collect()
}

#[test]
fn the_shards_hold_the_documents_in_order_on_their_sides() {
    let dir = tempfile::tempdir().unwrap();
    let options = PrepareOptions { validation: 0.2, ..PrepareOptions::default() };
    let prepared = run("math", MATH, dir.path(), &options).unwrap();
    let all: Vec<String> = documents(&source(MATH), &environment(dir.path()))
        .unwrap()
        .map(|document| document.unwrap().text)
        .collect();
    let (validation, train): (Vec<_>, Vec<_>) = all.into_iter().partition(|text| is_validation(text, 0.2, 0));
    assert_eq!(shard_texts(&prepared.train), train);
    assert_eq!(shard_texts(prepared.validation.as_deref().unwrap()), validation);

    let (shard, tokenizer) = (TokenShard::open(&prepared.train).unwrap(), tokenizer(300));
    let mut expected = vec![tokenizer.bos().unwrap()];
    expected.extend(tokenizer.encode(&train[0]).unwrap());
    expected.push(tokenizer.eos().unwrap());
    assert_eq!(shard.document(0), expected);

    let manifest = &prepared.manifest;
    assert_eq!(manifest.train.tokens, shard.n_tokens() as u64);
    assert_eq!(manifest.train.bytes, train.iter().map(|text| text.len() as u64).sum::<u64>());
    assert_eq!(manifest.documents.kept, 300 - manifest.documents.dropped.get("duplicate").unwrap_or(&0));
    assert_eq!(contents(dir.path()).len(), 5, "nothing but the shards and the manifest");

    let plain = PrepareOptions { bos: false, eos: false, validation: 0.0, ..options };
    let prepared = run("plain", MATH, dir.path(), &plain).unwrap();
    assert!(prepared.validation.is_none() && prepared.manifest.validation.is_none());
    let first = TokenShard::open(&prepared.train).unwrap().document(0);
    assert_eq!(first, tokenizer.encode(&problem(5, 0)).unwrap());
}

#[test]
fn neither_threads_nor_listing_order_change_a_byte() {
    let names: Vec<String> = (0..60).map(|i| format!("src/d{}/f{i}.py", i % 7)).collect();
    let content = |i: usize| format!("def f{i}(x):\n    return x * {i}\n").repeat(1 + i % 5);
    let make = |order: Vec<usize>, threads: usize| {
        let dir = tempfile::tempdir().unwrap();
        for i in order {
            write(dir.path(), &names[i], content(i).as_bytes());
        }
        let toml = "kind = \"files\"\npath = \"src\"\nextensions = [\"py\"]\n";
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run("code", toml, dir.path(), &PrepareOptions::default())).unwrap();
        contents(dir.path())
    };
    let one = make((0..60).collect(), 1);
    assert_eq!(one, make((0..60).rev().collect(), 4));
    assert_eq!(one, make((0..60).map(|i| i * 7 % 60).collect(), 3));
}

#[test]
fn unchanged_outputs_are_left_alone_and_every_change_is_noticed() {
    let dir = folder(&[("a.txt", "one two\n\nthree four\n\nfive six\n\nseven\n\neight\n\nnine".as_bytes())]);
    let toml = "kind = \"text\"\npath = \"a.txt\"\nsplit = \"blank-lines\"\n";
    let options = PrepareOptions { validation: 0.4, ..PrepareOptions::default() };
    assert!(!run("t", toml, dir.path(), &options).unwrap().reused);
    let before = outputs(dir.path());
    let second = run("t", toml, dir.path(), &options).unwrap();
    assert!(second.reused && second.manifest.documents.kept == 6);
    assert_eq!(outputs(dir.path()), before, "content and times stay");

    // The same size and time, another content.
    let time = std::fs::metadata(dir.path().join("a.txt")).unwrap().modified().unwrap();
    write(dir.path(), "a.txt", b"one two\n\nthree four\n\nfive six\n\nseven\n\neight\n\nNINE");
    std::fs::File::options().write(true).open(dir.path().join("a.txt")).unwrap().set_modified(time).unwrap();
    assert!(!run("t", toml, dir.path(), &options).unwrap().reused);
    assert!(run("t", toml, dir.path(), &options).unwrap().reused);

    let changed = [
        PrepareOptions { validation: 0.5, ..options.clone() },
        PrepareOptions { split_seed: 1, ..options.clone() },
        PrepareOptions { eos: false, ..options.clone() },
        PrepareOptions { max_tokens: Some(1_000_000), ..options.clone() },
    ];
    for other in &changed {
        assert!(!run("t", toml, dir.path(), other).unwrap().reused, "{other:?}");
    }
    assert!(!run("t", toml, dir.path(), &options).unwrap().reused);
    let parameter = format!("{toml}max-document-bytes = 100\n");
    assert!(!run("t", &parameter, dir.path(), &options).unwrap().reused);
    let with = |vocab_size| {
        let (source, environment) = (source(&parameter), environment(dir.path()));
        prepare("t", &source, &environment, &tokenizer(vocab_size), &options, &dir.path().join("out"))
            .unwrap()
    };
    assert!(with(300).reused && !with(280).reused);
}

#[test]
fn damaged_outputs_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let options = PrepareOptions::default();
    run("m", MATH, dir.path(), &options).unwrap();
    let good = contents(dir.path());
    for name in good.keys() {
        let path = dir.path().join("out").join(name);
        let mut bytes = good[name].clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        for damage in [Some(bytes), Some(Vec::new()), None] {
            match damage {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let prepared = run("m", MATH, dir.path(), &options).unwrap();
            // A flipped bit of the manifest may lie in a number that decides nothing.
            assert!(!prepared.reused || name == "m.json", "{name}");
            if !prepared.reused {
                assert_eq!(contents(dir.path()), good, "{name}");
            }
            std::fs::write(&path, &good[name]).unwrap();
        }
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error() {
    let text: String = (0..6000).map(|i| problem(1, i)).collect();
    let dir = folder(&[("a.txt", text.as_bytes())]);
    let path = dir.path().join("a.txt");
    let done = std::sync::atomic::AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let mut file = std::fs::File::options().append(true).open(&path).unwrap();
                std::io::Write::write_all(&mut file, b"more\n").unwrap();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let toml = "kind = \"text\"\npath = \"a.txt\"\nsplit = \"Problem:\"\n";
        let result = run("t", toml, dir.path(), &PrepareOptions::default());
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        result
    });
    assert!(matches!(result, Err(Error::Changed { .. })), "{result:?}");
    assert!(contents(dir.path()).is_empty());
}

#[test]
fn a_limit_takes_the_first_documents_in_hash_order() {
    let dir = tempfile::tempdir().unwrap();
    let (validation, seed) = (0.1, 9);
    let options = PrepareOptions {
        validation,
        split_seed: seed,
        max_tokens: Some(5000),
        max_validation_tokens: Some(700),
        ..PrepareOptions::default()
    };
    let prepared = run("m", MATH, dir.path(), &options).unwrap();
    let tokenizer = tokenizer(300);
    let all: Vec<String> = documents(&source(MATH), &environment(dir.path()))
        .unwrap()
        .map(|document| document.unwrap().text)
        .collect();
    for (side, limit, prefix) in
        [(false, 5000, &prepared.train), (true, 700, prepared.validation.as_ref().unwrap())]
    {
        let mut mine: Vec<&String> =
            all.iter().filter(|text| is_validation(text, validation, seed) == side).collect();
        mine.sort_by_key(|text| sample_key(text, seed));
        let mut tokens = 0;
        let expected: Vec<&String> = mine
            .iter()
            .take_while(|text| {
                let wanted = tokens < limit;
                tokens += tokenizer.encode(text).unwrap().len() + 2;
                wanted
            })
            .copied()
            .collect();
        assert!(expected.len() < mine.len(), "the limit does something");
        assert_eq!(shard_texts(prefix).iter().collect::<Vec<_>>(), expected);
    }
    let train = &prepared.manifest.train;
    assert!(train.tokens >= 5000 && train.left_out > 0);
    let validation = prepared.manifest.validation.as_ref().unwrap();
    let accounted = train.documents + train.left_out + validation.documents + validation.left_out;
    assert_eq!(accounted, prepared.manifest.documents.kept);
}

#[test]
fn empty_corpora_and_bad_options_leave_nothing_behind() {
    let dir = folder(&[("none/x.md", b"x"), ("few/a.py", b"a = 1\n"), ("few/b.py", b"\xff")]);
    let none = "kind = \"files\"\npath = \"none\"\nextensions = [\"py\"]\n";
    let few = "kind = \"files\"\npath = \"few\"\nextensions = [\"py\"]\n";
    let options = PrepareOptions::default;
    let check = |name: &str, toml: &str, options: PrepareOptions, message: &str| {
        let error = run(name, toml, dir.path(), &options).unwrap_err().to_string();
        assert!(error.contains(message) && !error.contains('\n'), "{error}");
        assert!(!dir.path().join("out").exists() || contents(dir.path()).is_empty());
    };
    check("code", none, options(), "source `code`: no documents in ");
    check("code", none, options(), "none (0 seen, 0 kept)");
    check("code", few, options(), "falls into validation at validation = 0.05");
    check("code", few, PrepareOptions { validation: 0.999_999, ..options() }, "falls into training");
    check("code", few, PrepareOptions { validation: 1.0, ..options() }, "validation: expected at least 0");
    check(
        "code",
        few,
        PrepareOptions { validation: f64::NAN, ..options() },
        "validation: expected at least 0",
    );
    check(
        "code",
        few,
        PrepareOptions { max_tokens: Some(0), ..options() },
        "max-tokens: expected at least 1",
    );
    check("a/b", few, options(), "name: expected letters");
    check("..", few, options(), "name: expected letters");
}
