//! What stops a training run, in one line each.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of training, resuming and exporting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model.
    #[error(transparent)]
    Model(#[from] llama_pro_model::Error),
    /// A checkpoint folder in Hugging Face layout.
    #[error(transparent)]
    Folder(#[from] llama_pro_checkpoint::Error),
    /// The expansion record.
    #[error(transparent)]
    Expand(#[from] llama_pro_expand::Error),
    /// The run folder.
    #[error(transparent)]
    Run(#[from] llama_pro_run::Error),
    /// The token shards.
    #[error(transparent)]
    Shards(#[from] llama_pro_shards::Error),
    /// The shim.
    #[error(transparent)]
    Shim(#[from] llama_pro_torch_ext::Error),
    /// Scoring held-out rows.
    #[error(transparent)]
    Eval(#[from] llama_pro_eval::Error),
    /// libtorch, through tch.
    #[error("libtorch: {0}")]
    Torch(String),
    /// A loss or a gradient norm that is no number: the weights are still those of the step before.
    #[error(
        "step {step}: {what} is {value}; stopped before the weights changed. To pass such steps over, go on with \
         --resume --run RUN --set train.outliers=skip, where RUN is this run's folder; in a new run a lower \
         train.learning-rate, a longer train.warmup or train.dtype = \"f32\" usually helps"
    )]
    NonFinite {
        /// Step, from 1.
        step: u64,
        /// Loss or gradient norm.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// A loss or gradient norm far above those before it, in a run that is to stop there: the weights are still those of
    /// the step before.
    #[error(
        "step {step}: {what} is {value:.4}, more than 6 standard deviations above the steps before it ({limit:.4}); \
         stopped before the weights changed, as train.outliers = \"stop\" says"
    )]
    Outlier {
        /// Step, from 1.
        step: u64,
        /// Loss or gradient norm.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The most that would have passed.
        limit: f64,
    },
    /// A disk without room for a checkpoint, found before anything of it was written.
    #[error(
        "{}: no space for a checkpoint: {:.1} MiB needed, {:.1} MiB free",
        path.display(), *needed as f64 / 1048576.0, *free as f64 / 1048576.0
    )]
    NoSpace {
        /// Where it would have gone.
        path: PathBuf,
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },
    /// A setting that cannot be.
    #[error("{key} = {value}: {expected}")]
    Config {
        /// Key of the recipe.
        key: &'static str,
        /// What was given.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A training checkpoint that is damaged or belongs to another run.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// Why it cannot be used.
        reason: String,
    },
    /// A frozen weight that is not what it was.
    #[error("frozen tensor `{0}` changed during training: its digest differs from expansion.json's")]
    FrozenChanged(String),
    /// A trainer that could not do what is asked of it.
    #[error("{0}")]
    Setup(String),
    /// Reading or writing.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        // libtorch appends a C++ backtrace: the first line says what happened.
        Self::Torch(error.to_string().lines().next().unwrap_or("").to_owned())
    }
}

/// Adds the path to an I/O error.
pub(crate) fn at(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    move |source| Error::Io { path: path.to_owned(), source }
}
