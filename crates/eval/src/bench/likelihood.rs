//! Scores of continuations and of whole texts: contexts that are the same are sent once, in large windows.

use rayon::prelude::*;

use super::journal::{Answer, Journal, key};
use super::run::{Counts, Watch};
use crate::encode::Encoder;
use crate::prompt::Question;
use crate::tasks::TaskSpec;
use crate::{BoxError, ChoiceRequest, ChoiceScore, Error, LanguageModel, Result};

/// Contexts and tokens of one call to the model.
const CONTEXTS: usize = 512;
const TOKENS: usize = 1 << 18;

/// One score to get: ids of what is given and of what follows, and where the score goes.
struct Want {
    context: Vec<i64>,
    continuation: Vec<i64>,
    place: (usize, usize),
}

/// Scores of each request of each question, with the tokens of each continuation.
pub(super) struct Scored {
    pub(super) scores: Vec<Vec<ChoiceScore>>,
    pub(super) tokens: Vec<Vec<usize>>,
    pub(super) counts: Counts,
}

/// Scores every context and continuation.
pub(super) fn pairs(
    model: &mut dyn LanguageModel,
    encoder: &Encoder<'_>,
    spec: &TaskSpec,
    questions: &[Question],
    journal: &mut Journal,
    watch: &mut dyn Watch,
) -> Result<Scored> {
    let encoded: Vec<_> = questions
        .par_iter()
        .map(|q| q.requests.iter().map(|(ctx, cont)| encoder.pair(ctx, cont)).collect::<Result<Vec<_>, _>>())
        .collect();
    let mut wants = Vec::new();
    let mut counts = Counts::default();
    let mut tokens = Vec::new();
    for (q, pairs) in encoded.into_iter().enumerate() {
        let pairs = pairs.map_err(|e| fail(spec, questions[q].id, &e))?;
        tokens.push(pairs.iter().map(|pair| pair.continuation.len()).collect());
        for (r, pair) in pairs.into_iter().enumerate() {
            counts.requests += 1;
            counts.cut += usize::from(pair.cut > 0);
            counts.unsplit += usize::from(!pair.splits);
            counts.longest = counts.longest.max(pair.context_tokens + pair.continuation.len());
            wants.push(Want { context: pair.context, continuation: pair.continuation, place: (q, r) });
        }
    }
    let mut scores: Vec<Vec<ChoiceScore>> =
        questions.iter().map(|q| vec![ChoiceScore::default(); q.requests.len()]).collect();
    ask(model, spec, wants, journal, watch, &mut |(q, r), score| scores[q][r] = score)?;
    Ok(Scored { scores, tokens, counts })
}

/// Scores whole texts: the sum over the windows of each.
pub(super) fn texts(
    model: &mut dyn LanguageModel,
    encoder: &Encoder<'_>,
    spec: &TaskSpec,
    questions: &[Question],
    journal: &mut Journal,
    watch: &mut dyn Watch,
) -> Result<Scored> {
    let encoded: Vec<Result<Vec<_>, BoxError>> =
        questions.par_iter().map(|q| encoder.windows(&encoder.text(&q.requests[0].0)?)).collect();
    let mut wants = Vec::new();
    let mut counts = Counts::default();
    let mut tokens = Vec::new();
    for (q, windows) in encoded.into_iter().enumerate() {
        let windows = windows.map_err(|e| fail(spec, questions[q].id, &e))?;
        tokens.push(vec![windows.iter().map(|(_, continuation)| continuation.len()).sum()]);
        for (w, (context, continuation)) in windows.into_iter().enumerate() {
            counts.requests += 1;
            counts.longest = counts.longest.max(context.len() + continuation.len());
            wants.push(Want { context, continuation, place: (q, w) });
        }
    }
    let mut scores = vec![vec![ChoiceScore { log_likelihood: 0.0, is_greedy: true }]; questions.len()];
    ask(model, spec, wants, journal, watch, &mut |(q, _), score| {
        scores[q][0].log_likelihood += score.log_likelihood;
        scores[q][0].is_greedy &= score.is_greedy;
    })?;
    Ok(Scored { scores, tokens, counts })
}

pub(super) fn fail(spec: &TaskSpec, doc: usize, error: &BoxError) -> Error {
    Error::Task { task: spec.task.clone(), message: format!("document {doc}: {error}") }
}

