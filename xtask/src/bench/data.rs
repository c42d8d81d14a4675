//! `cargo xtask bench data`: the data pipeline beside what a Python user would run, row by row.
//!
//! A row is one piece of work with ours first and the peers after it. All arms of a row run in turn, several times
//! over, and each arm's figure is the median of its own rounds. Where arms must give the same result, each prints a
//! hash of it and the table says whether they agree.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::peers::Peers;
use super::{dedup, median, number, prepare, records};
use crate::cargo::{build_program, command, run};
use crate::host::Host;
use crate::libtorch::{Want, locate};

const HELP: &str = "\
usage: cargo xtask bench data [ROW]... [--repeats N] [--corpus FILE.jsonl] [--tokenizers DIR] [--threads N]

  ROW                 rows whose name begins with it; all of them otherwise
                      (tokenize llama2, tokenize bytelevel, dedup, prepare)
  --repeats N         rounds of each row; 3 (datatrove runs once, a minute or two)
  --corpus FILE       {\"text\"} lines to tokenize; the Python standard library otherwise
  --tokenizers DIR    folder with llama2/ and bytelevel/; ../shared/data/tokenizers
  --threads N         threads of each arm that can use several; 1";

/// One way to do the work of a row.
struct Arm {
    label: &'static str,
    /// Prints one JSON object.
    command: Command,
}

/// One piece of work: ours is the first arm.
struct Row {
    name: String,
    arms: Vec<Arm>,
    /// Key of the figure in every arm's record; more is better.
    figure: &'static str,
    /// Unit of the figure.
    unit: &'static str,
    /// Key under which every arm prints a hash of its result, where results must be equal.
    same: Option<&'static str>,
}

/// Everything that rows are made from.
pub(super) struct Setup {
    pub(super) program: PathBuf,
    pub(super) libtorch: PathBuf,
    pub(super) peers: Peers,
    pub(super) options: Options,
    pub(super) corpus: PathBuf,
}

#[derive(Default)]
pub(super) struct Options {
    rows: Vec<String>,
    pub(super) repeats: usize,
    corpus: Option<PathBuf>,
    pub(super) tokenizers: PathBuf,
    pub(super) threads: usize,
}

/// The words after `bench data`.
///
/// # Errors
/// Words that mean nothing, no peers, or an arm that fails.
pub(crate) fn bench(host: &Host, words: &[OsString]) -> Result<()> {
    let Some(options) = parse(host, words)? else {
        println!("{HELP}");
        return Ok(());
    };
    let libtorch = locate(host, Want::default())?.root;
    let program = build_program(host, &libtorch)?;
    let peers = Peers::locate(host)?;
    let scratch = host.workspace.join("target/bench-data");
    std::fs::create_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    let corpus = match &options.corpus {
        Some(corpus) => corpus.clone(),
        None => {
            let path = scratch.join("stdlib.jsonl");
            if !path.exists() {
                run(peers.script("stdlib_jsonl.py").arg(&path).stdout(std::process::Stdio::null()))?;
            }
            path
        }
    };
    let setup = Setup { program, libtorch, peers, options, corpus };
    let wanted = |row: &Row| {
        let rows = &setup.options.rows;
        rows.is_empty() || rows.iter().any(|name| row.name.starts_with(name.as_str()))
    };
    // A part of the pipeline adds its rows here.
    let rows: Vec<Row> = tokenize_rows(&setup)?.into_iter().filter(wanted).collect();
    let named = |name: &str| {
        let rows = &setup.options.rows;
        rows.is_empty() || rows.iter().any(|row| name.starts_with(row.as_str()))
    };
    if named("dedup") {
        dedup::dedup(&setup, &scratch)?;
    }
    if named("prepare") {
        prepare::prepare(&setup, &scratch)?;
    }
    if rows.is_empty() {
        if named("dedup") || named("prepare") {
            return Ok(());
        }
        bail!("no row begins with {}", setup.options.rows.join(" or "));
    }
    println!("{:<24} {:<22} {:>10} {:>8}  result", "row", "arm", "figure", "ratio");
    for mut row in rows {
        let rounds = measure(&mut row, setup.options.repeats)?;
        print!("{}", lines(&row, &rounds)?);
    }
    Ok(())
}

/// One row per vocabulary: the ids must be the same.
fn tokenize_rows(setup: &Setup) -> Result<Vec<Row>> {
    let threads = setup.options.threads.to_string();
    let mut rows = Vec::new();
    let vocabularies: [(&str, &[&str]); 2] =
        [("llama2", &["batch_fast", "spm"]), ("bytelevel", &["batch_fast", "tiktoken"])];
    for (name, methods) in vocabularies {
        let folder = setup.options.tokenizers.join(name);
        if !folder.join("tokenizer.json").exists() {
            bail!(
                "{}: no tokenizer.json; --tokenizers names a folder with llama2/ and bytelevel/",
                folder.display()
            );
        }
        let mut ours = command(&setup.program, Some(&setup.libtorch));
        ours.args(["bench", "tokenize", "--tokenizer"]).arg(&folder);
        ours.arg("--input").arg(&setup.corpus).args(["--threads", &threads]);
        let mut arms = vec![Arm { label: "llama-pro", command: ours }];
        for &method in methods {
            let mut peer = setup.peers.script("tokbench.py");
            peer.arg(&folder).args([method, &threads]).arg(&setup.corpus);
            let label = match method {
                "spm" => "sentencepiece",
                "tiktoken" => "tiktoken",
                _ => "tokenizers",
            };
            arms.push(Arm { label, command: peer });
        }
        let name = format!("tokenize {name}");
        rows.push(Row { name, arms, figure: "cpu_mb_s", unit: "MB/s", same: Some("ids_sha") });
    }
    Ok(rows)
}

/// What each arm printed, by arm and round. Arms alternate, so that what else the machine does meets all alike.
fn measure(row: &mut Row, repeats: usize) -> Result<Vec<Vec<Value>>> {
    let mut rounds = vec![Vec::new(); row.arms.len()];
    for _ in 0..repeats {
        for (arm, seen) in row.arms.iter_mut().zip(&mut rounds) {
            let mut found =
                records(&mut arm.command).with_context(|| format!("{}: {}", row.name, arm.label))?;
            seen.push(found.swap_remove(0));
        }
    }
    Ok(rounds)
}

/// The lines of the table: ratios are ours over the arm's.
fn lines(row: &Row, rounds: &[Vec<Value>]) -> Result<String> {
    let mut figures = Vec::new();
    for seen in rounds {
        figures.push(median(seen.iter().map(|record| number(record, row.figure)).collect::<Result<_>>()?));
    }
    let mut text = String::new();
    for (index, arm) in row.arms.iter().enumerate() {
        let result = match row.same {
            None => "",
            Some(key) => {
                let all = rounds[index].iter().all(|record| record[key] == rounds[0][0][key]);
                match (index, all) {
                    (0, true) => rounds[0][0][key].as_str().unwrap_or("?"),
                    (_, true) => "same",
                    (_, false) => "DIFFERENT",
                }
            }
        };
        let ratio = if index == 0 { String::new() } else { format!("{:.2}x", figures[0] / figures[index]) };
        let figure = format!("{:.1} {}", figures[index], row.unit);
        let name = if index == 0 { row.name.as_str() } else { "" };
        let line = format!("{name:<24} {:<22} {figure:>10} {ratio:>8}  {result}", arm.label);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    Ok(text)
}

/// `None` where help was asked for.
fn parse(host: &Host, words: &[OsString]) -> Result<Option<Options>> {
    let tokenizers = host.workspace.join("../shared/data/tokenizers");
    let mut options = Options { repeats: 3, threads: 1, tokenizers, ..Options::default() };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{} needs a value\n{HELP}", word.display()));
        let number = |value: &OsString| -> Result<usize> {
            let parsed = value.to_str().and_then(|text| text.parse().ok()).filter(|&n| n > 0);
            parsed.with_context(|| {
                format!("{}: expected a number from 1, found {}", word.display(), value.display())
            })
        };
        match word.to_str() {
            Some("--help" | "-h") => return Ok(None),
            Some("--repeats") => options.repeats = number(value()?)?,
            Some("--threads") => options.threads = number(value()?)?,
            Some("--corpus") => options.corpus = Some(absolute(value()?)?),
            Some("--tokenizers") => options.tokenizers = absolute(value()?)?,
            Some(row) if !row.starts_with('-') => options.rows.push(row.to_owned()),
            _ => bail!("{}: unknown\n{HELP}", word.display()),
        }
    }
    Ok(Some(options))
}

fn absolute(path: &OsString) -> Result<PathBuf> {
    std::path::absolute(Path::new(path)).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row() -> Row {
        let arm = |label| Arm { label, command: Command::new("true") };
        Row {
            name: "work".into(),
            arms: vec![arm("ours"), arm("peer")],
            figure: "speed",
            unit: "MB/s",
            same: Some("sha"),
        }
    }

    #[test]
    fn ratios_are_of_medians_and_results_are_compared() {
        let ours = vec![
            json!({"speed": 30.0, "sha": "a"}),
            json!({"speed": 10.0, "sha": "a"}),
            json!({"speed": 20.0, "sha": "a"}),
        ];
        let peer = vec![json!({"speed": 5.0, "sha": "a"}); 3];
        let text = lines(&row(), &[ours.clone(), peer]).unwrap();
        assert!(text.contains("20.0 MB/s") && text.contains("4.00x  same"), "{text}");
        let text = lines(&row(), &[ours, vec![json!({"speed": 5.0, "sha": "b"})]]).unwrap();
        assert!(text.contains("DIFFERENT"), "{text}");
    }

    #[test]
    fn arms_alternate() {
        let file = std::env::temp_dir().join(format!("llama-pro-bench-order-{}", std::process::id()));
        let mut row = row();
        for (arm, letter) in row.arms.iter_mut().zip(["a", "b"]) {
            arm.command = Command::new("sh");
            let script = format!("printf {letter} >> {}; echo '{{}}'", file.display());
            arm.command.args(["-c", &script]);
        }
        measure(&mut row, 2).unwrap();
        let order = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(order, "abab");
    }

    #[test]
    fn words_that_mean_nothing_are_refused() {
        let parse = |text: &str| parse(&Host::default(), &super::super::words(text));
        assert_eq!(parse("tokenize --repeats 5").unwrap().unwrap().repeats, 5);
        assert!(parse("--help").unwrap().is_none());
        for bad in ["--repeats 0", "--repeats", "--nope 3"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
