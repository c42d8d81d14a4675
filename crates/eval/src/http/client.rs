//! One request to the server: tries, time limits, and what every way of failing is called.

use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

/// The longest answer that is read.
const LONGEST: u64 = 512 << 20;

/// What a server did wrong. Every message names its address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The address cannot be used.
    #[error("{url}: {message}")]
    Address {
        /// The address.
        url: String,
        /// What is wrong with it.
        message: String,
    },
    /// No connection, or one that broke.
    #[error("{url}: {message}, after {tries} tries")]
    Connection {
        /// The address.
        url: String,
        /// What the system said.
        message: String,
        /// How often it was tried.
        tries: u32,
    },
    /// Nothing came in time.
    #[error("{url}: no answer within {} s, after {tries} tries", limit.as_secs_f64())]
    Stalled {
        /// The address.
        url: String,
        /// The time limit of one try.
        limit: Duration,
        /// How often it was tried.
        tries: u32,
    },
    /// The server refused.
    #[error("{url}: the server answers with status {status}: {message}")]
    Refused {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of what it said.
        message: String,
    },
    /// The server answered, and not as a completions server does.
    #[error("{url}: {place}: expected {expected}, found {found}")]
    Answer {
        /// The address.
        url: String,
        /// Where in the answer.
        place: String,
        /// What belongs there.
        expected: String,
        /// What was there.
        found: String,
    },
    /// The request cannot be put to such a server.
    #[error("{0}")]
    Request(String),
}

/// The way to one address.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) url: String,
    agent: Agent,
    key: Option<String>,
    limit: Duration,
    retries: u32,
    pause: Duration,
}

/// A try that failed: whether another may help.
enum Failed {
    Again(HttpError),
    ForGood(HttpError),
}

impl Client {
    pub(super) fn new(
        url: String,
        key: Option<String>,
        limit: Duration,
        retries: u32,
        pause: Duration,
    ) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(limit))
            .http_status_as_error(false)
            .max_redirects(0)
            // The address is the user's word; a proxy of the environment is not.
            .proxy(None)
            .build();
        Self { url, agent: config.into(), key, limit, retries, pause }
    }

    /// Sends a body and gives back the answer as JSON. What may pass is tried again, each time after a longer pause.
    pub(super) fn post(&self, body: &Value) -> Result<Value, HttpError> {
        let text = body.to_string();
        let mut pause = self.pause;
        for tries in 1.. {
            match self.once(&text, tries) {
                Ok(answer) => return Ok(answer),
                Err(Failed::ForGood(error)) => return Err(error),
                Err(Failed::Again(error)) if tries > self.retries => return Err(error),
                Err(Failed::Again(_)) => std::thread::sleep(pause),
            }
            pause = pause.saturating_mul(2);
        }
        Err(HttpError::Request("no try".to_owned()))
    }

    fn once(&self, text: &str, tries: u32) -> Result<Value, Failed> {
        let failed = |error: ureq::Error| self.failed(&error, tries);
        let mut request = self.agent.post(&self.url).header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut response = request.send(text).map_err(failed)?;
        let status = response.status().as_u16();
        let bytes = response.body_mut().with_config().limit(LONGEST).read_to_vec().map_err(failed)?;
        if status != 200 {
            let error = HttpError::Refused { url: self.url.clone(), status, message: said(&bytes) };
            let passes = matches!(status, 408 | 429 | 500 | 502 | 503 | 504);
            return Err(if passes { Failed::Again(error) } else { Failed::ForGood(error) });
        }
        serde_json::from_slice(&bytes).map_err(|_| {
            let expected = "JSON".to_owned();
            let (url, place, found) = (self.url.clone(), "the answer".to_owned(), said(&bytes));
            Failed::ForGood(HttpError::Answer { url, place, expected, found })
        })
    }

    fn failed(&self, error: &ureq::Error, tries: u32) -> Failed {
        let url = self.url.clone();
        match error {
            ureq::Error::Timeout(_) => Failed::Again(HttpError::Stalled { url, limit: self.limit, tries }),
            ureq::Error::BadUri(message) => {
                Failed::ForGood(HttpError::Address { url, message: message.replace('\n', " ") })
            }
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                Failed::Again(HttpError::Stalled { url, limit: self.limit, tries })
            }
            other => {
                let message = other.to_string().replace('\n', " ");
                Failed::Again(HttpError::Connection { url, message, tries })
            }
        }
    }

    pub(super) fn wrong(&self, place: &str, expected: &str, found: &Value) -> HttpError {
        let found: String = found.to_string().chars().take(80).collect();
        HttpError::Answer {
            url: self.url.clone(),
            place: place.to_owned(),
            expected: expected.to_owned(),
            found: if found == "null" { "nothing".to_owned() } else { found },
        }
    }
}

/// The beginning of what a server said, as one line.
fn said(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned();
    let message = serde_json::from_slice::<Value>(bytes).ok().and_then(|value| {
        let message = value["error"]["message"].as_str().or_else(|| value["message"].as_str());
        message.map(str::to_owned)
    });
    let line: String = message.unwrap_or(text).split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() { "nothing".to_owned() } else { line.chars().take(120).collect() }
}
