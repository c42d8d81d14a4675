//! AdamW over the trained weights alone: float32 master copies where the model computes in less, two moments (see
//! [`crate::moments`]), nothing for what is frozen.

use llama_pro_model::Llama;
use llama_pro_torch_ext::{AdamwParams, fused_adamw};
use tch::{Device, Kind, Tensor};

use crate::moments::{MomentKind, Moments};
use crate::{Error, Result, TrainConfig};

/// State of one trained weight.
pub(crate) struct Slot {
    pub(crate) name: String,
    /// The weight in the model.
    pub(crate) weight: Tensor,
    /// float32 master copy; the weight itself where it is float32.
    pub(crate) master: Tensor,
    pub(crate) moments: Moments,
    /// float32 sum of the gradients of a step where the weight has less: autograd would add them up in its dtype, and
    /// bfloat16 drops whatever is below 1/256 of the sum.
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
            let sum =
                (weight.kind() != Kind::Float).then(|| Tensor::zeros(weight.size(), (Kind::Float, device)));
            let outer = matches!(p.name.as_str(), "model.embed_tokens.weight" | "lm_head.weight");
            let decays = weight.dim() > 1 && (config.decay_embeddings || !outer);
            Slot { name: p.name.clone(), decays, weight, master, moments, sum }
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

    /// Adds the gradients of one micro-batch to the float32 sums, where there are any.
    pub(crate) fn gather(&mut self) {
        let _guard = tch::no_grad_guard();
        for slot in &mut self.slots {
            let grad = slot.weight.grad();
            if let Some(sum) = &mut slot.sum
                && grad.defined()
            {
                let _ = sum.g_add_(&grad.to_kind(Kind::Float));
                slot.weight.zero_grad();
            }
        }
    }

    /// Forgets the gradients of a step that is not taken.
    pub(crate) fn clear(&mut self) {
        let _guard = tch::no_grad_guard();
        for slot in &mut self.slots {
            slot.weight.zero_grad();
            if let Some(sum) = &mut slot.sum {
                let _ = sum.zero_();
            }
        }
    }

    /// The gradients of the step in float32, and their global norm.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for a norm that is no number.
    pub(crate) fn gradients(&self, step: u64) -> Result<(Vec<Tensor>, f64)> {
        let _guard = tch::no_grad_guard();
        let grads: Vec<Tensor> = self.slots.iter().map(Slot::grad).collect();
        let norms: Vec<Tensor> = grads.iter().map(Tensor::norm).collect();
        let norm = Tensor::f_stack(&norms, 0)?.norm().double_value(&[]);
        if !norm.is_finite() {
            return Err(Error::NonFinite { step, what: "gradient norm", value: norm });
        }
        Ok((grads, norm))
    }

    /// Clips, steps and clears the gradients.
    pub(crate) fn step(&mut self, grads: &[Tensor], norm: f64, learning_rate: f64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let scale = self.clip / (norm + 1e-6);
        if scale < 1.0 {
            for grad in grads {
                let _ = grad.shallow_clone().g_mul_scalar_(scale);
            }
        }
        let _ = self.count.g_add_scalar_(1.0);
        for decays in [true, false] {
            let chosen: Vec<usize> =
                (0..self.slots.len()).filter(|&i| self.slots[i].decays == decays).collect();
            let list = |get: &dyn Fn(usize) -> Tensor| chosen.iter().map(|&i| get(i)).collect::<Vec<_>>();
            let count = self.count.shallow_clone();
            let params = AdamwParams {
                learning_rate,
                betas: self.betas,
                eps: self.eps,
                weight_decay: if decays { self.weight_decay } else { 0.0 },
            };
            if self.kind == MomentKind::Eight {
                for i in chosen {
                    let Slot { master, moments, .. } = &mut self.slots[i];
                    moments.step(master, &grads[i], &count, params)?;
                }
                continue;
            }
            let moments: Vec<[Tensor; 2]> =
                chosen.iter().map(|&i| self.slots[i].moments.read(&self.slots[i].weight.size())).collect();
            fused_adamw(
                &list(&|i| self.slots[i].master.shallow_clone()),
                &list(&|i| grads[i].shallow_clone()),
                &moments.iter().map(|[first, _]| first.shallow_clone()).collect::<Vec<_>>(),
                &moments.iter().map(|[_, second]| second.shallow_clone()).collect::<Vec<_>>(),
                &list(&|_| count.shallow_clone()),
                params,
            )?;
        }
        for slot in &mut self.slots {
            slot.publish();
        }
        self.clear();
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
        let grads = |s: &Slot| (if s.has_master() { 2 + 4 } else { 4 }) * numel(&s.weight);
        (self.slots.iter().map(state).sum(), self.slots.iter().map(grads).sum())
    }
}

impl Slot {
    /// The gradient of the step in float32, contiguous for the kernel; zeros where backward did not come by.
    fn grad(&self) -> Tensor {
        if let Some(sum) = &self.sum {
            return sum.shallow_clone();
        }
        let grad = self.weight.grad();
        if grad.defined() {
            grad.contiguous()
        } else {
            Tensor::zeros(self.weight.size(), (Kind::Float, self.device()))
        }
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
