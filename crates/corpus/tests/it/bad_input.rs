//! Inputs that cannot be used, each as one clear error and as a counted, named skip.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use llama_pro_corpus::CorpusRecipe;
use proptest::prelude::*;

use super::pipeline::{recipe, run, run_with};
use super::support::{folder, read, write};

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn jsonl(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| format!("{}\n", serde_json::json!({"text": text})).into_bytes()).collect()
}

/// Text that does not compress, so that half of a compressed file still has lines.
fn noise(lines: usize) -> Vec<u8> {
    let lines: Vec<String> =
        (0..lines).map(|i| blake3::hash(&i.to_le_bytes()).to_hex().to_string()).collect();
    jsonl(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}

const FOLDER: &str = "[split]\nvalidation = 0.0\n[[sources]]\nname = \"s\"\n\
                      source = { kind = \"jsonl\", path = \"in\", max-line-bytes = 4096, max-ratio = 10 }\n";

#[test]
fn each_is_an_error_or_a_counted_skip_as_the_recipe_says() {
    let long =
        [jsonl(&["first"]), b"{\"text\": \"".to_vec(), vec![b'x'; 9000], b"\"}\n".to_vec(), jsonl(&["last"])]
            .concat();
    let bomb = zstd::encode_all(&vec![b'\n'; 80 << 20][..], 1).unwrap();
    let cases: Vec<(&str, &str, Vec<u8>, &str, u64)> = vec![
        ("line-too-long", "in/a.jsonl", long, "line longer than 4096 bytes", 2),
        (
            "not-json",
            "in/a.jsonl",
            b"{\"text\": \"a\"}\n{\"text\": \n{\"text\": \"b\"}\n".to_vec(),
            "a.jsonl:2: not a JSON object",
            2,
        ),
        ("not-json", "in/a.jsonl", b"[1]\n{\"text\": \"b\"}\n".to_vec(), "a.jsonl:1", 1),
        (
            "no-field",
            "in/a.jsonl",
            b"{\"txt\": \"a\"}\n{\"text\": \"b\"}\n".to_vec(),
            "no field `text`; the object has: txt",
            1,
        ),
        (
            "no-field",
            "in/a.jsonl",
            b"{\"text\": 1.5}\n{\"text\": null}\n".to_vec(),
            "a.jsonl:2: field `text`: expected a string, found null",
            1,
        ),
        ("damaged-file", "in/a.jsonl.gz", gzip(&noise(400))[..9000].to_vec(), "cannot decompress", 0),
        (
            "damaged-file",
            "in/a.jsonl.zst",
            zstd::encode_all(&noise(400)[..], 1).unwrap()[..9000].to_vec(),
            "cannot decompress",
            0,
        ),
        ("decompression-bomb", "in/a.jsonl.zst", bomb, "grow", 0),
    ];
    for (name, path, content, says, kept) in cases {
        let dir = folder(&[(path, &content), ("in/good.jsonl", &jsonl(&["good one", "good two"]))]);
        let error = run(FOLDER, dir.path()).err().unwrap().to_string();
        assert!(
            error.contains(says) && error.contains("in/a.jsonl") && !error.contains('\n'),
            "{name}: {error}"
        );
        assert!(!dir.path().join("out/shards.json").exists());
        let report = run(&format!("on-error = \"skip\"\n{FOLDER}"), dir.path()).unwrap().report;
        let (seen, all, dropped, failed) = report.totals();
        assert_eq!((failed, seen), (1, all + dropped + failed), "{name}");
        assert_eq!(report.sources[0].documents.failed[name], 1);
        assert!(all >= 2 + kept, "{name}: what is good is kept, {all}");
    }
}

#[test]
fn text_that_is_none_and_files_that_are_empty_are_counted() {
    let dir = folder(&[
        ("in/empty.jsonl", b""),
        ("in/bytes.jsonl", b"{\"text\": \"\xff\"}\n{\"text\": \"a\\u0000b\"}\n{\"text\": \" \\n\"}\n"),
        ("in/lone.jsonl", b"{\"text\": \"\\ud800\"}\n"),
    ]);
    let report = run(&format!("on-error = \"skip\"\n{FOLDER}"), dir.path()).unwrap().report;
    let counts = &report.sources[0].documents;
    assert_eq!((counts.seen, counts.kept, counts.nuls_removed), (4, 1, 1));
    assert_eq!((counts.dropped["empty"], counts.failed["not-utf8"], counts.failed["not-json"]), (1, 1, 1));
    // Nothing at all is an error that says what was seen.
    let none = folder(&[("in/empty.jsonl", b"")]);
    assert!(run(FOLDER, none.path()).err().unwrap().to_string().contains("source `s`: no documents"));
}

#[test]
fn a_very_long_line_needs_no_memory_and_what_follows_is_read() {
    let dir = folder(&[]);
    std::fs::create_dir_all(dir.path().join("in")).unwrap();
    let mut file = std::fs::File::create(dir.path().join("in/a.jsonl")).unwrap();
    let megabyte = vec![b'x'; 1 << 20];
    (0..64).for_each(|_| file.write_all(&megabyte).unwrap());
    file.write_all(b"\n{\"text\": \"after\"}\n").unwrap();
    drop(file);
    let report = run(&format!("on-error = \"skip\"\n{FOLDER}"), dir.path()).unwrap().report;
    assert_eq!((report.totals(), report.sources[0].documents.failed["line-too-long"]), ((2, 1, 0, 1), 1));
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error_or_left_out_whole() {
    for skip in [false, true] {
        let dir = folder(&[("in/a.jsonl", &jsonl(&["one", "two"])), ("in/b.jsonl", &jsonl(&["three"]))]);
        let pipe = dir.path().join("in/a.jsonl");
        let toml = if skip { format!("on-error = \"skip\"\n{FOLDER}") } else { FOLDER.to_owned() };
        // The content is hashed, then the progress is told again for the next part; so here it changes between the
        // hash of a part and its end: a thread writes all the time.
        let stop = AtomicBool::new(false);
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut i = 0;
                while !stop.load(Ordering::Relaxed) {
                    std::fs::write(&pipe, jsonl(&[&format!("version {i}"), "two"])).unwrap();
                    i += 1;
                }
            });
            let result = run(&toml, dir.path());
            stop.store(true, Ordering::Relaxed);
            result
        });
        match result {
            // Whatever moment each read saw, nothing is lost without a name.
            Ok(corpus) => {
                let (seen, kept, dropped, failed) = corpus.report.totals();
                assert_eq!(seen, kept + dropped + failed);
            }
            Err(error) => {
                assert!(!skip || error.to_string().contains("no documents"), "{error}");
                assert!(error.to_string().contains("a.jsonl"), "{error}");
            }
        }
    }
}

