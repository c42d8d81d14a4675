//! From a checkpoint folder to a model: frozen weights that already have the right dtype stay in the mapped file, with
//! no second copy; only trained or converted ones are copied.

use std::collections::HashMap;

use llama_pro_checkpoint::{Checkpoint, LlamaConfig};
use llama_pro_torch_ext::tensor_over_mapping;
use tch::{Device, Kind, Tensor};

use crate::block::{Block, Linear};
use crate::dtype::kind_of;
use crate::llama::{Llama, Parameter};
use crate::{Error, Result};

/// Which weights are trained. Names are exact: nothing is matched by prefix or guessed from counts.
#[derive(Clone, Debug, Default)]
pub enum Trained {
    /// None: inference.
    #[default]
    Nothing,
    /// Every weight.
    All,
    /// These, by full name.
    Names(Vec<String>),
}

/// How a model is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where to.
    pub device: Device,
    /// Dtype to compute in; `None` keeps that of the embedding.
    pub kind: Option<Kind>,
    /// What is trained.
    pub trained: Trained,
    /// New blocks, from expansion.json: what [`crate::Path::Base`] skips.
    pub added: Vec<usize>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { device: Device::Cpu, kind: None, trained: Trained::Nothing, added: Vec::new() }
    }
}

impl Llama {
    /// Loads a model folder.
    ///
    /// # Errors
    /// A config that this crate cannot compute, a tensor that is missing or has the wrong shape or dtype, a name to be
    /// trained or a new block that the model does not have.
    pub fn load(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Self> {
        let config = checkpoint.config().llama()?;
        checkpoint.check_parameters(&config)?;
        let stored = |name: &str| kind_of(checkpoint.info(name)?.dtype, &format!("tensor `{name}`"));
        let kind = match options.kind {
            Some(kind) => kind,
            None => stored("model.embed_tokens.weight")?,
        };
        let specs = config.parameters();
        let mut trained = trained_flags(&options.trained, specs.iter().map(|s| s.name.as_str()))?;
        let mut parameters = Vec::with_capacity(specs.len());
        for spec in specs {
            let shape: Vec<i64> = spec.shape.iter().map(|&d| d as i64).collect();
            let trained = trained.remove(&spec.name).unwrap_or(false);
            let tensor =
                weight(checkpoint, &spec.name, &shape, stored(&spec.name)?, kind, options.device, trained)?;
            parameters.push(Parameter { name: spec.name, tensor, trained });
        }
        assemble(config, parameters, options, kind)
    }

    /// The frozen weight `name` of `checkpoint` as [`Llama::load`] makes it for this model: to compare with.
    ///
    /// # Errors
    /// A tensor that is not there or not of a dtype that models are computed in.
    pub fn stored(&self, checkpoint: &Checkpoint, name: &str) -> Result<Tensor> {
        let info = checkpoint.info(name)?;
        let shape: Vec<i64> = info.shape.iter().map(|&d| d as i64).collect();
        weight(checkpoint, name, &shape, kind_of(info.dtype, name)?, self.kind, self.device, false)
    }
}

/// Puts weights into their places. They must be those that `config` demands.
pub(crate) fn assemble(
    config: LlamaConfig,
    parameters: Vec<Parameter>,
    options: &LoadOptions,
    kind: Kind,
) -> Result<Llama> {
    let n = config.num_hidden_layers;
    let mut added = vec![false; n];
    for &i in &options.added {
        *added.get_mut(i).ok_or_else(|| Error::Input(format!("new block {i} in a model of {n} blocks")))? =
            true;
    }
    let by_name: HashMap<&str, &Tensor> = parameters.iter().map(|p| (p.name.as_str(), &p.tensor)).collect();
    let find = |name: &str| by_name.get(name).map(|t| t.shallow_clone());
    // `check_parameters` has proved that every name below is there.
    let need =
        |name: String| find(&name).ok_or_else(|| Error::Input(format!("the model has no tensor `{name}`")));
    let blocks = (0..n)
        .map(|i| {
            let of = |part: &str| format!("model.layers.{i}.{part}");
            let linear = |part: &str| {
                Ok::<_, Error>(Linear {
                    weight: need(of(&format!("{part}.weight")))?,
                    bias: find(&of(&format!("{part}.bias"))),
                    lora: None,
                })
            };
            Ok(Block {
                input_layernorm: need(of("input_layernorm.weight"))?,
                q_proj: linear("self_attn.q_proj")?,
                k_proj: linear("self_attn.k_proj")?,
                v_proj: linear("self_attn.v_proj")?,
                o_proj: linear("self_attn.o_proj")?,
                post_attention_layernorm: need(of("post_attention_layernorm.weight"))?,
                gate_proj: linear("mlp.gate_proj")?,
                up_proj: linear("mlp.up_proj")?,
                down_proj: linear("mlp.down_proj")?,
                window: config.sliding_window[i],
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let embed_tokens = need("model.embed_tokens.weight".to_owned())?;
    let lm_head = if config.tie_word_embeddings {
        embed_tokens.shallow_clone()
    } else {
        need("lm_head.weight".to_owned())?
    };
    let norm = need("model.norm.weight".to_owned())?;
    drop(by_name);
    let device = options.device;
    Ok(Llama {
        config,
        parameters,
        embed_tokens,
        blocks,
        norm,
        lm_head,
        added,
        kind,
        device,
        lora_scale: None,
    })
}

/// One weight on its device, in its dtype. A frozen CPU weight is the mapped file itself.
fn weight(
    checkpoint: &Checkpoint,
    name: &str,
    shape: &[i64],
    stored: Kind,
    kind: Kind,
    device: Device,
    trained: bool,
) -> Result<Tensor> {
    let (mapping, range) = checkpoint.mapped(name)?;
    let mapped = match tensor_over_mapping(mapping, range, shape, stored) {
        Ok(tensor) => tensor,
        // An old writer may have left the data unaligned: then a copy is the only way.
        Err(llama_pro_torch_ext::Error::Misaligned(_)) => {
            tracing::debug!("{name} is not aligned in its file and is copied");
            Tensor::f_from_data_size(checkpoint.bytes(name)?, shape, stored)?
        }
        Err(error) => return Err(error.into()),
    };
    if !trained {
        return Ok(mapped.f_to_device(device)?.f_to_kind(kind)?);
    }
    let copy = mapped.f_to_device_(device, kind, false, true)?;
    Ok(copy.f_set_requires_grad(true)?)
}

/// Name to "is trained", refusing names that the model does not have.
pub(crate) fn trained_flags<'a>(
    trained: &Trained,
    names: impl Iterator<Item = &'a str>,
) -> Result<HashMap<String, bool>> {
    let mut flags: HashMap<String, bool> =
        names.map(|n| (n.to_owned(), matches!(trained, Trained::All))).collect();
    if let Trained::Names(wanted) = trained {
        for name in wanted {
            *flags.get_mut(name).ok_or_else(|| {
                Error::Input(format!("`{name}` is to be trained, but the model has no such tensor"))
            })? = true;
        }
    }
    Ok(flags)
}
