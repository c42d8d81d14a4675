//! Between the dtypes of safetensors and the kinds of tch. Only the three that models are computed in.

use llama_pro_checkpoint::Dtype;
use tch::Kind;

use crate::{Error, Result};

/// The tch kind of a weight's dtype.
///
/// # Errors
/// Anything but float32, bfloat16 and float16; `what` names the tensor or the setting.
pub fn kind_of(dtype: Dtype, what: &str) -> Result<Kind> {
    match dtype {
        Dtype::F32 => Ok(Kind::Float),
        Dtype::BF16 => Ok(Kind::BFloat16),
        Dtype::F16 => Ok(Kind::Half),
        other => Err(Error::Dtype { what: what.to_owned(), found: format!("{other:?}") }),
    }
}

/// The dtype under which a tensor of this kind is stored.
///
/// # Errors
/// Anything but float32, bfloat16 and float16.
pub fn dtype_of(kind: Kind) -> Result<Dtype> {
    match kind {
        Kind::Float => Ok(Dtype::F32),
        Kind::BFloat16 => Ok(Dtype::BF16),
        Kind::Half => Ok(Dtype::F16),
        other => Err(Error::Dtype { what: "tensor".to_owned(), found: format!("{other:?}") }),
    }
}
