//! `shards.json`: what is written comes back, and what does not agree is refused by field.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use llama_pro_shards::{
    Boundaries, HashesWriter, InputRecord, RECORD_FORMAT, RECORD_NAME, ShardRecord, ShardWriter,
    ShardsRecord, SourceRecord,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn write(dir: &Path) -> ShardsRecord {
    let prefix = dir.join("code.train");
    let mut writer = ShardWriter::new(&prefix, 100).unwrap();
    let mut hashes = HashesWriter::new(&prefix).unwrap();
    for document in [&[1u32, 2, 3][..], &[], &[4]] {
        writer.push(document).unwrap();
        hashes.push([document.len() as u8; 16]).unwrap();
    }
    assert_eq!(hashes.n_documents(), 3);
    let hashes = hashes.finish().unwrap();
    let shard = ShardRecord::new(&writer.finish().unwrap(), 12, Some(hashes));
    let source = SourceRecord {
        name: "code".into(),
        digest: "blake3:00".into(),
        inputs: vec![InputRecord { path: "a/b.py".into(), bytes: 12, digest: "blake3:11".into() }],
        documents: 6,
        kept: 3,
        dropped: BTreeMap::from([("short".into(), 2)]),
        failed: BTreeMap::from([("not UTF-8".into(), 1)]),
    };
    let record = ShardsRecord {
        format: RECORD_FORMAT.into(),
        tokenizer: "blake3:22".into(),
        vocab_size: 100,
        boundaries: Boundaries { bos: Some(1), eos: None },
        parameters: json!({"seed": 7}).as_object().unwrap().clone(),
        sources: vec![source],
        shards: vec![shard],
    };
    record.write(dir).unwrap();
    record
}

#[test]
fn what_is_written_comes_back_and_is_verified() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(ShardsRecord::read(dir.path()).unwrap(), None);
    let record = write(dir.path());
    assert_eq!(ShardsRecord::read(dir.path()).unwrap(), Some(record.clone()));
    record.verify(dir.path()).unwrap();
    assert_eq!(
        fs::read(dir.path().join("code.train.hashes")).unwrap(),
        [[3u8; 16], [0; 16], [1; 16]].concat()
    );
    let first = fs::read(dir.path().join(RECORD_NAME)).unwrap();
    record.write(dir.path()).unwrap();
    assert_eq!(fs::read(dir.path().join(RECORD_NAME)).unwrap(), first);
}

#[test]
fn changed_files_are_found() {
    for (file, field) in
        [("code.train.bin", "digest"), ("code.train.idx", "digest"), ("code.train.hashes", "digest")]
    {
        let dir = tempfile::tempdir().unwrap();
        let record = write(dir.path());
        let path = dir.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = record.verify(dir.path()).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains(field), "{error}");
        fs::write(&path, b"").unwrap();
        assert!(record.verify(dir.path()).unwrap_err().to_string().contains("size"));
        fs::remove_file(&path).unwrap();
        assert!(record.verify(dir.path()).unwrap_err().to_string().contains("open"));
    }
}

#[test]
fn records_that_do_not_agree_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let record = write(dir.path());
    let message = |change: &dyn Fn(&mut Value)| {
        let mut value = serde_json::to_value(&record).unwrap();
        change(&mut value);
        fs::write(dir.path().join(RECORD_NAME), value.to_string()).unwrap();
        ShardsRecord::read(dir.path()).unwrap_err().to_string()
    };
    assert!(
        message(&|v| v["format"] = json!("other/2"))
            .contains("format: expected llama-pro-shards/1, found \"other/2\"")
    );
    assert!(
        message(&|v| v["sources"][0]["kept"] = json!(4))
            .contains("kept + dropped + failed: expected 6, found 7")
    );
    assert!(message(&|v| v["sources"][0]["kept"] = json!(u64::MAX)).contains("kept + dropped + failed"));
    assert!(message(&|v| v["shards"][0]["name"] = json!("../other")).contains("a file name without folders"));
    assert!(message(&|v| v["shards"][0]["extra"] = json!(1)).contains("extra"));
    assert!(message(&|v| *v = json!([])).contains("format"));
    let mut bad = record;
    bad.sources[0].documents = 9;
    assert!(bad.write(dir.path()).is_err());
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(RECORD_NAME), &bytes).unwrap();
        prop_assert!(ShardsRecord::read(dir.path()).is_err());
    }
}
