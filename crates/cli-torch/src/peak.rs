//! What a GPU's maker promises: dense bfloat16 products with float32 sums, the figure that a model's FLOPs utilisation
//! (MFU) is a share of. Other dtypes and unknown GPUs have no MFU here, rather than one against a guess.

use std::process::Command;

use tch::{Device, Kind};

/// Part of the name that the driver gives, and FLOP/s, from the makers' data sheets (without sparsity). The first that fits.
const DENSE_BF16: [(&str, f64); 14] = [
    ("B200", 2250e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H200 NVL", 835e12),
    ("H800 PCIe", 756e12),
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
/// nvidia-smi leaves open which it is.
pub(crate) fn of(device: Device, kind: Kind) -> Option<f64> {
    let Device::Cuda(index) = device else { return None };
    if kind != Kind::BFloat16 {
        return None;
    }
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let uuid = uuid(visible.as_deref(), index);
    let mut command = Command::new("nvidia-smi");
    command.args(["--query-gpu=name,mig.mode.current", "--format=csv,noheader"]);
    command.args(uuid.map(|uuid| format!("--id={uuid}")));
    let output = command.output().ok()?;
    agreed(&String::from_utf8_lossy(&output.stdout))
}

/// What all GPUs of the driver's list promise. CUDA counts them in another order than the driver, the fastest first, so of
/// different ones nothing is said; nor of one that is cut into slices.
fn agreed(list: &str) -> Option<f64> {
    let rate = |line: &str| {
        let (name, slices) = line.split_once(',')?;
        if slices.trim() == "Enabled" { None } else { listed(name) }
    };
    let mut rates = list.lines().filter(|line| !line.trim().is_empty()).map(rate);
    let first = rates.next()??;
    rates.all(|rate| rate == Some(first)).then_some(first)
}

/// By the name that the driver gives, for example "NVIDIA H100 80GB HBM3".
fn listed(name: &str) -> Option<f64> {
    // Words are met whole: an L4 is no L40.
    let words: Vec<&str> = name.split([' ', '-']).collect();
    let fits = |wanted: &str| wanted.split(' ').all(|word| words.contains(&word));
    DENSE_BF16.iter().find(|(wanted, _)| fits(wanted)).map(|(_, rate)| *rate)
}

/// The name that no order changes, where CUDA_VISIBLE_DEVICES gives it.
fn uuid(visible: Option<&str>, index: usize) -> Option<&str> {
    visible?.split(',').nth(index).map(str::trim).filter(|id| id.starts_with("GPU-"))
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
            ("NVIDIA H800 PCIe", 756.0),
            ("NVIDIA H800", 989.0),
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
        assert_eq!(uuid(Some("GPU-8a, GPU-9b"), 1), Some("GPU-9b"));
        for numbers in [None, Some(""), Some("3, 5"), Some("GPU-8a")] {
            assert_eq!(uuid(numbers, 1), None);
        }
        let h100 = "NVIDIA H100 80GB HBM3, Disabled\n";
        assert_eq!(agreed(h100), Some(989e12));
        assert_eq!(agreed(&h100.repeat(8)), Some(989e12));
        assert_eq!(agreed("NVIDIA L4, [N/A]\n"), Some(121e12));
        assert_eq!(agreed(&format!("NVIDIA L4, [N/A]\n{h100}")), None, "which of them is the program's?");
        assert_eq!(agreed("NVIDIA H100 80GB HBM3, Enabled\n"), None, "a slice");
        assert_eq!(agreed("NVIDIA-SMI has failed"), None);
        assert_eq!(agreed(""), None);
    }

    #[test]
    fn nothing_is_promised_of_a_cpu_or_in_float32() {
        assert_eq!(of(Device::Cpu, Kind::BFloat16), None);
        assert_eq!(of(Device::Cuda(0), Kind::Float), None);
    }
}
