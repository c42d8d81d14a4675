//! The words of a training recipe: what some of its keys choose between.

use serde::{Deserialize, Serialize};

/// What the forward and backward pass compute in. Master weights and moments are float32 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dtype {
    /// float32 throughout.
    #[default]
    F32,
    /// bfloat16 weights and activations, float32 master copies of what is trained.
    Bf16,
}

/// Which weights are trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parameters {
    /// Those of the new blocks, as expansion.json names them.
    #[default]
    Added,
    /// Every weight.
    All,
}

/// How the learning rate goes on after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Half a cosine down to the minimum at the end of the run.
    #[default]
    Cosine,
    /// Warm-up, stable, decay: the peak, then a straight line down to the minimum over the last part of the run.
    Wsd,
    /// The peak to the end.
    Constant,
}

/// What happens to a step whose loss or gradient norm lies far above those of the steps before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outliers {
    /// It is taken like any other.
    #[default]
    Take,
    /// Its gradients are dropped; weights and moments stay as they are, and the run goes on with the next batch.
    Skip,
    /// The run ends before the weights change.
    Stop,
}

/// Which weights a run ends with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keeps {
    /// Those of the last step.
    #[default]
    Last,
    /// Those of the best validation.
    Best,
}
