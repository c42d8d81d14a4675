//! The environment of every child: one LIBTORCH in one spelling, and nothing else that torch-sys looks at.
//!
//! torch-sys compiles for minutes and does so again whenever one of these variables changes, so a test, a check
//! and a run of the program must all see the same ones.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::error::Exit;
use crate::host::{Host, variable};

/// What torch-sys reads besides LIBTORCH; whatever a user has set there would choose another libtorch.
const OTHERS: [&str; 6] = [
    "LIBTORCH_USE_PYTORCH",
    "LIBTORCH_STATIC",
    "LIBTORCH_CXX11_ABI",
    "LIBTORCH_INCLUDE",
    "LIBTORCH_LIB",
    "LIBTORCH_BYPASS_VERSION_CHECK",
];

/// The environment for `program`, as a command that is not started yet.
pub(crate) fn command(program: impl AsRef<OsStr>, libtorch: Option<&Path>) -> Command {
    let mut command = Command::new(program);
    for name in OTHERS {
        command.env_remove(name);
    }
    // `cargo run` describes xtask to xtask; a child is another package.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    // cargo also puts its build folders in front of the library path, which differ from one way of starting to
    // another.
    let name = if cfg!(target_os = "macos") { "DYLD_FALLBACK_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" };
    if let Some(path) = variable(name) {
        match without_cargo(&path) {
            Some(rest) => command.env(name, rest),
            None => command.env_remove(name),
        };
    }
    if let Some(root) = libtorch {
        command.env("LIBTORCH", root);
    }
    command
}

/// cargo, in the root of the workspace.
pub(crate) fn cargo(host: &Host, libtorch: Option<&Path>) -> Result<Command> {
    let mut cargo = command(variable("CARGO").unwrap_or_else(|| "cargo".into()), libtorch);
    cargo.current_dir(&host.workspace);
    if let Some(target) = variable("CARGO_TARGET_DIR").map(PathBuf::from)
        && target.is_relative()
    {
        // cargo takes it from the folder it is started in, and this is another one.
        cargo.env("CARGO_TARGET_DIR", std::env::current_dir()?.join(target));
    }
    Ok(cargo)
}

/// A library path without the folders that cargo and rustup put into it; none where nothing remains.
fn without_cargo(path: &OsStr) -> Option<OsString> {
    let built = |folder: &Path| {
        folder.components().any(|part| part.as_os_str() == "rustlib" || part.as_os_str() == "toolchains")
            || ["debug", "debug/deps", "release", "release/deps"].iter().any(|end| folder.ends_with(end))
            || folder.components().rev().nth(2).is_some_and(|part| part.as_os_str() == "build")
    };
    let rest: Vec<PathBuf> = std::env::split_paths(path)
        .filter(|folder| !folder.as_os_str().is_empty() && !built(folder))
        .collect();
    if rest.is_empty() { None } else { std::env::join_paths(rest).ok() }
}

/// The lines for a shell: what [`command`] does, to be evaluated.
pub(crate) fn exports(root: &Path) -> Result<String> {
    let root = root.to_str().with_context(|| format!("{} is not UTF-8", root.display()))?;
    // The run path in every binary finds the libraries, so no library path is needed.
    Ok(format!("export LIBTORCH='{}'\nunset {}\n", root.replace('\'', r"'\''"), OTHERS.join(" ")))
}

/// Runs a command to its end, its output going where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {}", command.get_program().display()))?;
    if status.success() { Ok(()) } else { bail!(Exit::child(status)) }
}

/// How long a build may take before it is worth speaking of.
const PATIENCE: Duration = Duration::from_secs(2);

