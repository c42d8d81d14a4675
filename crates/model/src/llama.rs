//! The decoder: embedding, blocks, final norm, head. Forward passes come whole ([`Llama::logits`]) or in the pieces that
//! a trainer needs: everything below the lowest trained block runs once, without a graph, and may be shared between the
//! grown model and its base.

use std::ops::Range;

use llama_pro_checkpoint::LlamaConfig;
use tch::{Device, Kind, Tensor};

use crate::block::{Block, rms_norm};
use crate::context::{Context, Inputs};
use crate::guard::guarded;
use crate::{Error, Result};

/// A named weight, in the order of the checkpoint.
pub struct Parameter {
    /// Hugging Face name.
    pub name: String,
    /// The weight itself; trained ones carry a gradient after backward.
    pub tensor: Tensor,
    /// Whether it is trained.
    pub trained: bool,
}

impl Parameter {
    /// The block it belongs to, from `model.layers.N.…`; `None` for embedding, final norm and head.
    pub fn block(&self) -> Option<usize> {
        self.name.strip_prefix("model.layers.")?.split_once('.')?.0.parse().ok()
    }
}

/// Which blocks a forward pass goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// All blocks: the model as it is.
    Grown,
    /// The new blocks are skipped: exactly the base model, from the same weights.
    Base,
}

/// A LLaMA-family model on one device.
pub struct Llama {
    pub(crate) config: LlamaConfig,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) embed_tokens: Tensor,
    pub(crate) blocks: Vec<Block>,
    pub(crate) norm: Tensor,
    pub(crate) lm_head: Tensor,
    pub(crate) added: Vec<bool>,
    pub(crate) kind: Kind,
    pub(crate) device: Device,
    /// alpha / rank of its low-rank adapters, where it has some.
    pub(crate) lora_scale: Option<f64>,
}

impl Llama {
    /// Logits `[B, T, V]` in the dtype of the model, with no graph.
    ///
    /// # Errors
    /// Ids that are not `[B, T]` or lie outside the vocabulary, or an error of libtorch.
    pub fn logits(&self, inputs: &Inputs, path: Path) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        guarded(Error::Torch, || {
            self.check_ids(inputs.ids)?;
            let context = self.context(inputs)?;
            let hidden = self.run(self.embed(inputs.ids), 0..self.blocks.len(), &context, path);
            Ok(self.head(&self.finish(&hidden)))
        })
    }

    /// Angles and masks for a forward pass over `inputs`.
    ///
    /// # Errors
    /// Ids that are not `[B, T]`.
    pub fn context(&self, inputs: &Inputs) -> Result<Context> {
        Context::new(&self.config, inputs, self.kind)
    }

    /// Token embeddings `[B, T, D]`.
    pub fn embed(&self, ids: &Tensor) -> Tensor {
        Tensor::embedding(&self.embed_tokens, ids, -1, false, false)
    }

    /// Sends `x_btd` through a range of blocks.
    pub fn run(&self, x_btd: Tensor, blocks: Range<usize>, context: &Context, path: Path) -> Tensor {
        let mut x_btd = x_btd;
        for i in blocks {
            if path == Path::Grown || !self.added[i] {
                x_btd = self.blocks[i].forward(&x_btd, &self.config, context);
            }
        }
        x_btd
    }

    /// The final norm.
    pub fn finish(&self, x_btd: &Tensor) -> Tensor {
        rms_norm(x_btd, &self.norm, self.config.rms_norm_eps)
    }

    /// Logits of normalised hidden states: `[.., D]` to `[.., V]`.
    pub fn head(&self, hidden: &Tensor) -> Tensor {
        hidden.linear(&self.lm_head, None::<&Tensor>)
    }

    /// The weight of the head, `[V, D]`; with tied embeddings it is theirs.
    pub fn head_weight(&self) -> &Tensor {
        &self.lm_head
    }

    /// The first block from which on a graph is needed: everything below is frozen and sees only frozen inputs.
    /// 0 when the embedding is trained, the number of blocks when only what follows them is.
    pub fn first_trained_block(&self) -> usize {
        let lowest = self.parameters.iter().filter(|p| p.trained).map(|p| match p.block() {
            Some(i) => i,
            None if p.name == "model.embed_tokens.weight" => 0,
            None => self.blocks.len(),
        });
        lowest.min().unwrap_or(self.blocks.len())
    }

    /// Refuses ids outside the vocabulary, which libtorch would otherwise meet deep inside.
    ///
    /// # Errors
    /// The largest or smallest id and the size of the vocabulary.
    pub fn check_ids(&self, ids: &Tensor) -> Result<()> {
        if ids.numel() == 0 {
            return Err(Error::Input("no token ids given".to_owned()));
        }
        let (low, high) = (ids.min().int64_value(&[]), ids.max().int64_value(&[]));
        if low < 0 || high >= self.config.vocab_size as i64 {
            let id = if low < 0 { low } else { high };
            return Err(Error::Input(format!(
                "token id {id} is outside the model's vocabulary of {}",
                self.config.vocab_size
            )));
        }
        Ok(())
    }

    /// The config that decides the numbers.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Every weight, in the order of the checkpoint.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Number of blocks.
    pub fn n_blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Which blocks are new.
    pub fn added(&self) -> &[bool] {
        &self.added
    }

    /// The dtype of weights and activations.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where the weights lie.
    pub fn device(&self) -> Device {
        self.device
    }
}
