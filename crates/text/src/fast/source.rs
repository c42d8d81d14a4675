//! What tokenizer.json says, as far as it decides whether ids can be had faster. Whatever is not known is a reason
//! against it, in words for the user.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::split::Pattern;
use super::words::SPACE;

/// The parts of a tokenizer.json. `tokenizers` has read the same bytes before, so that the shape is right.
#[derive(Deserialize)]
pub(super) struct Source<'a> {
    pub(super) normalizer: Option<Value>,
    pub(super) pre_tokenizer: Option<Value>,
    pub(super) post_processor: Option<Value>,
    #[serde(borrow)]
    pub(super) model: Model<'a>,
}

#[derive(Deserialize)]
pub(super) struct Model<'a> {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) continuing_subword_prefix: Option<String>,
    pub(super) end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub(super) byte_fallback: Option<bool>,
    #[serde(default)]
    pub(super) ignore_merges: Option<bool>,
    #[serde(borrow)]
    pub(super) vocab: HashMap<Cow<'a, str>, u32>,
    #[serde(borrow)]
    pub(super) merges: Vec<Merge<'a>>,
}

/// Both spellings: `["a", "b"]` and `"a b"`.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Merge<'a> {
    Pair(#[serde(borrow)] Cow<'a, str>, Cow<'a, str>),
    Line(Cow<'a, str>),
}

/// How text becomes the input of BPE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// A space is U+2581, and one may be put before the text; the whole text is one word.
    Words(Prefix),
    /// Pieces that a pattern cuts, in byte-level spelling.
    Bytes {
        /// `None` where the library's own pre-tokenizer has to cut.
        pattern: Option<Pattern>,
        /// Unicode normalization that leaves ASCII alone comes first.
        normalized: bool,
        /// A space is put before every text that is pre-tokenised, also before one that continues another.
        prefixed: bool,
    },
}

/// Which space is put before a text that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    Always,
    UnlessThere,
    Never,
}

type Reason<T> = Result<T, String>;

impl Source<'_> {
    pub(super) fn scheme(&self) -> Reason<Scheme> {
        if self.model.kind.as_deref().is_some_and(|kind| kind != "BPE") {
            return Err("the model is not BPE".into());
        }
        let set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        if set(&self.model.continuing_subword_prefix) || set(&self.model.end_of_word_suffix) {
            return Err("pieces within a word have a prefix or suffix".into());
        }
        check_post_processor(self.post_processor.as_ref())?;
        let normalizers = flat(self.normalizer.as_ref(), "normalizers");
        let pre_tokenizers = flat(self.pre_tokenizer.as_ref(), "pretokenizers");
        match pre_tokenizers.last().map(|last| kind(last)) {
            None => words_normalizer(&normalizers).map(Scheme::Words),
            Some("Metaspace") if pre_tokenizers.len() == 1 && normalizers.is_empty() => {
                metaspace(pre_tokenizers[0]).map(Scheme::Words)
            }
            Some("ByteLevel") => {
                let known = |normalizer: &&Value| matches!(kind(normalizer), "NFC" | "NFD" | "NFKC" | "NFKD");
                if let Some(other) = normalizers.iter().find(|normalizer| !known(normalizer)) {
                    return Err(format!("the normalizer {} is not known", kind(other)));
                }
                Ok(Scheme::Bytes {
                    pattern: pattern(&pre_tokenizers),
                    normalized: !normalizers.is_empty(),
                    prefixed: pre_tokenizers.iter().any(|part| puts_a_space(part)),
                })
            }
            Some(other) => Err(format!("the pre-tokenizer {other} is not known")),
        }
    }
}

