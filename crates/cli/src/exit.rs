//! Exit codes and the one line that explains them.

use std::io::Write;
use std::process::ExitCode;

/// A check or a run that went to its end and failed: exit code 1, as opposed to input that could not be used.
#[derive(Debug)]
pub struct Failed(pub String);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

/// Runs a program to its exit code: 0, or one line on stderr and 1 for a run or check that failed, 2 for input that
/// cannot be used. `failed` knows the failures of the program's own crates; `caught` says whether a panic on this thread
/// is turned into an error by someone, so that the hook leaves it to them.
pub fn report(
    program: impl FnOnce() -> anyhow::Result<()>,
    failed: fn(&anyhow::Error) -> bool,
    caught: fn() -> bool,
) -> ExitCode {
    hook_panics(caught);
    crate::progress::start_logging();
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(program)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        // A write to stdout whose reader has seen enough; every other error says what it was about.
        Ok(Err(error)) if is_broken_pipe(&error) => ExitCode::from(1),
        Ok(Err(error)) => {
            say(&format!("error: {}", one_line(&error)));
            ExitCode::from(if failed(&error) || error.chain().any(|c| c.is::<Failed>()) { 1 } else { 2 })
        }
        Err(_) => ExitCode::from(1), // the hook has said why
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let bare = error.downcast_ref::<std::io::Error>();
    error.chain().count() == 1 && bare.is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

/// A line on stderr. Where that cannot be written nobody is there to be told, and the exit code still says it: a full disk
/// under a log must not end a training run.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// The chain of an error in one line, without repeating what an outer message already quotes.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string().replace('\n', " ");
        if !line.contains(&text) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&text);
        }
    }
    line
}

/// A panic is a defect of ours: it says so in one line.
fn hook_panics(caught: fn() -> bool) {
    std::panic::set_hook(Box::new(move |info| {
        let place = info.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
        let text = info.payload().downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| info.payload().downcast_ref::<&str>().copied()).unwrap_or("");
        let text = text.split("\\n").next().unwrap_or("").lines().next().unwrap_or("");
        if let Some(why) = text.strip_prefix("failed printing to stdout: ") {
            // The reader of a pipe has seen enough, as `head` does.
            if !why.starts_with("Broken pipe") {
                say(&format!("error: stdout: cannot write: {why}"));
            }
            return;
        }
        if caught() {
            tracing::debug!("{place}: {text}");
        } else {
            say(&format!("error: internal: {text} ({place}); please report this line"));
        }
    }));
}
