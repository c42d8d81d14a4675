//! A SentencePiece `tokenizer.model` as a tokenizer.json with the same ids.
//!
//! SentencePiece's BPE keeps no list of merges. Of all neighbours that spell a piece together it joins those whose
//! piece has the highest score, the leftmost of equals (bpe_model.cc). So every way to divide a piece into two pieces is
//! a merge, ordered by the score of the whole. (transformers orders them by id, which is wrong where scores are not in
//! the order of ids.) Merges of equal score have one rank: the ways to divide one piece, and LLaMA-2's runs of spaces,
//! which all score the same. [`crate::Tokenizer`] encodes so when it opens the model itself. A tokenizer.json has to
//! order them; with the longest left part first, what stands leftmost goes on growing, as it does in SentencePiece.

mod proto;

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::tokenizer::MOST_TOKENS;
use proto::{BPE, BYTE, CONTROL, ModelProto, NORMAL, Piece, UNKNOWN, UNUSED, USER_DEFINED};

/// No piece of a model in use is longer than a few dozen bytes; a file with longer ones is something else.
const MOST_BYTES: usize = 1 << 10;

/// What a `tokenizer.model` becomes.
pub(crate) struct Converted {
    /// tokenizer.json.
    pub(crate) json: Vec<u8>,
    /// The rank of each merge in it; SentencePiece gives one rank to merges of equal score.
    pub(crate) ranks: Vec<u32>,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
}

/// The tokenizer.json that gives the ids of a SentencePiece BPE model, as transformers and other programs read it.
///
/// Models of another kind (unigram), with a table of replacements, with user-defined symbols or without byte fallback
/// are refused by name.
///
/// # Errors
/// A file that cannot be read, is no SentencePiece model, or is one of those.
pub fn sentencepiece_to_json(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
    Ok(convert(path, &bytes)?.json)
}

pub(crate) fn convert(path: &Path, bytes: &[u8]) -> Result<Converted> {
    let malformed = |expected, found: String| Error::Malformed { path: path.to_path_buf(), expected, found };
    let model = ModelProto::read(bytes).map_err(|found| malformed("a SentencePiece model", found))?;
    if model.pieces.is_empty() || model.pieces.len() > MOST_TOKENS {
        let found = format!("{} pieces", model.pieces.len());
        return Err(malformed("a SentencePiece model of 1 to 2^24 pieces", found));
    }
    if let Some(feature) = unsupported(&model) {
        return Err(Error::SentencePieceFeature { path: path.to_path_buf(), feature });
    }
    let merges = merges(&model.pieces).map_err(|found| malformed("a SentencePiece BPE model", found))?;
    let special = |id: i64| {
        let id = usize::try_from(id).ok()?;
        model
            .pieces
            .get(id)
            .filter(|piece| piece.kind == CONTROL)
            .map(|piece| (id as u32, piece.text.as_str()))
    };
    let (bos, eos) = (special(model.trainer.bos_id), special(model.trainer.eos_id));
    let mut json = serde_json::to_vec_pretty(&tokenizer_json(&model, &merges, bos))
        .map_err(|error| malformed("a SentencePiece model", error.to_string()))?;
    json.push(b'\n');
    let mut ranks = Vec::with_capacity(merges.len());
    for (index, merge) in (0..).zip(&merges) {
        let same = index > 0 && merge.score == merges[index as usize - 1].score;
        ranks.push(if same { ranks[index as usize - 1] } else { index });
    }
    Ok(Converted { json, ranks, bos: bos.map(|(id, _)| id), eos: eos.map(|(id, _)| id) })
}

/// What the model has that would give other ids here.
fn unsupported(model: &ModelProto) -> Option<String> {
    let (trainer, normalizer) = (&model.trainer, &model.normalizer);
    match trainer.model_type {
        BPE => {}
        1 => return Some("a unigram model".into()),
        3 => return Some("a word model".into()),
        4 => return Some("a character model".into()),
        other => return Some(format!("model type {other}")),
    }
    if normalizer.replaces {
        return Some(format!("the normalization rule {:?}", normalizer.name));
    }
    let flags = [
        (normalizer.remove_extra_whitespaces, "remove_extra_whitespaces"),
        (!normalizer.escape_whitespaces, "escape_whitespaces = false"),
        (trainer.treat_whitespace_as_suffix, "treat_whitespace_as_suffix"),
        (!trainer.byte_fallback, "byte_fallback = false"),
    ];
    if let Some((_, name)) = flags.iter().find(|(there, _)| *there) {
        return Some((*name).to_owned());
    }
    let odd = model.pieces.iter().find(|piece| !matches!(piece.kind, NORMAL | UNKNOWN | CONTROL | BYTE))?;
    Some(match odd.kind {
        USER_DEFINED => format!("the user-defined symbol {:?}", odd.text),
        UNUSED => format!("the unused piece {:?}", odd.text),
        other => format!("the piece {:?} of type {other}", odd.text),
    })
}

