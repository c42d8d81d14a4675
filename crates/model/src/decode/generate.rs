//! Token by token: prompts in a batch, what they begin with in common read once.

use llama_pro_eval::GenerateRequest;
use tch::{Kind, Tensor};

use super::choices::{check_ids, longest};
use super::plan::{Mode, Pass, Sequence, plan};
use super::{Engine, Segment, Span, page_up};
use crate::guard::guarded;
use crate::{Error, Llama, Path, Result, Sampling};

/// Slots of the cache that are reserved at a time, beyond which requests wait for others to end. Memory is only touched
/// where tokens are.
const SLOTS: usize = 1 << 15;

/// How the next token is picked.
pub(crate) enum Picker<'a> {
    /// The likeliest, of equals the first.
    Greedy,
    /// By a rule of the caller.
    Sample(&'a mut Draw<'a>),
}

/// Given the number of the request, its tokens (prompt and new), how many of them are new, and its logits in float32,
/// which it may change: the next token.
pub(crate) type Draw<'a> = dyn FnMut(usize, &[i64], usize, &mut [f32]) -> i64 + 'a;

/// Continues each prompt on `path`, drawing tokens as `sampling` says; the number of a request is its stream. `done` and
/// the result are those of [`llama_pro_eval::LanguageModel::generate`]. At most `side_by_side` requests go on at a time;
/// texts do not depend on it but for rounding.
///
/// # Errors
/// A prompt without tokens, longer than the model reads, or with a token outside its vocabulary; settings that cannot
/// be; an error of libtorch.
pub fn generate(
    model: &Llama,
    path: Path,
    requests: &[GenerateRequest],
    sampling: &Sampling,
    side_by_side: usize,
    done: &mut dyn FnMut(usize, &[i64]) -> bool,
) -> Result<Vec<Vec<i64>>> {
    sampling.check()?;
    let mut sample = |request: usize, seen: &[i64], place: usize, logits: &mut [f32]| {
        sampling.pick(seen, logits, request as u64, place as u64)
    };
    let mut picker = if sampling.is_greedy() { Picker::Greedy } else { Picker::Sample(&mut sample) };
    continue_all(model, path, requests, &mut picker, side_by_side.max(1), done)
}

/// Refuses a prompt that the model cannot read.
pub(super) fn check_prompt(model: &Llama, number: usize, prompt: &[i64]) -> Result<()> {
    if prompt.is_empty() {
        return Err(Error::Input(format!("prompt {number} has no tokens")));
    }
    check_ids(model, "prompt", number, prompt)?;
    let (length, most) = (prompt.len(), longest(model));
    if length > most {
        return Err(Error::Input(format!(
            "prompt {number} has {length} tokens, the model reads at most {most}"
        )));
    }
    Ok(())
}

fn continue_all(
    model: &Llama,
    path: Path,
    requests: &[GenerateRequest],
    picker: &mut Picker,
    side_by_side: usize,
    done: &mut dyn FnMut(usize, &[i64]) -> bool,
) -> Result<Vec<Vec<i64>>> {
    for (number, request) in requests.iter().enumerate() {
        check_prompt(model, number, &request.prompt)?;
    }
    let mut answers = vec![Vec::new(); requests.len()];
    // Neighbours in sorted order begin alike.
    let mut order: Vec<usize> = (0..requests.len()).filter(|&i| requests[i].max_new_tokens > 0).collect();
    order.sort_by(|&a, &b| requests[a].prompt.cmp(&requests[b].prompt));
    let need = |i: usize| page_up(requests[i].prompt.len()) + page_up(new_tokens(model, &requests[i]));
    let mut rest = &order[..];
    while let Some(&first) = rest.first() {
        let mut slots = need(first);
        let mut n = 1;
        while n < rest.len().min(side_by_side) && slots + need(rest[n]) <= SLOTS {
            slots += need(rest[n]);
            n += 1;
        }
        let (group, later) = rest.split_at(n);
        start(model, path, requests, group, picker, done, &mut answers)?;
        rest = later;
    }
    Ok(answers)
}

/// The most tokens that a request can get: the last one is never read, so it needs no position.
pub(super) fn new_tokens(model: &Llama, request: &GenerateRequest) -> usize {
    let room = longest(model).saturating_add(1) - request.prompt.len();
    request.max_new_tokens.min(room)
}

