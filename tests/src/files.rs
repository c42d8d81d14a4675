//! The text files of the repository, for tests that read the sources themselves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file that holds text.
#[derive(Clone, Debug)]
pub struct TextFile {
    /// Its path from the root of the repository, with `/`.
    pub name: String,
    /// What stands in it.
    pub text: String,
}

impl TextFile {
    /// Is it Rust?
    pub fn is_rust(&self) -> bool {
        self.name.ends_with(".rs")
    }

    /// Is it part of what a crate ships: under `src/`, and not a file of unit tests?
    pub fn is_shipped(&self) -> bool {
        let tests = self.name.ends_with("_tests.rs") || self.name.ends_with("/tests.rs");
        self.is_rust() && self.name.contains("/src/") && !tests
    }

    /// The lines of code with their numbers, from 1: without whole-line comments, and without the module of unit
    /// tests, which by this project's habit is the end of a file.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let opens_tests = |pair: &[&str]| {
            pair[0].trim() == "#[cfg(test)]" && pair[1].contains("mod ") && pair[1].trim_end().ends_with('{')
        };
        let end = lines.windows(2).position(opens_tests).unwrap_or(lines.len());
        let numbered = lines.into_iter().take(end).enumerate().map(|(i, line)| (i + 1, line));
        numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// The root of the workspace.
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// Every text file that git has or would take, in order of name; without git, every one outside the folders that
/// builds and runs write. Binary files are left out: what has a zero byte at its beginning.
pub fn text_files() -> Vec<TextFile> {
    let root = root();
    let mut names = listed_by_git(&root).unwrap_or_else(|| {
        let mut found = Vec::new();
        walk(&root, &root, &mut found);
        found
    });
    names.sort();
    names.dedup();
    let read = |name: String| {
        let bytes = fs::read(root.join(&name)).ok()?;
        let beginning = &bytes[..bytes.len().min(8192)];
        if beginning.contains(&0) {
            return None;
        }
        Some(TextFile { name, text: String::from_utf8(bytes).ok()? })
    };
    names.into_iter().filter_map(read).collect()
}

fn listed_by_git(root: &Path) -> Option<Vec<String>> {
    let mut git = Command::new("git");
    git.arg("-C").arg(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = git.output().ok()?;
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8(output.stdout).ok()?;
    let names: Vec<String> = text.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    (!names.is_empty()).then_some(names)
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(name) = path.strip_prefix(root) else { continue };
        let name = name.to_string_lossy().replace('\\', "/");
        if [".git", "target", "runs"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() { walk(root, &path, found) } else { found.push(name) }
    }
}
