//! JSON lines, plain and compressed, whole and damaged.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use llama_pro_corpus::Error;

use super::support::{folder, ids, read, texts};

const QA: &str = "kind = \"jsonl\"\ntemplate = \"Q: {q}\\nA: {a}\"\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd_long(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.long_distance_matching(true).unwrap();
    // Above the 2^27 that decoders allow unless they are told otherwise.
    encoder.window_log(28).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn lines(from: usize, to: usize) -> String {
    (from..to).map(|i| format!("{{\"q\":\"{i}?\",\"a\":{i},\"other\":null}}\n")).collect()
}

#[test]
fn plain_gzip_and_zstd_give_the_same_documents() {
    // Two members, one after the other, as parallel compressors write them.
    let members = [gzip(lines(0, 5).as_bytes()), gzip(lines(5, 9).as_bytes())].concat();
    let frames = [zstd_long(lines(0, 5).as_bytes()), zstd_long(lines(5, 9).as_bytes())].concat();
    let dir = folder(&[
        ("a.jsonl", lines(0, 9).as_bytes()),
        ("b.jsonl.gz", &members),
        ("c.jsonl.zst", &frames),
        ("two/x.jsonl", lines(0, 5).as_bytes()),
        ("two/y.jsonl.gz", &gzip(lines(5, 9).as_bytes())),
        ("two/z.txt", b"not taken"),
    ]);
    let with = |path: &str| read(&format!("{QA}path = {path}\n"), dir.path()).unwrap();
    let (plain, counts) = with("\"a.jsonl\"");
    assert_eq!((plain.len(), counts.seen), (9, 9));
    assert_eq!((plain[3].id.as_str(), plain[3].text.as_str()), ("a.jsonl:4", "Q: 3?\nA: 3"));
    for path in ["\"b.jsonl.gz\"", "\"c.jsonl.zst\"", "\"two\""] {
        assert_eq!(texts(&with(path).0), texts(&plain), "{path}");
    }
    let (both, counts) = with("[\"two/y.jsonl.gz\", \"a.jsonl\"]");
    assert_eq!(
        ids(&both)[..5],
        ["y.jsonl.gz:1", "y.jsonl.gz:2", "y.jsonl.gz:3", "y.jsonl.gz:4", "a.jsonl:1"]
    );
    assert_eq!((both.len(), counts.dropped["duplicate"]), (9, 4));
}

#[test]
fn a_file_cut_short_is_an_error() {
    let text = lines(0, 20_000);
    for (name, whole) in [("a.jsonl.gz", gzip(text.as_bytes())), ("a.jsonl.zst", zstd_long(text.as_bytes()))]
    {
        for keep in [whole.len() / 2, whole.len() - 3, 3] {
            let dir = folder(&[(name, &whole[..keep])]);
            let error = read(&format!("{QA}path = \"{name}\"\n"), dir.path()).unwrap_err();
            assert!(matches!(error, Error::Decompress { .. }), "{name} at {keep}: {error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}

#[test]
fn a_bomb_is_stopped() {
    let line = format!("{{\"q\":\"x\",\"a\":\"{}\"}}\n", "y".repeat(1 << 20));
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    for _ in 0..70 {
        encoder.write_all(line.as_bytes()).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 300_000);
    let dir = folder(&[("a.jsonl.zst", &bomb)]);
    let toml = format!("{QA}path = \"a.jsonl.zst\"\n");
    let error = read(&toml, dir.path()).unwrap_err();
    assert!(matches!(error, Error::Bomb { limit, .. } if limit == 64 << 20), "{error}");
    assert!(read(&format!("{toml}max-ratio = 1000000\n"), dir.path()).is_ok());
    // One line without end is stopped by its own limit, compressed or not.
    let endless = gzip(&vec![b'['; 3 << 20]);
    let dir = folder(&[("a.jsonl.gz", &endless)]);
    let error =
        read(&format!("{QA}path = \"a.jsonl.gz\"\nmax-line-bytes = 1000000\n"), dir.path()).unwrap_err();
    assert!(
        error.to_string().contains("a.jsonl.gz:1: line longer than 1000000 bytes (max-line-bytes)"),
        "{error}"
    );
}

#[test]
fn a_bad_line_is_named() {
    for (line, message) in [
        ("{\"q\":\"x\"}", "a.jsonl:3: no field `a`; the object has: q"),
        ("{\"q\":\"x\",\"a\":[1]}", "a.jsonl:3: field `a`: expected a string, found an array"),
        ("[1]", "a.jsonl:3: expected a JSON object, found an array"),
        ("{\"q\":\"x\"", "a.jsonl:3: not a JSON object"),
    ] {
        let dir = folder(&[("a.jsonl", format!("{}\n{line}\n", lines(0, 1)).as_bytes())]);
        let error = read(&format!("{QA}path = \"a.jsonl\"\n"), dir.path()).unwrap_err().to_string();
        assert!(error.contains(message) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_line_that_is_not_text_is_counted() {
    let dir =
        folder(&[("a.jsonl", [lines(0, 1).as_bytes(), b"{\"q\":\"\xff\",\"a\":1}\n"].concat().as_slice())]);
    let (documents, counts) = read(&format!("{QA}path = \"a.jsonl\"\n"), dir.path()).unwrap();
    assert_eq!((documents.len(), counts.failed["not-utf8"]), (1, 1));
}
