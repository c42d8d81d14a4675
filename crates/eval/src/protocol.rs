//! The three ways in which the harness's numbers have been made. A result says which one it is.

use serde::{Deserialize, Serialize};

/// What the versions of lm-evaluation-harness do differently. The scores of one model differ between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// lm-evaluation-harness 0.4.9.2 and later: text is encoded as the tokenizer does it, with its BOS where it has one.
    #[default]
    #[serde(rename = "current")]
    Current,
    /// 0.4.0 to 0.4.9.1, and the fork that LLaMA Pro's authors used: no BOS.
    #[serde(rename = "0.4.0")]
    V040,
    /// The first Open LLM Leaderboard (2023): no BOS, examples drawn by one generator with seed 42 from shuffled
    /// documents, GSM8K cut at the first colon.
    #[serde(rename = "leaderboard")]
    Leaderboard,
}

impl Protocol {
    /// Whether a text is encoded with BOS by a tokenizer that puts one in front.
    pub fn adds_bos(self) -> bool {
        self == Self::Current
    }

    /// The seed that examples are drawn with.
    pub fn seed(self) -> u64 {
        if self == Self::Leaderboard { 42 } else { 1234 }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::V040 => "0.4.0",
            Self::Leaderboard => "leaderboard",
        }
    }
}
