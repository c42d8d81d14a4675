//! Ids faster than the library has them, and the same: cut the text where no token can cross, and remember the pieces.
//!
//! Two kinds of vocabulary can be cut. Where spaces are U+2581 (LLaMA-2, Mistral), `words` proves from the merges which
//! neighbouring characters no token ever covers. Where a pattern cuts first (GPT-2, LLaMA-3, Qwen), pieces are on their
//! own by definition; `split` has the known patterns by hand. A piece is looked up in the `cache` of the thread; only
//! what is not there goes through the `merges`. For any other vocabulary there is no [`Fast`], and a reason.

mod cache;
mod classes;
mod merges;
mod source;
pub(crate) mod split;
mod words;

use std::collections::HashMap;

use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

use crate::tokenizer::one_line;
use cache::{Cache, Place};
use merges::{Merge, MergeTable, Scratch};
use source::{Model, Prefix, Scheme, Source};
use split::{Pattern, Splitter};
use words::{Joins, SPACE};

/// What is shared between threads.
pub(crate) struct Fast {
    merges: MergeTable,
    /// First ids of ASCII characters (words) or of bytes (byte level).
    bytes: [u32; 256],
    kind: Kind,
}

enum Kind {
    Words {
        joins: Box<Joins>,
        prefix: Prefix,
        /// Single characters that are tokens, U+2581 for a space.
        characters: HashMap<char, u32>,
        /// Tokens of single bytes, for all other characters.
        fallback: Box<[u32; 256]>,
    },
    Bytes {
        pattern: Option<Pattern>,
        normalized: bool,
        /// The library puts a space before each text.
        prefixed: bool,
        /// All tokens, where a piece that is one is not merged.
        whole: Option<HashMap<Box<[u8]>, u32>>,
        /// From the letters of the byte-level alphabet to bytes.
        letters: HashMap<char, u8>,
    },
}

/// What is one thread's: its memory of pieces. Of fixed size, about 2.5 MiB, but for the longest piece seen.
pub(crate) struct State {
    cache: Cache,
    scratch: Scratch,
    ids: Vec<u32>,
    text: String,
}

impl State {
    pub(crate) fn new() -> Self {
        Self { cache: Cache::new(), scratch: Scratch::default(), ids: Vec::new(), text: String::new() }
    }
}

impl Fast {
    /// From the bytes of a tokenizer.json that `tokenizers` has read, or the reason why not. `ranks` are those of the
    /// merges where their places in the list are not meant.
    pub(crate) fn new(json: &[u8], ranks: Option<&[u32]>) -> Result<Self, String> {
        let source: Source<'_> = serde_json::from_slice(json).map_err(|error| one_line(&error))?;
        let model = &source.model;
        let parts = model.merges()?;
        let (bytes, kind) = match source.scheme()? {
            Scheme::Words(prefix) => words(model, &parts, prefix, ranks.is_none())?,
            Scheme::Bytes { pattern, normalized, prefixed } => {
                byte_level(model, pattern, normalized, prefixed)?
            }
        };
        let mut merges = Vec::with_capacity(parts.len());
        for (index, &(left, right, new)) in parts.iter().enumerate() {
            let rank = match ranks {
                Some(ranks) => *ranks.get(index).ok_or("there are fewer ranks than merges")?,
                None => index as u32,
            };
            merges.push(Merge { left: model.id(left)?, right: model.id(right)?, rank, new });
        }
        Ok(Self { merges: MergeTable::new(&merges), bytes, kind })
    }