/// A way to divide a piece into two, with the score of the piece.
struct Division<'a> {
    left: &'a str,
    right: &'a str,
    score: f32,
}

/// Every merge, best first.
fn merges(pieces: &[Piece]) -> std::result::Result<Vec<Division<'_>>, String> {
    let mut seen = HashMap::new();
    for (id, piece) in pieces.iter().enumerate() {
        if piece.text.is_empty() || piece.text.len() > MOST_BYTES {
            return Err(format!("piece {id} of {} bytes", piece.text.len()));
        }
        if let Some(other) = seen.insert(piece.text.as_str(), id) {
            return Err(format!("pieces {other} and {id} are both {:?}", piece.text));
        }
    }
    let bytes: HashSet<&str> = of_kind(pieces, BYTE).collect();
    if let Some(missing) =
        (0..=255).map(|byte| format!("<0x{byte:02X}>")).find(|name| !bytes.contains(&**name))
    {
        return Err(format!("no byte piece {missing}"));
    }
    if of_kind(pieces, UNKNOWN).count() != 1 {
        return Err(format!("{} unknown pieces", of_kind(pieces, UNKNOWN).count()));
    }
    let normal: HashSet<&str> = of_kind(pieces, NORMAL).collect();
    let mut merges = Vec::new();
    for piece in pieces.iter().filter(|piece| piece.kind == NORMAL) {
        if !piece.score.is_finite() {
            return Err(format!("the score {} of {:?}", piece.score, piece.text));
        }
        // A merge joins tokens; SentencePiece joins strings, and a character may be part of a piece without being one.
        let mut buffer = [0; 4];
        if let Some(char) = piece.text.chars().find(|char| !normal.contains(&*char.encode_utf8(&mut buffer)))
        {
            return Err(format!("{:?} has the character {char:?}, which is no piece", piece.text));
        }
        for (at, _) in piece.text.char_indices().skip(1) {
            let (left, right) = piece.text.split_at(at);
            if normal.contains(left) && normal.contains(right) {
                // Both zeros are one score.
                merges.push(Division { left, right, score: piece.score + 0.0 });
            }
        }
    }
    let length = |part: &str| Reverse(part.chars().count());
    merges.sort_by(|a, b| {
        let lengths = |merge: &Division<'_>| (length(merge.left), length(merge.right));
        b.score.total_cmp(&a.score).then_with(|| lengths(a).cmp(&lengths(b)))
    });
    Ok(merges)
}

fn of_kind(pieces: &[Piece], kind: u64) -> impl Iterator<Item = &str> {
    pieces.iter().filter(move |piece| piece.kind == kind).map(|piece| piece.text.as_str())
}

fn tokenizer_json(model: &ModelProto, merges: &[Division<'_>], bos: Option<(u32, &str)>) -> Value {
    let vocab: Map<String, Value> =
        model.pieces.iter().zip(0u32..).map(|(piece, id)| (piece.text.clone(), id.into())).collect();
    let special = |(id, piece): (usize, &Piece)| {
        matches!(piece.kind, UNKNOWN | CONTROL).then(|| {
            json!({
                "id": id, "content": piece.text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
    };
    let added: Vec<Value> = model.pieces.iter().enumerate().filter_map(special).collect();
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
    let prepend = json!({"type": "Prepend", "prepend": "\u{2581}"});
    let prefix = model.normalizer.add_dummy_prefix;
    let normalizers = if prefix { vec![prepend, replace] } else { vec![replace] };
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    // Other programs begin a prompt with BOS as LLaMA's do; `Tokenizer::encode` never does.
    let post_processor = bos.map(|(id, bos)| {
        let begin = |type_id: u8| json!({"SpecialToken": {"id": bos, "type_id": type_id}});
        let text = |name: &str, type_id: u8| json!({"Sequence": {"id": name, "type_id": type_id}});
        let mut tokens = Map::new();
        tokens.insert(bos.to_owned(), json!({"id": bos, "ids": [id], "tokens": [bos]}));
        json!({
            "type": "TemplateProcessing",
            "single": [begin(0), text("A", 0)],
            "pair": [begin(0), text("A", 0), begin(1), text("B", 1)],
            "special_tokens": tokens,
        })
    });
    let merges: Vec<[&str; 2]> = merges.iter().map(|merge| [merge.left, merge.right]).collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "post_processor": post_processor,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": of_kind(&model.pieces, UNKNOWN).next(),
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": true,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": merges,
        },
    })
}
