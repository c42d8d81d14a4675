//! What decides over a corpus and what does not: licence files do; where inputs lie does not, and no output says it.

use std::path::Path;

use super::pipeline::{outputs, run};
use super::support::{folder, write};

const MIT: &str = "MIT License\n\nPermission is hereby granted, free of charge, to any person obtaining a copy of this \
    software. The above copyright notice and this permission notice shall be included in all copies.\n";
const GPL: &str = "GNU GENERAL PUBLIC LICENSE\nVersion 2, June 1991\n";

#[test]
fn another_licence_file_makes_anew_what_it_decides() {
    let dir = folder(&[
        ("src/a/LICENSE", MIT.as_bytes()),
        ("src/a/one.py", b"print('one')\n"),
        ("src/b/LICENSE", MIT.as_bytes()),
        ("src/b/two.py", b"print('two')\n"),
    ]);
    let toml = "[split]\nvalidation = 0.0\n[[sources]]\nname = \"s\"\nfilters.license = true\n\
                source = { kind = \"files\", path = \"src\", extensions = [\"py\"] }\n";
    let kept = || {
        let corpus = run(toml, dir.path()).unwrap();
        (corpus.reused, corpus.report.sources[0].documents.kept)
    };
    assert_eq!((kept(), kept()), ((false, 2), (true, 2)));
    write(dir.path(), "src/b/LICENSE", GPL.as_bytes());
    assert_eq!((kept(), kept()), ((false, 1), (true, 1)));
    let report = run(toml, dir.path()).unwrap().report;
    assert_eq!(report.sources[0].documents.dropped["license/not-allowed"], 1);
    std::fs::remove_file(dir.path().join("src/a/LICENSE")).unwrap();
    write(dir.path(), "src/b/LICENSE", MIT.as_bytes());
    assert_eq!(kept(), (false, 1));
    // A change that does not change what the licence is decides nothing.
    write(dir.path(), "src/b/LICENSE", format!("{MIT}\nCopyright somebody\n").as_bytes());
    assert_eq!(kept(), (true, 1));
}

/// Inputs with something wrong of every kind, and benchmarks, in a folder that the recipe names by its whole path.
fn corpus(input: &Path) -> String {
    let line = |text: &str| serde_json::json!({ "text": text }).to_string() + "\n";
    let good: String = (0..20).map(|i| line(&format!("document number {i} of this set"))).collect();
    write(input, "web/a.jsonl", format!("{good}{{\"txt\": 1}}\n[1]\n{}\n", "x".repeat(5000)).as_bytes());
    write(input, "web/b.jsonl.gz", b"no gzip at all");
    write(input, "web/c.jsonl.zst", &zstd::encode_all(good.as_bytes(), 1).unwrap()[..60]);
    write(input, "web/d.parquet", b"not taken");
    write(input, "single.jsonl", line("one two three four five six seven eight nine ten eleven").as_bytes());
    write(input, "rows/bad.parquet", b"PAR1 and no more");
    write(input, "bench/tests.jsonl", b"{\"q\": \"one two three four five six seven eight nine ten\"}\n");
    write(input, "src/a.py", b"x = 1\n");
    write(
        input,
        "table.csv",
        b"language,extension,Include,Alphanum_threshold,Long_line_threshold,Alpha filter\npython,py,1,,,\n",
    );
    let path = |name: &str| serde_json::to_string(&input.join(name)).unwrap();
    format!(
        "on-error = \"skip\"\n[split]\nvalidation = 0.0\n\
         [[decontaminate.benchmarks]]\nname = \"b\"\npath = {}\nfields = [\"q\"]\nkind = \"code\"\n\
         [[sources]]\nname = \"web\"\nsource = {{ kind = \"jsonl\", path = [{}, {}], max-line-bytes = 4096 }}\n\
         [[sources]]\nname = \"code\"\nfilters.starcoder = {{ per-extension = {} }}\n\
         source = {{ kind = \"files\", path = {}, extensions = [\"py\"] }}\n\
         [[sources]]\nname = \"rows\"\nsource = {{ kind = \"parquet\", path = [{}, {}] }}\n",
        path("bench/tests.jsonl"),
        path("web"),
        path("single.jsonl"),
        path("table.csv"),
        path("src"),
        path("rows"),
        path("more.parquet"),
    )
}

