//! Recipes, run folders, provenance, metrics and reports: everything a run leaves behind besides weights.
//!
//! A run is one folder. It holds the recipe as it was resolved, where the run came from, one line of
//! metrics per step, TensorBoard event files, training checkpoints, the trained model and its scores.
//! This crate reads and writes all of it but the tensors, and links no libtorch.

mod atomic;
mod clock;
mod error;
mod events;
mod folder;
mod metrics;
mod provenance;
mod recipe;
pub mod report;
pub mod suggest;

pub use atomic::{digest, digest_file, write_atomic};
pub use clock::{compact_utc, rfc3339_utc};
pub use error::{Error, Result};
pub use events::EventWriter;
pub use folder::{CheckpointFolder, RunFolder};
pub use metrics::{MetricsWriter, read_metrics};
pub use provenance::{Invocation, Platform, Provenance};
pub use recipe::load_recipe;
