//! Inputs that cannot be used, each as one clear error and as a counted, named skip.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::pipeline::run;
use super::support::{folder, read};

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
fn a_line_without_end_in_a_text_costs_the_document_that_it_is_in() {
    use std::os::unix::fs::FileExt;
    let dir = folder(&[("in/b.txt", b"the last of all\n")]);
    let file = std::fs::File::create(dir.path().join("in/a.txt")).unwrap();
    let head = b"the first\n<|>\nthe second begins\n\n<|>\n";
    file.write_at(head, 0).unwrap();
    // A hole of NULs, over the limit of 256 MiB.
    file.write_at(b"\nit goes on\n<|>\nthe third\n\n<|>\nthe fourth\n", (1 << 28) + 100).unwrap();
    drop(file);
    for (split, kept) in [
        ("<|>", vec!["the first", "the second begins", "the third", "the fourth", "the last of all"]),
        ("blank-lines", vec!["the first\n<|>\nthe second begins", "<|>\nthe fourth", "the last of all"]),
        ("file", vec!["the last of all\n"]),
    ] {
        let toml = format!(
            "on-error = \"skip\"\n[split]\nvalidation = 0.0\n[[sources]]\nname = \"s\"\n\
             source = {{ kind = \"text\", path = \"in\", split = \"{split}\" }}\n"
        );
        let report = run(&toml, dir.path()).unwrap().report;
        let counts = &report.sources[0].documents;
        assert_eq!((counts.failed["line-too-long"], counts.dropped.len()), (1, 0), "{split}: {counts}");
        assert_eq!(super::pipeline::texts(dir.path(), "s-train"), kept, "{split}");
    }
}

#[test]
fn a_byte_order_mark_is_no_fault() {
    let dir = folder(&[
        ("in/a.jsonl", b"\xef\xbb\xbf{\"text\": \"one\"}\n{\"text\": \"two\"}\n"),
        ("in/b.jsonl", b"\xef\xbb\xbf"),
    ]);
    let (documents, counts) = read("kind = \"jsonl\"\npath = \"in\"\n", dir.path()).unwrap();
    assert_eq!((super::support::texts(&documents), counts.seen), (vec!["one", "two"], 2));
}

/// The kernel makes another text each time that this file is read.
#[test]
fn a_file_that_changes_while_it_is_read_is_an_error_or_left_out_whole() {
    let changing = Path::new("/proc/sys/kernel/random/uuid");
    if !changing.is_file() {
        println!("skipped: no file here that changes by itself");
        return;
    }
    let toml = "[split]\nvalidation = 0.0\n\
                [[sources]]\nname = \"s\"\nsource = { kind = \"jsonl\", path = \"in\", template = \"{text}\" }\n\
                [[sources]]\nname = \"t\"\nsource = { kind = \"text\", path = \"/proc/sys/kernel/random/uuid\" }\n";
    let dir = folder(&[("in/a.jsonl", &jsonl(&["one", "two"]))]);
    let error = run(toml, dir.path()).err().unwrap().to_string();
    assert!(error.starts_with("source `t`: ") && error.contains("uuid changed while it was read"), "{error}");
    assert!(!dir.path().join("out/shards.json").exists());
    // Left out whole, nothing is left of that source.
    let skip = format!("on-error = \"skip\"\n{toml}");
    let error = run(&skip, dir.path()).err().unwrap().to_string();
    assert!(
        error.contains("source `t`: no documents") && error.contains("1 seen, 0 kept, 1 changed-while-read"),
        "{error}"
    );
    // With a document beside it, the source goes on without it.
    let both = skip
        .replace("kind = \"text\", path = ", "kind = \"jsonl\", path = [\"in\", ")
        .replace("uuid\" }", "uuid\"] }");
    let both = both.replace("[dedup]", "").replacen("[split]", "[dedup]\nexact = false\n[split]", 1);
    let report = run(&both, dir.path()).unwrap().report;
    let counts = &report.sources[1].documents;
    assert_eq!((counts.seen, counts.kept, counts.failed["changed-while-read"]), (3, 2, 1));
    assert_eq!(report.sources[1].rules[0].examples[0].id, "uuid");
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
