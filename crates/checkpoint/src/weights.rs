//! What the weight files of a folder hold, which is what they are named after.

/// Which tensors lie in a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// All of a model: `model.safetensors`, as transformers names it.
    #[default]
    Model,
    /// The new blocks of an expanded model alone: `new-blocks.safetensors`. The name is another one on purpose:
    /// transformers would load a folder without the other tensors and draw those at random.
    NewBlocks,
}

impl Weights {
    /// What every file name begins with.
    pub(crate) fn stem(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::NewBlocks => "new-blocks",
        }
    }

    /// The name where one file holds everything.
    pub(crate) fn single(self) -> String {
        format!("{}.safetensors", self.stem())
    }

    /// The name of the index, where there are several files.
    pub(crate) fn index(self) -> String {
        format!("{}.safetensors.index.json", self.stem())
    }
}
