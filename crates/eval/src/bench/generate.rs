//! Greedy texts with stop strings.

use rayon::prelude::*;

use super::journal::{Answer, Journal, key};
use super::likelihood::{died, fail};
use super::run::{Counts, Watch};
use crate::encode::{Codec, Encoder};
use crate::prompt::Question;
use crate::tasks::TaskSpec;
use crate::{BoxError, GenerateRequest, LanguageModel, Result};

/// Prompts of one call to the model.
const PROMPTS: usize = 64;

/// A text that the model wrote.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    /// The new tokens decoded on their own and cut at the stop strings, as the harness has it.
    pub(super) text: String,
    /// The same, decoded after the prompt: blanks at its start are as the model wrote them.
    pub(super) joined: String,
}

/// Stop strings and the most tokens.
pub(super) struct Limits<'a> {
    pub(super) until: &'a [String],
    pub(super) new: usize,
}

/// Continues every prompt.
pub(super) fn texts(
    model: &mut dyn LanguageModel,
    encoder: &Encoder<'_>,
    spec: &TaskSpec,
    questions: &[Question],
    limits: &Limits<'_>,
    journal: &mut Journal,
    watch: &mut dyn Watch,
) -> Result<(Vec<Written>, Counts)> {
    let encoded: Vec<Result<(Vec<i64>, usize), BoxError>> =
        questions.par_iter().map(|q| encoder.prompt(&q.requests[0].0, limits.new)).collect();
    let more = format!("{}|{}", limits.new, limits.until.join("\u{1f}"));
    let mut counts = Counts::default();
    let mut prompts: Vec<(Vec<i64>, String)> = Vec::new();
    for (q, prompt) in encoded.into_iter().enumerate() {
        let (ids, all) = prompt.map_err(|e| fail(spec, questions[q].id, &e))?;
        counts.requests += 1;
        counts.cut += usize::from(all > ids.len());
        counts.longest = counts.longest.max(all + limits.new);
        let key = key("text", [&ids, &[]], &more);
        prompts.push((ids, key));
    }
    watch.requests(&spec.task, prompts.len());
    let mut open: Vec<usize> =
        (0..prompts.len()).filter(|i| journal.tokens(&prompts[*i].1).is_none()).collect();
    watch.done(prompts.len() - open.len());
    open.sort_by_key(|i| std::cmp::Reverse(prompts[*i].0.len()));
    let stops = Stops { codec: encoder.codec(), until: limits.until, eos: encoder.codec().eos() };
    let most = model.at_once().unwrap_or(PROMPTS).clamp(1, PROMPTS);
    for window in open.chunks(most) {
        let requests: Vec<GenerateRequest> = window
            .iter()
            .map(|i| GenerateRequest { prompt: prompts[*i].0.clone(), max_new_tokens: limits.new })
            .collect();
        let mut wrong = None;
        let mut done = |_: usize, tokens: &[i64]| match stops.reached(tokens) {
            Ok(reached) => reached,
            Err(error) => {
                wrong = Some(error);
                true
            }
        };
        let answers = model.generate(&requests, &mut done).map_err(|e| died(spec, journal, &e))?;
        if let Some(error) = wrong {
            return Err(died(spec, journal, &error));
        }
        if answers.len() != requests.len() || answers.iter().any(|tokens| tokens.len() > limits.new) {
            let what = format!(
                "the model gave {} texts to {} prompts, or longer ones",
                answers.len(),
                requests.len()
            );
            return Err(died(spec, journal, &what.into()));
        }
        let kept =
            window.iter().zip(answers).map(|(i, a)| (prompts[*i].1.clone(), Answer::Tokens(a))).collect();
        journal.keep(kept)?;
        watch.done(window.len());
    }
    let written = |(q, (ids, key)): (usize, &(Vec<i64>, String))| {
        let tokens = journal.tokens(key).unwrap_or_default();
        stops.text(ids, tokens).map_err(|e| fail(spec, questions[q].id, &e))
    };
    let written = prompts.iter().enumerate().map(written).collect::<Result<Vec<_>>>()?;
    Ok((written, counts))
}

/// What ends a text.
struct Stops<'a> {
    codec: &'a dyn Codec,
    until: &'a [String],
    eos: Option<i64>,
}

impl Stops<'_> {
    /// Whether the last token completed a stop string or is the end.
    fn reached(&self, tokens: &[i64]) -> Result<bool, BoxError> {
        if tokens.last().copied() == self.eos && self.eos.is_some() {
            return Ok(true);
        }
        // A token holds at least one byte, so a stop string of n bytes is within the last n tokens and a few.
        let longest = self.until.iter().map(String::len).max().unwrap_or(0);
        if longest == 0 {
            return Ok(false);
        }
        let tail = &tokens[tokens.len().saturating_sub(longest + 4)..];
        let text = self.codec.decode_with_special(tail)?;
        Ok(self.until.iter().any(|stop| !stop.is_empty() && text.contains(stop.as_str())))
    }

    fn text(&self, prompt: &[i64], tokens: &[i64]) -> Result<Written, BoxError> {
        let end = tokens.iter().position(|t| Some(*t) == self.eos).unwrap_or(tokens.len());
        let tokens = &tokens[..end];
        let text = self.cut(&self.codec.decode(tokens)?);
        let before = self.codec.decode(prompt)?;
        let both = self.codec.decode(&[prompt, tokens].concat())?;
        let joined = both.strip_prefix(&before).map_or_else(|| text.clone(), |rest| self.cut(rest));
        Ok(Written { text, joined })
    }

    /// Up to the first stop string, one after the other in their order.
    fn cut(&self, text: &str) -> String {
        let mut text = text;
        for stop in self.until.iter().filter(|stop| !stop.is_empty()) {
            text = text.split(stop.as_str()).next().unwrap_or(text);
        }
        text.to_owned()
    }
}
