//! Folders and text files, good and bad.

use llama_pro_corpus::{Error, SourceKind, Split, TextSource};

use super::support::{folder, ids, read, source, texts, write};

const PYTHON: &str = "kind = \"files\"\npath = \"src\"\nextensions = [\"py\"]\n";

#[test]
fn a_folder_is_read_in_the_order_of_paths_without_what_git_and_the_system_hide() {
    let dir = folder(&[
        ("src/b.py", b"b = 1\r\n"),
        ("src/a/z.PY", b"z = 1\n"),
        ("src/a.py", b"a = 1\n"),
        ("src/a/skip.txt", b"no\n"),
        ("src/.hidden/h.py", b"h = 1\n"),
        ("src/.gitignore", b"build/\n"),
        ("src/build/out.py", b"o = 1\n"),
        (".gitignore", b"*.py\n"),
    ]);
    let (documents, counts) = read(PYTHON, dir.path()).unwrap();
    // A .gitignore above the folder has no say.
    assert_eq!(ids(&documents), ["a.py", "a/z.PY", "b.py"]);
    assert_eq!(documents[2].text, "b = 1\n");
    assert_eq!((counts.seen, counts.bytes), (3, 18));
}

#[test]
fn include_and_exclude_are_gitignore_patterns() {
    let dir = folder(&[("src/lib/a.py", b"a"), ("src/lib/test/b.py", b"b"), ("src/c.py", b"c")]);
    let with = |more: &str| {
        let (documents, _) = read(&format!("{PYTHON}{more}"), dir.path()).unwrap();
        documents.into_iter().map(|document| document.text).collect::<String>()
    };
    assert_eq!(with("exclude = [\"test/\"]\n"), "ca");
    assert_eq!(with("include = [\"/lib/\"]\n"), "ab");
    assert_eq!(with("include = [\"lib\"]\nexclude = [\"test\"]\n"), "a");
}

#[test]
fn what_cannot_be_used_is_counted() {
    let dir = folder(&[
        ("src/big.py", &[b'x'; 2000]),
        ("src/bad.py", b"\xff\xfe"),
        ("src/empty.py", b""),
        ("src/one.py", b"same\n"),
        ("src/two.py", b"same\r\n"),
    ]);
    let (documents, counts) = read(&format!("{PYTHON}max-file-bytes = 1000\n"), dir.path()).unwrap();
    assert_eq!(ids(&documents), ["one.py"]);
    let expected = "5 seen, 1 kept, 1 duplicate, 1 empty, 1 too-large, 1 not-utf8";
    assert_eq!(counts.to_string(), expected);
}

#[test]
fn a_total_limit_takes_the_same_files_whatever_else_is_there() {
    let content = |i: usize| format!("value = {i:04}\n");
    let dir = folder(&[]);
    for i in 0..100 {
        write(dir.path(), &format!("src/f{i}.py"), content(i).as_bytes());
    }
    let limited = format!("{PYTHON}max-bytes = 300\n");
    let (some, counts) = read(&limited, dir.path()).unwrap();
    assert_eq!((some.len(), counts.dropped["over-max-bytes"]), (300 / content(0).len(), 77));
    // Twice the limit: the first sample is a part of the second.
    let (more, _) = read(&format!("{PYTHON}max-bytes = 600\n"), dir.path()).unwrap();
    assert!(some.iter().all(|document| more.contains(document)));
    // Without a file that was not taken, nothing changes.
    let absent = (0..100).map(|i| format!("f{i}.py")).find(|id| !ids(&some).contains(&id.as_str())).unwrap();
    std::fs::remove_file(dir.path().join("src").join(absent)).unwrap();
    assert_eq!(read(&limited, dir.path()).unwrap().0, some);
}

#[cfg(unix)]
#[test]
fn symbolic_links_are_not_followed() {
    let dir = folder(&[("src/a.py", b"a"), ("outside/o.py", b"o")]);
    let link = |to: &str, from: &str| {
        std::os::unix::fs::symlink(dir.path().join(to), dir.path().join(from)).unwrap()
    };
    link("src", "src/loop");
    link("outside", "src/outside");
    link("outside/o.py", "src/o.py");
    assert_eq!(ids(&read(PYTHON, dir.path()).unwrap().0), ["a.py"]);
}

