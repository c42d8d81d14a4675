//! The rotary embedding's settings, from the old spelling (`rope_theta`, `rope_scaling`) or the new
//! (`rope_parameters`).
//!
//! Meanings and defaults are those of transformers 5's modeling_rope_utils; the scalings are linear (position
//! interpolation), dynamic NTK, YaRN (arXiv 2309.00071) and Llama 3.1's by-parts rule.

use serde_json::Value;

use crate::error::Result;
use crate::fields::Fields;
use crate::json::show;

/// The rotary embedding of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// The base of the geometric row of wavelengths.
    pub theta: f64,
    /// How the frequencies are stretched for longer texts.
    pub scaling: RopeScaling,
}

/// How rotary frequencies are stretched. Lengths are in tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    Default,
    /// Every frequency divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// The base grows with the sequence once it is longer than the original length.
    Dynamic {
        /// Stretch.
        factor: f64,
        /// The length up to which nothing changes. As in transformers this is `max_position_embeddings`: a
        /// key of that name beside a dynamic scaling is read by nobody.
        original_max_position_embeddings: usize,
    },
    /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, a ramp between.
    Llama3 {
        /// Stretch of the long wavelengths.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are stretched.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// The length the base model was trained at.
        original_max_position_embeddings: usize,
    },
    /// YaRN: a ramp between kept and stretched dimensions, and a factor on cos and sin.
    Yarn {
        /// Stretch.
        factor: f64,
        /// Rotations at which the ramp begins.
        beta_fast: f64,
        /// Rotations at which the ramp ends.
        beta_slow: f64,
        /// What cos and sin are multiplied with, `mscale` and `mscale_all_dim` taken into account.
        attention_factor: f64,
        /// The length the base model was trained at.
        original_max_position_embeddings: usize,
        /// The ramp's ends are rounded outwards to whole dimensions.
        truncate: bool,
    },
}

/// Keys that may stand in a rope object. Anything else could mean something, and is refused.
const KNOWN: &[&str] = &[
    "rope_type",
    "type",
    "rope_theta",
    "factor",
    "original_max_position_embeddings",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "low_freq_factor",
    "high_freq_factor",
    "mscale",
    "mscale_all_dim",
    "truncate",
    "partial_rotary_factor",
    // Written by the first YaRN code; transformers never read it.
    "finetuned",
];

/// The default of transformers for all three models.
const DEFAULT_THETA: f64 = 10_000.0;

/// Reads both spellings; where both stand they must say the same.
pub(crate) fn read(config: &Fields<'_>, max_position_embeddings: usize, head_dim: usize) -> Result<Rope> {
    let old = config.object("rope_scaling")?;
    let new = config.object("rope_parameters")?;
    let top_theta = config.positive("rope_theta")?;
    let top_original = config.size("original_max_position_embeddings")?;
    let one = |fields: Option<Fields<'_>>| -> Result<Option<Rope>> {
        let Some(fields) = fields else { return Ok(None) };
        let inner_theta = fields.positive("rope_theta")?;
        if let (Some(inner), Some(top)) = (inner_theta, top_theta)
            && inner != top
        {
            return Err(fields.refuse("rope_theta", format!("{inner}, but the top level says {top}")));
        }
        let theta = inner_theta.or(top_theta).unwrap_or(DEFAULT_THETA);
        let scaling = scaling(&fields, top_original, max_position_embeddings, head_dim, theta)?;
        Ok(Some(Rope { theta, scaling }))
    };
    match (one(old)?, one(new)?) {
        (Some(old), Some(new)) if old != new => Err(config.refuse(
            "rope_scaling",
            format!("disagrees with rope_parameters: {old:?} against {new:?}; remove one of the two keys"),
        )),
        (Some(rope), _) | (None, Some(rope)) => Ok(rope),
        (None, None) => Ok(Rope { theta: top_theta.unwrap_or(DEFAULT_THETA), scaling: RopeScaling::Default }),
    }
}