    /// The pattern by which text is cut, or `None` for words.
    pub(crate) fn pattern(&self) -> Option<&'static str> {
        match &self.kind {
            Kind::Words { .. } => None,
            Kind::Bytes { pattern, .. } => Some(pattern.map_or("the tokenizer's own", Pattern::name)),
        }
    }

    /// Whether the tokenizer's own pieces begin with a space that no text has, whether it begins a document or not.
    pub(crate) fn is_prefixed(&self) -> bool {
        matches!(self.kind, Kind::Bytes { prefixed: true, .. })
    }

    /// Appends the ids of a text that is not empty and has no added tokens in it. A space that belongs before documents
    /// is put there if it `begins` one.
    pub(crate) fn encode(
        &self,
        inner: &tokenizers::Tokenizer,
        state: &mut State,
        text: &str,
        begins: bool,
        ids: &mut Vec<u32>,
    ) -> tokenizers::Result<()> {
        let mut out = Output::new(ids);
        match &self.kind {
            Kind::Words { joins, prefix, .. } => {
                let prefix = if begins { *prefix } else { Prefix::Never };
                self.words(joins, prefix, state, text, &mut out);
            }
            Kind::Bytes { pattern: Some(pattern), .. } => {
                let splitter = Splitter::new(text);
                let mut at = 0;
                while at < text.len() {
                    let end = splitter.end(*pattern, at);
                    self.piece(state, text, at, end, &mut out);
                    at = end;
                }
            }
            Kind::Bytes { letters, .. } => self.own_pieces(inner, letters, state, text, &mut out)?,
        }
        out.finish();
        Ok(())
    }

    /// The text as the tokenizer's normalizer makes it, where that is not the text itself.
    pub(crate) fn normalize(
        &self,
        inner: &tokenizers::Tokenizer,
        text: &str,
    ) -> tokenizers::Result<Option<String>> {
        match (&self.kind, inner.get_normalizer()) {
            (Kind::Bytes { normalized: true, .. }, Some(normalizer)) if !text.is_ascii() => {
                let mut normalized = NormalizedString::from(text);
                normalizer.normalize(&mut normalized)?;
                Ok(Some(normalized.get().to_owned()))
            }
            _ => Ok(None),
        }
    }

    fn words(&self, joins: &Joins, prefix: Prefix, state: &mut State, text: &str, out: &mut Output<'_>) {
        let mut at = 0;
        if prefix == Prefix::Always || prefix == Prefix::UnlessThere && !text.starts_with([' ', SPACE]) {
            at = joins.end(text, 0, Some(' '));
            let mut first = std::mem::take(&mut state.text);
            first.clear();
            first.push(' ');
            first.push_str(&text[..at]);
            self.piece(state, &first, 0, first.len(), out);
            state.text = first;
        }
        while at < text.len() {
            let end = joins.end(text, at, None);
            self.piece(state, text, at, end, out);
            at = end;
        }
    }

    /// Pieces of a pattern that is not known here, cut by the library.
    fn own_pieces(
        &self,
        inner: &tokenizers::Tokenizer,
        letters: &HashMap<char, u8>,
        state: &mut State,
        text: &str,
        out: &mut Output<'_>,
    ) -> tokenizers::Result<()> {
        let mut pieces = PreTokenizedString::from(text);
        if let Some(pre_tokenizer) = inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces)?;
        }
        let mut bytes = Vec::new();
        for (piece, _, _) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            // The last step is ByteLevel, so each character is a letter of its alphabet.
            bytes.clear();
            bytes.extend(piece.chars().filter_map(|letter| letters.get(&letter)));
            if !bytes.is_empty() {
                self.bytes_of(state, &bytes, 0, bytes.len(), out);
            }
        }
        Ok(())
    }

    #[inline]
    fn piece(&self, state: &mut State, text: &str, start: usize, end: usize, out: &mut Output<'_>) {
        self.bytes_of(state, text.as_bytes(), start, end, out);
    }

    /// The ids of `text[start..end]`, from the cache or into it.
    #[inline]
    fn bytes_of(&self, state: &mut State, text: &[u8], start: usize, end: usize, out: &mut Output<'_>) {
        let place = Cache::place(text, start, end);
        match place {
            Place::Short { key, bucket } => {
                if let Some((ids, count)) = state.cache.short(key, bucket) {
                    return out.few(*ids, count);
                }
            }
            Place::Long { index } => {
                if let Some(ids) = state.cache.long(index, &text[start..end]) {
                    return out.extend(ids);
                }
            }
            Place::Nowhere => {}
        }
        self.missed(state, &place, &text[start..end], out);
    }

    #[cold]
    #[inline(never)]
    fn missed(&self, state: &mut State, place: &Place, piece: &[u8], out: &mut Output<'_>) {
        if let Place::Short { .. } = place
            && let Some(index) = Cache::second_place(piece)
            && let Some(ids) = state.cache.long(index, piece)
        {
            return out.extend(ids);
        }
        state.ids.clear();
        match &self.kind {
            Kind::Bytes { whole: Some(whole), .. } if let Some(&id) = whole.get(piece) => state.ids.push(id),
            kind => {
                self.symbols(kind, piece, &mut state.ids);
                state.scratch.merge(&self.merges, &mut state.ids);
            }
        }
        state.cache.insert(place, piece, &state.ids);
        out.extend(&state.ids);
    }

    /// What BPE starts from.
    fn symbols(&self, kind: &Kind, piece: &[u8], ids: &mut Vec<u32>) {
        match kind {
            Kind::Bytes { .. } => ids.extend(piece.iter().map(|&byte| self.bytes[usize::from(byte)])),
            Kind::Words { characters, fallback, .. } => {
                for chunk in piece.utf8_chunks() {
                    // Pieces are cut between characters.
                    for char in chunk.valid().chars() {
                        if char.is_ascii() {
                            ids.push(self.bytes[char as usize]);
                        } else if let Some(&id) = characters.get(&char) {
                            ids.push(id);
                        } else {
                            let mut buffer = [0; 4];
                            let bytes = char.encode_utf8(&mut buffer).bytes();
                            ids.extend(bytes.map(|byte| fallback[usize::from(byte)]));
                        }
                    }
                }
            }
        }
    }
}

