//! Where a run came from: program, command, machine and the digests of everything it read.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, rfc3339_utc, write_atomic};

/// `provenance.json` of a run folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Name and version of the program, for example `llama-pro 0.1.0`.
    pub program: String,
    /// The command line that began the run, and when.
    #[serde(flatten)]
    pub begun: Invocation,
    /// The command lines that resumed it, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed: Vec<Invocation>,
    /// The machine.
    pub platform: Platform,
    /// Version of libtorch, where the run uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libtorch: Option<String>,
    /// Digests of what the run read, by name: base model, tokenizer, shards, recipe.
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
}

/// One call of the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// The words of the command line.
    pub command: Vec<String>,
    /// When it began, RFC 3339 in UTC.
    pub started: String,
}

/// The machine of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system, as Rust names it.
    pub os: String,
    /// Processor architecture, as Rust names it.
    pub arch: String,
    /// Processors that this process may use.
    pub cpus: usize,
    /// Name of the processor, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_model: Option<String>,
}

impl Provenance {
    /// A record that begins now, on this machine.
    pub fn new(program: impl Into<String>, command: Vec<String>, libtorch: Option<String>) -> Self {
        Self {
            program: program.into(),
            begun: Invocation::now(command),
            resumed: Vec::new(),
            platform: Platform::here(),
            libtorch,
            inputs: BTreeMap::new(),
        }
    }

    /// Records the digest of one input.
    pub fn input(&mut self, name: impl Into<String>, digest: impl Into<String>) -> &mut Self {
        self.inputs.insert(name.into(), digest.into());
        self
    }

    /// Names of inputs whose digests differ between two records, or that only one of them has. Sorted.
    pub fn changed_inputs(&self, other: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<_> = self.inputs.keys().chain(other.inputs.keys()).collect();
        names.into_iter().filter(|n| self.inputs.get(*n) != other.inputs.get(*n)).cloned().collect()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Malformed`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
        serde_json::from_str(&text).map_err(|e| Error::malformed(path, Some(e.line()), e.to_string()))
    }

    /// Writes the record atomically.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomic(path, crate::metrics::pretty(path, self)?.as_bytes())
    }
}

impl Invocation {
    /// `command`, begun now.
    pub fn now(command: Vec<String>) -> Self {
        Self { command, started: rfc3339_utc(SystemTime::now()) }
    }
}

impl Platform {
    /// The machine that this process runs on.
    pub fn here() -> Self {
        Self {
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            cpu_model: std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|t| cpu_model(&t)),
        }
    }
}

/// The first `model name` of Linux' /proc/cpuinfo; Arm machines have none.
fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|l| l.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("provenance.json");
        let mut p = Provenance::new("llama-pro 0.1.0", vec!["llama-pro".into(), "pretrain".into()], None);
        p.input("base", "blake3:00").input("code", "blake3:01");
        p.write(&path).unwrap();
        let mut q = Provenance::read(&path).unwrap();
        assert_eq!(p, q);
        q.input("code", "blake3:02").input("math", "blake3:03");
        assert_eq!(p.changed_inputs(&q), ["code", "math"]);
        assert!(p.platform.cpus >= 1);

        std::fs::write(&path, "{\"program\": 3}").unwrap();
        let message = Provenance::read(&path).unwrap_err().to_string();
        assert!(message.contains("provenance.json:1:") && !message.contains('\n'), "{message}");
    }

    #[test]
    fn cpuinfo() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\nflags\t: a\n";
        assert_eq!(cpu_model(text).as_deref(), Some("Some CPU @ 2.0GHz"));
        assert_eq!(cpu_model("processor : 0\n"), None);
    }
}
