//! Does a libtorch link and load here? An empty program linked against it answers in a second what would
//! otherwise come out after minutes of compiling.
//!
//! A torch with CUDA that pip installed may have its NVIDIA libraries in folders that the linker does not find, and
//! a wheel for another system may need a newer libc. The outcome is kept beside the cache, by path, size and date.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use crate::host::Host;
use crate::layout::library;

/// Links and runs an empty program against `root/lib`.
///
/// # Errors
/// One line: the last that the compiler or the loader said.
pub(crate) fn probe(compiler: Option<&Path>, root: &Path) -> Result<(), String> {
    let compiler = compiler.ok_or(NO_COMPILER)?;
    let folder = scratch().map_err(|error| format!("no temporary folder: {error}"))?;
    let outcome = link_and_run(compiler, root, &folder);
    // A leftover in the temporary folder is no reason to fail.
    let _ = fs::remove_dir_all(&folder);
    outcome
}

/// Said where nothing can compile C++.
pub(crate) const NO_COMPILER: &str =
    "no C++ compiler: torch-sys compiles one C++ file; install g++ or clang, or set CXX";

fn link_and_run(compiler: &Path, root: &Path, folder: &Path) -> Result<(), String> {
    let (source, program) = (folder.join("probe.cpp"), folder.join("probe"));
    fs::write(&source, "int main() { return 0; }\n").map_err(|error| error.to_string())?;
    let lib = root.join("lib");
    let mut link = Command::new(compiler);
    link.arg(&source).arg("-o").arg(&program).arg("-L").arg(&lib);
    link.arg(format!("-Wl,-rpath,{}", lib.display()));
    if cfg!(target_os = "linux") {
        // Without this the linker drops libraries that an empty program does not call.
        link.arg("-Wl,--no-as-needed");
    }
    link.args(["-ltorch", "-ltorch_cpu", "-lc10"]);
    run(&mut link, "does not link")?;
    run(&mut Command::new(&program), "links, and does not load")
}

fn run(command: &mut Command, failed: &str) -> Result<(), String> {
    let output = command.output();
    let output = output.map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // The linker names the cause in the first line that speaks of an error, not in the last.
    let cause = said.lines().find(|line| line.contains("error") || line.contains("not found"));
    let cause = cause.or_else(|| said.trim().lines().last()).unwrap_or("nothing was said");
    Err(format!("{failed}: {}", cause.trim()))
}

/// A fresh folder of this process.
fn scratch() -> std::io::Result<PathBuf> {
    let time = UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    let folder = std::env::temp_dir().join(format!("llama-pro-probe-{}-{time}", std::process::id()));
    fs::create_dir(&folder)?;
    Ok(folder)
}

/// [`probe`], remembered: a folder whose libtorch_cpu is unchanged is linked once.
///
/// # Errors
/// As [`probe`].
pub(crate) fn remembered(host: &Host, root: &Path) -> Result<(), String> {
    let fresh = || probe(host.compiler.as_deref(), root);
    let (Some(cache), Some(key)) = (&host.cache, key(root)) else { return fresh() };
    let file = cache.join("probed.txt");
    let known = fs::read_to_string(&file).unwrap_or_default();
    if let Some(outcome) = lookup(&known, &key) {
        return outcome;
    }
    let outcome = fresh();
    let verdict = outcome.as_ref().err().map_or("", String::as_str);
    if verdict != NO_COMPILER {
        let path = key.split('\t').next().unwrap_or_default();
        let others = known.lines().filter(|line| line.split('\t').next() != Some(path));
        let text = others.map(|line| format!("{line}\n")).collect::<String>() + &key + "\t" + verdict + "\n";
        // What cannot be remembered is only probed again.
        let partial = cache.join(format!("probed.{}.partial", std::process::id()));
        let _ = fs::create_dir_all(cache);
        let _ = fs::write(&partial, text).and_then(|()| fs::rename(&partial, &file));
    }
    outcome
}

/// What identifies a libtorch: its path, and size and date of its largest library.
fn key(root: &Path) -> Option<String> {
    let meta = root.join("lib").join(library("torch_cpu")).metadata().ok()?;
    let date = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
    Some(format!("{}\t{}\t{date}", root.display(), meta.len()))
}

fn lookup(known: &str, key: &str) -> Option<Result<(), String>> {
    let verdict = known.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('\t'))?;
    Some(if verdict.is_empty() { Ok(()) } else { Err(verdict.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::find_program;
    use crate::layout;

    #[test]
    fn outcomes_are_remembered_by_path_size_and_date() {
        let known = "/a\t1\t2\t\n/b\t1\t2\tdoes not link: no\n";
        assert_eq!(lookup(known, "/a\t1\t2"), Some(Ok(())));
        assert_eq!(lookup(known, "/b\t1\t2"), Some(Err("does not link: no".to_owned())));
        assert_eq!(lookup(known, "/a\t1\t3"), None);
    }

    #[test]
    fn a_folder_of_rubbish_does_not_link() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("torch");
        layout::tests::fake(&root, (2, 11, 0));
        assert_eq!(probe(None, &root), Err(NO_COMPILER.to_owned()));
        let path = std::env::var_os("PATH").unwrap();
        let Some(compiler) = find_program("c++", &path) else { return };
        let host =
            Host { compiler: Some(compiler), cache: Some(folder.path().join("cache")), ..Host::default() };
        assert!(remembered(&host, &root).unwrap_err().starts_with("does not link"));
        // The second answer comes from the file: no compiler is needed for it.
        let blind = Host { compiler: None, ..host };
        assert!(remembered(&blind, &root).unwrap_err().starts_with("does not link"));
    }
}
