//! Curves, the files they are kept in, and how two of them are compared.

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// The most by which a loss may differ on another kind of CPU, relative: ten times what the miniature's losses moved
/// (5.3e-5) when ATen and MKL were held to what every x86-64 with AVX2 has, on a CPU with AVX-512.
const LOSS_BAND: f64 = 5e-4;
/// The same of a gradient norm, which moved by 1.7e-4.
const NORM_BAND: f64 = 2e-3;

/// Losses and gradient norms of consecutive steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Curve {
    pub(super) loss: Vec<f64>,
    pub(super) grad_norm: Vec<f64>,
    /// The digest of the text that was read, where it is not a file of this repository.
    pub(super) data: Option<String>,
}

/// How a curve stands to its golden one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Equal to the bit.
    Equal { steps: usize },
    /// Made on another kind of CPU, and within the bands: the worst relative difference of losses and of norms.
    Near { loss: f64, norm: f64 },
    /// Not what it was: the first step, counted from 1, and its numbers.
    Differs { what: &'static str, step: usize, golden: f64, found: f64, band: f64 },
    /// The curves are of other texts or lengths and cannot be compared.
    Other(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal { steps } => write!(f, "{steps} steps, equal to the bit"),
            Self::Near { loss, norm } => write!(
                f,
                "within the band of another CPU: losses {loss:.1e} of {LOSS_BAND:.0e}, norms {norm:.1e} of {NORM_BAND:.0e}"
            ),
            Self::Differs { what, step, golden, found, band } => {
                let apart = (found / golden - 1.0).abs();
                write!(
                    f,
                    "DIFFERS at step {step}: {what} {golden} is now {found} ({apart:.1e} apart, allowed {band:.0e})"
                )
            }
            Self::Other(reason) => write!(f, "NOT COMPARABLE: {reason}"),
        }
    }
}

impl Curve {
    pub(super) fn steps(&self) -> usize {
        self.loss.len()
    }

    /// Against the golden curve in a file.
    pub(super) fn compare_file(path: &Path, found: &Self, cpu: Option<&str>) -> Result<Verdict> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{}: no golden curve; --bless \"REASON\" writes it", path.display()))?;
        let golden: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let numbers = |key: &str| -> Result<Vec<f64>> {
            let list =
                golden[key].as_array().with_context(|| format!("{}: no list `{key}`", path.display()))?;
            list.iter().map(|x| x.as_f64().with_context(|| format!("{}: {key}", path.display()))).collect()
        };
        let data = golden["data"].as_str().map(str::to_owned);
        let then = Self { loss: numbers("loss")?, grad_norm: numbers("grad_norm")?, data };
        let same_cpu = cpu.is_some() && golden["cpu"].as_str() == cpu;
        Ok(then.compare(found, same_cpu))
    }

    /// `self` is the golden one.
    fn compare(&self, found: &Self, same_cpu: bool) -> Verdict {
        if self.data != found.data {
            let name = |data: &Option<String>| {
                data.as_deref().unwrap_or("none").chars().take(19).collect::<String>()
            };
            let (then, now) = (name(&self.data), name(&found.data));
            return Verdict::Other(format!("it read other text: {then} then, {now} now"));
        }
        if self.steps() != found.steps() || self.grad_norm.len() != found.grad_norm.len() {
            return Verdict::Other(format!("{} steps then, {} now", self.steps(), found.steps()));
        }
        let pairs = |a: &[f64], b: &[f64]| a.iter().copied().zip(b.iter().copied()).collect::<Vec<_>>();
        let mut worst = [0.0_f64; 2];
        let parts = [
            ("loss", pairs(&self.loss, &found.loss), LOSS_BAND),
            ("gradient norm", pairs(&self.grad_norm, &found.grad_norm), NORM_BAND),
        ];
        for (part, (what, pairs, band)) in parts.into_iter().enumerate() {
            let band = if same_cpu { 0.0 } else { band };
            for (i, (golden, found)) in pairs.into_iter().enumerate() {
                // Equal bits first: of two zeros the quotient is no number. What is no number differs.
                let apart = if golden == found { 0.0 } else { (found / golden - 1.0).abs() };
                if apart.is_nan() || apart > band {
                    return Verdict::Differs { what, step: i + 1, golden, found, band };
                }
                worst[part] = worst[part].max(apart);
            }
        }
        match worst {
            [0.0, 0.0] => Verdict::Equal { steps: self.steps() },
            [loss, norm] => Verdict::Near { loss, norm },
        }
    }

    /// Writes it as the golden one, with why, when and on which kind of CPU.
    pub(super) fn write(&self, path: &Path, reason: &str, cpu: Option<&str>) -> Result<()> {
        let date = Command::new("date").args(["-u", "+%F"]).output().context("starting date")?;
        let date = String::from_utf8(date.stdout)?;
        let mut golden = json!({
            "reason": reason.trim(),
            "date": date.trim(),
            "cpu": cpu.unwrap_or("unknown"),
            "loss": self.loss,
            "grad_norm": self.grad_norm,
        });
        if let Some(data) = &self.data {
            golden["data"] = json!(data);
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let text = format!("{}\n", serde_json::to_string_pretty(&golden)?);
        std::fs::write(path, text).with_context(|| path.display().to_string())
    }
}

