//! The lines that the crates may not cross: what links libtorch, which crate may use which, and who may print.
//! ARCHITECTURE.md gives the reasons.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use llama_pro_tests::{root, text_files};
use serde_json::Value;

/// The crates, the level of each, and the workspace crates it may use. Arrows run downwards only.
const CRATES: [(&str, u32, &[&str]); 13] = [
    ("checkpoint", 1, &[]),
    ("text", 1, &[]),
    ("run", 1, &[]),
    ("sandbox", 1, &[]),
    ("expand", 2, &["checkpoint"]),
    ("shards", 2, &[]),
    ("eval", 2, &["text", "sandbox"]),
    ("corpus", 3, &["run", "shards", "text"]),
    ("cli", 4, &["checkpoint", "corpus", "expand", "run", "text"]),
    ("torch-ext", 5, &[]),
    ("model", 6, &["torch-ext", "checkpoint", "eval"]),
    ("train", 7, &["model", "torch-ext", "checkpoint", "expand", "run", "shards", "eval"]),
    (
        "cli-torch",
        8,
        &[
            "checkpoint",
            "text",
            "run",
            "sandbox",
            "expand",
            "shards",
            "eval",
            "corpus",
            "cli",
            "torch-ext",
            "model",
            "train",
        ],
    ),
];

/// The level from which on libtorch is linked.
const LIBTORCH: u32 = 5;

/// What stands for libtorch in the graph.
const BINDINGS: [&str; 2] = ["tch", "torch-sys"];

/// `cargo metadata` of this machine's platform: without the filter it asks for crates of other systems.
fn metadata() -> Value {
    let cargo = env!("CARGO");
    let version = Command::new(cargo).arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let ask = |offline: bool| {
        let mut command = Command::new(cargo);
        command.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", host]);
        command.args(offline.then_some("--offline")).current_dir(root()).output().unwrap()
    };
    // On a fresh clone some crate may not have been fetched yet.
    let output = Some(ask(true)).filter(|output| output.status.success()).unwrap_or_else(|| ask(false));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The resolved graph without development dependencies: package name to the names it needs.
fn graph(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeMap<&str, &str> = packages
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
        .collect();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        // Two versions of one crate become one node: that can only make the reach larger.
        let uses = graph.entry(names[node["id"].as_str().unwrap()].to_owned()).or_default();
        for dependency in node["deps"].as_array().unwrap() {
            if dependency["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"] != "dev") {
                uses.insert(names[dependency["pkg"].as_str().unwrap()].to_owned());
            }
        }
    }
    graph
}

/// A chain of crates from one to another, if there is one.
fn path(graph: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> Option<Vec<String>> {
    let mut chains = vec![vec![from.to_owned()]];
    let mut seen = BTreeSet::new();
    while let Some(chain) = chains.pop() {
        let last = chain.last().unwrap();
        if last == to {
            return Some(chain);
        }
        if seen.insert(last.clone()) {
            let next = graph[last].iter().map(|name| chain.iter().cloned().chain([name.clone()]).collect());
            chains.extend(next.collect::<Vec<_>>());
        }
    }
    None
}

fn package(name: &str) -> String {
    format!("llama-pro-{name}")
}

fn torch_free() -> BTreeSet<String> {
    let crates = CRATES.iter().filter(|(_, level, _)| *level < LIBTORCH).map(|(name, ..)| package(name));
    crates.chain(["xtask".to_owned()]).collect()
}

#[test]
fn nothing_above_the_line_reaches_libtorch() {
    let graph = graph(&metadata());
    for name in torch_free() {
        for binding in BINDINGS {
            let path = path(&graph, &name, binding);
            assert!(path.is_none(), "{name} links libtorch: {}", path.unwrap_or_default().join(" -> "));
        }
    }
    // The test must be able to see libtorch where it is.
    assert!(path(&graph, "llama-pro-cli-torch", "torch-sys").is_some());
}

#[test]
fn arrows_run_downwards() {
    let graph = graph(&metadata());
    let level: BTreeMap<String, u32> =
        CRATES.iter().map(|(name, level, _)| (package(name), *level)).collect();
    for (name, own, may) in CRATES {
        let may: BTreeSet<String> = may.iter().map(|name| package(name)).collect();
        for used in graph[&package(name)].iter().filter(|used| level.contains_key(*used)) {
            assert!(level[used] < own, "{name} (level {own}) uses {used} (level {})", level[used]);
            assert!(may.contains(used), "{name} uses {used}: not in the table of ARCHITECTURE.md");
        }
        let binds = graph[&package(name)].iter().any(|used| BINDINGS.contains(&used.as_str()));
        assert!(!binds || own >= LIBTORCH, "{name} uses libtorch directly");
    }
    let project = |used: &&String| level.contains_key(*used);
    assert_eq!(graph["xtask"].iter().find(project), None, "the runner must build on its own");
}

#[test]
fn the_table_has_every_crate() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let members = metadata["workspace_members"].as_array().unwrap();
    let mut found: BTreeSet<&str> = packages
        .filter(|package| members.contains(&package["id"]))
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    assert!(found.remove("xtask") && found.remove("llama-pro-tests"));
    let expected: BTreeSet<String> = CRATES.iter().map(|(name, ..)| package(name)).collect();
    assert_eq!(found, expected.iter().map(String::as_str).collect());
}

#[test]
fn plain_cargo_test_needs_no_libtorch() {
    let metadata = metadata();
    let defaults = metadata["workspace_default_members"].as_array().unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let found: BTreeSet<String> = packages
        .filter(|package| defaults.contains(&package["id"]))
        .map(|package| package["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(found, torch_free());
}

#[test]
fn only_programs_parse_arguments() {
    let graph = graph(&metadata());
    for (name, ..) in CRATES.iter().filter(|(name, ..)| !name.starts_with("cli")) {
        for forbidden in ["clap", "anyhow"] {
            assert!(!graph[&package(name)].contains(forbidden), "{name} uses {forbidden}: only programs may");
        }
    }
}

#[test]
fn only_programs_print_or_read_the_environment() {
    // Pieces, so that this file is not a find of its own.
    let forbidden = [
        "println!(",
        "print!(",
        "stdout()",
        "stderr()",
        "env::var(",
        "env::var_os(",
        "env::vars",
        "env::args",
        "env::set_var(",
        "env::home_dir(",
    ];
    for file in text_files().iter().filter(|file| file.is_shipped()) {
        if file.name.starts_with("xtask/") || file.name.starts_with("crates/cli") {
            continue;
        }
        for (number, line) in file.code() {
            for word in forbidden {
                assert!(!line.contains(word), "{}:{number}: {word}: only programs may", file.name);
            }
        }
    }
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let places = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!(".lib", "rary/")];
    for file in text_files() {
        for (number, line) in file.text.lines().enumerate() {
            for place in places {
                assert!(!line.contains(place), "{}:{}: {place}", file.name, number + 1);
            }
        }
    }
}
