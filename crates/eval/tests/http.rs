//! The model behind a server, against a small server in this file: a bigram model whose likelihoods are computed here
//! once more, and servers that fail in every way.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/http.rs"]
mod wire;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use llama_pro_eval::http::{HttpModel, HttpOptions};
use llama_pro_eval::{BoxError, ChoiceRequest, Codec, GenerateRequest, LanguageModel, TokenRow};
use serde_json::{Value, json};

const VOCABULARY: i64 = 11;

/// The likelihood of a token after another: never the same for two of them.
fn likelihood(before: i64, token: i64) -> f64 {
    let weight = |t: i64| 1.0 + ((before * 7 + t * 5) % VOCABULARY) as f64;
    weight(token) / (0..VOCABULARY).map(weight).sum::<f64>()
}

fn greedy(before: i64) -> i64 {
    (0..VOCABULARY).max_by(|x, y| likelihood(before, *x).total_cmp(&likelihood(before, *y))).unwrap()
}

#[derive(Clone, Copy, PartialEq)]
enum Behaviour {
    Good,
    /// Leaves the generated token out of the echo, and gives token ids under the other name.
    Terse,
    /// Gives text and no ids.
    TextOnly,
    /// Answers with status 503 so many times before it is good.
    Busy(usize),
    Refuses,
    Stalls,
    NoJson,
    NoHttp,
    HangsUp,
    HalfAnAnswer,
    OtherTokens,
    PositiveLogprobs,
    NoEcho,
    NoChoices,
}

struct Server {
    url: String,
    requests: Arc<AtomicUsize>,
}

fn serve(behaviour: Behaviour) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    // It ends with the test program.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counter = Arc::clone(&counter);
            thread::spawn(move || while answer(&stream, behaviour, &counter).is_some() {});
        }
    });
    Server { url, requests }
}

/// One request of a connection; `None` where the connection is over.
fn answer(mut stream: &TcpStream, behaviour: Behaviour, counter: &AtomicUsize) -> Option<()> {
    let request = wire::request(stream)?;
    let number = counter.fetch_add(1, Ordering::SeqCst);
    let send = |mut stream: &TcpStream, status: &str, body: &str| {
        stream.write_all(format!("{}{body}", wire::head(status, body.len())).as_bytes()).ok()
    };
    match behaviour {
        Behaviour::Busy(times) if number < times => send(stream, "503 Service Unavailable", ""),
        Behaviour::Refuses => {
            send(stream, "404 Not Found", r#"{"error": {"message": "there is no model \"m\""}}"#)
        }
        Behaviour::NoJson => send(stream, "200 OK", "<html>\nhello\n</html>"),
        Behaviour::NoChoices => send(stream, "200 OK", r#"{"choices": "none"}"#),
        Behaviour::Stalls => {
            thread::sleep(Duration::from_secs(30));
            None
        }
        Behaviour::NoHttp => {
            stream.write_all(b"\x00\x01\x02 garbage\r\n\r\n").ok()?;
            None
        }
        Behaviour::HangsUp => None,
        Behaviour::HalfAnAnswer => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"choices\": [").ok()?;
            None
        }
        good => send(stream, "200 OK", &good_answer(&request, good).to_string()),
    }
}

fn good_answer(request: &Value, behaviour: Behaviour) -> Value {
    let prompts: Vec<Vec<i64>> = serde_json::from_value(request["prompt"].clone()).unwrap();
    let most = request["max_tokens"].as_u64().unwrap();
    let mut choices = Vec::new();
    for (index, prompt) in prompts.iter().enumerate() {
        let mut new: Vec<i64> = Vec::new();
        let mut last = *prompt.last().unwrap();
        let mut reason = "length";
        while (new.len() as u64) < most {
            last = greedy(last);
            // Token 0 ends a text and is not given.
            if last == 0 {
                reason = "stop";
                break;
            }
            new.push(last);
        }
        let echo = request["echo"] == true && behaviour != Behaviour::NoEcho;
        let terse = behaviour == Behaviour::Terse && echo;
        let mut all = if echo { prompt.clone() } else { Vec::new() };
        all.extend(if terse { &[] } else { new.as_slice() });
        if behaviour == Behaviour::OtherTokens {
            all.insert(0, 1);
            all.insert(0, 1);
        }
        let mut logprobs = Vec::new();
        let mut top = Vec::new();
        for i in 0..all.len() {
            if echo && i == 0 {
                logprobs.push(Value::Null);
                top.push(Value::Null);
                continue;
            }
            let before = if i == 0 { prompt[prompt.len() - 1] } else { all[i - 1] };
            let sign = if behaviour == Behaviour::PositiveLogprobs { -1.0 } else { 1.0 };
            logprobs.push(json!(sign * likelihood(before, all[i]).ln()));
            let best = greedy(before);
            top.push(json!({ format!("t{best}"): likelihood(before, best).ln() }));
        }
        let ids = behaviour != Behaviour::TextOnly;
        let names: Vec<String> =
            all.iter().map(|t| if ids { format!("token_id:{t}") } else { format!("t{t}") }).collect();
        let text: String = new.iter().map(|t| char::from(b'a' + u8::try_from(*t).unwrap())).collect();
        let mut choice = json!({ "index": index, "text": text, "finish_reason": reason,
            "logprobs": { "tokens": names, "token_logprobs": logprobs, "top_logprobs": top } });
        if behaviour == Behaviour::Terse {
            choice["token_ids"] = json!(new);
            choice["logprobs"]["tokens"] = Value::Null;
        }
        choices.push(choice);
    }
    // A server may answer in another order; the index says which is which.
    choices.reverse();
    json!({ "choices": choices })
}

