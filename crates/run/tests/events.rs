//! TensorBoard event files, read back by a decoder written for this test from the descriptions of TFRecord
//! and protobuf, and by TensorBoard itself where python3 has it.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::path::Path;
use std::process::Command;

use llama_pro_run::EventWriter;

/// CRC-32C bit by bit: polynomial division, no table.
fn crc32c(data: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for bit in data.iter().flat_map(|byte| (0..8).map(move |i| byte >> i & 1)) {
        let out = crc & 1 ^ u32::from(bit);
        crc >>= 1;
        if out == 1 {
            crc ^= 0x82f6_3b78;
        }
    }
    !crc
}

fn masked(data: &[u8]) -> u32 {
    let crc = crc32c(data);
    crc.rotate_left(17).wrapping_add(0xa282_ead8)
}

fn records(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let (mut rest, mut found) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        assert_eq!(word(8), masked(&rest[..8]), "check sum of the length");
        assert_eq!(word(12 + length), masked(&rest[12..12 + length]), "check sum of the data");
        found.push(rest[12..12 + length].to_vec());
        rest = &rest[16 + length..];
    }
    found
}

#[derive(Debug, PartialEq)]
enum Field {
    Int(u64),
    Double(f64),
    Float(f32),
    Bytes(Vec<u8>),
}

/// The fields of a protobuf message, in order.
fn fields(mut data: &[u8]) -> Vec<(u64, Field)> {
    fn varint(data: &mut &[u8]) -> u64 {
        let mut value = 0;
        for i in 0.. {
            let byte = data[0];
            *data = &data[1..];
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !data.is_empty() {
        let key = varint(&mut data);
        let value = match key & 7 {
            0 => Field::Int(varint(&mut data)),
            wire => {
                let length = match wire {
                    1 => 8,
                    5 => 4,
                    2 => varint(&mut data) as usize,
                    other => panic!("wire type {other}"),
                };
                let (bytes, rest) = data.split_at(length);
                data = rest;
                match wire {
                    1 => Field::Double(f64::from_le_bytes(bytes.try_into().unwrap())),
                    5 => Field::Float(f32::from_le_bytes(bytes.try_into().unwrap())),
                    _ => Field::Bytes(bytes.to_vec()),
                }
            }
        };
        found.push((key >> 3, value));
    }
    found
}

fn bytes_of(field: &Field) -> &[u8] {
    match field {
        Field::Bytes(b) => b,
        other => panic!("{other:?}"),
    }
}

/// Two files as a run leaves them that was killed after step 300 and resumed at 200.
fn write_run(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut first = EventWriter::create(dir, None).unwrap();
    for step in [1, 150, 200, 300] {
        first.scalars(step, &[("train/loss", 1.0 / step as f64), ("train/learning_rate", 2e-4)]).unwrap();
    }
    let mut second = EventWriter::create(dir, Some(201)).unwrap();
    second.scalars(300, &[("train/loss", -3.5)]).unwrap();
    assert!(first.path() < second.path(), "files sort in the order of time");
    vec![first.path().to_path_buf(), second.path().to_path_buf()]
}

#[test]
fn decoded_by_hand() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283, "the check value of CRC-32C");
    let dir = tempfile::tempdir().unwrap();
    let files = write_run(dir.path());
    assert!(files[0].file_name().unwrap().to_str().unwrap().starts_with("events.out.tfevents."));

    let events = records(&files[0]);
    assert_eq!(events.len(), 5);
    let version = fields(&events[0]);
    assert!(matches!(version[0], (1, Field::Double(t)) if t > 1.7e9));
    assert_eq!(version[1], (3, Field::Bytes(b"brain.Event:2".to_vec())));
    let event = fields(&events[2]);
    assert_eq!(event[1], (2, Field::Int(150)));
    assert_eq!(event[2].0, 5);
    let values: Vec<_> =
        fields(bytes_of(&event[2].1)).iter().map(|(n, v)| (*n, fields(bytes_of(v)))).collect();
    let value =
        |tag: &str, x: f32| (1, vec![(1, Field::Bytes(tag.as_bytes().to_vec())), (2, Field::Float(x))]);
    assert_eq!(values, [value("train/loss", 1.0 / 150.0), value("train/learning_rate", 2e-4)]);

    let start = fields(&records(&files[1])[1]);
    assert_eq!(start[1], (2, Field::Int(201)));
    assert_eq!((start[2].0, fields(bytes_of(&start[2].1))), (7, vec![(1, Field::Int(1))]));
}

/// TensorBoard reads files by name: with the clock set back by a year, the new file still comes last.
#[test]
fn a_clock_that_is_set_back() {
    let dir = tempfile::tempdir().unwrap();
    let now = std::time::SystemTime::now();
    let year = std::time::Duration::from_secs(365 * 86_400);
    let files: Vec<_> = [now, now - year, now - 2 * year, now + year, now]
        .into_iter()
        .map(|time| EventWriter::create_at(dir.path(), Some(1), time).unwrap().path().to_path_buf())
        .collect();
    assert!(files.is_sorted() && files.windows(2).all(|w| w[0] != w[1]), "{files:?}");
}

#[test]
fn read_by_tensorboard() {
    let python = |code: &str, arg: &Path| Command::new("python3").args(["-c", code]).arg(arg).output();
    if !python("import tensorboard", Path::new("")).is_ok_and(|o| o.status.success()) {
        println!("skipped: python3 with the tensorboard package is not there");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path());
    let code = "
import sys, json
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
a = EventAccumulator(sys.argv[1]); a.Reload()
print(json.dumps({t: [[s.step, s.value] for s in a.Scalars(t)] for t in sorted(a.Tags()['scalars'])}))
";
    let output = python(code, dir.path()).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let single = |x: f64| f64::from(x as f32);
    // The step that the killed run had written past its checkpoint is gone.
    let expected = serde_json::json!({
        "train/learning_rate": [[1, single(2e-4)], [150, single(2e-4)], [200, single(2e-4)]],
        "train/loss": [[1, 1.0], [150, single(1.0 / 150.0)], [200, single(0.005)], [300, -3.5]],
    });
    assert_eq!(read, expected);
}