/// Reads the prompts of a group, what they begin with in common once, and continues them to their ends.
fn start(
    model: &Llama,
    path: Path,
    requests: &[GenerateRequest],
    group: &[usize],
    picker: &mut Picker,
    done: &mut dyn FnMut(usize, &[i64]) -> bool,
    answers: &mut [Vec<i64>],
) -> Result<()> {
    let sequences: Vec<Sequence> = group
        .iter()
        .map(|&i| {
            let tokens = requests[i].prompt.clone();
            Sequence { wanted: tokens.len() - 1..tokens.len(), tokens }
        })
        .collect();
    let plan = plan(&sequences, Mode::Keep);
    let mut next = page_up(plan.slots);
    let mut active: Vec<Active> = Vec::with_capacity(group.len());
    for (&request, mut spans) in group.iter().zip(plan.ends) {
        spans.push(Span { slot: next, len: 0 });
        let most = new_tokens(model, &requests[request]);
        next = page_up(next + most);
        active.push(Active::new(request, spans, requests[request].prompt.clone(), most));
    }
    let mut engine = Engine::new(model, path, next)?;
    let mut last: Vec<Option<Tensor>> = (0..group.len()).map(|_| None).collect();
    for Pass { segments, asked } in &plan.passes {
        let hidden_rd = engine.forward(segments)?;
        for one in asked {
            last[one.sequence] = Some(hidden_rd.get(one.row as i64));
        }
    }
    let last: Vec<Tensor> = last.into_iter().flatten().collect();
    let hidden_rd = guarded(Error::Torch, || Ok(Tensor::stack(&last, 0)))?;
    Batch { engine: &mut engine, active, hidden_rd }.run(picker, done, answers)
}

/// A request that goes on.
pub(super) struct Active {
    request: usize,
    /// Where its tokens lie; the last span grows.
    spans: Vec<Span>,
    /// Prompt and new tokens.
    tokens: Vec<i64>,
    prompt: usize,
    most: usize,
}

/// Requests that go on side by side.
pub(super) struct Batch<'e, 'm> {
    pub(super) engine: &'e mut Engine<'m>,
    pub(super) active: Vec<Active>,
    /// Normalised hidden states of the last token of each.
    pub(super) hidden_rd: Tensor,
}

impl Batch<'_, '_> {
    /// Picks and reads tokens until every request has ended; its new tokens are then in `answers`.
    pub(super) fn run(
        mut self,
        picker: &mut Picker,
        done: &mut dyn FnMut(usize, &[i64]) -> bool,
        answers: &mut [Vec<i64>],
    ) -> Result<()> {
        loop {
            let picked = self.pick(picker)?;
            for (active, token) in self.active.iter_mut().zip(picked) {
                active.tokens.push(token);
            }
            self.active.retain(|active| {
                let new = &active.tokens[active.prompt..];
                let ends = done(active.request, new) || new.len() >= active.most;
                if ends {
                    answers[active.request] = new.to_vec();
                }
                !ends
            });
            if self.active.is_empty() {
                return Ok(());
            }
            let segments: Vec<Segment> = self.active.iter_mut().map(Active::advance).collect();
            self.hidden_rd = self.engine.forward(&segments)?;
        }
    }

    fn pick(&self, picker: &mut Picker) -> Result<Vec<i64>> {
        let logits_rv = self.engine.head(&self.hidden_rd)?;
        guarded(Error::Torch, || match picker {
            Picker::Greedy => Ok(Vec::<i64>::try_from(logits_rv.argmax(-1, false))?),
            Picker::Sample(sample) => {
                let flat = Vec::<f32>::try_from(logits_rv.to_kind(Kind::Float).contiguous().view([-1]))?;
                let vocabulary = logits_rv.size()[1] as usize;
                let rows = flat.chunks_exact(vocabulary).zip(&self.active);
                let pick = |(row, a): (&[f32], &Active)| {
                    sample(a.request, &a.tokens, a.tokens.len() - a.prompt, &mut row.to_vec())
                };
                Ok(rows.map(pick).collect())
            }
        })
    }
}

impl Active {
    /// Request `request` with its prompt read into `spans`, the last of which may grow by `most`.
    pub(super) fn new(request: usize, spans: Vec<Span>, prompt: Vec<i64>, most: usize) -> Self {
        Self { request, spans, prompt: prompt.len(), tokens: prompt, most }
    }

    /// The newest token as the next thing to read.
    fn advance(&mut self) -> Segment {
        if let Some(last) = self.spans.last_mut() {
            last.len += 1;
        }
        let token = self.tokens[self.tokens.len() - 1];
        Segment { tokens: vec![token], spans: self.spans.clone(), wanted: vec![0] }
    }
}