/// The proof for a vocabulary with spaces as U+2581, and what encoding needs.
fn words(
    model: &Model<'_>,
    merges: &[(&str, &str, u32)],
    prefix: Prefix,
    prove: bool,
) -> Result<([u32; 256], Kind), String> {
    if model.ignore_merges == Some(true) {
        return Err("a whole text that is a token is not merged (ignore_merges)".into());
    }
    if model.byte_fallback != Some(true) {
        return Err("characters outside the vocabulary have no byte tokens".into());
    }
    let mut fallback = [0; 256];
    let mut names = std::collections::HashSet::new();
    for (byte, id) in fallback.iter_mut().enumerate() {
        let name = format!("<0x{byte:02X}>");
        *id = model.id(&name)?;
        names.insert(name);
    }
    if let Some((left, right, _)) = merges.iter().find(|m| names.contains(m.0) || names.contains(m.1)) {
        return Err(format!("the merge of {left:?} and {right:?} joins byte tokens"));
    }
    let joins = Joins::new(merges.iter().map(|&(left, right, _)| (left, right)));
    // Without a library that ranks merges alike there is no plain way. The cuts are right also where words are crossed:
    // they are only fewer.
    if let Some((last, first)) = joins.crossing()
        && prove
    {
        return Err(format!("a token crosses a word boundary: it joins {last:?} and {first:?}"));
    }
    let single = |(token, &id): (&std::borrow::Cow<'_, str>, &u32)| {
        let mut chars = token.chars();
        chars.next().filter(|_| chars.next().is_none()).map(|char| (char, id))
    };
    let characters: HashMap<char, u32> = model.vocab.iter().filter_map(single).collect();
    let Some(&space) = characters.get(&SPACE) else {
        return Err("U+2581 is no token".into());
    };
    let mut bytes = [0; 256];
    for byte in 0..128u8 {
        let known = characters.get(&char::from(byte));
        bytes[usize::from(byte)] = known.copied().unwrap_or(fallback[usize::from(byte)]);
    }
    bytes[usize::from(b' ')] = space;
    Ok((bytes, Kind::Words { joins: Box::new(joins), prefix, characters, fallback: Box::new(fallback) }))
}

fn byte_level(
    model: &Model<'_>,
    pattern: Option<Pattern>,
    normalized: bool,
    prefixed: bool,
) -> Result<([u32; 256], Kind), String> {
    let letters = alphabet();
    let mut bytes = [0; 256];
    for (letter, &byte) in &letters {
        bytes[usize::from(byte)] = model.id(&letter.to_string())?;
    }
    let spelled = |token: &str| {
        token.chars().map(|letter| letters.get(&letter).copied()).collect::<Option<Box<[u8]>>>()
    };
    let whole = (model.ignore_merges == Some(true)).then(|| {
        let tokens = model.vocab.iter();
        tokens.filter_map(|(token, &id)| Some((spelled(token)?, id))).collect::<HashMap<Box<[u8]>, u32>>()
    });
    Ok((bytes, Kind::Bytes { pattern, normalized, prefixed, whole, letters }))
}

/// GPT-2's letters for bytes: printable ones stand for themselves, the others for 256 and up in their order.
fn alphabet() -> HashMap<char, u8> {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let themselves = |&letter: &char| u8::try_from(letter).ok();
    let mut missing = (0..=u8::MAX).filter(|&byte| !alphabet.contains(&char::from(byte)));
    let pairs =
        alphabet.iter().filter_map(|letter| Some((*letter, themselves(letter).or_else(|| missing.next())?)));
    pairs.collect()
}

/// Ids at the end of a vector, which has room before they come.
struct Output<'a> {
    ids: &'a mut Vec<u32>,
    used: usize,
}

impl<'a> Output<'a> {
    fn new(ids: &'a mut Vec<u32>) -> Self {
        let used = ids.len();
        Self { ids, used }
    }

    /// Up to four ids at once.
    #[inline]
    fn few(&mut self, four: [u32; 4], count: usize) {
        match self.ids.get_mut(self.used..self.used + 4) {
            Some(room) => room.copy_from_slice(&four),
            None => self.grow(&four),
        }
        self.used += count;
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, four: &[u32]) {
        let room = (self.ids.len() / 2).max(1 << 10);
        self.ids.resize(self.used + room + four.len(), 0);
        self.ids[self.used..self.used + four.len()].copy_from_slice(four);
    }

    fn extend(&mut self, ids: &[u32]) {
        match self.ids.get_mut(self.used..self.used + ids.len()) {
            Some(room) => room.copy_from_slice(ids),
            None => self.grow(ids),
        }
        self.used += ids.len();
    }

    fn finish(self) {
        self.ids.truncate(self.used);
    }
}
