//! The built program: help, exit codes, and what it says on a machine that lacks something.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// xtask with an empty environment but for these folders.
fn xtask(path: &Path, cache: &Path, words: &[&str], libtorch: Option<&Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(words).env_clear().env("PATH", path).env("XDG_CACHE_HOME", cache);
    if let Some(root) = libtorch {
        command.env("LIBTORCH", root);
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// An executable script. `cp` writes it, not this process: a child that another test starts at the same moment could
/// still hold a descriptor open for writing, and the system runs no file that somebody writes.
fn script(folder: &Path, name: &str, body: &str) {
    let draft = folder.join(format!("{name}.draft"));
    fs::write(&draft, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
    let _ = fs::remove_file(folder.join(name));
    assert!(Command::new("cp").arg(&draft).arg(folder.join(name)).status().unwrap().success());
}

/// A folder that looks like libtorch of this version.
fn libtorch(root: &Path, version: [u32; 3]) {
    fs::create_dir_all(root.join("include/torch/headeronly")).unwrap();
    fs::create_dir_all(root.join("lib")).unwrap();
    let parts = ["MAJOR", "MINOR", "PATCH"].iter().zip(version);
    let header: String = parts.map(|(part, n)| format!("#define TORCH_VERSION_{part} {n}\n")).collect();
    fs::write(root.join("include/torch/headeronly/version.h"), header).unwrap();
    for name in ["torch_cpu", "c10", "torch"] {
        let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
        fs::write(root.join("lib").join(format!("{prefix}{name}{suffix}")), "").unwrap();
    }
}

#[test]
fn no_word_is_a_request_for_help() {
    let folder = tempfile::tempdir().unwrap();
    for words in [&[][..], &["--help"]] {
        let output = xtask(folder.path(), folder.path(), words, None);
        assert_eq!(output.status.code(), Some(0));
        let help = text(&output.stdout);
        for word in
            ["setup", "env", "test", "check", "ci", "inspect", "expand", "pretrain", "debug", "report"]
        {
            assert!(
                help.lines().any(|line| line.trim_start().starts_with(&format!("{word} "))),
                "{word}: {help}"
            );
        }
    }
}

#[test]
fn env_prints_one_spelling_of_libtorch() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap().join("torch");
    libtorch(&root, [2, 11, 0]);
    let output = xtask(folder.path(), folder.path(), &["env"], Some(&root.join("../torch/")));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with(&format!("export LIBTORCH='{}'\nunset ", root.display())));
}

#[test]
fn a_wrong_libtorch_is_one_line_and_code_2() {
    let folder = tempfile::tempdir().unwrap();
    libtorch(folder.path(), [2, 9, 1]);
    for words in [&["env"][..], &["setup"], &["test"], &["expand", "a", "b"]] {
        let output = xtask(folder.path(), folder.path(), words, Some(folder.path()));
        assert_eq!(output.status.code(), Some(2));
        let said = text(&output.stderr);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("xtask: LIBTORCH: ") && said.contains("holds libtorch 2.9.1"), "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_machine_that_lacks_something_is_told_what() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let said = || {
        let output = xtask(folder.path(), &cache, &["setup"], None);
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stderr);
        assert!(said.contains("There are three ways out:"), "{said}");
        said
    };
    assert!(said().contains("there is no python3 on PATH"));
    script(folder.path(), "python3", "echo 'No module named pip' >&2; exit 1");
    assert!(said().contains("has no working pip (No module named pip)"));
    script(folder.path(), "python3", "case \"$1 $2 $3\" in '-m pip --version') exit 0;; esac; exit 1");
    assert!(said().contains("no C++ compiler"));
    assert!(!cache.join("llama-pro/libtorch-2.11.0-cpu").exists());
    script(folder.path(), "c++", "exit 0");
    script(
        folder.path(),
        "python3",
        "case \"$3\" in --version) exit 0;; download) echo 'ERROR: no route to host' >&2;; esac; exit 1",
    );
    assert!(said().contains("pip could not fetch torch==2.11.0: ERROR: no route to host"));
    assert!(!cache.join("llama-pro/libtorch-2.11.0-cpu").exists());
}

