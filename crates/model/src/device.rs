//! Which device a run uses, chosen once and said aloud: never silently the CPU where CUDA was asked for.

use tch::{Cuda, Device};

use crate::{Error, Result};

/// Reads `auto`, `cpu`, `cuda` or `cuda:N`. `auto` is the first GPU if libtorch sees one, else the CPU.
///
/// # Errors
/// An unknown name, or a GPU that libtorch does not see.
pub fn choose_device(name: &str) -> Result<Device> {
    let refuse = |reason: &str| Err(Error::Device { asked: name.to_owned(), reason: reason.to_owned() });
    let gpus = usize::try_from(Cuda::device_count()).unwrap_or(0);
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" => return Ok(if gpus > 0 { Device::Cuda(0) } else { Device::Cpu }),
        "cuda" => 0,
        _ => match name.strip_prefix("cuda:").and_then(|i| i.parse::<usize>().ok()) {
            Some(index) => index,
            None => return refuse("expected auto, cpu, cuda or cuda:N"),
        },
    };
    match gpus {
        0 => {
            refuse("libtorch sees no GPU (is libtorch_cuda.so there? `cargo xtask setup --cuda` fetches it)")
        }
        n if index >= n => refuse(&format!("libtorch sees {n} GPU(s), numbered from 0")),
        _ => Ok(Device::Cuda(index)),
    }
}

/// One phrase for the log: the device, and on the CPU how many threads compute.
pub fn describe(device: Device) -> String {
    match device {
        Device::Cpu => format!("CPU, {} threads", tch::get_num_threads()),
        Device::Cuda(index) => format!("CUDA GPU {index}"),
        other => format!("{other:?}"),
    }
}
