//! Losses, computed in float32 whatever the model computes in.

use tch::{Kind, Reduction, Tensor};

/// Targets with this value are not counted.
pub const IGNORED: i64 = llama_pro_eval::IGNORED;

/// Cross-entropy in nats at every position: `logits_nv` `[N, V]`, `targets_n` int64 `[N]`, to float32 `[N]`; 0 where the
/// target is [`IGNORED`].
pub fn cross_entropy(logits_nv: &Tensor, targets_n: &Tensor) -> Tensor {
    logits_nv.to_kind(Kind::Float).cross_entropy_loss(
        targets_n,
        None::<&Tensor>,
        Reduction::None,
        IGNORED,
        0.0,
    )
}

/// KL(base || model) in nats at every position, to float32 `[N]`. The base carries no gradient.
pub fn kl_to_base(base_nv: &Tensor, model_nv: &Tensor) -> Tensor {
    let base = base_nv.detach().log_softmax(-1, Kind::Float);
    let model = model_nv.log_softmax(-1, Kind::Float);
    (base.exp() * (&base - model)).sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)
}
