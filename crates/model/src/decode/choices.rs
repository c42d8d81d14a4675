//! Multiple-choice scores: log-likelihoods of continuations, contexts and common beginnings computed once.

use llama_pro_checkpoint::RopeScaling;
use llama_pro_eval::{ChoiceRequest, ChoiceScore};
use tch::Tensor;

use super::Engine;
use super::plan::{Asked, Mode, Sequence, plan};
use crate::{Error, Llama, Path, Result};

/// Rows of logits that are there at a time.
const ROWS: i64 = 256;

/// Scores every continuation of every request.
pub(crate) fn choices(
    model: &Llama,
    path: Path,
    requests: &[ChoiceRequest],
) -> Result<Vec<Vec<ChoiceScore>>> {
    let mut sequences = Vec::new();
    let mut owners = Vec::new();
    for (r, request) in requests.iter().enumerate() {
        check(model, r, request)?;
        for (c, continuation) in request.continuations.iter().enumerate() {
            let before = request.context.len() - 1;
            // The last token is scored and never read.
            let tokens = [&request.context[..], &continuation[..continuation.len() - 1]].concat();
            let wanted = before..tokens.len();
            sequences.push(Sequence { tokens, wanted });
            owners.push((r, c));
        }
    }
    let blank = ChoiceScore { log_likelihood: 0.0, is_greedy: true };
    let mut scores: Vec<Vec<ChoiceScore>> =
        requests.iter().map(|r| vec![blank; r.continuations.len()]).collect();
    let plan = plan(&sequences, mode(model, &sequences));
    if plan.passes.is_empty() {
        return Ok(scores);
    }
    let mut engine = Engine::new(model, path, plan.slots)?;
    for pass in &plan.passes {
        if pass.asked.is_empty() {
            let _ = engine.forward(&pass.segments)?;
            continue;
        }
        let target = |asked: &Asked| {
            let (r, c) = owners[asked.sequence];
            requests[r].continuations[c][asked.position + 1 - requests[r].context.len()]
        };
        let hidden_rd = engine.forward(&pass.segments)?;
        let targets: Vec<(usize, i64)> = pass.asked.iter().map(|a| (a.row, target(a))).collect();
        for (asked, (nats, likeliest)) in pass.asked.iter().zip(token_scores(&engine, &hidden_rd, &targets)?)
        {
            let (r, c) = owners[asked.sequence];
            scores[r][c].log_likelihood += f64::from(nats);
            scores[r][c].is_greedy &= likeliest;
        }
    }
    Ok(scores)
}

/// Sharing changes nothing, unless the rotary angles depend on how long the whole sequence is.
fn mode(model: &Llama, sequences: &[Sequence]) -> Mode {
    match &model.config().rope.scaling {
        RopeScaling::Dynamic { original_max_position_embeddings: original, .. }
            if sequences.iter().any(|s| s.tokens.len() > *original) =>
        {
            Mode::Alone
        }
        _ => Mode::Share,
    }
}

fn check(model: &Llama, number: usize, request: &ChoiceRequest) -> Result<()> {
    if request.context.is_empty() {
        return Err(Error::Input(format!("request {number}: its context has no tokens")));
    }
    check_ids(model, "request", number, &request.context)?;
    for continuation in &request.continuations {
        if continuation.is_empty() {
            return Err(Error::Input(format!("request {number}: a continuation has no tokens")));
        }
        check_ids(model, "request", number, continuation)?;
        let (length, most) = (request.context.len() + continuation.len() - 1, longest(model));
        if length > most {
            return Err(Error::Input(format!(
                "request {number}: {length} tokens to read, the model reads at most {most}"
            )));
        }
    }
    Ok(())
}

/// The most tokens that the model reads. Dynamic scaling has no end: it stretches with the sequence.
pub(super) fn longest(model: &Llama) -> usize {
    match &model.config().rope.scaling {
        RopeScaling::Dynamic { .. } => usize::MAX,
        _ => model.config().max_position_embeddings,
    }
}

/// Refuses ids that the model does not have.
pub(super) fn check_ids(model: &Llama, what: &str, number: usize, ids: &[i64]) -> Result<()> {
    let vocabulary = model.config().vocab_size;
    match ids.iter().find(|&&id| usize::try_from(id).map_or(true, |id| id >= vocabulary)) {
        Some(id) => Err(Error::Input(format!(
            "{what} {number}: token id {id} is outside the model's vocabulary of {vocabulary}"
        ))),
        None => Ok(()),
    }
}

/// For each (row of `hidden_rd`, token): the logarithm of its likelihood, and whether it is the likeliest.
fn token_scores(engine: &Engine, hidden_rd: &Tensor, targets: &[(usize, i64)]) -> Result<Vec<(f32, bool)>> {
    let mut scores = vec![(0.0, false); targets.len()];
    let n = hidden_rd.size()[0];
    for first in (0..n).step_by(ROWS as usize) {
        let rows = first as usize..(first + ROWS).min(n) as usize;
        let places: Vec<usize> = (0..targets.len()).filter(|&i| rows.contains(&targets[i].0)).collect();
        let logits_rv = engine.head(&hidden_rd.narrow(0, first, rows.len() as i64))?;
        let here: Vec<(i64, i64)> =
            places.iter().map(|&i| (targets[i].0 as i64 - first, targets[i].1)).collect();
        for (place, score) in places.into_iter().zip(engine.token_scores(&logits_rv, &here)?) {
            scores[place] = score;
        }
    }
    Ok(scores)
}
