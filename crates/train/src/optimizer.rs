//! AdamW over the trained weights alone: float32 master copies where the model computes in less, two moments (see
//! [`crate::moments`]), nothing for what is frozen.
//!
//! A step is limited by memory: for bfloat16 weights on a CPU with kernels the gradient of a single micro-batch is read as
//! it is, once for the norm and once in the pass that updates moments, master and weight. Only where several micro-batches
//! make a step are there float32 sums.

use llama_pro_model::Llama;
use llama_pro_torch_ext::{self as torch_ext, AdamwParams, MixedState, fused_adamw};
use tch::{Device, Kind, Tensor};

use crate::moments::{MomentKind, Moments};
use crate::{Result, TrainConfig};

/// Weights that libtorch's kernel steps in one call.
const TOGETHER: usize = 1 << 24;

/// State of one trained weight.
pub(crate) struct Slot {
    pub(crate) name: String,
    /// The weight in the model.
    pub(crate) weight: Tensor,
    /// float32 master copy; the weight itself where it is float32.
    pub(crate) master: Tensor,
    pub(crate) moments: Moments,
    /// float32 sum of the gradients of a step of several micro-batches, where the weight has less: autograd would add them up
    /// in its dtype, and bfloat16 drops whatever is below 1/256 of the sum. Made when it is first needed.
    sum: Option<Tensor>,
    /// Matrices decay, norms and biases do not; embedding and head as the config says.
    decays: bool,
}

/// AdamW and what it remembers.
pub(crate) struct Optimizer {
    pub(crate) slots: Vec<Slot>,
    pub(crate) kind: MomentKind,
    /// Steps taken, as the kernel reads it.
    count: Tensor,
    betas: (f64, f64),
    eps: f64,
    weight_decay: f64,
    clip: f64,
}

impl Optimizer {
    pub(crate) fn new(model: &Llama, config: &TrainConfig) -> Self {
        let device = model.device();
        let slots = model.parameters().iter().filter(|p| p.trained).map(|p| {
            let weight = p.tensor.shallow_clone();
            let master = match weight.kind() {
                Kind::Float => weight.detach(),
                _ => weight.detach().to_kind(Kind::Float),
            };
            let moments = Moments::zeros(config.moments, &weight.size(), device);
            let outer = matches!(p.name.as_str(), "model.embed_tokens.weight" | "lm_head.weight");
            let decays = weight.dim() > 1 && (config.decay_embeddings || !outer);
            Slot { name: p.name.clone(), decays, weight, master, moments, sum: None }
        });
        Self {
            slots: slots.collect(),
            kind: config.moments,
            count: Tensor::zeros([], (Kind::Float, device)),
            betas: config.betas,
            eps: config.eps,
            weight_decay: config.weight_decay,
            clip: config.clip,
        }
    }

