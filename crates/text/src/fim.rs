//! Fill-in-the-middle: documents turned so that a model learns to write what stands between two given parts.
//!
//! Bavarian et al. 2022 (arXiv 2207.14255) as StarCoder does it: with a probability, a document is cut at two places that
//! are uniform over its characters, and becomes `<prefix> P <suffix> S <middle> M` (PSM) or
//! `<prefix> <suffix> S <middle> P M` (SPM). Whether, where and how is a function of the seed and the text, so it does not
//! depend on the order of documents or on threads. LLaMA Pro did not do it and LLaMA-2's vocabulary has no tokens for it;
//! nothing does it unasked.

use serde::{Deserialize, Serialize};

use crate::encoder::{Encoder, EncodingPath};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// What StarCoder, Qwen, SantaCoder and Code Llama call the three tokens.
const KNOWN: [[&str; 3]; 4] = [
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    ["<fim-prefix>", "<fim-suffix>", "<fim-middle>"],
    ["\u{2581}<PRE>", "\u{2581}<SUF>", "\u{2581}<MID>"],
];

/// How often and in which form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct FimOptions {
    /// Share of the documents that are turned, 0 to 1; 0.5.
    pub rate: f64,
    /// Share of those that become SPM, 0 to 1, the rest PSM; 0.5.
    pub spm_rate: f64,
    /// Another seed chooses other documents and places; 0.
    pub seed: u64,
    /// The tokens before prefix, suffix and middle; those that StarCoder, Qwen, SantaCoder or Code Llama have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<[String; 3]>,
}

impl Default for FimOptions {
    fn default() -> Self {
        Self { rate: 0.5, spm_rate: 0.5, seed: 0, tokens: None }
    }
}

/// Turns documents for one vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct Fim {
    options: FimOptions,
    prefix: u32,
    suffix: u32,
    middle: u32,
}

/// Which part a model is given first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FimForm {
    /// Prefix, suffix, middle.
    Psm,
    /// Suffix, then prefix and middle as one.
    Spm,
}

/// A document in three parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FimCut<'a> {
    /// From the beginning to the first place.
    pub prefix: &'a str,
    /// Between the places: what is to be learned.
    pub middle: &'a str,
    /// From the second place to the end.
    pub suffix: &'a str,
    /// The order.
    pub form: FimForm,
}

impl Fim {
    /// Finds the three tokens in the vocabulary.
    ///
    /// # Errors
    /// A rate outside 0 to 1; a vocabulary without the tokens, or whose text can spell them; a tokenizer that cannot
    /// encode a text as the continuation of another: one whose ids are had the plain way, or that puts a space before
    /// every text (ByteLevel with `add_prefix_space`).
    pub fn new(tokenizer: &Tokenizer, options: FimOptions) -> Result<Self> {
        for (key, rate) in [("rate", options.rate), ("spm-rate", options.spm_rate)] {
            if !(0.0..=1.0).contains(&rate) {
                return Err(Error::Fim { what: format!("{key}: expected 0 to 1, found {rate}") });
            }
        }
        if let EncodingPath::Plain { reason } = tokenizer.encoding_path() {
            return Err(Error::Fim {
                what: format!("this tokenizer cannot encode parts of a document: {reason}"),
            });
        }
        if let Some(reason) = tokenizer.no_continuations() {
            let what = format!("this tokenizer cannot encode parts of a document: {reason}");
            return Err(Error::Fim { what });
        }
        let known = || KNOWN.iter().map(|names| names.map(str::to_owned)).collect();
        let tried: Vec<[String; 3]> = options.tokens.clone().map_or_else(known, |names| vec![names]);
        let id = |name: &String| tokenizer.id(name);
        let found =
            tried.iter().find_map(|[prefix, suffix, middle]| Some([id(prefix)?, id(suffix)?, id(middle)?]));
        let Some(ids @ [prefix, suffix, middle]) = found else {
            let names: Vec<String> = tried.iter().map(|names| names.join(" ")).collect();
            let what = format!("the vocabulary does not have the tokens {}", names.join(", nor "));
            return Err(Error::Fim { what });
        };
        let (mut encoder, mut spelled) = (tokenizer.encoder(), Vec::new());
        for name in tried.iter().flatten().filter(|name| id(name).is_some_and(|id| ids.contains(&id))) {
            spelled.clear();
            encoder.encode_into(name, &mut spelled)?;
            encoder.encode_continuation_into(name, &mut spelled)?;
            if spelled.iter().any(|id| ids.contains(id)) {
                let what = format!(
                    "a document could forge the token {name:?}, which is what its plain text encodes to"
                );
                return Err(Error::Fim { what });
            }
        }
        Ok(Self { options, prefix, suffix, middle })
    }

    /// The ids before prefix, suffix and middle.
    pub fn ids(&self) -> [u32; 3] {
        [self.prefix, self.suffix, self.middle]
    }

    /// Where and how this document is cut; `None` where it stays as it is.
    pub fn cut<'a>(&self, text: &'a str) -> Option<FimCut<'a>> {
        let mut hash = blake3::Hasher::new();
        hash.update(b"llama-pro fim 1\0").update(&self.options.seed.to_le_bytes()).update(text.as_bytes());
        let mut reader = hash.finalize_xof();
        let mut draw = || {
            let mut bytes = [0; 8];
            reader.fill(&mut bytes);
            u64::from_le_bytes(bytes)
        };
        // 53 bits are a number below 1 without rounding.
        let mut chance = |rate: f64| ((draw() >> 11) as f64) / ((1u64 << 53) as f64) < rate;
        if !chance(self.options.rate) {
            return None;
        }
        let form = if chance(self.options.spm_rate) { FimForm::Spm } else { FimForm::Psm };
        let places = text.chars().count() as u128 + 1;
        let mut place = || ((u128::from(draw()) * places) >> 64) as usize;
        let (one, other) = (place(), place());
        let byte = |place: usize| text.char_indices().nth(place).map_or(text.len(), |(byte, _)| byte);
        let (first, second) = (byte(one.min(other)), byte(one.max(other)));
        Some(FimCut { prefix: &text[..first], middle: &text[first..second], suffix: &text[second..], form })
    }

    /// Appends the ids of a document, turned or not, and says which.
    ///
    /// # Errors
    /// When the tokenizer refuses the text.
    pub fn encode_into(
        &self,
        encoder: &mut Encoder<'_>,
        text: &str,
        ids: &mut Vec<u32>,
    ) -> Result<Option<FimForm>> {
        let Some(cut) = self.cut(text) else {
            encoder.encode_into(text, ids)?;
            return Ok(None);
        };
        ids.push(self.prefix);
        // Only the prefix begins a document: a space that the tokenizer puts there belongs to no other part.
        if cut.form == FimForm::Psm {
            encoder.encode_into(cut.prefix, ids)?;
        }
        ids.push(self.suffix);
        encoder.encode_continuation_into(cut.suffix, ids)?;
        ids.push(self.middle);
        if cut.form == FimForm::Spm {
            encoder.encode_into(cut.prefix, ids)?;
        }
        encoder.encode_continuation_into(cut.middle, ids)?;
        Ok(Some(cut.form))
    }
}
