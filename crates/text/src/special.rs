//! Which tokens begin and end a document, from the files that Hugging Face tools write beside tokenizer.json.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::tokenizer::one_line;

/// Names for the first token of a document, tried in this order when no file says.
pub(crate) const BOS_NAMES: &[&str] = &["<s>", "<|begin_of_text|>"];

/// Names for the last token of a document, tried in this order when no file says.
pub(crate) const EOS_NAMES: &[&str] = &["</s>", "<|end_of_text|>", "<|endoftext|>"];

/// `tokenizer_config.json` and `special_tokens_map.json` as far as they are there, the former first.
pub(crate) struct Configured {
    files: Vec<(PathBuf, Map<String, Value>)>,
}

impl Configured {
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            let path = dir.join(name);
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(source) => return Err(Error::Read { path, source }),
            };
            match serde_json::from_slice(&bytes) {
                Ok(Value::Object(map)) => files.push((path, map)),
                Ok(_) => return Err(malformed(&path, "a JSON object", "another value".into())),
                Err(error) => return Err(malformed(&path, "a JSON object", one_line(&error))),
            }
        }
        Ok(Self { files })
    }

    /// The id that the first file with this key names; `fallback` when none has the key.
    pub(crate) fn resolve(
        &self,
        key: &'static str,
        fallback: Option<u32>,
        id: impl Fn(&str) -> Option<u32>,
    ) -> Result<Option<u32>> {
        let found = self.files.iter().find_map(|(path, map)| map.get(key).map(|value| (path, value)));
        let Some((path, value)) = found else { return Ok(fallback) };
        let token = match value {
            Value::Null => return Ok(None),
            Value::String(token) => token,
            // Older files store the whole added token: {"content": "<s>", "lstrip": false, ...}.
            Value::Object(token) => match token.get("content") {
                Some(Value::String(content)) => content,
                _ => return Err(malformed(path, "a token with a content string", format!("{key}: {value}"))),
            },
            _ => return Err(malformed(path, "a token string or object", format!("{key}: {value}"))),
        };
        match id(token) {
            Some(id) => Ok(Some(id)),
            None => Err(Error::UnknownSpecial { path: path.clone(), key, token: token.clone() }),
        }
    }
}

fn malformed(path: &Path, expected: &'static str, found: String) -> Error {
    Error::Malformed { path: path.to_path_buf(), expected, found }
}