    /// Adds the gradients of one of several micro-batches to float32 sums, where the weights have less.
    pub(crate) fn gather(&mut self) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for slot in self.slots.iter_mut().filter(|slot| slot.has_master()) {
            let grad = slot.weight.grad();
            if !grad.defined() {
                continue;
            }
            let device = slot.device();
            let sum = slot.sum.get_or_insert_with(|| Tensor::zeros(grad.size(), (Kind::Float, device)));
            if grad.kind() == Kind::BFloat16 && torch_ext::has_kernels(grad.kind(), device) {
                torch_ext::add_into(sum, &grad.contiguous())?;
            } else {
                let _ = sum.g_add_(&grad.to_kind(Kind::Float));
            }
            torch_ext::forget_grad(&slot.weight)?;
        }
        Ok(())
    }

    /// Forgets the gradients of a step that is not taken.
    pub(crate) fn clear(&mut self) {
        let _guard = tch::no_grad_guard();
        for slot in &mut self.slots {
            if slot.has_master() {
                // The next gradient takes the place of this one; adding it to zeros would read and write both.
                let _ = torch_ext::forget_grad(&slot.weight);
            } else {
                slot.weight.zero_grad();
            }
            if let Some(sum) = &mut slot.sum {
                let _ = sum.zero_();
            }
        }
    }

    /// The gradients of the step and their global norm, which may be no number.
    pub(crate) fn gradients(&self) -> Result<(Vec<Tensor>, f64)> {
        let _guard = tch::no_grad_guard();
        let grads: Vec<Tensor> = self.slots.iter().map(Slot::grad).collect();
        let mut norms = Vec::new();
        let mut squares = 0.0;
        for (slot, grad) in self.slots.iter().zip(&grads) {
            match slot.in_one_pass() {
                true => squares += torch_ext::squares(grad)?,
                false => norms.push(grad.to_kind(Kind::Float).norm()),
            }
        }
        let mut norm = squares.sqrt();
        if !norms.is_empty() {
            norm = norm.hypot(Tensor::f_stack(&norms, 0)?.norm().double_value(&[]));
        }
        Ok((grads, norm))
    }

    /// Clips, steps and clears the gradients.
    pub(crate) fn step(&mut self, grads: &[Tensor], norm: f64, learning_rate: f64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let scale = (self.clip / (norm + 1e-6)).min(1.0);
        let _ = self.count.g_add_scalar_(1.0);
        let step = self.count.double_value(&[]) as u64;
        for decays in [true, false] {
            let params = AdamwParams {
                learning_rate,
                betas: self.betas,
                eps: self.eps,
                weight_decay: if decays { self.weight_decay } else { 0.0 },
            };
            let (mut plain, mut numbers) = (Vec::new(), 0);
            for (i, grad) in grads.iter().enumerate() {
                let slot = &mut self.slots[i];
                if slot.decays != decays {
                    continue;
                }
                if slot.in_one_pass()
                    && let Moments::Full { first, second } = &slot.moments
                {
                    let state = MixedState { master: &slot.master, exp_avg: first, exp_avg_sq: second };
                    torch_ext::adamw_mixed(&slot.weight, &state, grad, step, params, scale)?;
                    continue;
                }
                // In float32 before it is scaled: bfloat16 would round once more.
                let mut grad = grad.to_kind(Kind::Float);
                if scale < 1.0 {
                    let _ = grad.g_mul_scalar_(scale);
                }
                if matches!(slot.moments, Moments::Full { .. }) {
                    numbers += grad.numel();
                    plain.push((i, grad));
                } else {
                    slot.moments.step(&slot.master, &grad, &self.count, params)?;
                    slot.publish();
                }
                // Never float32 copies of all gradients at once.
                if numbers >= TOGETHER {
                    numbers = 0;
                    self.plain_step(&std::mem::take(&mut plain), params)?;
                }
            }
            self.plain_step(&plain, params)?;
        }
        self.clear();
        Ok(())
    }

    /// libtorch's fused kernel over some weights and their gradients.
    fn plain_step(&mut self, chosen: &[(usize, Tensor)], params: AdamwParams) -> Result<()> {
        let slots = || chosen.iter().map(|(i, _)| &self.slots[*i]);
        let (first, second): (Vec<Tensor>, Vec<Tensor>) =
            slots().map(|slot| slot.moments.read(&slot.weight.size())).map(|[m, v]| (m, v)).unzip();
        fused_adamw(
            &slots().map(|slot| slot.master.shallow_clone()).collect::<Vec<_>>(),
            &chosen.iter().map(|(_, grad)| grad.shallow_clone()).collect::<Vec<_>>(),
            &first,
            &second,
            &slots().map(|_| self.count.shallow_clone()).collect::<Vec<_>>(),
            params,
        )?;
        for (i, _) in chosen {
            self.slots[*i].publish();
        }
        Ok(())
    }

    /// Steps taken.
    pub(crate) fn set_steps(&mut self, steps: u64) {
        self.count = Tensor::full([], steps as f64, (Kind::Float, self.count.device()));
    }

    /// Bytes of master copies, moments and gradients.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let numel = |t: &Tensor| t.numel() as u64;
        let state = |s: &Slot| s.moments.bytes() + if s.has_master() { 4 * numel(&s.weight) } else { 0 };
        let grads = |s: &Slot| {
            let own = s.weight.kind().elt_size_in_bytes() as u64;
            (own + if s.sum.is_some() { 4 } else { 0 }) * numel(&s.weight)
        };
        (self.slots.iter().map(state).sum(), self.slots.iter().map(grads).sum())
    }
}

impl Slot {
    /// The gradient of the step, contiguous: its sum, or where it was not gathered that of the only micro-batch; zeros where
    /// backward did not come by.
    fn grad(&self) -> Tensor {
        let grad = self.weight.grad();
        match &self.sum {
            _ if grad.defined() => grad.contiguous(),
            Some(sum) => sum.shallow_clone(),
            None => Tensor::zeros(self.weight.size(), (self.weight.kind(), self.device())),
        }
    }

    /// Whether gradients, moments, master and weight are gone through once, in a kernel of our own.
    fn in_one_pass(&self) -> bool {
        self.weight.kind() == Kind::BFloat16
            && matches!(self.moments, Moments::Full { .. })
            && torch_ext::has_kernels(Kind::BFloat16, self.device())
    }

    fn device(&self) -> Device {
        self.weight.device()
    }

    /// Whether the master is a copy of its own.
    pub(crate) fn has_master(&self) -> bool {
        self.weight.kind() != Kind::Float
    }

    /// Rounds the master back into the model.
    pub(crate) fn publish(&mut self) {
        if self.has_master() {
            self.weight.copy_(&self.master);
        }
    }
}
