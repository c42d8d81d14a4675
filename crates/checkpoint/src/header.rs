//! The header of a safetensors file: 8 bytes of length, then JSON that says where each tensor lies.
//!
//! The format and its limits are those of the safetensors project (README, "Format"; the audit of 2023 lists the
//! attacks). The parser is our own because the library keeps the last of two equal names silently and names
//! neither the tensor nor the place in its errors.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{Deserializer, Error as _, IntoDeserializer, MapAccess, Visitor};

use crate::error::{Error, Result};
use crate::json;
use crate::tensor::byte_len;

/// The longest header, as in the reference implementation.
pub(crate) const LONGEST: u64 = 100_000_000;

/// A checked header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The strings of `__metadata__`.
    pub metadata: BTreeMap<String, String>,
    /// In the order of their bytes, which cover the data part without gap or overlap.
    pub tensors: Vec<HeaderTensor>,
}

/// One entry of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTensor {
    /// The tensor's name.
    pub name: String,
    /// Type of the elements.
    pub dtype: Dtype,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// First byte, counted from the end of the header.
    pub begin: u64,
    /// One past the last byte.
    pub end: u64,
}

/// Parses the JSON part of a header and checks it against the number of data bytes that follow it.
///
/// `path` is only named in errors. Refused: no JSON, equal names, unknown fields and dtypes, a length that is
/// not shape times dtype, gaps, overlaps, and a data part that is longer or shorter than the tensors.
pub fn parse_header(path: &Path, json_bytes: &[u8], data_len: u64) -> Result<Header> {
    let text = std::str::from_utf8(json_bytes)
        .map_err(|e| Error::file(path, format!("the header is no UTF-8 from byte {}", e.valid_up_to())))?;
    if !text.starts_with('{') {
        return Err(Error::file(
            path,
            "the header does not begin with a brace, so this is no safetensors file",
        ));
    }
    let raw: Raw = serde_json::from_str(text).map_err(|e| in_header(json::error(path, &e)))?;
    let mut tensors =
        raw.tensors.into_iter().map(|(name, entry)| check(path, name, entry)).collect::<Result<Vec<_>>>()?;
    tensors.sort_by_key(|tensor| (tensor.begin, tensor.end));
    let mut at = 0;
    let mut before: Option<&HeaderTensor> = None;
    for tensor in &tensors {
        if tensor.begin != at {
            let what = if tensor.begin < at { "overlaps" } else { "leaves a gap after" };
            let other =
                before.map_or("the header".to_owned(), |t| format!("{:?} ({}..{})", t.name, t.begin, t.end));
            let problem = format!("its bytes {}..{} {what} {other}", tensor.begin, tensor.end);
            return Err(Error::tensor(path, &tensor.name, problem));
        }
        at = tensor.end;
        before = Some(tensor);
    }
    if at > data_len {
        let name = before.map_or("", |tensor| &tensor.name);
        let problem =
            format!("its bytes end at {at}, but only {data_len} follow the header: the file is truncated");
        return Err(Error::tensor(path, name, problem));
    }
    if at < data_len {
        let problem = format!("the tensors have {at} bytes, but {data_len} follow the header");
        return Err(Error::file(path, problem));
    }
    Ok(Header { metadata: raw.metadata, tensors })
}

/// The text of a header for these tensors, whose bytes lie one after the other in this order: length, JSON and
/// spaces up to a multiple of 64, so that every tensor of usual size begins on a cache line when it is mapped.
pub(crate) fn build<'a>(
    metadata: &BTreeMap<String, String>,
    tensors: impl Iterator<Item = (&'a str, Dtype, &'a [usize], u64)>,
) -> Vec<u8> {
    const ALIGNMENT: usize = 64;
    // Value's Display writes and escapes JSON strings and cannot fail.
    let string = |text: &str| serde_json::Value::from(text).to_string();
    let mut out = vec![0; 8];
    out.push(b'{');
    if !metadata.is_empty() {
        let pairs: Vec<_> = metadata.iter().map(|(k, v)| format!("{}:{}", string(k), string(v))).collect();
        out.extend(format!("\"__metadata__\":{{{}}},", pairs.join(",")).bytes());
    }
    let mut begin = 0;
    for (name, dtype, shape, len) in tensors {
        let shape: Vec<_> = shape.iter().map(ToString::to_string).collect();
        let (name, shape, end) = (string(name), shape.join(","), begin + len);
        let entry =
            format!("{name}:{{\"dtype\":\"{dtype}\",\"shape\":[{shape}],\"data_offsets\":[{begin},{end}]}},");
        out.extend(entry.bytes());
        begin = end;
    }
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.push(b'}');
    out.resize(out.len().next_multiple_of(ALIGNMENT), b' ');
    let length = (out.len() - 8) as u64;
    out[..8].copy_from_slice(&length.to_le_bytes());
    out
}

fn check(path: &Path, name: String, entry: Entry) -> Result<HeaderTensor> {
    let Entry { dtype, shape, data_offsets: [begin, end] } = entry;
    let parsed: std::result::Result<Dtype, serde::de::value::Error> = {
        let text: StrDeserializer<'_, serde::de::value::Error> = dtype.as_str().into_deserializer();
        Dtype::deserialize(text)
    };
    let Ok(dtype) = parsed else {
        return Err(Error::tensor(path, &name, format!("unknown dtype {dtype:?}")));
    };
    let Some(len) = byte_len(dtype, &shape) else {
        let problem = format!("shape {shape:?} of {dtype} is no countable number of bytes");
        return Err(Error::tensor(path, &name, problem));
    };
    if end < begin {
        return Err(Error::tensor(path, &name, format!("its bytes {begin}..{end} end before they begin")));
    }
    if end - begin != len {
        let problem = format!("shape {shape:?} of {dtype} takes {len} bytes, but it has {}", end - begin);
        return Err(Error::tensor(path, &name, problem));
    }
    Ok(HeaderTensor { name, dtype, shape, begin, end })
}

fn in_header(error: Error) -> Error {
    match error {
        Error::Json { path, line, column, problem } => {
            let problem = format!("the header is damaged at line {line}, column {column}: {problem}");
            Error::File { path, problem }
        }
        other => other,
    }
}

/// The header as it is written, names kept apart from metadata, equal names refused.
struct Raw {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, Entry)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct RawVisitor;
        impl<'de> Visitor<'de> for RawVisitor {
            type Value = Raw;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Raw, A::Error> {
                let mut raw = Raw { metadata: BTreeMap::new(), tensors: Vec::new() };
                let mut seen = HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("the name {name:?} stands twice")));
                    }
                    if name == "__metadata__" {
                        raw.metadata = map.next_value::<Strings>()?.0;
                    } else {
                        let entry = map
                            .next_value()
                            .map_err(|e| A::Error::custom(format!("tensor {name:?}: {e}")))?;
                        raw.tensors.push((name, entry));
                    }
                }
                Ok(raw)
            }
        }
        deserializer.deserialize_map(RawVisitor)
    }
}

struct Strings(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct StringsVisitor;
        impl<'de> Visitor<'de> for StringsVisitor {
            type Value = Strings;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Strings, A::Error> {
                let mut strings = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if strings.contains_key(&key) {
                        return Err(A::Error::custom(format!(
                            "the key {key:?} stands twice in __metadata__"
                        )));
                    }
                    strings.insert(key, value);
                }
                Ok(Strings(strings))
            }
        }
        deserializer.deserialize_map(StringsVisitor)
    }
}
