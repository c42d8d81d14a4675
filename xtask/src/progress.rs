//! One progress bar on stderr; plain lines, one for every tenth, where stderr is no terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::host::variable;

/// A bar over a known number of bytes.
pub(crate) struct Progress {
    out: Box<dyn Write + Send>,
    terminal: bool,
    colour: bool,
    label: String,
    total: u64,
    /// Bytes that were there before this run: they do not count for the rate.
    already: u64,
    started: Instant,
    tenths: Option<u64>,
}

impl Progress {
    /// A bar on stderr, in the way that stderr, `TERM` and `NO_COLOR` ask for.
    pub(crate) fn stderr() -> Self {
        let terminal = std::io::stderr().is_terminal() && variable("TERM").is_none_or(|term| term != "dumb");
        Self::new(Box::new(std::io::stderr()), terminal, variable("NO_COLOR").is_none())
    }

    /// A bar on anything.
    pub(crate) fn new(out: Box<dyn Write + Send>, terminal: bool, colour: bool) -> Self {
        let (label, started) = (String::new(), Instant::now());
        Self { out, terminal, colour, label, total: 0, already: 0, started, tenths: None }
    }

    /// Begins a bar over `total` bytes, `already` of them done before.
    pub(crate) fn start(&mut self, label: &str, total: u64, already: u64) {
        label.clone_into(&mut self.label);
        (self.total, self.already) = (total, already);
        (self.started, self.tenths) = (Instant::now(), None);
    }

    /// Draws the bar at `done` bytes. A broken pipe on stderr must not stop the work, so errors are let go.
    pub(crate) fn at(&mut self, done: u64) {
        let done = done.min(self.total);
        let elapsed = self.started.elapsed();
        if self.terminal {
            let bar = render(&self.label, done, self.total, self.already, elapsed, self.colour);
            let _ = write!(self.out, "\r{bar}\x1b[K");
        } else {
            let tenths = done * 10 / self.total.max(1);
            if self.tenths.is_none_or(|last| tenths > last) {
                self.tenths = Some(tenths);
                let (done, total) = (done / MB, self.total / MB);
                let _ = writeln!(self.out, "xtask: {}: {} % ({done} of {total} MB)", self.label, tenths * 10);
            }
        }
        let _ = self.out.flush();
    }

    /// Ends the bar.
    pub(crate) fn finish(&mut self) {
        self.at(self.total);
        if self.terminal {
            let _ = writeln!(self.out);
        }
    }

    /// A line of its own. It takes the place of a bar that is being drawn.
    pub(crate) fn say(&mut self, line: &str) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(self.out, "{clear}xtask: {line}");
    }
}

const MB: u64 = 1_000_000;
const WIDTH: u64 = 24;

/// `fetching [======>     ] 212/544 MB  40 MB/s  8 s left`
fn render(label: &str, done: u64, total: u64, already: u64, elapsed: Duration, colour: bool) -> String {
    let filled = (done * WIDTH / total.max(1)) as usize;
    let bar = format!("{}{}", "=".repeat(filled), " ".repeat(WIDTH as usize - filled));
    let bar = if colour { format!("\x1b[32m{bar}\x1b[0m") } else { bar };
    let mut line = format!("{label} [{bar}] {}/{} MB", done / MB, total / MB);
    let rate = done.saturating_sub(already) as f64 / elapsed.as_secs_f64().max(1e-3);
    if rate > 0.0 && elapsed > Duration::from_secs(1) {
        let left = (total - done) as f64 / rate;
        line.push_str(&format!("  {:.0} MB/s  {left:.0} s left", rate / MB as f64));
    }
    line
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// A place that remembers what was written.
    #[derive(Clone, Default)]
    pub(crate) struct Sink(pub(crate) Arc<Mutex<Vec<u8>>>);

    impl Sink {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_bar_counts_only_what_this_run_did() {
        let line = render("x", 50 * MB, 100 * MB, 30 * MB, Duration::from_secs(2), false);
        assert_eq!(line, format!("x [{}{}] 50/100 MB  10 MB/s  5 s left", "=".repeat(12), " ".repeat(12)));
        let early = render("x", 0, 100 * MB, 0, Duration::ZERO, false);
        assert_eq!(early, format!("x [{}] 0/100 MB", " ".repeat(24)));
        assert!(render("x", 0, 0, 0, Duration::ZERO, true).contains("\x1b[32m"));
    }

    #[test]
    fn without_a_terminal_there_are_plain_lines() {
        let sink = Sink::default();
        let mut bar = Progress::new(Box::new(sink.clone()), false, true);
        bar.start("fetching", 10 * MB, 0);
        for done in [0, MB / 2, MB, MB + 1, 5 * MB, 20 * MB] {
            bar.at(done);
        }
        bar.finish();
        let expected = "xtask: fetching: 0 % (0 of 10 MB)\nxtask: fetching: 10 % (1 of 10 MB)\n\
                        xtask: fetching: 50 % (5 of 10 MB)\nxtask: fetching: 100 % (10 of 10 MB)\n";
        assert_eq!(sink.text(), expected);
    }

    #[test]
    fn on_a_terminal_one_line_is_redrawn() {
        let sink = Sink::default();
        let mut bar = Progress::new(Box::new(sink.clone()), true, false);
        bar.start("x", 2 * MB, 0);
        bar.at(MB);
        bar.finish();
        assert_eq!(sink.text().matches('\n').count(), 1);
        assert_eq!(sink.text().matches('\r').count(), 2);
        assert!(!sink.text().contains("\x1b[32m"));
    }
}