#[test]
fn what_may_not_be_read_is_an_error_or_counted() {
    let dir = folder(&[("in/closed/a.jsonl", &jsonl(&["hidden"])), ("in/b.jsonl", &jsonl(&["open"]))]);
    let closed = dir.path().join("in/closed");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    let may_read_all = std::fs::read_dir(&closed).is_ok();
    let stopped = run(FOLDER, dir.path()).err().map(|error| error.to_string());
    let skipped = run(&format!("on-error = \"skip\"\n{FOLDER}"), dir.path()).map(|corpus| corpus.report);
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o755)).unwrap();
    if may_read_all {
        println!("skipped: this user may read everything");
        return;
    }
    assert!(stopped.unwrap().contains("in/closed"));
    let report = skipped.unwrap();
    assert_eq!((report.totals(), report.sources[0].documents.failed["unreadable"]), ((2, 1, 0, 1), 1));
}

#[test]
fn a_full_disk_is_one_error_and_no_half_of_an_output() {
    let full = Path::new("/dev/full");
    if !full.exists() {
        println!("skipped: no /dev/full");
        return;
    }
    // The work folder cannot be written: a file stands where its folder should be.
    let dir = folder(&[("in/a.jsonl", &jsonl(&["one"])), ("out/work", b"in the way")]);
    let error = run(FOLDER, dir.path()).err().unwrap().to_string();
    assert!(error.contains("out/work") && !error.contains('\n'), "{error}");
    assert!(!dir.path().join("out/shards.json").exists());
}

/// Lines of all kinds, in a file of each kind.
fn lines() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let line = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60),
        "\\{\"text\": ?\"[a-z\\\\u0-9\"{}]{0,20}\"\\}".prop_map(String::into_bytes),
        Just(b"{\"text\": \"fine\"}".to_vec()),
    ];
    (proptest::collection::vec(line, 0..12), 0usize..3).prop_map(|(lines, kind)| {
        let content = lines.join(&b'\n');
        match kind {
            0 => ("in/a.jsonl", content),
            1 => ("in/a.jsonl.gz", content), // no gzip at all, as a rule
            _ => ("in/a.jsonl.zst", zstd::encode_all(&content[..], 1).unwrap()),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_break_the_jsonl_reader((name, content) in lines()) {
        let dir = folder(&[(name, &content)]);
        // An error or a right account (checked in `read`).
        _ = read("kind = \"jsonl\"\npath = \"in\"\nmax-line-bytes = 40\n", dir.path());
    }

    #[test]
    fn no_text_breaks_the_recipe_parser(at in any::<prop::sample::Index>(), cut in 0usize..40, with in "[ -~\n]{0,12}") {
        let text = include_str!("../../../../configs/corpus/miniature.toml");
        let from = (0..).map(|i| at.index(text.len()) + i).find(|&i| text.is_char_boundary(i)).unwrap();
        let to = (from + cut..).find(|&i| i >= text.len() || text.is_char_boundary(i)).unwrap().min(text.len());
        let broken = format!("{}{with}{}", &text[..from], &text[to..]);
        let loaded = llama_pro_run::load_recipe::<CorpusRecipe>(Path::new("r.toml"), &broken, &[]);
        match loaded {
            Ok((recipe, _)) => _ = recipe.check(),
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn with_skip_every_line_is_accounted_for((name, content) in lines()) {
        let dir = folder(&[(name, &content)]);
        write(dir.path(), "in/z.jsonl", b"{\"text\": \"the last\"}\n");
        let toml = "on-error = \"skip\"\n[split]\nvalidation = 0.0\n[[sources]]\nname = \"s\"\n\
                    source = { kind = \"jsonl\", path = \"in\", max-line-bytes = 40 }\n";
        let recipe = recipe(toml);
        let report = run_with(&recipe, dir.path(), &AtomicBool::new(false), &|_| {}).unwrap().report;
        let (seen, kept, dropped, failed) = report.totals();
        prop_assert_eq!(seen, kept + dropped + failed);
        prop_assert!(kept >= 1);
    }
}
