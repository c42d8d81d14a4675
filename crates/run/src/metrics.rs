//! `metrics.jsonl`: one JSON object per line, the source of truth for every curve.
//!
//! Each line goes to the file in one write, so a kill can tear only the last one. A resumed run cuts the
//! file back to the step of its checkpoint, so that the file reads as if there had been no kill.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Error, Result, write_atomic};

/// Appends lines to a metrics file.
#[derive(Debug)]
pub struct MetricsWriter {
    path: PathBuf,
    file: File,
    /// Bytes of the complete lines.
    len: u64,
}

impl MetricsWriter {
    /// Begins an empty file, over whatever was there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(path: &Path) -> Result<Self> {
        write_atomic(path, b"")?;
        Self::append(path)
    }

    /// Goes on after `step` completed steps: keeps the lines whose `step` is at most `step`, drops the
    /// others and a torn last line, all in one atomic replacement. Lines without a `step` stay where they
    /// come before the first dropped one. A file that is not there counts as empty.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Malformed`] for a line other than the last that is no JSON object.
    pub fn resume_at(path: &Path, step: u64) -> Result<Self> {
        Self::resume_where(path, |at, _| at <= step)
    }

    /// [`MetricsWriter::resume_at`] with another rule for lines that have a `step`: which of them stay.
    ///
    /// # Errors
    /// As [`MetricsWriter::resume_at`].
    pub fn resume_where(path: &Path, stays: impl Fn(u64, &Map<String, Value>) -> bool) -> Result<Self> {
        let old = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Error::io(path, "read")(e)),
        };
        let (mut kept, mut dropped) = (Vec::with_capacity(old.len()), false);
        for (line, object) in lines(path, &old)? {
            let keep = match object.get("step").and_then(Value::as_u64) {
                Some(step) => stays(step, &object),
                None => !dropped,
            };
            dropped |= !keep;
            if keep {
                kept.extend_from_slice(line);
                kept.push(b'\n');
            }
        }
        if kept != old || kept.is_empty() {
            write_atomic(path, &kept)?;
        }
        Self::append(path)
    }

    /// Appends `line` as one JSON object and gives it to the system at once.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Malformed`] when `line` is not an object.
    pub fn write<T: Serialize + ?Sized>(&mut self, line: &T) -> Result<()> {
        let value =
            serde_json::to_value(line).map_err(|e| Error::malformed(&self.path, None, e.to_string()))?;
        if !value.is_object() {
            let message = format!("a line of metrics must be a JSON object, found {value}");
            return Err(Error::malformed(&self.path, None, message));
        }
        let text = format!("{value}\n");
        if let Err(e) = self.file.write_all(text.as_bytes()) {
            // On a full disk half a line may be there, and a later line must not be glued to it. Where even
            // this fails, reading the file says which line is damaged.
            let _ = self.file.set_len(self.len);
            return Err(Error::io(&self.path, "append to")(e));
        }
        self.len += text.len() as u64;
        Ok(())
    }

    /// Waits until the lines are on the disk. Call it before a checkpoint is declared complete.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io(&self.path, "sync"))
    }

    fn append(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().append(true).open(path).map_err(Error::io(path, "append to"))?;
        let len = file.metadata().map_err(Error::io(path, "append to"))?.len();
        Ok(Self { path: path.to_path_buf(), file, len })
    }
}

/// All complete lines of a metrics file, in order. A torn last line is left out.
///
/// # Errors
/// [`Error::Io`], or [`Error::Malformed`] for a line other than the last that is no JSON object.
pub fn read_metrics(path: &Path) -> Result<Vec<Map<String, Value>>> {
    let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
    Ok(lines(path, &bytes)?.into_iter().map(|(_, object)| object).collect())
}

/// `value` as JSON in two-space indentation with a newline at the end.
pub(crate) fn pretty<T: Serialize + ?Sized>(path: &Path, value: &T) -> Result<String> {
    let text =
        serde_json::to_string_pretty(value).map_err(|e| Error::malformed(path, None, e.to_string()))?;
    Ok(text + "\n")
}