impl<'a> Model<'a> {
    /// Left part, right part and the id of both together, by rank.
    pub(super) fn merges(&self) -> Reason<Vec<(&str, &str, u32)>> {
        let mut merges = Vec::with_capacity(self.merges.len());
        for merge in &self.merges {
            let (left, right) = match merge {
                Merge::Pair(left, right) => (&**left, &**right),
                // The library drops this line of old files.
                Merge::Line(line) if line.starts_with("#version") => continue,
                Merge::Line(line) => {
                    line.split_once(' ').ok_or_else(|| format!("merge {line:?} is no pair"))?
                }
            };
            let whole = format!("{left}{right}");
            let id = self.vocab.get(&*whole).ok_or_else(|| format!("merge {whole:?} is no token"))?;
            merges.push((left, right, *id));
        }
        Ok(merges)
    }

    /// The id of a token, which a merge is known to name.
    pub(super) fn id(&self, token: &str) -> Reason<u32> {
        self.vocab.get(token).copied().ok_or_else(|| format!("{token:?} is no token"))
    }
}

/// The parts of a sequence, or the one thing there is.
fn flat<'v>(value: Option<&'v Value>, key: &str) -> Vec<&'v Value> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(value) if kind(value) == "Sequence" => match value.get(key).and_then(Value::as_array) {
            Some(parts) => parts.iter().flat_map(|part| flat(Some(part), key)).collect(),
            None => vec![value],
        },
        Some(value) => vec![value],
    }
}

fn kind(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or("without a type")
}

/// Without special tokens these change no ids.
fn check_post_processor(value: Option<&Value>) -> Reason<()> {
    for part in flat(value, "processors") {
        if !matches!(kind(part), "TemplateProcessing" | "ByteLevel" | "RobertaProcessing" | "BertProcessing")
        {
            return Err(format!("the post-processor {} is not known", kind(part)));
        }
    }
    Ok(())
}

fn words_normalizer(normalizers: &[&Value]) -> Reason<Prefix> {
    let space = SPACE.to_string();
    let is_prepend = |value: &Value| kind(value) == "Prepend" && value["prepend"] == *space;
    let is_replace = |value: &Value| {
        kind(value) == "Replace" && value["pattern"]["String"] == " " && value["content"] == *space
    };
    match normalizers {
        [replace] if is_replace(replace) => Ok(Prefix::Never),
        [prepend, replace] if is_prepend(prepend) && is_replace(replace) => Ok(Prefix::Always),
        _ => {
            let names: Vec<&str> = normalizers.iter().map(|normalizer| kind(normalizer)).collect();
            Err(format!(
                "neither a byte-level pre-tokenizer nor spaces as U+2581: normalizers [{}]",
                names.join(", ")
            ))
        }
    }
}

fn metaspace(value: &Value) -> Reason<Prefix> {
    if value["replacement"] != *SPACE.to_string() {
        return Err("Metaspace replaces a space by something else than U+2581".into());
    }
    // With a split, the library cuts before each space, also between two of them.
    if value["split"] != false {
        return Err("Metaspace splits".into());
    }
    let never = value["add_prefix_space"] == false || value["prepend_scheme"] == "never";
    Ok(if never { Prefix::Never } else { Prefix::UnlessThere })
}

/// Whether a pre-tokenizer puts a space before a text; both do unless they say that they do not.
fn puts_a_space(pre_tokenizer: &Value) -> bool {
    match kind(pre_tokenizer) {
        "ByteLevel" => pre_tokenizer["add_prefix_space"] != false,
        "Metaspace" => {
            pre_tokenizer["add_prefix_space"] != false && pre_tokenizer["prepend_scheme"] != "never"
        }
        _ => false,
    }
}

/// The pattern of the pre-tokenizers before and in the last, `ByteLevel`, if it is known.
fn pattern(pre_tokenizers: &[&Value]) -> Option<Pattern> {
    let (byte_level, others) = pre_tokenizers.split_last()?;
    if byte_level["add_prefix_space"] != false {
        return None;
    }
    let use_regex = byte_level["use_regex"] != false;
    match others {
        [] => use_regex.then_some(Pattern::Gpt2),
        [split] if kind(split) == "Split" && !use_regex => {
            let whole = split["behavior"] == "Isolated" && split["invert"] == false;
            Pattern::known(split["pattern"]["Regex"].as_str().filter(|_| whole)?)
        }
        _ => None,
    }
}
