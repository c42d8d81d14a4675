//! How far the grown model has moved from its base, measured while it trains: KL(base || model), and the token shift of
//! LLaMA Pro (arXiv 2401.02415, section on aligned models, after arXiv 2312.01552).
//!
//! The token shift asks at every position which token the grown model would say, and where the base has that token in its
//! own order: first (unshifted), second or third (marginal), or lower (shifted). The paper reads answers that the grown
//! model wrote; here the text is given, so that two looks at two steps are looks at the same positions.
//!
//! The base is the same weights with the new blocks skipped, and below the lowest new block both are one computation.

use llama_pro_model::{Llama, Path, guarded, loss};
use tch::{Kind, Tensor};

use crate::batch::MicroBatch;
use crate::objective::counted;
use crate::trainer::{Trainer, check_base};
use crate::{Error, Result};

/// Positions whose logits are in memory at a time.
const CHUNK: i64 = 512;

/// The distance of a model to its base on some text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Forgetting {
    /// Mean KL(base || model), nats per token.
    pub kl: f64,
    /// Share of positions whose likeliest token is the base's likeliest too.
    pub unshifted: f64,
    /// Share where it is the base's second or third.
    pub marginal: f64,
    /// Share where it is lower in the base's order.
    pub shifted: f64,
    /// Positions.
    pub tokens: u64,
}

impl Trainer {
    /// Compares the model with its base at every counted target of `micros`. `None` where no base is at hand: weights of
    /// the base itself are trained and no other copy was given.
    ///
    /// # Errors
    /// No target at all, or an error of libtorch.
    pub fn forgetting(&self, micros: impl IntoIterator<Item = MicroBatch>) -> Result<Option<Forgetting>> {
        let reference = self.reference.as_ref();
        if check_base(&self.model, reference).is_err() {
            return Ok(None);
        }
        let mut sums = Sums::default();
        for micro in micros {
            guarded(Error::Torch, || sums.add(&self.model, reference, &micro))?;
        }
        if sums.tokens == 0 {
            return Err(Error::Setup("no text to compare the model with its base on".to_owned()));
        }
        let share = |count: i64| count as f64 / sums.tokens as f64;
        Ok(Some(Forgetting {
            kl: sums.kl / sums.tokens as f64,
            unshifted: share(sums.first),
            marginal: share(sums.third - sums.first),
            shifted: share(sums.tokens as i64 - sums.third),
            tokens: sums.tokens,
        }))
    }
}

#[derive(Default)]
struct Sums {
    kl: f64,
    /// Positions whose token is the base's first.
    first: i64,
    /// Positions whose token is among the base's first three.
    third: i64,
    tokens: u64,
}

impl Sums {
    fn add(&mut self, model: &Llama, reference: Option<&Llama>, micro: &MicroBatch) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let inputs = micro.inputs();
        let context = model.context(&inputs)?;
        let blocks = model.n_blocks();
        let shared = model.added().iter().position(|&new| new).unwrap_or(blocks);
        let lower_btd = model.run(model.embed(&micro.ids), 0..shared, &context, Path::Grown);
        let base_btd = match reference {
            Some(base) => {
                base.run(base.embed(&micro.ids), 0..base.n_blocks(), &base.context(&inputs)?, Path::Grown)
            }
            None => model.run(lower_btd.shallow_clone(), shared..blocks, &context, Path::Base),
        };
        let grown_btd = model.run(lower_btd, shared..blocks, &context, Path::Grown);
        let owner = reference.unwrap_or(model);
        let (_, places) = counted(micro, 0, micro.ids.size()[0]);
        let chosen = |hidden_btd: &Tensor| {
            let d = hidden_btd.size()[2];
            hidden_btd.reshape([-1, d]).index_select(0, &places)
        };
        let (grown_nd, base_nd) = (chosen(&model.finish(&grown_btd)), chosen(&owner.finish(&base_btd)));
        let n = places.numel() as i64;
        for first in (0..n).step_by(CHUNK as usize) {
            let chunk = |hidden_nd: &Tensor| hidden_nd.narrow(0, first, CHUNK.min(n - first));
            let (grown_nv, base_nv) = (model.head(&chunk(&grown_nd)), owner.head(&chunk(&base_nd)));
            self.kl += loss::kl_to_base(&base_nv, &grown_nv).sum(Kind::Double).double_value(&[]);
            let said_n1 = grown_nv.argmax(-1, true);
            // How many tokens the base likes better; ties do not count against it.
            let above_n = base_nv.gt_tensor(&base_nv.gather(1, &said_n1, false)).sum_dim_intlist(
                [1i64].as_slice(),
                false,
                Kind::Int64,
            );
            self.first += above_n.lt(1).sum(Kind::Int64).int64_value(&[]);
            self.third += above_n.lt(3).sum(Kind::Int64).int64_value(&[]);
        }
        self.tokens += n as u64;
        Ok(())
    }
}
