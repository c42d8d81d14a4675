//! Benchmarks are found as a plain comparison of words finds them, in whatever form they come.

use proptest::prelude::*;

use super::*;
use crate::document::Meta;

fn document(text: &str) -> Document {
    Document { id: "d".to_owned(), text: text.to_owned(), meta: Meta::default() }
}

/// Words as strings, by another way.
fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let split = lower.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    split.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[test]
fn it_finds_what_a_plain_comparison_of_words_finds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("b.jsonl");
    let texts = [
        "One two three four five six seven eight nine ten eleven.",
        "alpha BETA gamma delta epsilon",
        "too short",
    ];
    let lines: Vec<String> = texts.iter().map(|t| serde_json::json!({"q": t}).to_string()).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    let benchmark = Benchmark {
        name: "b".into(),
        path,
        fields: vec!["q".into()],
        header: true,
        id: None,
        kind: Kind::Code,
    };
    let recipe = Decontaminate {
        code_words: 8,
        text_words: 13,
        min_words: 5,
        ignore: vec![],
        benchmarks: vec![benchmark],
    };
    let all = Decontaminator::load(&recipe, &Environment::default()).unwrap();
    let vocabulary: Vec<String> = words(&texts.join(" "));
    let mut state = 7u64;
    let mut hits = 0;
    for round in 0..4000usize {
        // Mostly pieces of the benchmarks, with a word changed now and then.
        let mut text = Vec::new();
        for i in 0..20 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let jump = (state >> 33).is_multiple_of(12);
            let at = if jump { (state >> 40) as usize } else { round + i };
            text.push(vocabulary[at % vocabulary.len()].to_uppercase());
        }
        let text = text.join(", ");
        let has = |piece: &[String]| words(&text).windows(piece.len()).any(|w| w == piece);
        let expected = words(texts[0]).windows(8).any(has) || has(&words(texts[1]));
        let found = all.find(&document(&text));
        assert_eq!(found.is_some(), expected, "{text}");
        if let Some(found) = found {
            hits += 1;
            assert!(has(&words(&found.text)));
            assert_eq!(words(&found.text).len(), found.words);
        }
    }
    assert!((400..3600).contains(&hits), "{hits}");
    assert!(all.find(&document("too short")).is_none());
}

/// The same items in every form that a benchmark has.
#[test]
fn tables_and_arrays_are_read_as_lines_are() {
    let dir = tempfile::tempdir().unwrap();
    let gzip = |bytes: &[u8]| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut out, bytes).unwrap();
        out.finish().unwrap()
    };
    let items = [
        ("t/0", "One, \"two\" three\nfour five six.", vec!["red fish blue fish old fish", "é ü ö ä ß ê"]),
        ("t/1", "seven eight nine ten eleven twelve", vec!["a b c d e f"]),
    ];
    let objects: Vec<Value> =
        items.iter().map(|(id, q, c)| serde_json::json!({ "id": id, "q": q, "c": c, "n": 3 })).collect();
    let lines = objects.iter().map(|object| object.to_string() + "\n").collect::<String>();
    let array = serde_json::to_string_pretty(&objects).unwrap();
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let row = |(id, q, c): &(&str, &str, Vec<&str>)| {
        format!("{id},{},3,{}\r\n", quoted(q), quoted(&serde_json::to_string(c).unwrap()))
    };
    let rows: String = items.iter().map(row).collect();
    let table = format!("\u{feff}id,q,n,c\r\n{rows}");
    let files = [
        ("b.jsonl", lines.clone().into_bytes()),
        ("b.jsonl.gz", gzip(lines.as_bytes())),
        ("bom.jsonl", format!("\u{feff}{lines}").into_bytes()),
        ("b.json", format!("\n  {array}").into_bytes()),
        ("lines.json", lines.into_bytes()),
        ("b.json.gz", gzip(array.as_bytes())),
        ("b.json.zst", zstd::encode_all(array.as_bytes(), 1).unwrap()),
        ("b.csv", table.clone().into_bytes()),
        ("b.CSV.gz", gzip(table.as_bytes())),
        ("none.csv", rows.into_bytes()),
    ];
    let read = |name: &str, content: &[u8], fields: &[&str], id: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let benchmark = Benchmark {
            name: "b".into(),
            path: path.clone(),
            fields: fields.iter().map(|&field| field.to_owned()).collect(),
            header: !name.starts_with("none"),
            id: Some(id.to_owned()),
            kind: Kind::Code,
        };
        let recipe = Decontaminate {
            code_words: 6,
            text_words: 13,
            min_words: 3,
            ignore: vec![],
            benchmarks: vec![benchmark],
        };
        Decontaminator::load(&recipe, &Environment::default())
    };
    let expected = read("first.jsonl", &files[0].1, &["q", "c"], "id").unwrap();
    assert_eq!(expected.pieces.len(), 5);
    for (name, content) in &files {
        let (fields, id) = if name.starts_with("none") { (["2", "4"], "1") } else { (["q", "c"], "id") };
        let found = read(name, content, &fields, id).unwrap();
        assert_eq!((&found.pieces, &found.items), (&expected.pieces, &expected.items), "{name}");
    }
    let error = read("u.jsonl", &files[0].1, &["q", "cc", "c", "d.e"], "id").err().unwrap().to_string();
    assert!(
        error.contains("fields: benchmark `b`: no item of") && error.ends_with("a text or list cc, d.e"),
        "{error}"
    );
    for (name, content, says) in [
        ("x.json", "[{\"q\": \"a b c\"}, 3]", "x.json:1: not an array of JSON objects"),
        ("y.json", "[{\"q\": \"a b c\"}", "y.json:1: not an array of JSON objects"),
        ("z.csv", "q,c\n1,2\n1,2,3\n", "z.csv:3: not a table of comma-separated values"),
        ("w.csv", "a,b\n1,2\n", "benchmark `b`: no item of"),
        ("v.jsonl", "{\"id\": 1}\n{\"q\": 7}\n", "v.jsonl has a text or list q"),
        ("none.jsonl", "{}", "header: benchmark `b`: only .csv files have a header"),
    ] {
        let error = read(name, content.as_bytes(), &["q"], "id").err().unwrap().to_string();
        assert!(error.contains(says) && !error.contains('\n'), "{error}");
    }
}

