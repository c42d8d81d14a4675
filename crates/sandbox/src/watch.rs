//! Watches one run of the driver: keeps the beginning of its output, and ends with its verdict, its end or a limit.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::program::Limits;
use crate::wire::{End, Job, read_frame, write_frame};

/// The ends of the pipes and of the control channel that the driver has the other ends of.
pub(crate) struct Watched {
    pub(crate) control: UnixStream,
    pub(crate) stdout: Captured,
    pub(crate) stderr: Captured,
    pub(crate) started: Instant,
}

/// One output of the program, and the beginning of what came out of it.
pub(crate) struct Captured {
    pipe: Option<File>,
    kept: Vec<u8>,
    written: usize,
}

impl Captured {
    pub(crate) fn new(pipe: OwnedFd) -> Self {
        Self { pipe: Some(File::from(pipe)), kept: Vec::new(), written: 0 }
    }

    /// Reads once what is there, and lets go of a pipe that has ended.
    fn read(&mut self, keep: usize) {
        let mut block = [0; 16 << 10];
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.read(&mut block) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => self.pipe = None,
            Ok(count) => {
                self.written += count;
                let room = keep.saturating_sub(self.kept.len()).min(count);
                self.kept.extend_from_slice(&block[..room]);
            }
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

/// Does this descriptor have something to read, or has its other end gone?
fn is_ready(descriptor: BorrowedFd<'_>) -> bool {
    let mut waits = [PollFd::new(descriptor, PollFlags::POLLIN)];
    matches!(poll(&mut waits, PollTimeout::ZERO), Ok(count) if count > 0)
}

impl Watched {
    /// Hands the program over and waits. `None` where `host` hung up, which ends everything. `memory` looks how much
    /// the program holds: it says when to look again, or nothing where that is more than it may.
    pub(crate) fn wait(
        &mut self,
        job: &Job,
        host: Option<BorrowedFd<'_>>,
        memory: &dyn Fn() -> Option<Duration>,
    ) -> io::Result<Option<End>> {
        let limits = &job.limits;
        self.control.set_write_timeout(Some(limits.wall))?;
        self.control.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut bytes = Vec::new();
        for frame in &job.frames {
            write_frame(&mut bytes, frame.as_bytes())?;
        }
        if let Err(error) = self.control.write_all(&bytes) {
            // The reason may stand on the channel already: a layer that could not be set up.
            return Ok(Some(self.last_word(format!("the driver does not listen: {error}"))));
        }
        let mut next = Instant::now();
        loop {
            let Some(left) = limits.wall.checked_sub(self.started.elapsed()) else {
                return Ok(Some(End::TimedOut));
            };
            let left = left.min(next.saturating_duration_since(Instant::now())) + Duration::from_millis(1);
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            self.poll(timeout, host)?;
            if host.is_some_and(is_ready) {
                return Ok(None);
            }
            self.read_outputs(limits);
            if is_ready(self.control.as_fd()) {
                return Ok(Some(self.last_word("the driver ended without a verdict".to_owned())));
            }
            if self.stdout.written + self.stderr.written > limits.output_written {
                return Ok(Some(End::TooMuchOutput));
            }
            // A program that writes without end wakes this loop far more often than that.
            if Instant::now() >= next {
                let Some(pause) = memory() else { return Ok(Some(End::TooMuchMemory)) };
                next = Instant::now() + pause;
            }
        }
    }

    fn poll(&self, timeout: PollTimeout, host: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let outputs = [&self.stdout, &self.stderr].into_iter().filter_map(|output| output.pipe.as_ref());
        let descriptors = outputs.map(AsFd::as_fd).chain([self.control.as_fd()]).chain(host);
        let mut waits: Vec<PollFd<'_>> =
            descriptors.map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN)).collect();
        match poll(&mut waits, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn last_word(&mut self, otherwise: String) -> End {
        match read_frame(&mut self.control) {
            Ok(Some(verdict)) => End::Verdict(String::from_utf8_lossy(&verdict).into_owned()),
            Ok(None) => End::Silent(otherwise),
            Err(error) => End::Silent(format!("{otherwise}: {error}")),
        }
    }

    fn read_outputs(&mut self, limits: &Limits) {
        for output in [&mut self.stdout, &mut self.stderr] {
            if output.pipe.as_ref().is_some_and(|pipe| is_ready(pipe.as_fd())) {
                output.read(limits.output_kept);
            }
        }
    }

    /// After the end: takes what still lies in the pipes.
    pub(crate) fn drain(&mut self, limits: &Limits) {
        // A pipe holds 64 KiB unless somebody asked for more, which takes a right that programs do not have.
        for _ in 0..128 {
            self.read_outputs(limits);
        }
    }
}
