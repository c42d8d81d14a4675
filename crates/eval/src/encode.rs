//! From the texts of a request to token ids, by the harness' rules: blanks at the end of a context belong to the
//! continuation, both are encoded together and split, and what is too long is cut on the left.

use llama_pro_text::Tokenizer;

use crate::python::rstrip;
use crate::{BoxError, Protocol};

/// Text to ids and back, as the model's tokenizer does it.
pub trait Codec: Sync {
    /// Ids of plain text, nothing added.
    ///
    /// # Errors
    /// Text that cannot be encoded.
    fn encode(&self, text: &str) -> Result<Vec<i64>, BoxError>;

    /// The text of ids, special tokens left out.
    ///
    /// # Errors
    /// An id that is no token.
    fn decode(&self, ids: &[i64]) -> Result<String, BoxError>;

    /// The same with special tokens spelled out, as the harness reads what is being written when it looks for stops: a
    /// special token between two characters keeps them apart. Where there are no special tokens both are the same.
    ///
    /// # Errors
    /// An id that is no token.
    fn decode_with_special(&self, ids: &[i64]) -> Result<String, BoxError> {
        self.decode(ids)
    }

    /// The token that begins a text.
    fn bos(&self) -> Option<i64>;

    /// The token that ends a text.
    fn eos(&self) -> Option<i64>;

    /// Whether the tokenizer puts BOS in front of what it encodes.
    fn adds_bos(&self) -> bool;
}

/// A context and what follows it.
pub(crate) type Window = (Vec<i64>, Vec<i64>);

/// A tokenizer of a model folder.
#[derive(Debug)]
pub struct TokenizerCodec {
    tokenizer: Tokenizer,
    adds_bos: bool,
}

impl TokenizerCodec {
    /// `adds_bos` says whether the tokenizer's own template puts BOS in front.
    pub fn new(tokenizer: Tokenizer, adds_bos: bool) -> Self {
        Self { tokenizer, adds_bos }
    }
}

impl Codec for TokenizerCodec {
    fn encode(&self, text: &str) -> Result<Vec<i64>, BoxError> {
        Ok(self.tokenizer.encode(text)?.into_iter().map(i64::from).collect())
    }

    fn decode(&self, ids: &[i64]) -> Result<String, BoxError> {
        let ids: Result<Vec<u32>, _> = ids.iter().map(|id| u32::try_from(*id)).collect();
        Ok(self.tokenizer.decode(&ids?)?)
    }

    fn decode_with_special(&self, ids: &[i64]) -> Result<String, BoxError> {
        let ids: Result<Vec<u32>, _> = ids.iter().map(|id| u32::try_from(*id)).collect();
        Ok(self.tokenizer.decode_with_special(&ids?)?)
    }

    fn bos(&self) -> Option<i64> {
        self.tokenizer.bos().map(i64::from)
    }

    fn eos(&self) -> Option<i64> {
        self.tokenizer.eos().map(i64::from)
    }

    fn adds_bos(&self) -> bool {
        self.adds_bos
    }
}

/// Encodes under one protocol for a model of one length.
pub(crate) struct Encoder<'a> {
    codec: &'a dyn Codec,
    bos: Option<i64>,
    prefix: Option<i64>,
    max: Option<usize>,
}

/// A context and a continuation that fit into the model together.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) context: Vec<i64>,
    pub(crate) continuation: Vec<i64>,
    /// Tokens of the context before it was cut.
    pub(crate) context_tokens: usize,
    /// Tokens that were cut off on the left.
    pub(crate) cut: usize,
    /// Whether the context on its own is what both together begin with.
    pub(crate) splits: bool,
}

impl<'a> Encoder<'a> {
    /// `add_bos` overrides what protocol and tokenizer say.
    pub(crate) fn new(
        codec: &'a dyn Codec,
        protocol: Protocol,
        add_bos: Option<bool>,
        max: Option<usize>,
    ) -> Result<Self, String> {
        let adds = add_bos.unwrap_or(protocol.adds_bos() && codec.adds_bos());
        let bos = if adds {
            Some(codec.bos().ok_or("the tokenizer has no BOS token to put in front of a text")?)
        } else {
            None
        };
        // The first leaderboard's harness began a text without a context with the end of the one before.
        let prefix = match protocol {
            Protocol::Leaderboard => codec.eos().or(codec.bos()),
            Protocol::Current | Protocol::V040 => codec.bos().or(codec.eos()),
        };
        Ok(Self { codec, bos, prefix, max })
    }

