//! Damaged bytes never panic: headers, indexes and configurations mutated at random.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../corpus/tests/it/cases.rs"]
mod cases;
mod support;

use std::path::Path;
use std::sync::LazyLock;

use llama_pro_checkpoint::{ConfigFile, parse_header, parse_index};
use proptest::prelude::*;
use safetensors::SafeTensors;
use support::{fixture, raw_file};

static HEADER: LazyLock<(Vec<u8>, u64)> = LazyLock::new(|| {
    let path = fixture("llama3-gqa-tied-bf16-sharded/model-00002-of-00004.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (bytes[8..8 + length].to_vec(), (bytes.len() - 8 - length) as u64)
});
static INDEX: LazyLock<String> = LazyLock::new(|| {
    std::fs::read_to_string(fixture("llama3-gqa-tied-bf16-sharded/model.safetensors.index.json")).unwrap()
});
static CONFIG: LazyLock<String> =
    LazyLock::new(|| std::fs::read_to_string(fixture("llama3-gqa-tied-bf16-sharded/config.json")).unwrap());

/// What a mutation puts in: the bytes that matter to these formats, and any other.
fn insertion() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"0".to_vec()),
        Just(b"-1".to_vec()),
        Just(b"9".to_vec()),
        Just(b"18446744073709551615".to_vec()),
        Just(b"1e999".to_vec()),
        Just(b"1.5".to_vec()),
        Just(b"null".to_vec()),
        Just(b"true".to_vec()),
        Just(b"\"".to_vec()),
        Just(b"[".to_vec()),
        Just(b"]".to_vec()),
        Just(b"{".to_vec()),
        Just(b"}".to_vec()),
        Just(b",".to_vec()),
        Just(b":".to_vec()),
        Just(b"\\".to_vec()),
        Just(b"F4".to_vec()),
        Just(b"F64".to_vec()),
        Just(b"../".to_vec()),
        Just(b"yarn".to_vec()),
        Just(b"dynamic".to_vec()),
        Just(b"qwen2".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..4),
    ]
}

/// Some places of a text replaced, each over a few bytes.
fn mutate(text: &[u8], changes: &[(prop::sample::Index, usize, Vec<u8>)]) -> Vec<u8> {
    let mut text = text.to_vec();
    for (at, len, with) in changes {
        let at = at.index(text.len() + 1);
        let end = (at + len).min(text.len());
        text.splice(at..end, with.iter().copied());
    }
    text
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, usize, Vec<u8>)>> {
    proptest::collection::vec((any::<prop::sample::Index>(), 0usize..6, insertion()), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..cases::cases(1500) })]

    /// And whatever is accepted, the reference implementation accepts and reads the same.
    #[test]
    fn headers(changes in changes(), longer in 0u64..2) {
        let (text, len) = &*HEADER;
        let text = mutate(text, &changes);
        let len = len + longer;
        let parsed = parse_header(Path::new("f"), &text, len);
        if let Err(error) = &parsed {
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
        if let Ok(header) = parsed {
            let file = raw_file(std::str::from_utf8(&text).unwrap(), &vec![0; len as usize]);
            let reference = SafeTensors::deserialize(&file).unwrap();
            prop_assert_eq!(reference.len(), header.tensors.len());
            for tensor in &header.tensors {
                let view = reference.tensor(&tensor.name).unwrap();
                prop_assert_eq!((view.dtype(), view.shape()), (tensor.dtype, tensor.shape.as_slice()));
                prop_assert_eq!(view.data().len() as u64, tensor.end - tensor.begin);
            }
        }
    }

    #[test]
    fn indexes(changes in changes()) {
        let text = String::from_utf8_lossy(&mutate(INDEX.as_bytes(), &changes)).into_owned();
        let parsed = parse_index(Path::new("f"), &text);
        if let Err(error) = &parsed {
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
        if let Ok(index) = parsed {
            prop_assert!(index.weight_map.values().all(|file| !file.contains(['/', '\\']) && file != ".."));
        }
    }

    /// What is accepted gives a list of parameters whose sizes can be counted.
    #[test]
    fn configs(changes in changes()) {
        let text = String::from_utf8_lossy(&mutate(CONFIG.as_bytes(), &changes)).into_owned();
        match ConfigFile::from_json(Path::new("f"), &text) {
            Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
            Ok(file) => match file.llama() {
                Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
                Ok(config) => {
                    prop_assert!(config.parameter_count() > 0);
                    prop_assert_eq!(config.sliding_window.len(), config.num_hidden_layers);
                }
            },
        }
    }

    #[test]
    fn anything_at_all(bytes in proptest::collection::vec(any::<u8>(), 0..64), len in any::<u64>()) {
        let _ = parse_header(Path::new("f"), &bytes, len);
        let text = String::from_utf8_lossy(&bytes);
        let _ = parse_index(Path::new("f"), &text);
        let _ = ConfigFile::from_json(Path::new("f"), &text);
    }
}
