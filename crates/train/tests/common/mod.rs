//! Fixtures: model folders with the numbers that PyTorch and transformers get from them (tests/reference makes them).
#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod tiny;

use std::path::PathBuf;

use safetensors::SafeTensors;
use tch::{Kind, Tensor};

/// A folder under tests/fixtures of the workspace.
pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

/// `../shared/…` beside the workspace, or `None` with a line that says what is skipped.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let full = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(path);
    if full.exists() {
        return Some(full);
    }
    println!("skipped: ../shared/{path} is not there");
    None
}

/// The tensors of a safetensors file, read by the safetensors crate alone.
pub(crate) struct Expected(Vec<u8>);

impl Expected {
    pub(crate) fn read(path: &std::path::Path) -> Self {
        Self(std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    pub(crate) fn names(&self) -> Vec<String> {
        SafeTensors::deserialize(&self.0).unwrap().names().into_iter().map(str::to_owned).collect()
    }

    pub(crate) fn get(&self, name: &str) -> Tensor {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let shape: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
        let kind = match view.dtype() {
            safetensors::Dtype::F32 => Kind::Float,
            safetensors::Dtype::I64 => Kind::Int64,
            safetensors::Dtype::BF16 => Kind::BFloat16,
            safetensors::Dtype::F16 => Kind::Half,
            other => panic!("{name}: {other:?}"),
        };
        Tensor::from_data_size(view.data(), &shape, kind)
    }
}

/// Largest absolute difference.
pub(crate) fn max_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[])
}