/// A letter for each token.
struct Letters;

impl Codec for Letters {
    fn encode(&self, text: &str) -> Result<Vec<i64>, BoxError> {
        Ok(text.bytes().map(|b| i64::from(b - b'a')).collect())
    }
    fn decode(&self, ids: &[i64]) -> Result<String, BoxError> {
        Ok(ids.iter().map(|t| char::from(b'a' + u8::try_from(*t).unwrap())).collect())
    }
    fn bos(&self) -> Option<i64> {
        None
    }
    fn eos(&self) -> Option<i64> {
        Some(0)
    }
    fn adds_bos(&self) -> bool {
        false
    }
}

fn options(server: &Server) -> HttpOptions {
    HttpOptions {
        timeout: Duration::from_secs(20),
        pause: Duration::from_millis(5),
        batch: 3,
        ..HttpOptions::new(server.url.clone(), "m")
    }
}

fn model(server: &Server) -> HttpModel {
    HttpModel::new(&options(server), None).unwrap()
}

fn sum(tokens: &[i64], from: usize) -> f64 {
    (from..tokens.len()).map(|i| likelihood(tokens[i - 1], tokens[i]).ln()).sum()
}

#[test]
fn scores_are_those_of_the_model_behind() {
    for behaviour in [Behaviour::Good, Behaviour::Terse, Behaviour::Busy(2)] {
        let server = serve(behaviour);
        let mut model = model(&server);
        let contexts: [Vec<i64>; 3] = [vec![1], vec![2, 3, 4], vec![10, 9]];
        let requests: Vec<ChoiceRequest> = contexts
            .iter()
            .map(|context| {
                let best = greedy(*context.last().unwrap());
                ChoiceRequest {
                    context: context.clone(),
                    continuations: vec![vec![best], vec![best, greedy(best)], vec![5, 6, 7]],
                }
            })
            .collect();
        let found = model.choices(&requests).unwrap();
        for (request, scores) in requests.iter().zip(&found) {
            for ((continuation, score), greedy) in
                request.continuations.iter().zip(scores).zip([true, true, false])
            {
                let all = [request.context.as_slice(), continuation].concat();
                let expected = sum(&all, request.context.len());
                assert!((score.log_likelihood - expected).abs() < 1e-9, "{score:?} {expected}");
                assert_eq!(score.is_greedy, greedy, "{all:?}");
            }
        }
        // Rows: a document, a continuation, and two documents in one row.
        let mut packed = TokenRow::document(&[1, 2, 3]);
        let second = TokenRow::document(&[4, 5]);
        packed.inputs.extend(second.inputs);
        packed.targets.extend(second.targets);
        packed.segments.push(1);
        packed.positions.push(0);
        let rows = [TokenRow::document(&[3, 1, 4, 1, 5]), TokenRow::continuation(&[2, 7], &[1, 8]), packed];
        let found = model.score(&rows).unwrap();
        let expected = [
            (sum(&[3, 1, 4, 1, 5], 1), 4),
            (sum(&[2, 7, 1, 8], 2), 2),
            (sum(&[1, 2, 3], 1) + sum(&[4, 5], 1), 3),
        ];
        for (found, (sum, count)) in found.iter().zip(expected) {
            assert!(
                (found.log_likelihood - sum).abs() < 1e-9 && found.targets == count,
                "{found:?} {sum} {count}"
            );
        }
    }
}

