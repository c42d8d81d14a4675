//! Any model behind an OpenAI-compatible completions server (vLLM, llama.cpp and others) as a [`LanguageModel`].
//!
//! Prompts go as token ids, so the tokenizer here decides, as it does for a model in this process. Log-likelihoods come
//! from `echo` with `logprobs`, as lm-evaluation-harness' `local-completions` asks for them: one more token is generated
//! and left out, since some servers refuse to generate none.

mod client;

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

pub use client::HttpError;

use crate::encode::Codec;
use crate::{
    BoxError, ChoiceRequest, ChoiceScore, GenerateRequest, IGNORED, LanguageModel, RowScore, TokenRow,
};
use client::Client;

/// How to reach a server.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Its address, `http://HOST:PORT/v1`, with or without `/completions` at the end.
    pub url: String,
    /// The name under which it serves the model.
    pub model: String,
    /// Sent as a bearer token where given.
    pub key: Option<String>,
    /// Time limit of one try. Default 120 s.
    pub timeout: Duration,
    /// Further tries after one that failed in a way that may pass: no connection, no answer, status 429 or 5xx. Default 3.
    pub retries: u32,
    /// Pause before the second try; each further one is twice as long. Default 0.5 s.
    pub pause: Duration,
    /// Prompts in one request. Default 16.
    pub batch: usize,
    /// The most tokens that the server takes, prompt and answer together; `None` where it is to say so itself.
    pub max_length: Option<usize>,
}

impl HttpOptions {
    /// The defaults for a server and a model.
    pub fn new(url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            model: model.into(),
            key: None,
            timeout: Duration::from_secs(120),
            retries: 3,
            pause: Duration::from_millis(500),
            batch: 16,
            max_length: None,
        }
    }
}

/// A model behind a server.
pub struct HttpModel {
    client: Client,
    model: String,
    batch: usize,
    max_length: Option<usize>,
    codec: Option<Box<dyn Codec>>,
}

impl fmt::Debug for HttpModel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HttpModel")
            .field("url", &self.client.url)
            .field("model", &self.model)
            .finish()
    }
}

/// The echoed log-likelihoods of one prompt.
struct Echo {
    /// For each token; `None` for the first, which nothing precedes.
    tokens: Vec<Option<f64>>,
    /// The largest at each place, as far as the server says.
    best: Vec<Option<f64>>,
}

impl HttpModel {
    /// Checks the address; nothing is sent yet. The codec encodes generated text where a server gives no token ids.
    ///
    /// # Errors
    /// [`HttpError::Address`]: not an address of the form `http://HOST:PORT/v1`.
    pub fn new(options: &HttpOptions, codec: Option<Box<dyn Codec>>) -> Result<Self, HttpError> {
        let base = options.url.trim_end_matches('/');
        let wrong =
            |message: &str| Err(HttpError::Address { url: options.url.clone(), message: message.to_owned() });
        if base.starts_with("https://") {
            return wrong(
                "https is not built in; expected http://HOST:PORT/v1, such as a local server or a tunnel",
            );
        }
        if base.strip_prefix("http://").is_none_or(|rest| rest.is_empty() || rest.starts_with('/')) {
            return wrong("expected an address of the form http://HOST:PORT/v1");
        }
        let url = match base.ends_with("/completions") {
            true => base.to_owned(),
            false => format!("{base}/completions"),
        };
        let client = Client::new(url, options.key.clone(), options.timeout, options.retries, options.pause);
        Ok(Self {
            client,
            model: options.model.clone(),
            batch: options.batch.max(1),
            max_length: options.max_length,
            codec,
        })
    }

    /// The choices of an answer in the order of their prompts.
    fn ask(&self, body: Value, prompts: usize) -> Result<Vec<Value>, HttpError> {
        let mut answer = self.client.post(&body)?;
        let Value::Array(mut choices) = answer["choices"].take() else {
            return Err(self.client.wrong("choices", "a list", &answer));
        };
        if choices.len() != prompts {
            return Err(self.client.wrong("choices", &format!("{prompts} of them"), &json!(choices.len())));
        }
        choices.sort_by_key(|choice| choice["index"].as_u64().unwrap_or(0));
        Ok(choices)
    }

