//! What can go wrong between a checkpoint and its logits.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of loading and running a model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder, its config or a tensor.
    #[error(transparent)]
    Checkpoint(#[from] llama_pro_checkpoint::Error),
    /// libtorch or the shim.
    #[error(transparent)]
    Shim(#[from] llama_pro_torch_ext::Error),
    /// libtorch, through tch.
    #[error("libtorch: {0}")]
    Torch(String),
    /// A dtype that this crate does not compute in.
    #[error("{what} has dtype {found}: expected float32, bfloat16 or float16")]
    Dtype {
        /// Tensor or setting.
        what: String,
        /// What it holds.
        found: String,
    },
    /// A device that is not there.
    #[error("device `{asked}`: {reason}")]
    Device {
        /// What was asked for.
        asked: String,
        /// Why it cannot be had.
        reason: String,
    },
    /// Token ids that the vocabulary does not have, or inputs of the wrong shape.
    #[error("{0}")]
    Input(String),
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        // libtorch appends a C++ backtrace: the first line says what happened.
        Self::Torch(error.to_string().lines().next().unwrap_or("").to_owned())
    }
}