#[test]
fn outputs_do_not_say_and_do_not_depend_on_where_inputs_lie() {
    let more = super::parquet::parquet(&["content"], &[vec![b"a row".as_slice()], vec![b"\xff".as_slice()]]);
    let prepared = [folder(&[]), folder(&[("deep/er/x", b"")])].map(|dir| {
        let input =
            if dir.path().join("deep").exists() { dir.path().join("deep/er") } else { dir.path().join("in") };
        write(&input, "more.parquet", &more);
        let report = run(&corpus(&input), dir.path()).unwrap().report;
        let failed: u64 =
            report.sources.iter().map(|source| source.documents.failed.values().sum::<u64>()).sum();
        assert_eq!((failed, report.contaminated), (7, 1), "{:?}", report.sources[0].documents);
        let web = &report.sources[0].rules;
        let ids = |name: &str| {
            let rule = web.iter().find(|rule| rule.rule == name).unwrap();
            rule.examples.iter().map(|example| example.id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            (ids("no-field"), ids("not-json")),
            (vec!["a.jsonl:21".into()], vec!["a.jsonl:22".into()])
        );
        assert_eq!(ids("line-too-long"), ["a.jsonl:23"]);
        assert_eq!(ids("damaged-file"), ["b.jsonl.gz", "c.jsonl.zst"]);
        for (name, content) in outputs(dir.path()) {
            let place = dir.path().to_string_lossy().into_owned();
            let says = memchr::memmem::find(&content, place.as_bytes());
            assert!(says.is_none(), "{name}: {}", String::from_utf8_lossy(&content));
        }
        // Moved, the same corpus is found prepared.
        let moved = dir.path().join("moved");
        std::fs::rename(&input, &moved).unwrap();
        std::fs::remove_file(moved.join("x")).ok();
        assert!(run(&corpus(&moved), dir.path()).unwrap().reused);
        (outputs(dir.path()), dir)
    });
    assert_eq!(prepared[0].0, prepared[1].0);
}

#[test]
fn many_contaminated_documents_are_counted_and_the_first_are_shown() {
    let words = "one two three four five six seven eight nine ten";
    let lines = |from: usize, n: usize| -> String {
        (from..from + n)
            .map(|i| serde_json::json!({ "text": format!("{words} and {i}") }).to_string() + "\n")
            .collect()
    };
    let dir = folder(&[
        ("in/a.jsonl", (lines(0, 700) + "{\"text\": \"fine\"}\n").as_bytes()),
        ("in/b.jsonl", lines(700, 1300).as_bytes()),
        ("b.jsonl", serde_json::json!({ "q": words }).to_string().as_bytes()),
    ]);
    // Each file is a part of its own.
    let toml = "part-bytes = 100\n[split]\nvalidation = 0.0\n\
                [[decontaminate.benchmarks]]\nname = \"b\"\npath = \"b.jsonl\"\nfields = [\"q\"]\nkind = \"code\"\n\
                [[sources]]\nname = \"s\"\nsource = { kind = \"jsonl\", path = \"in\" }\n";
    for _ in 0..2 {
        let report = run(toml, dir.path()).unwrap().report;
        assert_eq!((report.contaminated, report.contaminations.len()), (2000, 1000));
        assert_eq!(report.sources[0].documents.dropped["contaminated"], 2000);
        let ids: Vec<String> = (0..1000)
            .map(|i| if i < 700 { format!("a.jsonl:{}", i + 1) } else { format!("b.jsonl:{}", i - 699) })
            .collect();
        assert_eq!(report.contaminations.iter().map(|c| c.id.clone()).collect::<Vec<_>>(), ids);
        let rule = report.sources[0].rules.iter().find(|rule| rule.rule == "contaminated").unwrap();
        assert_eq!(rule.examples.len(), 3);
        std::fs::remove_file(dir.path().join("out/shards.json")).unwrap();
    }
}
