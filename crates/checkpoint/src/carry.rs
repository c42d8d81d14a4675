//! Which files of a model folder go along with the weights: tokenizer, generation settings, licence, card.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::index::is_plain_name;

/// The largest file that is carried; the largest tokenizers in use have some 35 MB.
const LARGEST: u64 = 256 << 20;

/// What is never carried: what is written anew, weights in any format, and pickles.
const NOT_CARRIED: &[&str] = &["config.json", "expansion.json"];
#[rustfmt::skip]
const NOT_CARRIED_ENDINGS: &[&str] = &[
    ".safetensors", ".index.json", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".gguf", ".ggml", ".h5",
    ".msgpack", ".onnx", ".onnx_data", ".npz", ".npy", ".ot", ".tmp", ".partial", ".lock",
];

/// The plain names of the files to carry, sorted: every regular file, through symbolic links too (a hub cache is
/// made of them), that is none of the above, not hidden, and not beyond 256 MiB. Folders are not entered.
pub(crate) fn names(from: &Path) -> Result<Vec<String>> {
    let fail = |e| Error::io("read", from, e);
    let mut names = Vec::new();
    for entry in fs::read_dir(from).map_err(fail)? {
        let Ok(name) = entry.map_err(fail)?.file_name().into_string() else { continue };
        let lower = name.to_lowercase();
        let skipped = name.starts_with('.')
            || !is_plain_name(&name)
            || NOT_CARRIED.contains(&lower.as_str())
            || NOT_CARRIED_ENDINGS.iter().any(|ending| lower.ends_with(ending));
        // A link that leads nowhere or in a circle has no metadata, and is left out.
        let small_file = || fs::metadata(from.join(&name)).is_ok_and(|m| m.is_file() && m.len() <= LARGEST);
        if !skipped && small_file() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
