//! A tokenizer.json with the settings that make training data safe: no tokens added, none forged, none cut off.
//!
//! The ids are those of Hugging Face `tokenizers`; this wrapper fixes what differs between a chat prompt and a
//! document: truncation and padding of the file are switched off, BOS and EOS are never added, and special-token
//! strings that stand in the text ("<s>" in an HTML tutorial) stay plain text. Where the vocabulary allows it, `fast`
//! gets the same ids some ten times faster.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tokenizers::models::ModelWrapper;

use crate::encoder::{Encoder, EncodingPath, Shortcut};
use crate::error::{Error, Result};
use crate::fast::State;
use crate::sentencepiece;
use crate::special;

/// Plain text to ids and back. Cheap to share between threads, which is how documents are encoded in parallel.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    shortcut: Option<Shortcut>,
    path: EncodingPath,
    /// Memories of pieces that no thread is using: at most as many as threads that encoded at one time.
    states: Mutex<Vec<State>>,
    /// Whether an id has a token; the length is the largest id + 1.
    known: Vec<bool>,
    bos: Option<u32>,
    eos: Option<u32>,
    digest: String,
}

impl Tokenizer {
    /// Opens `dir/tokenizer.json`, or where there is none `dir/tokenizer.model`, whose ids are those of SentencePiece.
    /// BOS and EOS come from `tokenizer_config.json`, then `special_tokens_map.json`, then the model, then well-known
    /// names; an explicit `null` means that there is none.
    ///
    /// # Errors
    /// Neither file is there, one of the files is not what its name says, or what it asks for is not supported.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        fs::read_dir(dir).map_err(|source| Error::Read { path: dir.to_path_buf(), source })?;
        let absent = |error: &Error| matches!(error, Error::Read { source, .. } if source.kind() == ErrorKind::NotFound);
        let mut tokenizer = match Self::from_file(&dir.join("tokenizer.json")) {
            Err(error) if absent(&error) => match Self::from_sentencepiece(&dir.join("tokenizer.model")) {
                Err(error) if absent(&error) => return Err(Error::NoTokenizer { dir: dir.to_path_buf() }),
                model => model?,
            },
            json => json?,
        };
        let configured = special::Configured::read(dir)?;
        tokenizer.bos = configured.resolve("bos_token", tokenizer.bos, |token| tokenizer.id(token))?;
        tokenizer.eos = configured.resolve("eos_token", tokenizer.eos, |token| tokenizer.id(token))?;
        Ok(tokenizer)
    }

    /// Opens one SentencePiece `tokenizer.model` wherever it lies: BPE with byte fallback, as LLaMA-2's is.
    ///
    /// # Errors
    /// A file that cannot be read, is no SentencePiece model, or asks for what is not supported, unigram among others.
    pub fn from_sentencepiece(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
        let model = sentencepiece::convert(path, &bytes)?;
        let mut tokenizer = Self::new(path, &model.json, Some(&model.ranks))?;
        if let EncodingPath::Plain { reason: feature } = tokenizer.path {
            // The library would rank merges differently.
            return Err(Error::SentencePieceFeature { path: path.to_path_buf(), feature });
        }
        tokenizer.digest = digest(&bytes);
        tokenizer.bos = model.bos;
        tokenizer.eos = model.eos;
        Ok(tokenizer)
    }

    /// Opens one tokenizer.json wherever it lies. BOS and EOS are known by their well-known names only.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
        Self::from_bytes(path, &bytes)
    }

    /// A tokenizer.json in memory; `path` is only what errors call it.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self> {
        Self::new(path, bytes, None)
    }

    /// `ranks`: of each merge, where the library's, which are their places in the list, are not meant.
    fn new(path: &Path, bytes: &[u8], ranks: Option<&[u32]>) -> Result<Self> {
        let malformed = |expected, found| Error::Malformed { path: path.to_path_buf(), expected, found };
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|error| malformed("a tokenizer.json", one_line(&error)))?;
        if let ModelWrapper::BPE(bpe) = inner.get_model()
            && let Some(dropout) = bpe.dropout
            && dropout > 0.0
        {
            return Err(malformed("a tokenizer without BPE dropout", format!("dropout {dropout}")));
        }
        // We parallelise over documents; a second pool inside would only fight for the same cores.
        tokenizers::utils::parallelism::set_parallelism(false);
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| malformed("a tokenizer.json", one_line(&error)))?;
        inner.set_encode_special_tokens(true);

        let vocabulary = inner.get_vocab(true);
        // Ids index an embedding matrix. A sparse id near 2^32 must not make us allocate for it.
        let largest = vocabulary.values().copied().max().map_or(0, |id| id as usize + 1);
        if largest > MOST_TOKENS {
            return Err(malformed("ids below 2^24", format!("id {}", largest - 1)));
        }
        let mut known = vec![false; largest];
        for &id in vocabulary.values() {
            known[id as usize] = true;
        }
        let shortcut = Shortcut::new(&inner, bytes, ranks);
        let encoding = match &shortcut {
            Ok(shortcut) => shortcut.path(),
            Err(reason) => EncodingPath::Plain { reason: reason.clone() },
        };
        match &encoding {
            EncodingPath::Plain { .. } => tracing::info!(path = %path.display(), "encoding is {encoding}"),
            _ => tracing::debug!(path = %path.display(), "encoding is by {encoding}"),
        }
        let mut tokenizer = Self {
            inner,
            shortcut: shortcut.ok(),
            path: encoding,
            states: Mutex::default(),
            known,
            bos: None,
            eos: None,
            digest: digest(bytes),
        };
        tokenizer.refuse_forgeable(path)?;
        tokenizer.bos = special::BOS_NAMES.iter().find_map(|name| tokenizer.id(name));
        tokenizer.eos = special::EOS_NAMES.iter().find_map(|name| tokenizer.id(name));
        Ok(tokenizer)
    }

    /// Ids of plain text: no BOS or EOS is added, and the string of a special token is text like any other.
    /// Added tokens that tokenizer.json does not call special are words of the vocabulary and are found.
    ///
    /// Threads may call it at one time; each has a memory of pieces meanwhile. See [`Tokenizer::encoder`] for bulk.
    ///
    /// # Errors
    /// When the tokenizer refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        self.encode_into(text, &mut ids)?;
        Ok(ids)
    }

    /// Appends the ids of plain text: see [`Tokenizer::encode`].
    ///
    /// # Errors
    /// When the tokenizer refuses the text; nothing is appended then.
    pub fn encode_into(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        if self.shortcut.is_none() {
            return self.encode_plainly(text, ids);
        }
        self.with_encoder(|encoder| encoder.encode_into(text, ids))
    }

    /// Lends an encoder whose memory of pieces is kept for the next caller, on whatever thread that is.
    pub fn with_encoder<T>(&self, with: impl FnOnce(&mut Encoder<'_>) -> T) -> T {
        // What is in the lock is only memory, as good after a panic as before.
        let state = self.states.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut encoder = Encoder::of(self, state.unwrap_or_else(State::new));
        let done = with(&mut encoder);
        self.states.lock().unwrap_or_else(PoisonError::into_inner).push(encoder.into_state());
        done
    }

    /// For one thread that encodes much: the same ids, without asking for a memory each time.
    pub fn encoder(&self) -> Encoder<'_> {
        Encoder::new(self)
    }

    /// Which way ids are had, and for the slow one why.
    pub fn encoding_path(&self) -> &EncodingPath {
        &self.path
    }

    /// Why a text cannot be encoded as the continuation of another, if so.
    pub(crate) fn no_continuations(&self) -> Option<&'static str> {
        self.shortcut.as_ref().map_or(Some("its ids are had the plain way"), Shortcut::no_continuations)
    }

    /// `begins`: the text begins a document, and does not continue one.
    pub(crate) fn encode_with(
        &self,
        state: &mut State,
        text: &str,
        begins: bool,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        if let Some(shortcut) = &self.shortcut {
            let done = shortcut.encode(&self.inner, state, text, begins, ids);
            if done.map_err(|error| Error::Encode { bytes: text.len(), reason: one_line(&error) })? {
                return Ok(());
            }
        }
        self.encode_plainly(text, ids)
    }

    /// By the library alone.
    fn encode_plainly(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        // encode_fast keeps no offsets, which are most of the cost of an Encoding.
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| Error::Encode { bytes: text.len(), reason: one_line(&error) })?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    /// The text of ids, special tokens left out. An id without a token is an error.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.decode_ids(ids, true)
    }

    /// The text of ids with special tokens spelled out.
    pub fn decode_with_special(&self, ids: &[u32]) -> Result<String> {
        self.decode_ids(ids, false)
    }

    /// Largest id + 1, added tokens included: the least number of rows an embedding matrix needs.
    pub fn vocab_size(&self) -> usize {
        self.known.len()
    }

    /// The id of a token, by its exact string in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token that begins a document, if the model has one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a document, if the model has one.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// `blake3:` and the hash of tokenizer.json, or of tokenizer.model where that was opened; for manifests.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    fn decode_ids(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        // The library drops unknown ids in silence, which would hide a model with the wrong vocabulary.
        let unknown = |&(_, &id): &(usize, &u32)| !self.known.get(id as usize).copied().unwrap_or(false);
        if let Some((position, &id)) = ids.iter().enumerate().find(unknown) {
            return Err(Error::UnknownId { id, position, vocab_size: self.vocab_size() });
        }
        self.inner
            .decode(ids, skip_special)
            .map_err(|error| Error::Decode { ids: ids.len(), reason: one_line(&error) })
    }

    /// `set_encode_special_tokens` stops the search for special strings, but a model whose own pieces include the
    /// whole string (a unigram piece, or a byte-level word with `ignore_merges`) would still emit the id.
    fn refuse_forgeable(&self, path: &Path) -> Result<()> {
        // By id, so that of several the same one is always named.
        for (id, token) in BTreeMap::from_iter(self.inner.get_added_tokens_decoder()) {
            if !token.special || self.is_unknown_token(id) {
                continue;
            }
            let mut ids = Vec::new();
            self.encode_plainly(&token.content, &mut ids)?;
            if ids.contains(&id) {
                return Err(Error::ForgeableSpecial { path: path.to_path_buf(), token: token.content });
            }
        }
        Ok(())
    }

    /// The unknown token is special and yet a normal output for text the vocabulary cannot spell.
    fn is_unknown_token(&self, id: u32) -> bool {
        let unknown = match self.inner.get_model() {
            ModelWrapper::BPE(bpe) => bpe.unk_token.as_deref().and_then(|token| self.id(token)),
            ModelWrapper::WordLevel(model) => self.id(&model.unk_token),
            ModelWrapper::WordPiece(model) => self.id(&model.unk_token),
            ModelWrapper::Unigram(_) => self.id("<unk>"),
        };
        unknown == Some(id)
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("bos", &self.bos)
            .field("eos", &self.eos)
            .field("digest", &self.digest)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The largest vocabularies in use have 2^18 tokens.
pub(crate) const MOST_TOKENS: usize = 1 << 24;

fn digest(bytes: &[u8]) -> String {
    format!("blake3:{}", blake3::hash(bytes).to_hex())
}

/// Library messages can span lines; ours are one line each.
pub(crate) fn one_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
