//! The built program: help, exit codes, and what it says on a machine that lacks something.

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

fn script(folder: &Path, name: &str, body: &str) {
    let file = folder.join(name);
    fs::write(&file, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
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
