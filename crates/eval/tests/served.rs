//! A whole evaluation over HTTP against a small server on this machine: the same result as with the model in this process,
//! and a server that stalls, talks nonsense or dies midway costs no answer that had come.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "common/server.rs"]
mod server;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{Bytes, Silent};
use llama_pro_eval::http::{HttpModel, HttpOptions};
use llama_pro_eval::{
    BoxError, Catalog, ChoiceRequest, ChoiceScore, DataRoot, Error, Evaluation, GenerateRequest, Journal,
    LanguageModel, Options, RowScore, TokenRow, evaluate, report,
};
use serde_json::Value;
use server::{Fault, Server, continued, is_greedy, log_likelihood};

/// The model that is behind the server.
struct Local;

impl LanguageModel for Local {
    fn score(&mut self, _: &[TokenRow]) -> Result<Vec<RowScore>, BoxError> {
        Err("benchmarks do not score rows".into())
    }

    fn choices(&mut self, requests: &[ChoiceRequest]) -> Result<Vec<Vec<ChoiceScore>>, BoxError> {
        let one = |context: &[i64], continuation: &[i64]| {
            let all = [context, continuation].concat();
            let pairs = || (context.len()..all.len()).map(|i| (all[i - 1], all[i]));
            ChoiceScore {
                log_likelihood: pairs().map(|(a, b)| log_likelihood(a, b)).sum(),
                is_greedy: pairs().all(|(a, b)| is_greedy(a, b)),
            }
        };
        Ok(requests.iter().map(|r| r.continuations.iter().map(|c| one(&r.context, c)).collect()).collect())
    }

    fn generate(
        &mut self,
        requests: &[GenerateRequest],
        done: &mut dyn FnMut(usize, &[i64]) -> bool,
    ) -> Result<Vec<Vec<i64>>, BoxError> {
        let one = |(i, request): (usize, &GenerateRequest)| {
            let all = continued(&request.prompt, request.max_new_tokens);
            let end = (1..all.len()).find(|n| done(i, &all[..*n])).unwrap_or(all.len());
            all[..end].to_vec()
        };
        Ok(requests.iter().enumerate().map(one).collect())
    }
}

const TASKS: [&str; 3] = ["mini_prose_ppl", "mini_arithmetic_mc:2", "mini_arithmetic"];

fn options() -> Options {
    Options { limit: Some(30), no_bootstrap: true, ..Options::default() }
}

fn run(model: &mut dyn LanguageModel, journal: &mut Journal) -> Result<Evaluation, Error> {
    let selection = Catalog::builtin()?.select(TASKS)?;
    evaluate(model, &Bytes::ENDED, &selection, &DataRoot::default(), &options(), None, journal, &mut Silent)
}

fn record(found: &Evaluation) -> Value {
    report::record(found, &options(), &report::About::default(), true)
}

fn same(found: &Evaluation, expected: &Evaluation) {
    let (found, expected) = (record(found), record(expected));
    for section in ["results", "samples", "task_hashes", "n-samples", "request_counts"] {
        assert_eq!(found[section], expected[section], "{section}");
    }
}

fn served(url: &str) -> HttpModel {
    let options = HttpOptions {
        timeout: Duration::from_millis(400),
        pause: Duration::from_millis(2),
        retries: 1,
        batch: 4,
        ..HttpOptions::new(url, "m")
    };
    HttpModel::new(&options, Some(Box::new(Bytes::ENDED))).unwrap()
}

#[test]
fn a_served_model_scores_as_it_does_in_this_process() {
    let server = Server::start("127.0.0.1:0", Fault::None, 0);
    let found = run(&mut served(&server.url), &mut Journal::in_memory()).unwrap();
    let expected = run(&mut Local, &mut Journal::in_memory()).unwrap();
    same(&found, &expected);
    // Not all the same, so that the comparison says something.
    let scores = record(&found);
    let value = |task: &str, key: &str| scores["results"][task][key].as_f64().unwrap();
    assert!((0.05..0.95).contains(&value("mini_arithmetic_mc", "acc,none")));
    assert!(value("mini_prose_ppl", "byte_perplexity,none") > 1.0);
}

#[test]
fn a_server_that_fails_midway_loses_no_answer() {
    let expected = run(&mut Local, &mut Journal::in_memory()).unwrap();
    let whole = Server::start("127.0.0.1:0", Fault::None, 0);
    run(&mut served(&whole.url), &mut Journal::in_memory()).unwrap();
    let (requests, prompts) = (whole.requests(), whole.prompts());
    let dir = tempfile::tempdir().unwrap();
    for fault in [Fault::Stalls, Fault::Garbage, Fault::Page, Fault::Half, Fault::Dies, Fault::Nonsense] {
        for after in [0, 1, 7, requests / 2, requests - 1] {
            let place = dir.path().join(format!("{fault:?}{after}.answers"));
            let server = Server::start("127.0.0.1:0", fault, after);
            let address = server.address().to_owned();
            let started = Instant::now();
            let mut journal = Journal::open(&place, "m", false).unwrap();
            let error = run(&mut served(&server.url), &mut journal);
            // Nonsense is of log-likelihoods: of texts only the ids are read.
            let Err(error) = error else {
                assert!(fault == Fault::Nonsense && after == requests - 1, "{fault:?} {after}");
                continue;
            };
            let line = error.to_string();
            let place_of = format!("{fault:?} after {after} of {requests}: {line}");
            assert!(!line.contains('\n') && line.len() < 400, "{place_of}");
            assert!(line.contains(&format!("http://{address}")), "{place_of}");
            assert!(line.contains(&format!("{} answers are kept", journal.len())), "{place_of}");
            assert!(started.elapsed() < Duration::from_secs(20), "{place_of}");
            // What was answered is kept, but for the call that was under way.
            let kept = journal.len();
            assert!(kept <= server.prompts() && server.prompts() - kept <= 16, "{place_of}");
            assert!(after < 5 || kept > 0, "{place_of}");
            drop((journal, server));
            // The server is there again, at the same address.
            let server = Server::start(&address, Fault::None, 0);
            let mut journal = Journal::open(&place, "m", true).unwrap();
            assert_eq!(journal.len(), kept, "{place_of}");
            let found = run(&mut served(&server.url), &mut journal).unwrap();
            same(&found, &expected);
            assert_eq!(server.prompts() + kept, prompts, "asked again: {place_of}");
        }
    }
}

#[test]
fn a_server_that_is_not_there_is_one_line() {
    let server = Server::start("127.0.0.1:0", Fault::None, 0);
    let url = server.url.clone();
    drop(server);
    let error = run(&mut served(&url), &mut Journal::in_memory()).unwrap_err().to_string();
    assert!(
        error.contains(&url) && error.ends_with("0 answers are kept, --resume goes on from them"),
        "{error}"
    );
    assert!(!Path::new("answers").exists());
}