/// What is written as a table or an array, with any texts, is read as the same texts; and no bytes break a reader.
fn load(name: &str, content: &[u8], header: bool) -> Result<Decontaminator> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    let fields = vec![if header { "q" } else { "1" }.to_owned()];
    let benchmark = Benchmark { name: "b".into(), path, fields, header, id: None, kind: Kind::Code };
    let recipe = Decontaminate {
        code_words: 3,
        text_words: 3,
        min_words: 1,
        ignore: vec![],
        benchmarks: vec![benchmark],
    };
    Decontaminator::load(&recipe, &Environment::default())
}

proptest! {
    #![proptest_config(crate::cases::cases(300))]

    #[test]
    fn any_texts_are_the_same_in_every_form(texts in proptest::collection::vec("([a-cé中 ,\"\n\r\\]{}\\\\][a-cé中 ,\"\n\r\\[\\]{}\\\\]{0,11})?", 1..6)) {
        // None begins with `[`: a cell that is a JSON list is its texts, which no other form does.
        let objects: Vec<Value> = texts.iter().map(|text| serde_json::json!({ "q": text })).collect();
        let array = serde_json::to_vec(&objects).unwrap();
        let lines: String = objects.iter().map(|object| format!("{object}\n")).collect();
        let rows: String = texts.iter().map(|text| format!("\"{}\",x\n", text.replace('"', "\"\""))).collect();
        let expected = load("b.jsonl", lines.as_bytes(), true).unwrap();
        for found in [
            load("b.json", &array, true),
            load("b.csv", format!("q,r\n{rows}").as_bytes(), true),
            load("b.csv", rows.as_bytes(), false),
        ] {
            prop_assert_eq!(&found.unwrap().pieces, &expected.pieces);
        }
    }

    #[test]
    fn no_bytes_break_a_benchmark(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..80),
            "(q,r\n)?[a-c\",\n\r ]{0,40}".prop_map(String::into_bytes),
            "\\[(\\{\"q\": ?(\"[a-c ]{0,6}\"|[0-9]|\\[\"a\"\\])\\},?){0,3}\\]?".prop_map(String::into_bytes),
        ],
        name in prop_oneof![Just("b.csv"), Just("b.json"), Just("b.jsonl"), Just("b.csv.gz"), Just("b.json.zst")],
        header in any::<bool>(),
    ) {
        if let Err(error) = load(name, &bytes, header) {
            prop_assert!(!error.to_string().contains('\n'), "{}", error);
        }
    }
}
