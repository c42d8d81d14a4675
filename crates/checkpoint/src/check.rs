//! A checkpoint's tensors against what its configuration demands.

use std::collections::BTreeMap;

use safetensors::Dtype;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::llama::LlamaConfig;

impl Checkpoint {
    /// Fails unless every demanded tensor is there with its shape as F32, BF16 or F16, and nothing else is.
    ///
    /// Two extras of old files are let through: the `rotary_emb.inv_freq` buffers, which follow from the
    /// configuration, and an `lm_head.weight` beside tied embeddings that is equal to them byte for byte.
    pub fn check_parameters(&self, config: &LlamaConfig) -> Result<()> {
        let demanded: BTreeMap<String, Vec<usize>> =
            config.parameters().into_iter().map(|spec| (spec.name, spec.shape)).collect();
        let missing: Vec<_> = demanded.keys().filter(|name| self.info(name).is_err()).collect();
        if let Some(first) = missing.first() {
            let more = missing.len() - 1;
            let rest = if more == 0 { String::new() } else { format!(", as are {more} more") };
            return Err(Error::tensor(
                self.dir(),
                first,
                format!("is missing, but config.json demands it{rest}"),
            ));
        }
        for (name, shape) in &demanded {
            let info = self.info(name)?;
            let path = self.shards()[info.shard].path();
            if info.shape != *shape {
                let problem = format!("has shape {:?}, but config.json demands {shape:?}", info.shape);
                return Err(Error::tensor(path, name, problem));
            }
            if !matches!(info.dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16) {
                let problem = format!("has dtype {}, expected F32, BF16 or F16", info.dtype);
                return Err(Error::tensor(path, name, problem));
            }
        }
        for name in self.names().filter(|name| !demanded.contains_key(*name)) {
            if name.ends_with("rotary_emb.inv_freq") {
                continue;
            }
            let path = self.shards()[self.info(name)?.shard].path();
            if name != "lm_head.weight" {
                return Err(Error::tensor(path, name, "is there, but config.json does not demand it"));
            }
            let embedding = "model.embed_tokens.weight";
            if self.info(name)?.dtype != self.info(embedding)?.dtype
                || self.bytes(name)? != self.bytes(embedding)?
            {
                let problem =
                    "differs from model.embed_tokens.weight, but config.json says tie_word_embeddings";
                return Err(Error::tensor(path, name, problem));
            }
        }
        Ok(())
    }
}
