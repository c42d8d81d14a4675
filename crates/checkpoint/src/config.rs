//! `config.json` as it stands on disk: every key kept, in its order, known here or not.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::fields::Fields;
use crate::file::read_text;
use crate::json;
use crate::llama::LlamaConfig;
use crate::strict;

/// A parsed `config.json`. Nothing is interpreted until it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigFile {
    path: PathBuf,
    map: Map<String, Value>,
}

/// A configuration is a page of text; a file beyond this is something else.
const LARGEST: u64 = 64 << 20;

impl ConfigFile {
    /// Reads `dir/config.json`. Fails when the folder or the file is missing, is no file, or is no JSON object.
    pub fn read(dir: &Path) -> Result<Self> {
        match std::fs::metadata(dir) {
            Err(e) => return Err(Error::io("read", dir, e)),
            Ok(meta) if !meta.is_dir() => {
                return Err(Error::WrongKind { path: dir.into(), expected: "folder" });
            }
            Ok(_) => {}
        }
        let path = dir.join("config.json");
        let text = read_text(&path, LARGEST)?;
        Self::from_json(&path, &text)
    }

    /// Parses the text of a `config.json`; `path` is only named in errors.
    pub fn from_json(path: &Path, text: &str) -> Result<Self> {
        Ok(Self { path: path.into(), map: json::object(path, text)? })
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every key with its value, in the order of the file.
    pub fn raw(&self) -> &Map<String, Value> {
        &self.map
    }

    /// The keys for changing: what is written by [`Self::to_json`] is what stands here.
    pub fn raw_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.map
    }

    /// The key `model_type`, which must be a string.
    pub fn model_type(&self) -> Result<&str> {
        self.fields().string("model_type")?.ok_or_else(|| self.fields().missing("model_type"))
    }

    /// The key `num_hidden_layers`, which must be a whole number from 1.
    pub fn num_hidden_layers(&self) -> Result<usize> {
        strict::layers(&self.fields())
    }

    /// The text to be written: two spaces of indent, a newline at the end.
    pub fn to_json(&self) -> String {
        // Writing a map of strings and values into a string has no way to fail; the alternate form indents.
        format!("{:#}\n", Value::Object(self.map.clone()))
    }

    /// The part that decides the numbers. Whatever would change them and is not supported is refused by name.
    pub fn llama(&self) -> Result<LlamaConfig> {
        strict::llama(self)
    }

    /// [`ConfigFile::llama`] for those who only move tensors: `None` for another family, or for a feature that is not
    /// computed here.
    ///
    /// # Errors
    /// A LLaMA, Mistral or Qwen2 whose plain numbers cannot be: a size that is missing, zero or does not divide.
    pub fn llama_if_computable(&self) -> Result<Option<LlamaConfig>> {
        const PLAIN: [&str; 10] = [
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "vocab_size",
            "max_position_embeddings",
            "rms_norm_eps",
            "tie_word_embeddings",
        ];
        match self.llama() {
            Ok(config) => Ok(Some(config)),
            Err(Error::Config { path, key, problem }) if PLAIN.contains(&key.as_str()) => {
                Err(Error::Config { path, key, problem })
            }
            Err(_) => Ok(None),
        }
    }

    pub(crate) fn fields(&self) -> Fields<'_> {
        Fields::new(&self.path, &self.map)
    }
}
