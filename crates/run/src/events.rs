//! TensorBoard event files with scalars, written by hand: the format is small and stable.
//!
//! A file is a sequence of TFRecords: length (u64), masked CRC-32C of the length, the bytes, masked CRC-32C
//! of the bytes, little-endian. Each record is a protobuf message `Event` of TensorFlow's event.proto, of
//! which five fields are used here: wall_time = 1 (double), step = 2 (int64), file_version = 3 (string),
//! summary = 5 (message with value = 1: tag = 1, simple_value = 2), session_log = 7 (message with status = 1).
//! `metrics.jsonl` is the source of truth; these files are for those who have TensorBoard open.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Error, Result};

/// Appends scalars to a TensorBoard event file of its own.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// Begins a new event file in `dir`. On resuming, `first_step` is the first step that will be written
    /// again: TensorBoard then forgets what earlier files say of that step and later ones.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(dir: &Path, first_step: Option<u64>) -> Result<Self> {
        Self::create_at(dir, first_step, SystemTime::now())
    }

    /// [`EventWriter::create`] at a given time.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create_at(dir: &Path, first_step: Option<u64>, now: SystemTime) -> Result<Self> {
        // TensorBoard reads the files of a folder in the order of their names: a new file must come after those that
        // are there, also where the clock was set back.
        let seconds = crate::clock::seconds(now).max(newest(dir)).max(0);
        let mut number = 0_u32;
        let (path, file) = loop {
            let path = dir.join(format!("events.out.tfevents.{seconds:010}.llama-pro.{number:03}"));
            match File::options().append(true).create_new(true).open(&path) {
                Ok(file) => break (path, file),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(e) => return Err(Error::io(&path, "make")(e)),
            }
        };
        let mut writer = Self { path, file };
        let mut version = Message::event(now, None);
        version.bytes(3, b"brain.Event:2");
        writer.record(&version.0)?;
        if let Some(step) = first_step {
            let mut log = Message::default();
            log.int(1, 1); // SessionLog.START
            let mut event = Message::event(now, Some(step));
            event.bytes(7, &log.0);
            writer.record(&event.0)?;
        }
        Ok(writer)
    }

    /// Writes scalars of one step, each as (tag, value).
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn scalars<S: AsRef<str>>(&mut self, step: u64, values: &[(S, f64)]) -> Result<()> {
        self.scalars_at(SystemTime::now(), step, values)
    }

    /// The file that is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn scalars_at<S: AsRef<str>>(&mut self, now: SystemTime, step: u64, values: &[(S, f64)]) -> Result<()> {
        let mut summary = Message::default();
        for (tag, value) in values {
            let mut entry = Message::default();
            entry.bytes(1, tag.as_ref().as_bytes());
            #[expect(clippy::cast_possible_truncation, reason = "the format has 32-bit scalars")]
            entry.float(2, *value as f32);
            summary.bytes(1, &entry.0);
        }
        let mut event = Message::event(now, Some(step));
        event.bytes(5, &summary.0);
        self.record(&event.0)
    }

    /// One write per record: a reader may look while the file grows.
    fn record(&mut self, data: &[u8]) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(data.len() + 16);
        record.extend_from_slice(&length);
        record.extend_from_slice(&masked_crc(&length).to_le_bytes());
        record.extend_from_slice(data);
        record.extend_from_slice(&masked_crc(data).to_le_bytes());
        self.file.write_all(&record).map_err(Error::io(&self.path, "append to"))
    }
}

/// The latest time that an event file of a folder is named after; 0 where there is none.
fn newest(dir: &Path) -> i64 {
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let time = |name: std::ffi::OsString| {
        let rest = name.to_str()?.strip_prefix("events.out.tfevents.")?.to_owned();
        rest.split_once(".llama-pro.")?.0.parse().ok()
    };
    names.filter_map(time).max().unwrap_or(0)
}

/// A protobuf message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn event(time: SystemTime, step: Option<u64>) -> Self {
        let mut event = Self::default();
        let seconds = time.duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        event.key(1, 1);
        event.0.extend_from_slice(&seconds.to_le_bytes());
        if let Some(step) = step {
            event.int(2, step);
        }
        event
    }

    /// Wire types: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
    fn key(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    fn int(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.varint(value);
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// TFRecord's mask: a CRC stored in data that is itself checked by a CRC would be weak.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), reflected, one table look-up per byte.
fn crc32c(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    !data.iter().fold(!0, |crc, byte| TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8))
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut value = i as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0x82f6_3b78 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[i] = value;
        i += 1;
    }
    table
}