#[test]
fn texts_are_those_of_the_model_behind() {
    let expected = |prompt: i64, most: usize| {
        let mut tokens = Vec::new();
        let mut last = prompt;
        while tokens.len() < most {
            last = greedy(last);
            if last == 0 {
                break;
            }
            tokens.push(last);
        }
        tokens
    };
    let prompts = [1, 4, 7];
    let most = 150;
    assert!(prompts.iter().any(|p| expected(*p, most).len() > 64), "one text must take several requests");
    for behaviour in [Behaviour::Good, Behaviour::Terse, Behaviour::TextOnly] {
        let server = serve(behaviour);
        let codec: Option<Box<dyn Codec>> =
            (behaviour == Behaviour::TextOnly).then(|| Box::new(Letters) as _);
        let mut model = HttpModel::new(&options(&server), codec).unwrap();
        let requests: Vec<GenerateRequest> =
            prompts.iter().map(|p| GenerateRequest { prompt: vec![3, *p], max_new_tokens: most }).collect();
        let found = model.generate(&requests, &mut |_, _| false).unwrap();
        for (found, prompt) in found.iter().zip(prompts) {
            assert_eq!(found, &expected(prompt, most));
        }
        // Stopped after the second token: no more is asked for than the part that was under way.
        let before = server.requests.load(Ordering::SeqCst);
        let found = model.generate(&requests, &mut |_, tokens| tokens.len() == 2).unwrap();
        assert!(found.iter().all(|tokens| tokens.len() <= 2));
        assert_eq!(server.requests.load(Ordering::SeqCst) - before, prompts.len());
    }
    let server = serve(Behaviour::TextOnly);
    let request = GenerateRequest { prompt: vec![1], max_new_tokens: 4 };
    let error = model(&server).generate(&[request], &mut |_, _| false).unwrap_err().to_string();
    assert!(error.contains("token_ids: expected token ids") && !error.contains('\n'), "{error}");
}

#[test]
fn every_failure_is_one_clear_line() {
    let request = ChoiceRequest { context: vec![1, 2], continuations: vec![vec![3]] };
    // Token 3 ends the text of this model, so that no generated token comes after an echo.
    assert_eq!(greedy(3), 0);
    let cases = [
        (Behaviour::Busy(9), "the server answers with status 503: nothing", 4),
        (Behaviour::Refuses, "the server answers with status 404: there is no model \"m\"", 1),
        (Behaviour::NoJson, "the answer: expected JSON, found <html> hello </html>", 1),
        (Behaviour::NoChoices, "choices: expected a list", 1),
        (Behaviour::HangsUp, "after 4 tries", 4),
        (Behaviour::HalfAnAnswer, "after 4 tries", 4),
        (Behaviour::NoHttp, "after 4 tries", 4),
        (
            Behaviour::OtherTokens,
            "logprobs.token_logprobs: expected 3 or 4 numbers, as the prompt has 3 tokens, found 5",
            1,
        ),
        (Behaviour::PositiveLogprobs, "logprobs.token_logprobs: expected numbers of 0 or less", 1),
        (Behaviour::NoEcho, "logprobs.token_logprobs: expected 3 or 4 numbers", 1),
    ];
    for (behaviour, expected, tries) in cases {
        let server = serve(behaviour);
        let error = model(&server).choices(std::slice::from_ref(&request)).unwrap_err().to_string();
        assert!(error.starts_with(&server.url) && error.contains(expected), "{expected}: {error}");
        assert!(!error.contains('\n') && error.len() < 300, "{error}");
        assert!(server.requests.load(Ordering::SeqCst) <= tries, "{error}");
    }
}

#[test]
fn a_server_that_stalls_is_left_in_time() {
    let server = serve(Behaviour::Stalls);
    let quick = HttpOptions { timeout: Duration::from_millis(300), retries: 1, ..options(&server) };
    let mut model = HttpModel::new(&quick, None).unwrap();
    let started = Instant::now();
    let request = ChoiceRequest { context: vec![1], continuations: vec![vec![3]] };
    let error = model.choices(&[request]).unwrap_err().to_string();
    assert_eq!(error, format!("{}/completions: no answer within 0.3 s, after 2 tries", server.url));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_server_that_is_not_there_is_named() {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server { url: format!("http://{address}/v1"), requests: Arc::default() };
    let request = ChoiceRequest { context: vec![1], continuations: vec![vec![3]] };
    let error = model(&server).choices(&[request]).unwrap_err().to_string();
    assert!(error.starts_with(&server.url) && error.ends_with("after 4 tries"), "{error}");
}

#[test]
fn what_cannot_be_asked_is_refused() {
    for (url, expected) in [
        ("https://host/v1", "https is not built in"),
        ("host:80", "of the form"),
        ("http:///v1", "of the form"),
    ] {
        let error = HttpModel::new(&HttpOptions::new(url, "m"), None).unwrap_err().to_string();
        assert!(error.starts_with(url) && error.contains(expected), "{error}");
    }
    let server = serve(Behaviour::Good);
    let mut model = HttpModel::new(&HttpOptions { max_length: Some(4), ..options(&server) }, None).unwrap();
    assert_eq!(model.max_row(), Some(2));
    assert!(model.score(&[TokenRow::document(&[1, 2, 3])]).is_ok());
    let error = model.score(&[TokenRow::document(&[1, 2, 3, 4])]).unwrap_err().to_string();
    assert_eq!(error, "a prompt of 4 tokens; the server takes 4 with the answer");
    // A target that is not the next token cannot be scored by a server.
    let mut row = TokenRow::document(&[1, 2, 3]);
    row.targets[0] = 9;
    let error = model.score(&[row]).unwrap_err().to_string();
    assert_eq!(error, "row 0, position 0: the target is not the token that follows");
    assert!(model.choices(&[ChoiceRequest { context: vec![], continuations: vec![vec![1]] }]).is_err());
}