#[test]
fn bad_paths_and_keys_are_one_clear_line() {
    let dir = folder(&[("src/a.py", b"a"), ("file", b"x")]);
    for (toml, message) in [
        ("kind = \"files\"\npath = \"none\"\nextensions = [\"py\"]\n", "cannot list"),
        ("kind = \"files\"\npath = \"file\"\nextensions = [\"py\"]\n", "expected a folder"),
        ("kind = \"files\"\npath = \"src\"\nextensions = []\n", "extensions: expected at least one"),
        ("kind = \"text\"\npath = \"none.txt\"\n", "none.txt"),
        ("kind = \"text\"\npath = \"file\"\nsplit = \"\"\n", "split: expected"),
        ("kind = \"text\"\npath = \"file\"\nstarts-with = [\"a\"]\n", "starts-with: only"),
        ("kind = \"jsonl\"\npath = \"file\"\ntemplate = \"x\"\n", "template: expected at least one {field}"),
        ("kind = \"jsonl\"\npath = []\n", "path: expected at least one"),
    ] {
        let error = read(toml, dir.path()).unwrap_err().to_string();
        assert!(error.contains(message) && !error.contains('\n'), "{toml}: {error}");
    }
    for toml in ["kind = \"fils\"\n", "kind = \"math\"\nseed = 1\ndocuments = 2\nsed = 3\n"] {
        assert!(toml::from_str::<SourceKind>(toml).is_err(), "{toml}");
    }
}

#[cfg(unix)]
#[test]
fn a_folder_without_permission_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let dir = folder(&[("src/a.py", b"a"), ("src/closed/b.py", b"b")]);
    let closed = dir.path().join("src/closed");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    let readable = std::fs::read_dir(&closed).is_ok();
    let result = read(PYTHON, dir.path());
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o755)).unwrap();
    if readable {
        println!("skipped: this user may read everything");
        return;
    }
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Walk { .. }) && error.to_string().contains("closed"), "{error}");
}

#[test]
fn text_is_cut_where_the_recipe_says() {
    let dir = folder(&[
        ("t/b.txt", b"One.\r\nStill one.\r\n\r\n \r\nTwo.\n"),
        ("t/a.md", b"# Zero\n"),
        ("t/c.rst", b"not taken"),
    ]);
    let with = |more: &str| read(&format!("kind = \"text\"\npath = \"t\"\n{more}"), dir.path()).unwrap().0;
    let whole = with("");
    assert_eq!(ids(&whole), ["a.md", "b.txt"]);
    assert_eq!(whole[1].text, "One.\nStill one.\n\n \nTwo.\n");
    let blocks = with("split = \"blank-lines\"\n");
    assert_eq!(texts(&blocks), ["# Zero", "One.\nStill one.", "Two."]);
    assert_eq!(ids(&blocks), ["a.md:1", "b.txt:1", "b.txt:5"]);
}

#[test]
fn a_paragraph_joins_the_story_it_belongs_to() {
    let dir = folder(&[("s.txt", b"Intro.\n\nOnce a.\nMore.\n\nEnd a.\n\n\nOnce b.\n\nEnd b.")]);
    let toml = "kind = \"text\"\npath = \"s.txt\"\nsplit = \"blank-lines\"\nstarts-with = [\"Once\"]\n";
    let (documents, _) = read(toml, dir.path()).unwrap();
    assert_eq!(texts(&documents), ["Intro.", "Once a.\nMore.\n\nEnd a.", "Once b.\n\nEnd b."]);
    assert_eq!(ids(&documents), ["s.txt:1", "s.txt:3", "s.txt:9"]);
}

