//! Which way a tokenizer's ids are had, and encoding in bulk with a memory of one's own.

use aho_corasick::AhoCorasick;
use tokenizers::{NormalizedString, Normalizer};

use crate::error::Result;
use crate::fast::{Fast, State};
use crate::tokenizer::{Tokenizer, one_line};

/// How a tokenizer encodes. The ids are those of Hugging Face `tokenizers` either way; the speed is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EncodingPath {
    /// Spaces are U+2581, and the merges prove where no token can cross: text is cut there and pieces are remembered.
    Words,
    /// A pattern cuts the text, and pieces are remembered.
    Pieces {
        /// `GPT-2`, `LLaMA-3`, `Qwen2`, or `the tokenizer's own` where its regular expression has to run, which is slower.
        pattern: &'static str,
    },
    /// Everything is left to `tokenizers`, which is some ten times slower.
    Plain {
        /// What speaks against the other ways.
        reason: String,
    },
}

impl std::fmt::Display for EncodingPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Words => f.write_str("words"),
            Self::Pieces { pattern } => write!(f, "pieces by the pattern {pattern}"),
            Self::Plain { reason } => write!(f, "plain: {reason}"),
        }
    }
}

/// Encodes text after text with one memory of pieces, for one thread. Same ids as [`Tokenizer::encode`].
///
/// The memory takes about 2.5 MiB and does not grow with what is encoded.
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    state: State,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self::of(tokenizer, State::new())
    }

    /// With a memory that was filled by encoding with the same tokenizer.
    pub(crate) fn of(tokenizer: &'a Tokenizer, state: State) -> Self {
        Self { tokenizer, state }
    }

    pub(crate) fn into_state(self) -> State {
        self.state
    }

    /// The ids of a text: see [`Tokenizer::encode`].
    ///
    /// # Errors
    /// When the tokenizer refuses the text.
    pub fn encode(&mut self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        self.encode_into(text, &mut ids)?;
        Ok(ids)
    }

    /// Appends the ids of a text.
    ///
    /// # Errors
    /// When the tokenizer refuses the text; nothing is appended then.
    pub fn encode_into(&mut self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        self.tokenizer.encode_with(&mut self.state, text, true, ids)
    }

    /// Appends the ids of a text that continues another: no space is put before it. Only for tokenizers that
    /// [`crate::Fim`] accepts.
    pub(crate) fn encode_continuation_into(&mut self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        self.tokenizer.encode_with(&mut self.state, text, false, ids)
    }
}

/// The fast way of one tokenizer, with the texts that must not take it.
pub(crate) struct Shortcut {
    pub(crate) fast: Fast,
    /// Words that the tokenizer was given beside its model and that are found in any text.
    added: Option<AhoCorasick>,
}

impl Shortcut {
    /// From the bytes that `inner` was read from, or the reason why there is none.
    pub(crate) fn new(
        inner: &tokenizers::Tokenizer,
        json: &[u8],
        ranks: Option<&[u32]>,
    ) -> std::result::Result<Self, String> {
        let fast = Fast::new(json, ranks)?;
        let mut words = Vec::new();
        for token in inner.get_added_tokens_decoder().into_values().filter(|token| !token.special) {
            // A word is looked for in the text or in its normal form, and is itself put into normal form for that.
            // In both it keeps the parts between its spaces: a text without the longest does not have the word.
            let mut forms = vec![token.content.clone()];
            if let Some(normalizer) = inner.get_normalizer() {
                let mut normal = NormalizedString::from(&*token.content);
                normalizer.normalize(&mut normal).map_err(|error| one_line(&error))?;
                forms.push(normal.get().to_owned());
            }
            for form in forms {
                let longest = form.split([' ', '\u{2581}']).max_by_key(|part| part.len()).unwrap_or_default();
                if longest.is_empty() {
                    return Err(format!("the added token {:?} is only spaces", token.content));
                }
                words.push(longest.to_owned());
            }
        }
        words.sort_unstable();
        words.dedup();
        let added = match words.is_empty() {
            true => None,
            false => Some(AhoCorasick::new(&words).map_err(|error| one_line(&error))?),
        };
        Ok(Self { fast, added })
    }

    pub(crate) fn path(&self) -> EncodingPath {
        match self.fast.pattern() {
            None => EncodingPath::Words,
            Some(pattern) => EncodingPath::Pieces { pattern },
        }
    }

    /// Why a text cannot be encoded as the continuation of another, if so. The library, to which texts with added tokens
    /// are left, would begin it with a space where it begins documents so.
    pub(crate) fn no_continuations(&self) -> Option<&'static str> {
        if self.fast.is_prefixed() {
            return Some("its ByteLevel puts a space before every text (add_prefix_space)");
        }
        let exact = self.added.is_none() || self.fast.pattern().is_some();
        (!exact).then_some("it has added tokens that are not special")
    }

    /// Appends the ids and says so, unless an added token may be in the text. `begins` is whether the text begins a
    /// document.
    pub(crate) fn encode(
        &self,
        inner: &tokenizers::Tokenizer,
        state: &mut State,
        text: &str,
        begins: bool,
        ids: &mut Vec<u32>,
    ) -> tokenizers::Result<bool> {
        let may_have_added = |text: &str| self.added.as_ref().is_some_and(|added| added.is_match(text));
        if text.is_empty() || may_have_added(text) {
            return Ok(false);
        }
        let normal = self.fast.normalize(inner, text)?;
        let text = match &normal {
            Some(normal) if normal.is_empty() || may_have_added(normal) => return Ok(false),
            Some(normal) => normal,
            None => text,
        };
        self.fast.encode(inner, state, text, begins, ids)?;
        Ok(true)
    }
}
