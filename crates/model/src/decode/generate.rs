//! Token by token: prompts in a batch, what they begin with in common read once.

use llama_pro_eval::GenerateRequest;
use tch::{Kind, Tensor};

use super::choices::{check_ids, longest};
use super::plan::{Mode, Pass, Sequence, plan};
use super::{Engine, Segment, Span, page_up};
use crate::guard::guarded;
use crate::{Error, Llama, Path, Result};

/// Slots of the cache that are reserved at a time, beyond which requests wait for others to end. Memory is only touched
/// where tokens are.
const SLOTS: usize = 1 << 15;

/// Requests that go on side by side at most: beyond that a step gets slower in proportion.
const SIDE_BY_SIDE: usize = 32;

/// How the next token is picked.
pub(crate) enum Picker<'a> {
    /// The likeliest, of equals the first.
    Greedy,
    /// Given the number of the request, its tokens (prompt and new) and its logits in float32, which it may change.
    Sample(&'a mut dyn FnMut(usize, &[i64], &mut [f32]) -> i64),
}

/// Continues each prompt; see `LanguageModel::generate` for `done` and the result.
pub(crate) fn generate(
    model: &Llama,
    path: Path,
    requests: &[GenerateRequest],
    picker: &mut Picker,
    done: &mut dyn FnMut(usize, &[i64]) -> bool,
) -> Result<Vec<Vec<i64>>> {
    let most = longest(model);
    for (number, request) in requests.iter().enumerate() {
        if request.prompt.is_empty() {
            return Err(Error::Input(format!("prompt {number} has no tokens")));
        }
        check_ids(model, "prompt", number, &request.prompt)?;
        if request.prompt.len() > most {
            return Err(Error::Input(format!(
                "prompt {number} has {} tokens, the model reads at most {most}",
                request.prompt.len()
            )));
        }
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
        while n < rest.len().min(SIDE_BY_SIDE) && slots + need(rest[n]) <= SLOTS {
            slots += need(rest[n]);
            n += 1;
        }
        let (group, later) = rest.split_at(n);
        Batch::prefill(model, path, requests, group)?.run(picker, done, &mut answers)?;
        rest = later;
    }
    Ok(answers)
}

/// The most tokens that a request can get: the last one is never read, so it needs no position.
fn new_tokens(model: &Llama, request: &GenerateRequest) -> usize {
    let room = longest(model).saturating_add(1) - request.prompt.len();
    request.max_new_tokens.min(room)
}

/// A request that goes on.
struct Active {
    request: usize,
    /// Where its tokens lie; the last span grows.
    spans: Vec<Span>,
    /// Prompt and new tokens.
    tokens: Vec<i64>,
    prompt: usize,
    most: usize,
}

struct Batch<'a> {
    engine: Engine<'a>,
    active: Vec<Active>,
    /// Hidden states of the last token of each.
    hidden_rd: Tensor,
}

impl<'a> Batch<'a> {
    fn prefill(model: &'a Llama, path: Path, requests: &[GenerateRequest], group: &[usize]) -> Result<Self> {
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
            let (tokens, most) = (requests[request].prompt.clone(), new_tokens(model, &requests[request]));
            next = page_up(next + most);
            active.push(Active { request, spans, prompt: tokens.len(), tokens, most });
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
        Ok(Self { engine, active, hidden_rd })
    }

    fn run(
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
                Ok(rows.map(|(row, a)| sample(a.request, &a.tokens, &mut row.to_vec())).collect())
            }
        })
    }
}

impl Active {
    /// The newest token as the next thing to read.
    fn advance(&mut self) -> Segment {
        if let Some(last) = self.spans.last_mut() {
            last.len += 1;
        }
        let token = self.tokens[self.tokens.len() - 1];
        Segment { tokens: vec![token], spans: self.spans.clone(), wanted: vec![0] }
    }
}
