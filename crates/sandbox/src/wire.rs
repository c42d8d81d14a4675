//! Messages: JSON in frames between the host and its launcher, raw frames between the launcher and the Python driver.
//!
//! A frame is its length as a little-endian u32, then that many bytes.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::probe::LayerReport;
use crate::program::Limits;
use crate::python::Interpreter;

/// No message is longer: a length beyond it is damage, not data.
const LONGEST: u32 = 256 << 20;

/// What the host tells the launcher.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToLauncher {
    /// The first message.
    Start(Start),
    /// The users of the namespace are mapped.
    Mapped {
        /// Whether there is an ordinary user beside root.
        two: bool,
    },
    /// Say which layers hold.
    Probe,
    /// Run a program.
    Run(Job),
}

/// How to set up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) python: Interpreter,
    /// Tests leave a layer out, to see that the others hold without it.
    pub(crate) without_seccomp: bool,
    pub(crate) without_landlock: bool,
}

/// A program on its way to the driver.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Frames for the driver, in its order.
    pub(crate) frames: Vec<String>,
    pub(crate) limits: Limits,
}

/// What the launcher answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromLauncher {
    /// It is in a user namespace of its own, and its users have to be mapped.
    Unshared,
    /// Everything stands.
    Ready,
    /// A layer cannot be had.
    Failed {
        layer: String,
        message: String,
    },
    Probed(Vec<LayerReport>),
    Ended(Ended),
}

/// How a run of the driver ended, whatever it says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) end: End,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) wall: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum End {
    /// What the driver wrote on its own channel.
    Verdict(String),
    /// The driver is gone without a word.
    Silent(String),
    TimedOut,
    TooMuchOutput,
    TooMuchMemory,
}

pub(crate) fn send<T: Serialize>(stream: &mut UnixStream, message: &T) -> io::Result<()> {
    write_frame(stream, &serde_json::to_vec(message)?)
}

/// The next message; `None` where the other side has hung up.
pub(crate) fn receive<T: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<Option<T>> {
    let Some(bytes) = read_frame(stream)? else { return Ok(None) };
    Ok(Some(serde_json::from_slice(&bytes)?))
}

pub(crate) fn write_frame(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= LONGEST);
    let length = length.ok_or_else(|| io::Error::other("a message that is too long"))?;
    // One write, so that a small message never lies in two parts.
    to.write_all(&[&length.to_le_bytes(), bytes].concat())
}

pub(crate) fn read_frame(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_le_bytes(length);
    if length > LONGEST {
        return Err(io::Error::other(format!("a message of {length} bytes")));
    }
    let mut bytes = Vec::new();
    from.take(length.into()).read_to_end(&mut bytes)?;
    if bytes.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(bytes))
}