    fn echo(&self, prompts: &[Vec<i64>]) -> Result<Vec<Echo>, HttpError> {
        let mut echoes = Vec::with_capacity(prompts.len());
        for batch in prompts.chunks(self.batch) {
            let body = json!({
                "model": self.model, "prompt": batch, "max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": true,
            });
            let choices = self.ask(body, batch.len())?;
            for (choice, prompt) in choices.iter().zip(batch) {
                echoes.push(self.read_echo(&choice["logprobs"], prompt.len())?);
            }
        }
        Ok(echoes)
    }

    fn read_echo(&self, logprobs: &Value, count: usize) -> Result<Echo, HttpError> {
        let place = "logprobs.token_logprobs";
        let Some(values) = logprobs["token_logprobs"].as_array() else {
            let expected = "a list; the server must support echo with logprobs";
            return Err(self.client.wrong(place, expected, &logprobs["token_logprobs"]));
        };
        // The prompt's, and that of the one generated token, which some servers leave out.
        if values.len() != count && values.len() != count + 1 {
            let expected = format!("{count} or {} numbers, as the prompt has {count} tokens", count + 1);
            return Err(self.client.wrong(place, &expected, &json!(values.len())));
        }
        let mut tokens = Vec::with_capacity(count);
        for (i, value) in values[..count].iter().enumerate() {
            let number = value.as_f64().filter(|number| number.is_finite() && *number <= 1e-3);
            if number.is_none() && i > 0 {
                return Err(self.client.wrong(place, "numbers of 0 or less", value));
            }
            tokens.push(number.map(|number| number.min(0.0)));
        }
        let top = |place: &Value| place.as_object()?.values().filter_map(Value::as_f64).reduce(f64::max);
        let best = logprobs["top_logprobs"].as_array().map(|all| all.iter().map(top).collect::<Vec<_>>());
        let mut best = best.unwrap_or_default();
        best.resize(count, None);
        Ok(Echo { tokens, best })
    }

    /// New tokens of one prompt, and whether the model has ended.
    fn write(&self, prompt: &[i64], most: usize) -> Result<(Vec<i64>, bool), BoxError> {
        let body = json!({
            "model": self.model, "prompt": [prompt], "max_tokens": most, "temperature": 0, "logprobs": 1,
            "return_tokens_as_token_ids": true, "return_token_ids": true,
        });
        let choice = self.ask(body, 1)?.remove(0);
        let ended = choice["finish_reason"] != "length";
        let ids = |list: &Value, id: fn(&Value) -> Option<i64>| -> Option<Vec<i64>> {
            list.as_array()?.iter().map(id).collect()
        };
        let named = |token: &Value| token.as_str()?.strip_prefix("token_id:")?.parse().ok();
        let tokens =
            ids(&choice["token_ids"], Value::as_i64).or_else(|| ids(&choice["logprobs"]["tokens"], named));
        let tokens = match (tokens, &self.codec, choice["text"].as_str()) {
            (Some(tokens), ..) => tokens,
            (None, Some(codec), Some(text)) => codec.encode(text)?,
            (None, None, Some(_)) => {
                let expected = "token ids, as no tokenizer is here to make them of the text";
                return Err(self.client.wrong("token_ids", expected, &choice["token_ids"]).into());
            }
            (None, _, None) => return Err(self.client.wrong("text", "a string", &choice["text"]).into()),
        };
        Ok((tokens, ended))
    }

    /// Whether a prompt leaves room for the one token that every request generates.
    fn fits(&self, tokens: usize) -> Result<(), HttpError> {
        match self.max_length.filter(|most| tokens >= *most) {
            None => Ok(()),
            Some(most) => {
                let message = format!("a prompt of {tokens} tokens; the server takes {most} with the answer");
                Err(HttpError::Request(message))
            }
        }
    }
}

/// A document of a row: its tokens, and which of them are scored.
struct Piece {
    row: usize,
    tokens: Vec<i64>,
    scored: Vec<usize>,
}

/// Cuts a row into its documents. A server scores tokens that follow each other, and nothing else.
fn pieces(index: usize, row: &TokenRow) -> Result<Vec<Piece>, HttpError> {
    let wrong = |i: usize, what: &str| HttpError::Request(format!("row {index}, position {i}: {what}"));
    let length = row.inputs.len();
    if row.targets.len() != length || row.segments.len() != length {
        return Err(wrong(0, "inputs, targets and segments differ in number"));
    }
    let mut pieces: Vec<Piece> = Vec::new();
    for i in 0..length {
        let starts = i == 0 || row.segments[i] != row.segments[i - 1];
        if starts {
            pieces.push(Piece { row: index, tokens: vec![row.inputs[i]], scored: Vec::new() });
        }
        let Some(piece) = pieces.last_mut() else { continue };
        let ends = i + 1 == length || row.segments[i + 1] != row.segments[i];
        let target = row.targets[i];
        let next = if ends { target } else { row.inputs[i + 1] };
        if target != IGNORED {
            if target != next {
                return Err(wrong(i, "the target is not the token that follows"));
            }
            piece.scored.push(piece.tokens.len());
        }
        if next != IGNORED {
            piece.tokens.push(next);
        }
    }
    pieces.retain(|piece| !piece.scored.is_empty());
    Ok(pieces)
}

