//! One readable loop that trains the new blocks of a grown model, or every weight.
//!
//! [`fit`] reads top to bottom: batch, forward and backward per micro-batch, clip, AdamW, validation, checkpoint. The
//! freeze set comes from expansion.json through [`llama_pro_model::Trained::Names`]; frozen weights get no gradient, no
//! optimizer state and no place in a checkpoint. The data order is a function of (seed, step), so a resumed run sees what
//! an uninterrupted one would have seen, and on the CPU with the same number of threads ends with the same bits.

mod batch;
mod batches;
mod checkpoint;
mod choices;
mod config;
mod conversations;
mod error;
mod export;
mod fit;
mod folders;
mod forgetting;
mod moments;
mod objective;
mod optimizer;
mod passes;
mod saver;
mod schedule;
mod tape;
mod trainer;
mod watchdog;

pub use batch::MicroBatch;
pub use batches::{Batches, SampledRows, WithKept};
pub use checkpoint::{Best, Saved, differences, load, resume};
pub use choices::{Dtype, Keeps, Outliers, Parameters, Schedule};
pub use config::TrainConfig;
pub use conversations::{Conversation, ConversationBatches};
pub use error::{Error, Result};
pub use fit::{Finished, Fit, Look, Observer, Outcome, StepReport, fit};
pub use forgetting::Forgetting;
pub use moments::MomentKind;
pub use objective::{Keep, MicroStats};
pub use passes::rows_per_pass;
pub use schedule::learning_rate;
pub use trainer::{StepStats, Trainer, trained_parts};
