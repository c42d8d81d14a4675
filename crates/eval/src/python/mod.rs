//! What lm-evaluation-harness takes from Python and its numbers depend on: `random.Random`, `json.dumps`, `repr`.
//!
//! Few-shot draws, document hashes and standard errors equal the harness' only when these are the same to the bit.

mod json;
mod random;

pub(crate) use json::{dumps, sha256, text};
pub use random::PythonRandom;