fn scaling(
    rope: &Fields<'_>,
    top_original: Option<usize>,
    max_position_embeddings: usize,
    head_dim: usize,
    theta: f64,
) -> Result<RopeScaling> {
    for (key, value) in rope.keys() {
        match value {
            Value::Null => {}
            Value::Object(_) => {
                return Err(rope.refuse(key, "one rope per layer type is not supported"));
            }
            _ if !KNOWN.contains(&key) => {
                return Err(rope.refuse(key, format!("not supported (found {})", show(value))));
            }
            _ => {}
        }
    }
    if let Some(partial) = rope.get("partial_rotary_factor")
        && partial.as_f64() != Some(1.0)
    {
        return Err(
            rope.refuse("partial_rotary_factor", format!("only 1 is supported, found {}", show(partial)))
        );
    }
    let (new_name, old_name) = (rope.string("rope_type")?, rope.string("type")?);
    if let (Some(a), Some(b)) = (new_name, old_name)
        && a != b
    {
        return Err(rope.refuse("rope_type", format!("{a:?}, but type says {b:?}")));
    }
    // The length of the base model; transformers lets the key of the top level win, here the two must agree.
    let original = || -> Result<usize> {
        match (rope.size("original_max_position_embeddings")?, top_original) {
            (Some(inner), Some(top)) if inner != top => Err(rope.refuse(
                "original_max_position_embeddings",
                format!("{inner}, but the top level says {top}"),
            )),
            (inner, top) => Ok(inner.or(top).unwrap_or(max_position_embeddings)),
        }
    };
    match new_name.or(old_name).unwrap_or("default") {
        "default" => Ok(RopeScaling::Default),
        "linear" => Ok(RopeScaling::Linear { factor: rope.required_positive("factor")? }),
        "dynamic" if head_dim <= 2 => {
            Err(rope.refuse("rope_type", format!("dynamic needs a head_dim above 2, found {head_dim}")))
        }
        "dynamic" => Ok(RopeScaling::Dynamic {
            factor: rope.required_positive("factor")?,
            original_max_position_embeddings: max_position_embeddings,
        }),
        "llama3" => llama3(rope, original()?),
        "yarn" => yarn(rope, original()?, max_position_embeddings, theta),
        other => Err(rope.refuse(
            if new_name.is_some() { "rope_type" } else { "type" },
            format!("expected default, linear, dynamic, llama3 or yarn, found {other:?}"),
        )),
    }
}

fn llama3(rope: &Fields<'_>, original_max_position_embeddings: usize) -> Result<RopeScaling> {
    let low_freq_factor = rope.required_positive("low_freq_factor")?;
    let high_freq_factor = rope.required_positive("high_freq_factor")?;
    if high_freq_factor <= low_freq_factor {
        let problem =
            format!("expected more than low_freq_factor {low_freq_factor}, found {high_freq_factor}");
        return Err(rope.refuse("high_freq_factor", problem));
    }
    let factor = rope.required_positive("factor")?;
    Ok(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings })
}

fn yarn(
    rope: &Fields<'_>,
    original_max_position_embeddings: usize,
    max_position_embeddings: usize,
    theta: f64,
) -> Result<RopeScaling> {
    if theta <= 1.0 {
        return Err(rope.refuse("rope_theta", format!("yarn needs more than 1, found {theta}")));
    }
    // A factor of null means the ratio of the two lengths; the key itself must stand there.
    let factor = match rope.positive("factor")? {
        Some(factor) => factor,
        None if rope.has("factor") => {
            max_position_embeddings as f64 / original_max_position_embeddings as f64
        }
        None => return Err(rope.missing("factor")),
    };
    // The temperature of the paper's section 3.4, with DeepSeek's two weights; a weight of 0 counts as absent.
    let mscale = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
    let attention_factor = match rope.not_negative("attention_factor")? {
        Some(given) => given,
        None => match (rope.not_negative("mscale")?, rope.not_negative("mscale_all_dim")?) {
            (Some(one), Some(all)) if one > 0.0 && all > 0.0 => mscale(one) / mscale(all),
            _ => mscale(1.0),
        },
    };
    let beta = |key: &str, default: f64| -> Result<f64> {
        Ok(rope.not_negative(key)?.filter(|&beta| beta > 0.0).unwrap_or(default))
    };
    let (beta_fast, beta_slow) = (beta("beta_fast", 32.0)?, beta("beta_slow", 1.0)?);
    if beta_fast < beta_slow {
        return Err(rope.refuse("beta_fast", format!("{beta_fast} is below beta_slow {beta_slow}")));
    }
    let truncate = rope.boolean("truncate", true)?;
    Ok(RopeScaling::Yarn {
        factor,
        beta_fast,
        beta_slow,
        attention_factor,
        original_max_position_embeddings,
        truncate,
    })
}
