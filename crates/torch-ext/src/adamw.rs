//! One AdamW step in libtorch's fused kernel (decoupled weight decay, Loshchilov and Hutter, arXiv 1711.05101).
#![allow(unsafe_code)]

use std::ffi::c_void;

use tch::{Kind, Tensor};

use crate::ffi::{self, Error};

/// The numbers of one AdamW step, with the names and meanings of `torch.optim.AdamW`.
#[derive(Clone, Copy, Debug)]
pub struct AdamwParams {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay rates of the first and second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled: the parameter is multiplied by `1 - learning_rate * weight_decay`.
    pub weight_decay: f64,
}

/// The kernel walks raw memory by the parameter's element count and looks at no size or stride itself.
fn check_one(i: usize, param: &Tensor, others: &[(&str, &Tensor)]) -> Result<(), Error> {
    if !param.defined() || !param.is_contiguous() {
        return Err(Error::Argument(format!("AdamW parameter {i}: expected a contiguous tensor")));
    }
    let shape = |t: &Tensor| (t.size(), t.kind(), t.device());
    for (what, tensor) in others {
        if !tensor.defined() || !tensor.is_contiguous() || shape(tensor) != shape(param) {
            let found = if tensor.defined() { format!("{:?}", shape(tensor)) } else { "nothing".to_owned() };
            let line =
                format!("AdamW parameter {i}: {what} is {found}, expected contiguous {:?}", shape(param));
            return Err(Error::Argument(line));
        }
    }
    Ok(())
}

/// Updates every tensor of `params` in place. All lists have one entry per parameter; `steps` holds float32 scalars that
/// already count this step (1 at the first), on the device of the parameters.
///
/// # Errors
/// Lists of different lengths; tensors that differ from their parameter in shape, dtype or device or are not contiguous;
/// or what libtorch refuses.
pub fn fused_adamw(
    params: &[Tensor],
    grads: &[Tensor],
    exp_avgs: &[Tensor],
    exp_avg_sqs: &[Tensor],
    steps: &[Tensor],
    step: AdamwParams,
) -> Result<(), Error> {
    let n = params.len();
    if [grads.len(), exp_avgs.len(), exp_avg_sqs.len(), steps.len()].iter().any(|&l| l != n) {
        return Err(Error::Argument(format!("AdamW lists differ in length from {n} parameters")));
    }
    if n == 0 {
        return Ok(());
    }
    for i in 0..n {
        check_one(
            i,
            &params[i],
            &[("gradient", &grads[i]), ("exp_avg", &exp_avgs[i]), ("exp_avg_sq", &exp_avg_sqs[i])],
        )?;
        let count = &steps[i];
        if !count.defined()
            || count.numel() != 1
            || count.kind() != Kind::Float
            || count.device() != params[i].device()
        {
            return Err(Error::Argument(format!(
                "AdamW parameter {i}: its step count is no float32 scalar beside it"
            )));
        }
    }
    let pointers =
        |list: &[Tensor]| -> Vec<*mut c_void> { list.iter().map(|t| t.as_ptr() as *mut c_void).collect() };
    let (mut p, mut g, mut m) = (pointers(params), pointers(grads), pointers(exp_avgs));
    let (mut v, mut s) = (pointers(exp_avg_sqs), pointers(steps));
    // SAFETY: each list holds `n` live at::Tensor pointers for the length of the call; the kernel writes through the
    // tensors' own storage, which tch allows behind `&Tensor` (its in-place methods do the same).
    let message = unsafe {
        ffi::lp_fused_adamw(
            p.as_mut_ptr(),
            g.as_mut_ptr(),
            m.as_mut_ptr(),
            v.as_mut_ptr(),
            s.as_mut_ptr(),
            n,
            step.learning_rate,
            step.betas.0,
            step.betas.1,
            step.weight_decay,
            step.eps,
        )
    };
    ffi::check(message)
}