    /// Ids of a text, with BOS where the protocol has it.
    pub(crate) fn text(&self, text: &str) -> Result<Vec<i64>, BoxError> {
        let mut ids: Vec<i64> = self.bos.into_iter().collect();
        ids.extend(self.codec.encode(text)?);
        Ok(ids)
    }

    /// A context and a continuation. The context may be empty, the continuation not.
    pub(crate) fn pair(&self, context: &str, continuation: &str) -> Result<Pair, BoxError> {
        let trimmed = rstrip(context);
        let moved = format!("{}{continuation}", &context[trimmed.len()..]);
        if context.is_empty() {
            let mut ids = self.codec.encode(continuation)?;
            let prefix = self.prefix.ok_or("the tokenizer has neither BOS nor EOS to begin a text with")?;
            if ids.first() == Some(&prefix) {
                ids.remove(0);
            }
            return self.fit(vec![prefix], ids, true);
        }
        let whole = self.text(&format!("{trimmed}{moved}"))?;
        let head = self.text(trimmed)?;
        let splits = whole.starts_with(&head);
        let tail = whole.get(head.len()..).unwrap_or_default().to_vec();
        self.fit(head, tail, splits)
    }

    /// Cuts on the left until both fit: the model reads all tokens but the last.
    fn fit(&self, mut context: Vec<i64>, continuation: Vec<i64>, splits: bool) -> Result<Pair, BoxError> {
        let context_tokens = context.len();
        if continuation.is_empty() {
            return Err("a continuation without a token of its own".into());
        }
        if context.is_empty() {
            return Err("a context without a token".into());
        }
        let length = context.len() + continuation.len();
        let cut = self.max.map_or(0, |max| length.saturating_sub(max + 1));
        if cut >= context.len() {
            let max = self.max.unwrap_or_default();
            return Err(format!(
                "a continuation of {} tokens, but the model reads at most {max}",
                continuation.len()
            )
            .into());
        }
        context.drain(..cut);
        Ok(Pair { context, continuation, context_tokens, cut, splits })
    }

    /// The windows of a text to score whole, each once: contexts and what follows them.
    pub(crate) fn windows(&self, tokens: &[i64]) -> Result<Vec<Window>, BoxError> {
        let prefix = self.prefix.ok_or("the tokenizer has neither BOS nor EOS to begin a text with")?;
        let max = self.max.unwrap_or(usize::MAX - 1);
        let first = tokens.len().min(max);
        let mut windows = Vec::new();
        if first > 0 {
            windows.push((vec![prefix], tokens[..first].to_vec()));
        }
        let mut done = first;
        while done < tokens.len() {
            let end = done + (tokens.len() - done).min(max);
            // A short last window is filled up with what came before.
            windows.push((tokens[end - max - 1..done].to_vec(), tokens[done..end].to_vec()));
            done = end;
        }
        Ok(windows)
    }

    /// A prompt that leaves room for `new` tokens, and how many it had before it was cut.
    pub(crate) fn prompt(&self, text: &str, new: usize) -> Result<(Vec<i64>, usize), BoxError> {
        let mut ids = self.text(text)?;
        let all = ids.len();
        if let Some(max) = self.max {
            let room = max.checked_sub(new).filter(|room| *room > 0);
            let room = room.ok_or_else(|| {
                format!("{new} new tokens leave no room for the prompt in a model that reads {max}")
            })?;
            ids.drain(..all.saturating_sub(room));
        }
        if ids.is_empty() {
            return Err("a prompt without a token".into());
        }
        Ok((ids, all))
    }

    pub(crate) fn codec(&self) -> &'a dyn Codec {
        self.codec
    }

    /// Whether BOS is put in front.
    pub(crate) fn has_bos(&self) -> bool {
        self.bos.is_some()
    }
}
