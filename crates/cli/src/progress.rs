//! Progress on stderr: bars on a terminal, plain lines elsewhere, and the signals that stop a run.

use std::io::{IsTerminal, Write};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// All bars, so that log lines go above them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Logs on stderr; `LLAMA_PRO_LOG=debug` shows more.
pub fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("LLAMA_PRO_LOG")
        // The corpus reports each source to its caller, who words it for people.
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,llama_pro_corpus=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| AboveBars)
        .with_ansi(on_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false)
        .without_time()
        // It would say so on stderr, which is what failed, and panic when that fails too.
        .log_internal_errors(false)
        .init();
}

/// Where logs go: stderr, with the bars out of the way while a line is written.
struct AboveBars;

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        BARS.suspend(|| std::io::stderr().lock().write(bytes))
    }
    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Whether a person watches.
pub fn on_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// A bar in bytes; its length is set by [`advance`].
pub fn bytes(what: &'static str) -> ProgressBar {
    bar(what, "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
}

/// A bar in steps.
pub fn steps(steps: u64) -> ProgressBar {
    let bar = bar("", "{wide_bar} {pos}/{len} {msg} {elapsed}<{eta}");
    bar.set_length(steps);
    bar
}

fn bar(what: &'static str, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    let bar = if on_terminal() { BARS.add(bar) } else { bar };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}

/// Sets position and length.
pub fn advance(bar: &ProgressBar, done: u64, all: u64) {
    if bar.length() != Some(all) {
        bar.set_length(all);
    }
    bar.set_position(done);
}

/// A flag that Ctrl-C and SIGTERM raise. A second signal ends the program at once. Every caller gets the same flag: a
/// signal that comes while one stage of a run goes over to the next must reach the next.
///
/// # Errors
/// A system that lets no handler be set.
pub fn interrupted() -> Result<Arc<AtomicBool>> {
    static FLAG: LazyLock<std::io::Result<Arc<AtomicBool>>> = LazyLock::new(|| {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))?;
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(flag)
    });
    match &*FLAG {
        Ok(flag) => Ok(Arc::clone(flag)),
        Err(error) => anyhow::bail!("cannot watch for Ctrl-C: {error}"),
    }
}

/// The most memory that this process held at a time, in bytes; known on Linux.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
