//! From a conversation to token ids with a flag per token.

use std::ops::Range;
use std::path::Path;

use aho_corasick::AhoCorasick;

use super::error::{ChatError, ChatResult, Fault};
use super::message::Conversation;
use super::spans::Spans;
use super::template::ChatTemplate;
use crate::tokenizer::one_line;

/// A tokenizer that reads special tokens where a template wrote them and says which characters a token stands for.
pub struct ChatTokenizer {
    inner: tokenizers::Tokenizer,
    control: Vec<String>,
    finder: Option<AhoCorasick>,
}

impl ChatTokenizer {
    /// Opens `dir/tokenizer.json`.
    ///
    /// # Errors
    /// A file that cannot be read or is no tokenizer.
    pub fn from_dir(dir: &Path) -> ChatResult<Self> {
        let path = dir.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(|source| ChatError::Read { path: path.clone(), source })?;
        Self::from_bytes(&path, &bytes)
    }

    /// A tokenizer.json in memory; `path` is what errors call it.
    ///
    /// # Errors
    /// Bytes that are no tokenizer.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> ChatResult<Self> {
        let malformed = |found: String| ChatError::Malformed {
            path: path.to_owned(),
            expected: "a tokenizer.json".to_owned(),
            found,
        };
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| malformed(one_line(&e)))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| malformed(one_line(&e)))?;
        inner.set_encode_special_tokens(false);
        let added = inner.get_added_tokens_decoder();
        let mut control: Vec<String> = added.into_values().filter(|t| t.special).map(|t| t.content).collect();
        control.retain(|token| !token.is_empty());
        control.sort();
        let finder = match control.is_empty() {
            true => None,
            false => Some(AhoCorasick::new(&control).map_err(|e| malformed(one_line(&e)))?),
        };
        Ok(Self { inner, control, finder })
    }

    /// Ids of a rendered conversation and the bytes that each stands for. Nothing is added: the template writes the
    /// first token.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn encode(&self, text: &str) -> ChatResult<Vec<(u32, Range<usize>)>> {
        let encoding = self.inner.encode(text, false).map_err(|error| {
            let line = format!("{} bytes cannot be encoded: {}", text.len(), one_line(&error));
            ChatError::conversation(Fault::Format, line)
        })?;
        let offsets = encoding.get_offsets().iter().map(|&(start, end)| start..end);
        Ok(encoding.get_ids().iter().copied().zip(offsets).collect())
    }

    /// The text of ids, special tokens spelled out.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn decode(&self, ids: &[u32]) -> ChatResult<String> {
        let fail = |error| ChatError::conversation(Fault::Format, one_line(&error));
        self.inner.decode(ids, false).map_err(fail)
    }

    /// The id of a token, by its string.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Whether a string is a special token of the vocabulary.
    pub fn is_control(&self, token: &str) -> bool {
        self.control.binary_search_by(|known| known.as_str().cmp(token)).is_ok()
    }

    /// Largest id + 1.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
    }

    /// The first special token whose string stands in a text.
    pub fn control_in(&self, text: &str) -> Option<&str> {
        let found = self.finder.as_ref()?.find(text)?;
        Some(&self.control[found.pattern().as_usize()])
    }
}

/// A conversation in tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Token ids, `[n]`.
    pub ids: Vec<u32>,
    /// Whether each token is one that the model is to write, `[n]`.
    pub trained: Vec<bool>,
}

impl Sample {
    /// How many tokens are learned.
    pub fn n_trained(&self) -> usize {
        self.trained.iter().filter(|t| **t).count()
    }
}

/// A template and a tokenizer that fit each other.
pub struct SampleMaker {
    template: ChatTemplate,
    tokenizer: ChatTokenizer,
}

impl SampleMaker {
    /// # Errors
    /// A template that writes special tokens which the tokenizer does not have.
    pub fn new(template: ChatTemplate, tokenizer: ChatTokenizer) -> ChatResult<Self> {
        template.check_tokenizer(&tokenizer)?;
        Ok(Self { template, tokenizer })
    }

    /// Renders, tokenizes and flags a conversation.
    ///
    /// A token is learned when its first character lies in a span: one that begins in the prompt and ends in the answer
    /// is not, since the model never meets the prompt without it.
    ///
    /// # Errors
    /// All of [`Spans::new`]; a text with the string of a special token in it; a second BOS; no token that is learned.
    pub fn sample(&self, conversation: &Conversation) -> ChatResult<Sample> {
        self.refuse_control(conversation)?;
        let spans = Spans::new(&self.template, conversation)?;
        self.flag(&spans)
    }

    /// Tokens and flags of spans that were found before.
    ///
    /// # Errors
    /// As [`SampleMaker::sample`].
    pub fn flag(&self, spans: &Spans) -> ChatResult<Sample> {
        let mut sample = Sample::default();
        let mut ahead = spans.trained.iter().peekable();
        for (id, bytes) in self.tokenizer.encode(&spans.text)? {
            while ahead.next_if(|span| span.end <= bytes.start).is_some() {}
            // A token without characters of its own (the mark of a word that begins the text) is not learned.
            let inside = ahead.peek().is_some_and(|span| span.start <= bytes.start) && !bytes.is_empty();
            sample.ids.push(id);
            sample.trained.push(inside);
        }
        let bos = self.template.tokens().get("bos_token").and_then(|token| self.tokenizer.id(token));
        if bos.is_some() && sample.ids.len() > 1 && sample.ids[..2].iter().all(|&id| Some(id) == bos) {
            let line = format!("chat template {}: the text begins with two BOS tokens", self.template.name());
            return Err(ChatError::conversation(Fault::Template, line));
        }
        // The first token has nothing before it to be told from.
        if sample.trained.iter().skip(1).all(|t| !t) {
            let line =
                format!("chat template {}: no token of the conversation is learned", self.template.name());
            return Err(ChatError::conversation(Fault::Mask, line));
        }
        Ok(sample)
    }

    /// Ids of a conversation up to where the assistant begins to write: what a model is asked with.
    ///
    /// # Errors
    /// What the template or the tokenizer says.
    pub fn prompt(&self, conversation: &Conversation) -> ChatResult<Vec<u32>> {
        let text = self.template.render(conversation, true)?.text;
        Ok(self.tokenizer.encode(&text)?.into_iter().map(|(id, _)| id).collect())
    }

    /// The template.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &ChatTokenizer {
        &self.tokenizer
    }

    /// A message that holds `</s>` would end the turn where it is only quoted.
    fn refuse_control(&self, conversation: &Conversation) -> ChatResult<()> {
        for (number, message) in (1..).zip(&conversation.messages) {
            if let Some(token) = self.tokenizer.control_in(message.content()) {
                let line = format!(
                    "message {number}, of `{}`, has the text `{token}`, which would be read as the special token",
                    message.role()
                );
                return Err(ChatError::conversation(Fault::ControlToken, line));
            }
        }
        Ok(())
    }
}
