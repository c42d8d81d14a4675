//! Rotary position embedding (Su et al., arXiv 2104.09864) with the scalings of Hugging Face's `rope_type`.
//!
//! Frequencies are computed in float32 on the CPU and then moved, as transformers does: another device's `pow` differs
//! in the last bits, which shows at positions in the thousands. References: linear (kaiokendev), dynamic NTK (bloc97), YaRN (arXiv 2309.00071),
//! llama3 (the Llama 3.1 release).

use std::f64::consts::PI;

use llama_pro_checkpoint::{LlamaConfig, RopeScaling};
use tch::{Device, Kind, Tensor};

use crate::Result;

/// cos and sin, each `[B or 1, 1, T, head_dim]` in the dtype of the activations.
pub(crate) struct Angles {
    pub(crate) cos: Tensor,
    pub(crate) sin: Tensor,
}

/// Angles for `positions` (int64 `[B or 1, T]`). `longest` is the largest position plus one: dynamic scaling depends on
/// it, as it does in transformers when the whole sequence is given at once.
pub(crate) fn angles(config: &LlamaConfig, positions: &Tensor, longest: i64, kind: Kind) -> Angles {
    let (inverse, attention_factor) = inverse_frequencies(config, longest, Device::Cpu);
    let inverse = inverse.to_device(positions.device());
    let angle_btk = positions.to_kind(Kind::Float).unsqueeze(-1) * inverse.view([1, 1, -1]);
    let angle_btk = Tensor::concat(&[&angle_btk, &angle_btk], -1).unsqueeze(1);
    let scaled = |t: Tensor| if attention_factor == 1.0 { t } else { t * attention_factor }.to_kind(kind);
    Angles { cos: scaled(angle_btk.cos()), sin: scaled(angle_btk.sin()) }
}

impl Angles {
    /// cos and sin as float32, `head_dim / 2` numbers a token: the second half of the dimensions has the same angles.
    pub(crate) fn halves(&self) -> Result<(Vec<f32>, Vec<f32>)> {
        let half = self.cos.size()[3] / 2;
        let list = |t: &Tensor| {
            Vec::<f32>::try_from(t.narrow(3, 0, half).to_kind(Kind::Float).contiguous().view([-1]))
        };
        Ok((list(&self.cos)?, list(&self.sin)?))
    }

    /// The angles of several rows of tokens, one row after the other.
    pub(crate) fn concat(parts: &[Self]) -> Self {
        let all = |of: fn(&Self) -> &Tensor| Tensor::concat(&parts.iter().map(of).collect::<Vec<_>>(), 2);
        Self { cos: all(|a| &a.cos), sin: all(|a| &a.sin) }
    }

    /// Rotates `x_bhtk`. Halves are paired as Hugging Face pairs them: dimension i with i + head_dim / 2.
    pub(crate) fn rotate(&self, x_bhtk: &Tensor) -> Tensor {
        let half = x_bhtk.size()[3] / 2;
        let (low, high) = (x_bhtk.narrow(3, 0, half), x_bhtk.narrow(3, half, half));
        let turned = Tensor::concat(&[&high.neg(), &low], 3);
        x_bhtk * &self.cos + turned * &self.sin
    }
}

/// Inverse frequencies (float32 `[head_dim / 2]`) and the factor on cos and sin.
fn inverse_frequencies(config: &LlamaConfig, longest: i64, device: Device) -> (Tensor, f64) {
    let dim = config.head_dim as i64;
    let exponents = Tensor::arange_start_step(0, dim, 2, (Kind::Float, device)) / dim as f64;
    let plain = |theta: f64| Tensor::pow_scalar(theta, &exponents).reciprocal();
    let theta = config.rope.theta;
    match &config.rope.scaling {
        RopeScaling::Default => (plain(theta), 1.0),
        RopeScaling::Linear { factor } => (plain(theta) / *factor, 1.0),
        RopeScaling::Dynamic { factor, original_max_position_embeddings } => {
            let original = *original_max_position_embeddings as f64;
            // Below the trained length nothing is stretched.
            let length = (longest as f64).max(original);
            let stretch = factor * length / original - (factor - 1.0);
            (plain(theta * stretch.powf(dim as f64 / (dim as f64 - 2.0))), 1.0)
        }
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings: original,
        } => {
            let inverse = plain(theta);
            let wavelength = inverse.reciprocal() * (2.0 * PI);
            let original = *original as f64;
            let scaled = &inverse / *factor;
            // Long waves are slowed down, short ones kept, those between are blended.
            let smooth = (wavelength.reciprocal() * original - *low_freq_factor)
                / (high_freq_factor - low_freq_factor);
            let blended = (1.0 - &smooth) * &scaled + &smooth * &inverse;
            let long = wavelength.gt(original / low_freq_factor);
            let short = wavelength.lt(original / high_freq_factor);
            (scaled.where_self(&long, &inverse.where_self(&short, &blended)), 1.0)
        }
        RopeScaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            attention_factor,
            original_max_position_embeddings: original,
            truncate,
        } => {
            let inverse = plain(theta);
            // The dimension whose wave turns `rotations` times within the original length.
            let dimension = |rotations: f64| {
                dim as f64 * (*original as f64 / (rotations * 2.0 * PI)).ln() / (2.0 * theta.ln())
            };
            let (mut low, mut high) = (dimension(*beta_fast), dimension(*beta_slow));
            if *truncate {
                (low, high) = (low.floor(), high.ceil());
            }
            let (low, mut high) = (low.max(0.0), high.min(dim as f64 - 1.0));
            if low == high {
                high += 0.001; // as transformers does, against a division by zero
            }
            let ramp =
                ((Tensor::arange(dim / 2, (Kind::Float, device)) - low) / (high - low)).clamp(0.0, 1.0);
            let keep = 1.0 - ramp;
            let interpolated = &inverse / *factor;
            (interpolated * (1.0 - &keep) + inverse * keep, *attention_factor)
        }
    }
}
