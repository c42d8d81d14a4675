//! What a GPU's maker promises: dense bfloat16 products with float32 sums, the figure that a model's FLOPs utilisation
//! (MFU) is a share of. Other dtypes and unknown GPUs have no MFU here, rather than one against a guess.

use std::process::Command;

use tch::{Device, Kind};

/// Part of the name that the driver gives, and FLOP/s, from the makers' data sheets (without sparsity). The first that fits.
const DENSE_BF16: [(&str, f64); 13] = [
    ("B200", 2250e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H200 NVL", 835e12),
    ("H100", 989e12),
    ("H200", 989e12),
    ("H800", 989e12),
    ("GH200", 989e12),
    ("A100", 312e12),
    ("A800", 312e12),
    ("L40S", 362e12),
    ("A30", 165e12),
    ("L4", 121e12),
];

/// FLOP/s of `device` in `kind`. `None` for a CPU, another dtype, a GPU that is not listed, and where the driver's
/// nvidia-smi does not say which it is.
pub(crate) fn of(device: Device, kind: Kind) -> Option<f64> {
    let Device::Cuda(index) = device else { return None };
    if kind != Kind::BFloat16 {
        return None;
    }
    let id = physical(std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref(), index)?;
    let output = Command::new("nvidia-smi")
        .args(["--query-gpu=name", "--format=csv,noheader", &format!("--id={id}")])
        .output()
        .ok()?;
    listed(String::from_utf8_lossy(&output.stdout).trim())
}

/// By the name that the driver gives, for example "NVIDIA H100 80GB HBM3".
fn listed(name: &str) -> Option<f64> {
    // Words are met whole: an L4 is no L40.
    let words: Vec<&str> = name.split([' ', '-']).collect();
    let fits = |wanted: &str| wanted.split(' ').all(|word| words.contains(&word));
    DENSE_BF16.iter().find(|(wanted, _)| fits(wanted)).map(|(_, rate)| *rate)
}

/// The driver's own number, or UUID, of the GPU that the program sees as `index`.
fn physical(visible: Option<&str>, index: usize) -> Option<String> {
    match visible.map(str::trim).filter(|list| !list.is_empty()) {
        Some(list) => list.split(',').nth(index).map(|id| id.trim().to_owned()),
        None => Some(index.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_drivers_give_them() {
        for (name, tera) in [
            ("NVIDIA H200", 989.0),
            ("NVIDIA H100 80GB HBM3", 989.0),
            ("NVIDIA H100 PCIe", 756.0),
            ("NVIDIA H100 NVL", 835.0),
            ("NVIDIA H200 NVL", 835.0),
            ("NVIDIA GH200 480GB", 989.0),
            ("NVIDIA A100-SXM4-80GB", 312.0),
            ("NVIDIA A100 80GB PCIe", 312.0),
            ("NVIDIA L4", 121.0),
            ("NVIDIA L40S", 362.0),
            ("NVIDIA B200", 2250.0),
        ] {
            assert_eq!(listed(name), Some(tera * 1e12), "{name}");
        }
        for name in ["NVIDIA L40", "NVIDIA A10", "NVIDIA GeForce RTX 4090", "Tesla T4", ""] {
            assert_eq!(listed(name), None, "{name}");
        }
    }

    #[test]
    fn the_gpu_that_the_program_sees() {
        assert_eq!(physical(None, 1).as_deref(), Some("1"));
        assert_eq!(physical(Some(""), 1).as_deref(), Some("1"));
        assert_eq!(physical(Some("3, 5"), 1).as_deref(), Some("5"));
        assert_eq!(physical(Some("GPU-8a"), 0).as_deref(), Some("GPU-8a"));
        assert_eq!(physical(Some("3"), 1), None);
    }

    #[test]
    fn nothing_is_promised_of_a_cpu_or_in_float32() {
        assert_eq!(of(Device::Cpu, Kind::BFloat16), None);
        assert_eq!(of(Device::Cuda(0), Kind::Float), None);
    }
}
