//! A small OpenAI-compatible completions server for tests, and the model behind it as plain functions, so that a test can
//! compute once more what it serves. It can fail from any request on, in the ways in which servers fail.

#![allow(dead_code, reason = "each test uses its part")]

#[path = "http.rs"]
mod http;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// The logarithm of the likelihood of a token after another. No model of a language, but a fixed one.
pub(crate) fn log_likelihood(before: i64, token: i64) -> f64 {
    -(((before * 31 + token * 17).rem_euclid(997) + 1) as f64) / 64.0
}

/// Whether a token is the likeliest after another.
pub(crate) fn is_greedy(before: i64, token: i64) -> bool {
    (before * 7 + token) % 3 != 0
}

/// The new tokens after a prompt, which depend on how it ends: bytes of a short answer, then lines without end.
pub(crate) fn continued(prompt: &[i64], most: usize) -> Vec<i64> {
    let number = prompt.iter().rev().take(40).sum::<i64>() % 90 + 10;
    let text = format!(" {number}\nQuestion: and so on\n");
    text.bytes().cycle().take(most).map(i64::from).collect()
}

/// How the server answers, from its first request on or from a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Well.
    None,
    /// It takes a request and says nothing.
    Stalls,
    /// Something that is no HTTP.
    Garbage,
    /// HTTP with a page in it.
    Page,
    /// The beginning of an answer, and the end of the connection.
    Half,
    /// It hangs up and is not there any more.
    Dies,
    /// Numbers that no log-likelihood is.
    Nonsense,
}

/// A server on a port of this machine. Dropped, it is gone and its port is free.
pub(crate) struct Server {
    /// `http://127.0.0.1:PORT/v1`.
    pub(crate) url: String,
    address: String,
    state: Arc<State>,
    thread: Option<thread::JoinHandle<()>>,
}

struct State {
    fault: Fault,
    /// How many requests are answered well before.
    after: usize,
    requests: AtomicUsize,
    prompts: AtomicUsize,
    over: AtomicBool,
}

impl Server {
    /// Serves at an address, `127.0.0.1:0` for any port that is free.
    pub(crate) fn start(address: &str, fault: Fault, after: usize) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (requests, prompts, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        let state = Arc::new(State { fault, after, requests, prompts, over });
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.over.load(Ordering::SeqCst) {
                    break;
                }
                let state = Arc::clone(&shared);
                thread::spawn(move || while answer(&stream, &state).is_some() {});
            }
        });
        Self { url: format!("http://{address}/v1"), address, state, thread: Some(thread) }
    }

    /// HOST:PORT.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Requests that came, those that were not answered included.
    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Prompts in requests that were answered well.
    pub(crate) fn prompts(&self) -> usize {
        self.state.prompts.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        // The listener waits for a connection; where it has ended already there is none to be had.
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One request of a connection; `None` where the connection is over.
fn answer(mut stream: &TcpStream, state: &State) -> Option<()> {
    let request = http::request(stream).filter(|_| !state.over.load(Ordering::SeqCst))?;
    let number = state.requests.fetch_add(1, Ordering::SeqCst);
    let mut send =
        |body: &str| stream.write_all(format!("{}{body}", http::head("200 OK", body.len())).as_bytes()).ok();
    let fault = if number < state.after { Fault::None } else { state.fault };
    match fault {
        Fault::None => {
            let good = good(&request, false);
            state.prompts.fetch_add(good["choices"].as_array().map_or(0, Vec::len), Ordering::SeqCst);
            send(&good.to_string())
        }
        Fault::Nonsense => send(&good(&request, true).to_string()),
        Fault::Page => send("<html>\nnot found\n</html>"),
        Fault::Stalls => {
            thread::sleep(Duration::from_secs(60));
            None
        }
        Fault::Garbage => {
            stream.write_all(b"\x00\xff\x02 garbage\r\n\r\n").ok()?;
            None
        }
        Fault::Half => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"choices\": [").ok()?;
            None
        }
        Fault::Dies => {
            state.over.store(true, Ordering::SeqCst);
            // Wakes the listener, which then ends.
            let _ = TcpStream::connect(stream.local_addr().ok()?);
            None
        }
    }
}

fn good(request: &Value, nonsense: bool) -> Value {
    let prompts: Vec<Vec<i64>> = serde_json::from_value(request["prompt"].clone()).unwrap();
    let most = request["max_tokens"].as_u64().unwrap() as usize;
    let echo = request["echo"] == true;
    let choice = |(index, prompt): (usize, &Vec<i64>)| {
        let new = continued(prompt, most);
        let all = if echo { [prompt.as_slice(), &new].concat() } else { new.clone() };
        let pairs: Vec<Option<(i64, i64)>> = (0..all.len())
            .map(|i| match (i, echo) {
                (0, true) => None,
                (0, false) => Some((prompt[prompt.len() - 1], all[0])),
                _ => Some((all[i - 1], all[i])),
            })
            .collect();
        let sign = if nonsense { -1.0 } else { 1.0 };
        let of = |pair: &Option<(i64, i64)>| pair.map(|(a, b)| sign * log_likelihood(a, b));
        let best = |pair: &Option<(i64, i64)>| {
            pair.map(|(a, b)| {
                let own = log_likelihood(a, b);
                let best = if is_greedy(a, b) { own } else { own / 2.0 };
                json!({ "own": own, "best": best })
            })
        };
        let logprobs: Vec<Option<f64>> = pairs.iter().map(of).collect();
        let top: Vec<Option<Value>> = pairs.iter().map(best).collect();
        json!({
            "index": index, "text": "", "finish_reason": "length", "token_ids": new,
            "logprobs": { "token_logprobs": logprobs, "top_logprobs": top },
        })
    };
    let choices: Vec<Value> = prompts.iter().enumerate().map(choice).collect();
    // Not in the order of the prompts: the index says which is which.
    json!({ "choices": choices.into_iter().rev().collect::<Vec<_>>() })
}
