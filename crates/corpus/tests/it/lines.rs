//! Repeated lines in `prepare`: what the shards hold against the rule written out over strings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use llama_pro_shards::TokenShard;

use super::pipeline::run;
use super::support::{folder, tokenizer, write};

const NOTICE: &str = "# Copyright of somebody, all rights are reserved (é).";

/// Files of which most begin with a notice; some have nothing else, and two are the same.
fn text(i: usize) -> String {
    let body: String = (0..5).map(|j| format!("  value_{} = compute({})\n", i * 31 + j, i % 9)).collect();
    match i % 10 {
        0 => body,
        7 => format!("{NOTICE}\n\t{NOTICE}  \n\n"),
        _ => format!("{NOTICE}\n{body}    return result_of_the_group({})", i % 60),
    }
}

fn place(order: impl Iterator<Item = usize>) -> tempfile::TempDir {
    let dir = folder(&[]);
    for i in order {
        write(dir.path(), &format!("src/d{}/f{i:03}.py", i % 4), text(i).as_bytes());
        // What stands in another source does not count.
        write(
            dir.path(),
            &format!("other/f{i:03}.py"),
            format!("x{i}\n    return result_of_the_group(1)\n").as_bytes(),
        );
    }
    write(dir.path(), "src/z_copy.py", text(1).as_bytes());
    dir
}

fn toml(part_bytes: u64, rule: &str) -> String {
    format!(
        "part-bytes = {part_bytes}\n[split]\nvalidation = 0.0\n\
         [[sources]]\nname = \"code\"\nline-dedup = {rule}\n\
         source = {{ kind = \"files\", path = \"src\", extensions = [\"py\"] }}\n\
         [[sources]]\nname = \"other\"\nsource = {{ kind = \"files\", path = \"other\", extensions = [\"py\"] }}\n"
    )
}

fn texts(dir: &Path, shard: &str) -> Vec<String> {
    let (shard, tokenizer) = (TokenShard::open(&dir.join("out").join(shard)).unwrap(), tokenizer(300));
    (0..shard.n_documents()).map(|i| tokenizer.decode(&shard.document(i)).unwrap()).collect()
}

/// The rule over strings, for distinct texts.
fn expected(min_chars: usize, max_documents: usize) -> BTreeSet<String> {
    let all: BTreeSet<String> = (0..200).map(text).collect();
    let mut documents: BTreeMap<String, usize> = BTreeMap::new();
    for text in &all {
        let lines: BTreeSet<&str> = text.lines().map(str::trim).collect();
        lines.into_iter().for_each(|line| *documents.entry(line.to_owned()).or_default() += 1);
    }
    let stays =
        |line: &&str| line.trim().chars().count() < min_chars || documents[line.trim()] <= max_documents;
    let left = all.iter().map(|text| text.split_inclusive('\n').filter(stays).collect::<String>());
    left.filter(|text| !text.trim().is_empty()).collect()
}

#[test]
fn repeated_lines_go_and_the_account_says_which() {
    let dir = place(0..200);
    let corpus = run(&toml(3000, "{ min-chars = 25, max-documents = 3 }"), dir.path()).unwrap();
    let found = texts(dir.path(), "code-train");
    assert_eq!(found.iter().cloned().collect::<BTreeSet<_>>(), expected(25, 3));
    assert!(found.iter().all(|text| !text.contains("Copyright")));
    let group = |text: &&String| text.contains("result_of_the_group");
    let groups = found.iter().filter(group).count();
    assert!(
        0 < groups && groups < (0..200).map(text).filter(|text| group(&text)).count(),
        "some stay, some go"
    );
    assert!(texts(dir.path(), "other-train").iter().all(|text| text.contains("result_of_the_group(1)")));
    let code = &corpus.report.sources[0];
    let lines = code.lines.as_ref().unwrap();
    // All of the texts with the remainder 7 are the same one.
    assert_eq!((code.documents.dropped["only-repeated-lines"], lines.emptied), (1, 1));
    let rule = code.rules.iter().find(|rule| rule.rule == "only-repeated-lines").unwrap();
    assert_eq!((rule.documents, rule.examples.len()), (1, 1));
    assert!(rule.examples[0].detail.starts_with("2 lines, each in more than 3 documents"), "{rule:?}");
    assert_eq!(lines.examples[0], NOTICE);
    let distinct: BTreeSet<String> = (0..200).map(text).collect();
    let before: usize = distinct.iter().map(String::len).sum();
    let after: usize = found.iter().map(String::len).sum();
    // What is left of the emptied document is its empty line.
    assert_eq!(before - after - 1, lines.bytes as usize);
    assert!(corpus.report.sources[1].lines.is_none());
    assert!(run(&toml(3000, "{ min-chars = 25, max-documents = 3 }"), dir.path()).unwrap().reused);
}

#[test]
fn neither_threads_nor_parts_nor_the_order_of_writing_change_what_is_left() {
    let (first, second) = (place(0..200), place((0..200).rev()));
    for (dir, threads, part_bytes) in [(&first, 1, 2000), (&second, 4, 900_000)] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&toml(part_bytes, "true"), dir.path())).unwrap();
    }
    for file in ["code-train.bin", "code-train.idx", "code-train.hashes", "code-train.documents.jsonl.zst"] {
        let read = |dir: &tempfile::TempDir| std::fs::read(dir.path().join("out").join(file)).unwrap();
        assert!(read(&first) == read(&second), "{file}");
    }
    assert_eq!(texts(first.path(), "code-train").into_iter().collect::<BTreeSet<_>>(), expected(30, 10));
    // A change of the numbers makes anew what depends on them, and off is off.
    run(&toml(2000, "{ min-chars = 30, max-documents = 1000 }"), first.path()).unwrap();
    assert_eq!(texts(first.path(), "code-train").into_iter().collect::<BTreeSet<_>>(), expected(30, 1000));
    run(&toml(2000, "false"), first.path()).unwrap();
    assert!(texts(first.path(), "code-train").iter().any(|text| text.contains("Copyright")));
    let error = run(&toml(2000, "{ max-documents = 0 }"), first.path()).err().unwrap().to_string();
    assert!(error.contains("line-dedup.max-documents: expected at least 1, found 0"), "{error}");
}