fn ask(
    model: &mut dyn LanguageModel,
    spec: &TaskSpec,
    wants: Vec<Want>,
    journal: &mut Journal,
    watch: &mut dyn Watch,
    put: &mut dyn FnMut((usize, usize), ChoiceScore),
) -> Result<()> {
    let all = wants.len();
    watch.requests(&spec.task, all);
    // Answers that are there, and the rest by context. Neighbours share their context, so one look back is enough.
    let mut groups: Vec<(ChoiceRequest, Vec<Placed>)> = Vec::new();
    let mut order: Vec<Placed> = Vec::with_capacity(all);
    for want in wants {
        let key = key("score", [&want.context, &want.continuation], "");
        order.push(Placed { place: want.place, key: key.clone() });
        if journal.score(&key).is_some() {
            continue;
        }
        let placed = Placed { place: want.place, key };
        match groups.last_mut() {
            Some((request, places)) if request.context == want.context => {
                request.continuations.push(want.continuation);
                places.push(placed);
            }
            _ => {
                let request = ChoiceRequest { context: want.context, continuations: vec![want.continuation] };
                groups.push((request, vec![placed]));
            }
        }
    }
    // The longest first: what does not fit fails at once, and estimates of the time left err to the long side.
    groups.sort_by_key(|(request, _)| std::cmp::Reverse(size(request)));
    watch.done(all - groups.iter().map(|(_, places)| places.len()).sum::<usize>());
    let most = model.at_once().unwrap_or(CONTEXTS).clamp(1, CONTEXTS);
    let mut rest = groups.into_iter().peekable();
    while rest.peek().is_some() {
        let mut window: Vec<ChoiceRequest> = Vec::new();
        let mut places = Vec::new();
        let mut tokens = 0;
        while let Some((request, _)) = rest.peek() {
            tokens += size(request);
            if !window.is_empty() && (window.len() == most || tokens > TOKENS) {
                break;
            }
            if let Some((request, of)) = rest.next() {
                window.push(request);
                places.push(of);
            }
        }
        let answers = model.choices(&window).map_err(|e| died(spec, journal, &e))?;
        let kept = check(spec, &window, places, answers)?;
        watch.done(kept.len());
        journal.keep(kept)?;
    }
    // In the order of the questions, so that sums do not depend on windows.
    for Placed { place, key } in order {
        let score = journal.score(&key).ok_or_else(|| Error::Task {
            task: spec.task.clone(),
            message: format!("no answer to request {} of document {}", place.1, place.0),
        })?;
        put(place, score);
    }
    Ok(())
}

struct Placed {
    place: (usize, usize),
    key: String,
}

fn size(request: &ChoiceRequest) -> usize {
    request.context.len() + request.continuations.iter().map(Vec::len).sum::<usize>()
}

pub(super) fn died(spec: &TaskSpec, journal: &Journal, error: &BoxError) -> Error {
    Error::Died {
        task: spec.task.clone(),
        message: error.to_string().replace('\n', " "),
        kept: journal.len(),
    }
}

/// Holds the model to its word before anything is kept.
fn check(
    spec: &TaskSpec,
    window: &[ChoiceRequest],
    places: Vec<Vec<Placed>>,
    answers: Vec<Vec<ChoiceScore>>,
) -> Result<Vec<(String, Answer)>> {
    let fail = |message: String| Error::Task { task: spec.task.clone(), message };
    if answers.len() != window.len() {
        return Err(fail(format!("the model answered {} of {} requests", answers.len(), window.len())));
    }
    let mut kept = Vec::new();
    for ((request, places), scores) in window.iter().zip(places).zip(answers) {
        let (expected, found) = (request.continuations.len(), scores.len());
        if expected != found {
            return Err(fail(format!("the model scored {found} of {expected} continuations")));
        }
        for (placed, score) in places.into_iter().zip(scores) {
            let ll = score.log_likelihood;
            if !ll.is_finite() || ll > 1e-3 {
                return Err(fail(format!(
                    "document {}: expected a finite log-likelihood of 0 or less from the model, found {ll}",
                    placed.place.0
                )));
            }
            kept.push((placed.key, Answer::Score(ll, score.is_greedy)));
        }
    }
    Ok(kept)
}
