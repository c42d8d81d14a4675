//! Progress on stderr: bars on a terminal, plain lines elsewhere, and the signals that stop a run.

use std::io::{IsTerminal, Write};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// All bars, so that log lines go above them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Where logs go: stderr, with the bars out of the way while a line is written.
pub(crate) fn stderr() -> impl Write {
    AboveBars
}

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
pub(crate) fn on_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// A bar in bytes; its length is set by [`advance`].
pub(crate) fn bytes(what: &'static str) -> ProgressBar {
    bar(what, "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
}

/// A bar in steps.
pub(crate) fn steps(steps: u64) -> ProgressBar {
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
pub(crate) fn advance(bar: &ProgressBar, done: u64, all: u64) {
    if bar.length() != Some(all) {
        bar.set_length(all);
    }
    bar.set_position(done);
}

/// A flag that Ctrl-C and SIGTERM raise. A second signal ends the program at once.
pub(crate) fn interrupted() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))?;
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}

/// The most memory that this process held at a time, in bytes; known on Linux.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
