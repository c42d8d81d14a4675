//! `model.safetensors.index.json`: which tensor lies in which shard.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::json;

/// A checked index.
#[derive(Clone, Debug, PartialEq)]
pub struct Index {
    /// Tensor name to the plain name of its file.
    pub weight_map: BTreeMap<String, String>,
    /// What stands under `metadata`, such as `total_size`; not relied on.
    pub metadata: Map<String, Value>,
}

/// Parses the text of an index; `path` is only named in errors.
///
/// Refused: no JSON, equal keys, a missing or empty weight map, a file name that is no plain name of a
/// safetensors file (an index must not lead out of its folder, nor to a pickle file).
pub fn parse_index(path: &Path, text: &str) -> Result<Index> {
    let mut map = json::object(path, text)?;
    let weight_map = match map.remove("weight_map") {
        None => return Err(Error::file(path, "the key weight_map is missing")),
        Some(Value::Object(map)) if map.is_empty() => {
            return Err(Error::file(path, "weight_map names no tensor"));
        }
        Some(Value::Object(map)) => map,
        Some(other) => {
            return Err(Error::file(
                path,
                format!("weight_map: expected an object, found {}", json::kind(&other)),
            ));
        }
    };
    let metadata = match map.remove("metadata") {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let mut checked = BTreeMap::new();
    for (tensor, value) in weight_map {
        let Value::String(file) = value else {
            let problem = format!("expected the name of a file, found {}", json::show(&value));
            return Err(Error::tensor(path, &tensor, problem));
        };
        if !is_plain_name(&file) {
            return Err(Error::tensor(path, &tensor, format!("{file:?} is no plain file name")));
        }
        if !file.ends_with(".safetensors") {
            return Err(Error::tensor(path, &tensor, format!("{file:?} is no .safetensors file")));
        }
        checked.insert(tensor, file);
    }
    Ok(Index { weight_map: checked, metadata })
}

/// The text of an index, tensors sorted by name.
pub(crate) fn build(total_size: u64, weight_map: &BTreeMap<String, String>) -> String {
    let weight_map: Map<String, Value> =
        weight_map.iter().map(|(tensor, file)| (tensor.clone(), Value::from(file.as_str()))).collect();
    let index = serde_json::json!({ "metadata": { "total_size": total_size }, "weight_map": weight_map });
    format!("{index:#}\n")
}

/// A name that stays in its folder on every system.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0', ':'])
}