/// A cargo that notes how it was called, and builds a program that does the same and ends with code 7.
struct Cargo {
    folder: tempfile::TempDir,
}

impl Cargo {
    fn new(before_building: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        libtorch(&folder.path().join("torch"), [2, 11, 0]);
        script(
            folder.path(),
            "llama-pro",
            &format!("echo \"program $*\"; echo \"$LIBTORCH\" > {at}/seen; exit 7"),
        );
        let json = format!(
            "{{\"reason\":\"compiler-artifact\",\"target\":{{\"name\":\"llama-pro\"}},\"executable\":\"{at}/llama-pro\"}}"
        );
        let body = format!(
            "echo \"$* LIBTORCH=$LIBTORCH STATIC=$LIBTORCH_STATIC PKG=$CARGO_PKG_NAME\" >> {at}/calls\n\
             case \"$1\" in build) echo 'Compiling it' >&2; {before_building}; echo '{json}';; fmt) exit 3;; esac"
        );
        script(folder.path(), "cargo", &body);
        Self { folder }
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(words).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command
            .env("CARGO", self.folder.path().join("cargo"))
            .env("LIBTORCH", self.folder.path().join("torch"));
        command.env("LIBTORCH_STATIC", "1").env("CARGO_PKG_NAME", "xtask").output().unwrap()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    fn environment(&self) -> String {
        let root = self.folder.path().canonicalize().unwrap().join("torch");
        format!("LIBTORCH={} STATIC= PKG=", root.display())
    }
}

#[test]
fn other_words_go_to_the_program_unchanged() {
    let cargo = Cargo::new(":");
    let output = cargo.run(&["expand", "BASE", "--help", "--", "-x"]);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "program expand BASE --help -- -x\n");
    assert_eq!(text(&output.stderr), "", "a build with nothing to do is silent");
    let call = cargo.read("calls");
    assert!(call.starts_with("build --release --workspace --bins --locked --message-format="), "{call}");
    assert!(call.trim_end().ends_with(&cargo.environment()), "{call}");
    assert!(cargo.read("seen").ends_with("/torch\n"));
}

#[test]
fn a_long_build_speaks_and_a_failed_one_says_all() {
    let output = Cargo::new("sleep 2.5; echo 'Compiling more' >&2").run(&["inspect"]);
    let said = text(&output.stderr);
    assert!(
        said.starts_with("xtask: building llama-pro") && said.ends_with("Compiling it\nCompiling more\n"),
        "{said}"
    );
    let output = Cargo::new("echo 'error: no' >&2; exit 101").run(&["inspect"]);
    assert_eq!(output.status.code(), Some(101));
    assert_eq!(text(&output.stderr), "Compiling it\nerror: no\n");
    assert!(output.stdout.is_empty());
}

#[test]
fn test_and_check_see_the_same_environment() {
    let cargo = Cargo::new(":");
    assert_eq!(cargo.run(&["test"]).status.code(), Some(0));
    assert_eq!(cargo.run(&["test", "-p", "x", "--", "--nocapture"]).status.code(), Some(0));
    let output = cargo.run(&["check"]);
    assert_eq!(output.status.code(), Some(3), "the code of cargo fmt");
    assert!(text(&output.stderr).contains("format failed after"));
    let calls = cargo.read("calls");
    let calls: Vec<&str> = calls.lines().collect();
    assert_eq!(calls[0], format!("test --release --locked --workspace {}", cargo.environment()));
    assert_eq!(calls[1], format!("test --release --locked -p x -- --nocapture {}", cargo.environment()));
    assert!(calls[2].starts_with("fmt --all --check") && calls.len() == 3);
}