#[test]
fn separators_are_found_within_and_across_lines() {
    let cut = |content: &str, separator: &str, more: &str| {
        let dir = folder(&[("s.txt", content.as_bytes())]);
        let quoted = toml::Value::String(separator.to_owned());
        let (documents, counts) =
            read(&format!("kind = \"text\"\npath = \"s.txt\"\nsplit = {quoted}\n{more}"), dir.path())
                .unwrap();
        (documents.into_iter().map(|document| document.text).collect::<Vec<_>>(), counts.to_string())
    };
    assert_eq!(cut("a\n<|e|>\nb<|e|>c\n\nd<|e|>", "<|e|>", "").0, ["a", "b", "c\n\nd"]);
    assert_eq!(cut("a\r\n---\r\nb\r\n---\r\n", "\n---\n", "").0, ["a", "b"]);
    assert_eq!(cut("aabaabaa", "aab", "").0, ["aa"]);
    let (texts, counts) =
        cut("0123456789\nabcdef\n##\nok\n##\n0123456789abcdef##x", "##", "max-document-bytes = 8\n");
    assert_eq!(
        (texts, counts.as_str()),
        (vec!["ok".to_owned(), "x".to_owned()], "4 seen, 2 kept, 2 too-large")
    );
}

/// The streaming cutter against `str::split` on every way of choosing a short text and separator.
#[test]
fn the_cutter_agrees_with_a_plain_split() {
    let mut state = 1u64;
    let mut draw = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    for _ in 0..300 {
        let length = draw(24);
        let content: String = (0..length).map(|_| ["a", "b", "\n", "#"][draw(4) as usize]).collect();
        let separator: String = (0..=draw(3)).map(|_| ["a", "#", "\n"][draw(3) as usize]).collect();
        let mut expected: Vec<&str> = Vec::new();
        for piece in content.split(&separator).map(str::trim).filter(|piece| !piece.is_empty()) {
            if !expected.contains(&piece) {
                expected.push(piece);
            }
        }
        let dir = folder(&[("s.txt", content.as_bytes())]);
        let quoted = toml::Value::String(separator.clone());
        let (documents, _) =
            read(&format!("kind = \"text\"\npath = \"s.txt\"\nsplit = {quoted}\n"), dir.path()).unwrap();
        assert_eq!(texts(&documents), expected, "{content:?} at {separator:?}");
    }
}

#[test]
fn invalid_text_is_a_counted_failure_of_its_chunk_alone() {
    let dir = folder(&[("s.txt", b"good\n\nbad \xff\n\nfine\n")]);
    let toml = "kind = \"text\"\npath = \"s.txt\"\nsplit = \"blank-lines\"\n";
    let (documents, counts) = read(toml, dir.path()).unwrap();
    assert_eq!((texts(&documents), counts.failed["not-utf8"]), (vec!["good", "fine"], 1));
}

#[test]
fn a_recipe_table_goes_in_and_out() {
    let toml = "kind = \"text\"\npath = \"s.txt\"\nsplit = \"<|endoftext|>\"\n";
    let SourceKind::Text(TextSource { split, .. }) = source(toml) else { panic!("another kind") };
    assert_eq!(split, Split::Separator("<|endoftext|>".to_owned()));
    let again: SourceKind = toml::from_str(&toml::to_string(&source(toml)).unwrap()).unwrap();
    assert_eq!(again, source(toml));
}

#[test]
fn real_stories_come_as_stories() {
    let shared = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/tinystories");
    if !shared.is_dir() {
        println!("skipped: {} is not there", shared.display());
        return;
    }
    let marked = "kind = \"text\"\npath = \"cs336_sample.txt\"\nsplit = \"<|endoftext|>\"\n";
    let (stories, _) = read(marked, &shared).unwrap();
    assert_eq!(stories.len(), 5);
    assert!(stories.iter().all(|story| !story.text.contains("<|") && story.text == story.text.trim()));
    let unmarked = "kind = \"text\"\npath = \"mini_gpt.txt\"\nsplit = \"blank-lines\"\n\
                    starts-with = [\"Once upon a time\", \"Once there was\", \"Once, there was\", \"One day, a \"]\n";
    let (stories, counts) = read(unmarked, &shared).unwrap();
    assert!((150..250).contains(&stories.len()), "{}", stories.len());
    // Nothing but white space between stories is lost.
    assert!(counts.bytes * 100 > 197_290 * 98, "{counts}");
}