/// The bytes of a line, and what they say.
type Line<'a> = (&'a [u8], Map<String, Value>);

/// Splits into lines and parses them. An unparsable tail without a newline is a line torn by a kill; with
/// one it is damage, and so is an unparsable line before it.
fn lines<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<Line<'a>>> {
    let mut found = Vec::new();
    for (i, piece) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        let line = piece.strip_suffix(b"\n").unwrap_or(piece);
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice::<Map<String, Value>>(line) {
            Ok(object) => found.push((line, object)),
            // Only the last piece can lack its newline.
            Err(_) if !piece.ends_with(b"\n") => {}
            Err(e) => {
                let message = format!("expected one JSON object per line: {e}");
                return Err(Error::malformed(path, Some(i + 1), message));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn steps(path: &Path) -> Vec<u64> {
        read_metrics(path).unwrap().iter().filter_map(|m| m["step"].as_u64()).collect()
    }

    fn five(path: &Path) {
        let mut w = MetricsWriter::create(path).unwrap();
        w.write(&json!({"step": 0, "validation": {"code": 2.5}})).unwrap();
        for s in 1..=4 {
            w.write(&json!({"step": s, "loss": 1.0 / f64::from(s)})).unwrap();
        }
        w.sync().unwrap();
    }

    #[test]
    fn appends_and_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        five(&path);
        assert_eq!(steps(&path), [0, 1, 2, 3, 4]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().nth(4), Some(r#"{"step":4,"loss":0.25}"#));
        let mut w = MetricsWriter::resume_at(&path, 4).unwrap();
        let message = w.write(&3).unwrap_err().to_string();
        assert!(message.contains("must be a JSON object, found 3"), "{message}");
        w.write(&json!({"step": 5, "loss": f64::NAN})).unwrap();
        assert_eq!(steps(&path), [0, 1, 2, 3, 4, 5]);
    }

    /// Cut the file at every byte: resuming gives the whole lines up to the step and never fails.
    #[test]
    fn every_torn_tail() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        five(&path);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            for upto in [1, 4] {
                std::fs::write(&path, &whole[..cut]).unwrap();
                let mut w = MetricsWriter::resume_at(&path, upto).unwrap();
                w.write(&json!({"step": upto + 1})).unwrap();
                // A line is there when its closing brace is, newline or not.
                let complete = whole[..cut].windows(2).filter(|w| w == b"}\n").count()
                    + usize::from(cut > 0 && whole[cut - 1] == b'}' && whole[cut] == b'\n');
                let mut expected: Vec<u64> = (0..=upto).take(complete).collect();
                expected.push(upto + 1);
                assert_eq!(steps(&path), expected, "cut at {cut}, resumed at {upto}");
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named() {
        let mut w = MetricsWriter::append(Path::new("/dev/full")).unwrap();
        let message = w.write(&json!({"step": 1})).unwrap_err().to_string();
        assert!(message.starts_with("/dev/full: cannot append to: No space left on device"), "{message}");
    }

    #[test]
    fn damage_in_the_middle_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        std::fs::write(&path, "{\"step\":1}\n{\"step\":\n{\"step\":3}\n").unwrap();
        let message = MetricsWriter::resume_at(&path, 3).unwrap_err().to_string();
        assert!(message.contains("metrics.jsonl:2: expected one JSON object"), "{message}");
        std::fs::write(&path, "[1]\n").unwrap();
        assert!(read_metrics(&path).is_err());
    }

    #[test]
    fn lines_without_a_step() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        std::fs::write(&path, "{\"a\":1}\n{\"step\":1}\n{\"b\":1}\n{\"step\":2}\n{\"c\":1}\n").unwrap();
        MetricsWriter::resume_at(&path, 1).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"a\":1}\n{\"step\":1}\n{\"b\":1}\n");
    }
}