impl LanguageModel for HttpModel {
    fn score(&mut self, rows: &[TokenRow]) -> Result<Vec<RowScore>, BoxError> {
        let mut all = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            all.extend(pieces(index, row)?);
        }
        for piece in &all {
            self.fits(piece.tokens.len())?;
        }
        let prompts: Vec<Vec<i64>> = all.iter().map(|piece| piece.tokens.clone()).collect();
        let echoes = self.echo(&prompts)?;
        let mut scores = vec![RowScore::default(); rows.len()];
        for (piece, echo) in all.iter().zip(&echoes) {
            let sum: f64 = piece.scored.iter().filter_map(|i| echo.tokens[*i]).sum();
            scores[piece.row].log_likelihood += sum;
            scores[piece.row].targets += piece.scored.len();
        }
        Ok(scores)
    }

    fn max_row(&self) -> Option<usize> {
        // The last target is sent, too, and one token is generated.
        self.max_length.map(|most| most.saturating_sub(2))
    }

    fn at_once(&self) -> Option<usize> {
        // As many as fit into a request of four choices each: a server that dies takes little with it.
        Some(self.batch.div_ceil(4))
    }

    fn choices(&mut self, requests: &[ChoiceRequest]) -> Result<Vec<Vec<ChoiceScore>>, BoxError> {
        let mut prompts = Vec::new();
        for request in requests {
            if request.context.is_empty() || request.continuations.iter().any(Vec::is_empty) {
                return Err("a context or a continuation without tokens".into());
            }
            for continuation in &request.continuations {
                let prompt = [request.context.as_slice(), continuation].concat();
                self.fits(prompt.len())?;
                prompts.push(prompt);
            }
        }
        let mut echoes = self.echo(&prompts)?.into_iter();
        let mut scores = Vec::with_capacity(requests.len());
        for request in requests {
            let of = |echo: Echo| {
                let from = request.context.len();
                let greedy = echo.tokens[from..].iter().zip(&echo.best[from..]).all(|pair| match pair {
                    // A server may round the two differently.
                    (Some(token), Some(best)) => *token >= *best - 1e-6,
                    _ => false,
                });
                let log_likelihood = echo.tokens[from..].iter().flatten().sum();
                ChoiceScore { log_likelihood, is_greedy: greedy }
            };
            scores.push(echoes.by_ref().take(request.continuations.len()).map(of).collect());
        }
        Ok(scores)
    }

    fn generate(
        &mut self,
        requests: &[GenerateRequest],
        done: &mut dyn FnMut(usize, &[i64]) -> bool,
    ) -> Result<Vec<Vec<i64>>, BoxError> {
        let mut answers = Vec::with_capacity(requests.len());
        for (i, request) in requests.iter().enumerate() {
            if request.prompt.is_empty() {
                return Err("a prompt without tokens".into());
            }
            self.fits(request.prompt.len())?;
            let room = self.max_length.map_or(usize::MAX, |most| most - request.prompt.len());
            let most = request.max_new_tokens.min(room);
            let mut tokens: Vec<i64> = Vec::new();
            let mut over = most == 0;
            while !over {
                // In parts, so that a text that ends early does not cost its whole length. Encoded text cannot be taken up
                // again in the middle of a token, so without ids from the server it is one part.
                let part = if self.codec.is_some() { most } else { PART.min(most - tokens.len()) };
                let (new, ended) = self.write(&[request.prompt.as_slice(), &tokens].concat(), part)?;
                over = ended || new.is_empty() || self.codec.is_some();
                for token in new.into_iter().take(most - tokens.len()) {
                    tokens.push(token);
                    if done(i, &tokens) {
                        over = true;
                        break;
                    }
                }
                over |= tokens.len() >= most;
            }
            answers.push(tokens);
        }
        Ok(answers)
    }
}

/// New tokens of one request.
const PART: usize = 64;