/// Builds the program and says where it lies. Silent when there is nothing to do; when it takes long, a note and
/// then all that cargo says. Its messages are held back until one of the two is known.
pub(crate) fn build_program(host: &Host, libtorch: &Path) -> Result<PathBuf> {
    let mut cargo = cargo(host, Some(libtorch))?;
    // The whole workspace, though two programs are wanted: with fewer packages cargo would choose other features for
    // shared dependencies and compile them, and tch, a second time for the tests.
    cargo.args(["build", "--release", "--workspace", "--bins", "--locked"]);
    cargo.arg("--message-format=json-render-diagnostics");
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) && variable("NO_COLOR").is_none() {
        // Its stderr is a pipe here, so it must be told of the terminal behind it.
        cargo.args(["--color", "always"]);
    }
    let mut child = cargo.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("starting cargo")?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let held = Arc::new(Mutex::new(Held::default()));
    let screen = std::thread::spawn({
        let held = Arc::clone(&held);
        move || stderr.map(|stderr| relay(stderr, &held))
    });
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.map(|mut stdout| stdout.read_to_string(&mut text));
        text
    });
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > PATIENCE {
            release(
                &held,
                &mut std::io::stderr(),
                "xtask: building llama-pro; the first time takes some minutes\n",
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let _ = screen.join();
    let messages = reader.join().unwrap_or_default();
    if !status.success() {
        release(&held, &mut std::io::stderr(), "");
        bail!(Exit::child(status));
    }
    executable(&messages).context("cargo built no program llama-pro")
}

/// Messages that wait for their moment.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    open: bool,
}

/// Passes a child's stderr on, or keeps it.
fn relay(mut from: impl Read, held: &Mutex<Held>) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let Ok(mut held) = held.lock() else { return };
        if held.open {
            let _ = std::io::stderr().write_all(&buffer[..n]);
        } else {
            held.bytes.extend_from_slice(&buffer[..n]);
        }
    }
}

/// Lets through what was kept, after a note, and all that follows.
fn release(held: &Mutex<Held>, out: &mut impl Write, note: &str) {
    if let Ok(mut held) = held.lock()
        && !held.open
    {
        held.open = true;
        let bytes = std::mem::take(&mut held.bytes);
        let _ = out.write_all(&[note.as_bytes(), &bytes].concat());
    }
}

/// The program's path from cargo's messages.
fn executable(messages: &str) -> Option<PathBuf> {
    messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).find_map(
        |message| {
            let path = message.get("executable")?.as_str()?;
            (message.get("target")?.get("name")? == "llama-pro").then(|| PathBuf::from(path))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_path_loses_what_cargo_added() {
        let path = "/w/target/debug/build/x-1/out:/w/target/debug/deps:/w/target/debug:\
                    /r/toolchains/1.95/lib/rustlib/x/lib:/r/toolchains/1.95/lib:/opt/cuda/lib";
        assert_eq!(without_cargo(OsStr::new(path)), Some("/opt/cuda/lib".into()));
        assert_eq!(without_cargo(OsStr::new("/w/target/debug/deps:")), None);
    }

    #[test]
    fn one_libtorch_and_no_other_variable() {
        let command = command("cargo", Some(Path::new("/l")));
        let set: Vec<_> = command.get_envs().collect();
        assert!(set.contains(&(OsStr::new("LIBTORCH"), Some(OsStr::new("/l")))));
        for name in OTHERS {
            assert!(set.contains(&(OsStr::new(name), None)), "{name}");
        }
    }

    #[test]
    fn exports_survive_a_shell() {
        let text = exports(Path::new("/a b/it's")).unwrap() + "printf %s \"$LIBTORCH\"";
        let output = Command::new("sh").args(["-c", &text]).output().unwrap();
        assert_eq!(output.stdout, b"/a b/it's");
    }

    #[test]
    fn the_program_is_found_among_the_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"x\"},\"executable\":null}\n\
             {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"llama-pro\"},\"executable\":\"/t/llama-pro\"}\n\
             {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executable(messages), Some(PathBuf::from("/t/llama-pro")));
        assert_eq!(executable("no json\n"), None);
    }

    #[test]
    fn messages_wait_until_released() {
        let held = Mutex::new(Held::default());
        relay(&b"Compiling"[..], &held);
        assert_eq!(held.lock().unwrap().bytes, b"Compiling");
        let mut out = Vec::new();
        for _ in 0..2 {
            release(&held, &mut out, "note\n");
        }
        assert_eq!(out, b"note\nCompiling");
    }
}
