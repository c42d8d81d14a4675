//! Every answer of a model, on disk as soon as it is there: what a run that was cut off need not ask again.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{ChoiceScore, Error, Result};

/// Answers by request. A request is known by the hash of its token ids, so that an answer is found again whatever task
/// asks for it.
#[derive(Debug, Default)]
pub struct Journal {
    known: HashMap<String, Answer>,
    file: Option<(PathBuf, File)>,
}

/// What a model answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// Of a context and a continuation.
    #[serde(rename = "s")]
    Score(f64, bool),
    /// Of a prompt.
    #[serde(rename = "t")]
    Tokens(Vec<i64>),
}

#[derive(Serialize, Deserialize)]
struct Head {
    /// What the answers depend on besides the requests: the model's digest.
    model: String,
    journal: u32,
}

#[derive(Serialize, Deserialize)]
struct Line {
    k: String,
    a: Answer,
}

const VERSION: u32 = 1;

impl Journal {
    /// A journal that only remembers.
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// Opens a journal. With `resume`, the answers in it are taken over; a last line that was cut off is dropped.
    ///
    /// # Errors
    /// [`Error::File`]: a journal of another model, a file that cannot be read or written.
    pub fn open(path: &Path, model: &str, resume: bool) -> Result<Self> {
        let fail = |message: String| Error::File { path: path.to_path_buf(), message };
        let mut known = HashMap::new();
        let mut good = 0;
        let text = match std::fs::read(path) {
            Ok(bytes) if resume => String::from_utf8_lossy(&bytes).into_owned(),
            _ => String::new(),
        };
        for (number, line) in text.split_inclusive('\n').enumerate() {
            if number == 0 {
                let head: Head =
                    serde_json::from_str(line).map_err(|e| fail(format!("not a journal: {e}")))?;
                if head.journal != VERSION || head.model != model {
                    return Err(fail(format!(
                        "the answers in it are of another model: expected {model}, found {}; remove it, or run \
                         without --resume",
                        head.model
                    )));
                }
            } else if let Ok(Line { k, a }) = serde_json::from_str(line) {
                known.insert(k, a);
            } else {
                break;
            }
            if !line.ends_with('\n') {
                break;
            }
            good += line.len() as u64;
        }
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let mut file = file.map_err(|e| fail(format!("cannot write: {e}")))?;
        let start = |file: &mut File| -> std::io::Result<()> {
            file.set_len(good)?;
            file.seek(SeekFrom::Start(good))?;
            if good == 0 {
                let head = serde_json::to_string(&Head { model: model.to_owned(), journal: VERSION })?;
                file.write_all(format!("{head}\n").as_bytes())?;
            }
            Ok(())
        };
        start(&mut file).map_err(|e| fail(format!("cannot write: {e}")))?;
        Ok(Self { known, file: Some((path.to_path_buf(), file)) })
    }

    /// How many answers there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(super) fn score(&self, key: &str) -> Option<ChoiceScore> {
        match self.known.get(key) {
            Some(Answer::Score(log_likelihood, is_greedy)) => {
                Some(ChoiceScore { log_likelihood: *log_likelihood, is_greedy: *is_greedy })
            }
            _ => None,
        }
    }

    pub(super) fn tokens(&self, key: &str) -> Option<&[i64]> {
        match self.known.get(key) {
            Some(Answer::Tokens(tokens)) => Some(tokens),
            _ => None,
        }
    }

    /// Keeps answers, on disk before it returns.
    pub(super) fn keep(&mut self, answers: Vec<(String, Answer)>) -> Result<()> {
        if let Some((path, file)) = &mut self.file {
            let mut text = String::new();
            for (k, a) in &answers {
                let line = serde_json::to_string(&Line { k: k.clone(), a: a.clone() });
                let line = line.map_err(|e| Error::Input(format!("an answer that cannot be kept: {e}")))?;
                text.push_str(&line);
                text.push('\n');
            }
            let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
            written.map_err(|e| Error::File { path: path.clone(), message: format!("cannot write: {e}") })?;
        }
        self.known.extend(answers);
        Ok(())
    }
}

/// The key of a context and a continuation, or of a prompt and what ends it.
pub(super) fn key(kind: &str, parts: [&[i64]; 2], more: &str) -> String {
    let mut text = format!("{kind}|{more}|");
    for part in parts {
        for id in part {
            text.push_str(&id.to_string());
            text.push(',');
        }
        text.push('|');
    }
    crate::python::sha256(&text)[..32].to_owned()
}
