//! A model with random weights, made on its device: to measure with, where no checkpoint of the size is at hand.

use std::collections::HashMap;

use llama_pro_checkpoint::LlamaConfig;
use tch::{Kind, Tensor};

use crate::Result;
use crate::llama::{Llama, Parameter};
use crate::load::{LoadOptions, assemble, trained_flags};

impl Llama {
    /// Weights drawn from a normal distribution of standard deviation 0.02, norms of one and biases of zero; libtorch's
    /// generator decides them. `options.kind` defaults to float32.
    ///
    /// # Errors
    /// A name to be trained or a new block that the model does not have, or no memory.
    pub fn random(config: LlamaConfig, options: &LoadOptions) -> Result<Self> {
        let kind = options.kind.unwrap_or(Kind::Float);
        let specs = config.parameters();
        let mut trained: HashMap<String, bool> =
            trained_flags(&options.trained, specs.iter().map(|s| s.name.as_str()))?;
        let mut parameters = Vec::with_capacity(specs.len());
        for spec in specs {
            let shape: Vec<i64> = spec.shape.iter().map(|&d| d as i64).collect();
            let mut tensor = Tensor::f_empty(shape.as_slice(), (kind, options.device))?;
            let _ = match shape.len() {
                1 if spec.name.ends_with(".bias") => tensor.f_zero_()?,
                1 => tensor.f_fill_(1.0)?,
                _ => tensor.f_normal_(0.0, 0.02)?,
            };
            let trained = trained.remove(&spec.name).unwrap_or(false);
            let tensor = tensor.f_set_requires_grad(trained)?;
            parameters.push(Parameter { name: spec.name, tensor, trained });
        }
        assemble(config, parameters, options, kind)
    }
}
