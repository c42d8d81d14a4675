//! The special tokens by name, as templates read them: `bos_token`, `eos_token` and the others of
//! `tokenizer_config.json` and `special_tokens_map.json`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Map, Value};

use super::error::{ChatError, ChatResult};

/// Name to string, as `eos_token` to `</s>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens(pub BTreeMap<String, String>);

impl SpecialTokens {
    /// Those of a model folder. Where no file names the first or last token of a text, they have their well-known names
    /// if `has` says that the vocabulary has them.
    ///
    /// # Errors
    /// A file that is there and is no JSON object.
    pub fn from_dir(dir: &Path, has: impl Fn(&str) -> bool) -> ChatResult<Self> {
        let mut tokens = BTreeMap::new();
        let mut named = Vec::new();
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            for (key, value) in read_object(&dir.join(name))?.unwrap_or_default() {
                if !key.ends_with("_token") || named.contains(&key) {
                    continue;
                }
                let text = match &value {
                    Value::String(text) => Some(text.as_str()),
                    Value::Object(token) => token.get("content").and_then(Value::as_str),
                    Value::Null => None,
                    _ => continue, // add_bos_token and its like are flags
                };
                if let Some(text) = text {
                    tokens.insert(key.clone(), text.to_owned());
                }
                named.push(key);
            }
        }
        for (key, names) in
            [("bos_token", crate::special::BOS_NAMES), ("eos_token", crate::special::EOS_NAMES)]
        {
            if !named.iter().any(|n| n == key)
                && let Some(name) = names.iter().find(|name| has(name))
            {
                tokens.insert(key.to_owned(), (*name).to_owned());
            }
        }
        Ok(Self(tokens))
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// A JSON object in a file; `None` when there is no file.
pub(super) fn read_object(path: &Path) -> ChatResult<Option<Map<String, Value>>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ChatError::Read { path: path.to_owned(), source }),
    };
    let malformed = |found: String| ChatError::Malformed {
        path: path.to_owned(),
        expected: "a JSON object".to_owned(),
        found,
    };
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) => Ok(Some(map)),
        Ok(_) => Err(malformed("another JSON value".to_owned())),
        Err(error) => Err(malformed(error.to_string())),
    }
}
