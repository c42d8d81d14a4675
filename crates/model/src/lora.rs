//! Low-rank adapters (LoRA, arXiv 2106.09685): a frozen matrix W computes as W + alpha / r * B A, and only A and B are
//! trained. A begins random, B at zero, so the model begins as it was. Names and layout are those of the peft package.

use tch::{Kind, Tensor};

use crate::block::Linear;
use crate::llama::{Llama, Parameter};
use crate::{Error, Result};

/// Modules of a block that can have an adapter.
pub const LORA_TARGETS: [&str; 7] =
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// Which adapters a model gets.
#[derive(Clone, Debug)]
pub struct LoraOptions {
    /// Rank of the update.
    pub rank: usize,
    /// The update is multiplied by alpha / rank.
    pub alpha: f64,
    /// Names out of [`LORA_TARGETS`], in every block.
    pub targets: Vec<String>,
    /// Decides the random A.
    pub seed: u64,
}

/// One adapter: `a_rd` `[rank, in]`, `b_or` `[out, rank]`.
pub(crate) struct Lora {
    a_rd: Tensor,
    b_or: Tensor,
    scale: f64,
}

impl Lora {
    /// What the adapter adds to the output for `x`.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.a_rd, None::<&Tensor>).linear(&self.b_or, None::<&Tensor>) * self.scale
    }

    /// A copy of `weight` with the adapter in it, in its dtype.
    pub(crate) fn merged_into(&self, weight: &Tensor) -> Tensor {
        merged(weight, &self.a_rd, &self.b_or, self.scale).to_kind(weight.kind())
    }
}

impl Llama {
    /// Gives every block trained adapters; the model computes what it did before. They follow the other parameters as
    /// `model.layers.N.self_attn.q_proj.lora_A.weight` and `.lora_B.weight`.
    ///
    /// # Errors
    /// A target that is none, a rank of 0 or larger than a matrix, or adapters that are there already.
    pub fn add_lora(&mut self, options: &LoraOptions) -> Result<()> {
        let fail = |line: String| Err(Error::Input(line));
        if self.lora_scale.is_some() {
            return fail("the model has low-rank adapters already".to_owned());
        }
        if options.targets.is_empty() {
            return fail("lora.targets is empty: no module would be trained".to_owned());
        }
        for target in &options.targets {
            if !LORA_TARGETS.contains(&target.as_str()) {
                return fail(format!(
                    "lora.targets: no module is called `{target}`: expected some of {}",
                    LORA_TARGETS.join(", ")
                ));
            }
        }
        let scale = options.alpha / options.rank.max(1) as f64;
        let mut added = Vec::new();
        for (i, block) in self.blocks.iter_mut().enumerate() {
            let modules: [(&str, &mut Linear); 7] = [
                ("self_attn.q_proj", &mut block.q_proj),
                ("self_attn.k_proj", &mut block.k_proj),
                ("self_attn.v_proj", &mut block.v_proj),
                ("self_attn.o_proj", &mut block.o_proj),
                ("mlp.gate_proj", &mut block.gate_proj),
                ("mlp.up_proj", &mut block.up_proj),
                ("mlp.down_proj", &mut block.down_proj),
            ];
            for (path, linear) in modules {
                let target = path.split_once('.').map_or(path, |(_, name)| name);
                if !options.targets.iter().any(|t| t == target) {
                    continue;
                }
                let name = format!("model.layers.{i}.{path}");
                let (out, input) = linear.weight.size2()?;
                let rank = options.rank as i64;
                if rank < 1 || rank > out.min(input) {
                    return fail(format!("lora.rank = {rank}: `{name}` is {out} by {input}"));
                }
                let place = (self.kind, self.device);
                // The bound of peft's default: uniform within 1 / sqrt(in).
                let bound = 1.0 / (input as f64).sqrt();
                let values: Vec<f32> = uniform(options.seed, &name, (rank * input) as usize, bound);
                let a_rd = Tensor::from_slice(&values).view([rank, input]);
                let a_rd = a_rd.f_to_device_(place.1, place.0, false, true)?.f_set_requires_grad(true)?;
                let b_or = Tensor::f_zeros([out, rank], place)?.f_set_requires_grad(true)?;
                for (part, tensor) in [("lora_A", &a_rd), ("lora_B", &b_or)] {
                    let name = format!("{name}.{part}.weight");
                    added.push(Parameter { name, tensor: tensor.shallow_clone(), trained: true });
                }
                linear.lora = Some(Lora { a_rd, b_or, scale });
            }
        }
        self.parameters.extend(added);
        self.lora_scale = Some(scale);
        Ok(())
    }

    /// What B A is multiplied by, where the model has adapters.
    pub fn lora_scale(&self) -> Option<f64> {
        self.lora_scale
    }
}

/// A matrix with its adapter merged in: `[out, in]` float32.
pub fn merged(weight: &Tensor, a_rd: &Tensor, b_or: &Tensor, scale: f64) -> Tensor {
    let wide = |t: &Tensor| t.detach().to_kind(Kind::Float);
    wide(weight) + wide(b_or).matmul(&wide(a_rd)) * scale
}

/// Numbers as a function of (seed, name, index): SplitMix64, uniform within the bound.
fn uniform(seed: u64, name: &str, n: usize, bound: f64) -> Vec<f32> {
    let mix = |mut x: u64| {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let key = name.bytes().fold(mix(seed ^ 0x10a5), |key, byte| mix(key ^ u64::from(byte)));
    let number =
        |i: u64| (mix(key ^ mix(i.wrapping_add(0x9e37_79b9_7f4a_7c15))) >> 11) as f64 / (1u64 << 53) as f64;
    (0..n as u64).map(|i| ((2.0 * number(i) - 1.0) * bound) as f32).collect()
}