/// A float32 list of a safetensors file: eight bytes of length, a JSON header, the data.
pub(super) fn float32(bytes: &[u8], name: &str) -> Result<Vec<f64>> {
    let length: [u8; 8] = bytes.get(..8).and_then(|b| b.try_into().ok()).context("shorter than 8 bytes")?;
    let length = usize::try_from(u64::from_le_bytes(length))?;
    let rest = &bytes[8..];
    ensure!(length <= rest.len(), "its header is cut off");
    let (header, data) = rest.split_at(length);
    let header: Value = serde_json::from_slice(header).context("its header is no JSON")?;
    let entry = &header[name];
    ensure!(entry["dtype"] == "F32", "no float32 tensor `{name}`");
    let offset = |i: usize| entry["data_offsets"][i].as_u64().map(|o| o as usize);
    let (Some(begin), Some(end)) = (offset(0), offset(1)) else { bail!("`{name}` has no place in the file") };
    let data = data.get(begin..end).with_context(|| format!("`{name}` is cut off"))?;
    Ok(data.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect())
}

/// The steps of a metrics.jsonl.
pub(super) fn metrics(text: &str) -> Result<Curve> {
    let mut curve = Curve::default();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).context("a line that is no JSON")?;
        if let (Some(loss), Some(norm)) = (line["loss"].as_f64(), line["grad_norm"].as_f64()) {
            curve.loss.push(loss);
            curve.grad_norm.push(norm);
        }
    }
    Ok(curve)
}

/// The kind of this machine's CPU, as far as the choice of kernels depends on it. `None` where the system does not say.
pub(super) fn cpu_kind() -> Option<String> {
    kind_of(&std::fs::read_to_string("/proc/cpuinfo").ok()?)
}

fn kind_of(cpuinfo: &str) -> Option<String> {
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|l| l.split(':').next().map(str::trim) == Some(name))?;
        Some(line.split_once(':')?.1.trim())
    };
    let flags: Vec<&str> = field("flags")?.split(' ').collect();
    // What MKL, oneDNN and ATen choose kernels by.
    let isa = ["avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16"];
    let isa: Vec<&str> = isa.into_iter().filter(|name| flags.contains(name)).collect();
    let number = |name| field(name).unwrap_or("?");
    let (family, model) = (number("cpu family"), number("model"));
    Some(format!("{} family {family} model {model}: {}", field("model name")?, isa.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(loss: &[f64]) -> Curve {
        Curve { loss: loss.to_vec(), grad_norm: vec![1.0; loss.len()], data: None }
    }

    #[test]
    fn to_the_bit_on_the_same_cpu_and_in_a_band_on_another() {
        let (golden, off) = (curve(&[2.0, 1.0]), curve(&[2.0, 1.0001]));
        assert_eq!(golden.compare(&golden, true), Verdict::Equal { steps: 2 });
        assert!(matches!(golden.compare(&off, true), Verdict::Differs { step: 2, what: "loss", .. }));
        assert!(matches!(golden.compare(&off, false), Verdict::Near { .. }));
        assert!(matches!(golden.compare(&curve(&[2.0, 1.001]), false), Verdict::Differs { step: 2, .. }));
        assert!(matches!(golden.compare(&curve(&[2.0, f64::NAN]), false), Verdict::Differs { .. }));
        let norm = Curve { grad_norm: vec![1.0, 1.02], ..golden.clone() };
        assert!(matches!(golden.compare(&norm, false), Verdict::Differs { what: "gradient norm", .. }));
    }

    #[test]
    fn other_text_and_other_lengths_are_said() {
        let golden = Curve { data: Some("blake3:aa".to_owned()), ..curve(&[1.0]) };
        assert!(golden.compare(&curve(&[1.0]), true).to_string().contains("blake3:aa then, none now"));
        assert!(curve(&[1.0]).compare(&curve(&[1.0, 1.0]), true).to_string().contains("1 steps then, 2 now"));
    }

    #[test]
    fn a_golden_file_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("golden/x.json");
        let found = Curve { data: Some("d".to_owned()), ..curve(&[0.1, 1.0 / 3.0]) };
        assert!(Curve::compare_file(&path, &found, Some("c")).unwrap_err().to_string().contains("--bless"));
        found.write(&path, " why ", Some("c")).unwrap();
        assert_eq!(Curve::compare_file(&path, &found, Some("c")).unwrap(), Verdict::Equal { steps: 2 });
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"reason\": \"why\"") && text.contains("\"date\": \"20"), "{text}");
    }

    #[test]
    fn numbers_are_found_in_their_files() {
        let header = r#"{"loss":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},"x":{"dtype":"I64"}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        for x in [9.0_f32, 1.5, -2.0] {
            bytes.extend_from_slice(&x.to_le_bytes());
        }
        assert_eq!(float32(&bytes, "loss").unwrap(), [1.5, -2.0]);
        for (bytes, name) in [(&bytes[..], "x"), (&bytes[..20], "loss"), (&bytes[..5], "loss")] {
            assert!(float32(bytes, name).is_err());
        }
        let text = "{\"step\":1,\"loss\":2.5,\"grad_norm\":0.5}\n{\"step\":1,\"validation\":{\"a\":1.0}}\n";
        let read = metrics(text).unwrap();
        assert_eq!((read.loss.as_slice(), read.grad_norm.as_slice()), (&[2.5][..], &[0.5][..]));
    }

    #[test]
    fn kinds_of_cpu() {
        let text =
            "cpu family\t: 6\nmodel\t\t: 85\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 avx512f fma x\n";
        assert_eq!(kind_of(text).as_deref(), Some("Some CPU family 6 model 85: avx2 fma avx512f"));
        assert_eq!(kind_of("processor : 0\n"), None);
    }
}
