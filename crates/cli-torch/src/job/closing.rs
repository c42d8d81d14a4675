//! Lines that every closing table has.

use llama_pro_checkpoint::cost::flops_per_token;
use llama_pro_cli::{output, progress};
use llama_pro_run::RunFolder;
use llama_pro_train::{Finished, Keeps, TrainConfig, Trainer, rows_per_pass, trained_parts};

use crate::{peak, rate};

/// A named fact.
pub(crate) fn line(name: &str, text: impl std::fmt::Display) {
    println!("  {name:<18} {text}");
}

/// A run that was stopped with everything up to `step` of `steps` saved: how `command` goes on with it.
pub(crate) fn pause(command: &str, run: &RunFolder, step: u64, steps: u64) {
    println!("stopped after step {step} of {steps}; go on with");
    println!("  cargo xtask {command} --resume --run {}", run.dir().display());
}

/// The arithmetic of a run: what its training needed at least, and what the machine can do.
#[derive(Clone, Copy, serde::Serialize)]
pub(crate) struct Arithmetic {
    /// Floating-point operations for one token, the least there are (crates/checkpoint/src/cost.rs), in rows of this recipe's
    /// length.
    pub(crate) flops_per_token: f64,
    /// Of these per second of training, in billions.
    pub(crate) gflops_per_s: f64,
    /// As a share of the rate at which this machine multiplies matrices of this model's shape, in this dtype, now.
    pub(crate) gemm_fraction: f64,
    /// As a share of what the GPU's maker promises for bfloat16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mfu: Option<f64>,
}

impl Arithmetic {
    /// Of a finished run, in rows of `length` tokens. Takes up to a second, or one round of products.
    pub(crate) fn of(trainer: &Trainer, config: &TrainConfig, length: usize, done: &Finished) -> Self {
        let model = trainer.model();
        let shape = model.config();
        let flops_per_token = flops_per_token(shape, &trained_parts(model), length as u64);
        let pass = rows_per_pass(config.rows_per_step, length, config.micro_rows(), model.device());
        let rows = (pass * length) as i64;
        let (width, inner) = (shape.hidden_size as i64, shape.intermediate_size as i64);
        let rate = rate::products(rows, width, inner, model.kind(), model.device());
        let reached = flops_per_token * speed(done);
        let mfu = peak::of(model.device(), model.kind()).map(|peak| reached / peak);
        Self { flops_per_token, gflops_per_s: reached / 1e9, gemm_fraction: reached / rate, mfu }
    }
}

/// Memory of the run, and how it went.
pub(crate) fn facts(trainer: &Trainer, config: &TrainConfig, done: &Finished, arithmetic: &Arithmetic) {
    let (optimizer, gradients) = trainer.state_bytes();
    let peak = progress::peak_memory();
    line(
        "memory",
        format!(
            "optimizer {}, gradients {}{}",
            output::bytes(optimizer),
            output::bytes(gradients),
            peak.map_or_else(String::new, |p| format!(", process peak {}", output::bytes(p)))
        ),
    );
    line(
        "training",
        format!(
            "{} steps, {} tokens in {}, {:.0} tokens/s",
            done.step,
            output::count(done.tokens),
            output::seconds(done.seconds),
            speed(done)
        ),
    );
    let Arithmetic { gflops_per_s, gemm_fraction, mfu, .. } = arithmetic;
    line(
        "arithmetic",
        format!(
            "{gflops_per_s:.0} GFLOP/s of what it needs at least, {:.0} % of the rate of matrix products here{}",
            100.0 * gemm_fraction,
            mfu.map_or_else(String::new, |mfu| format!(", MFU {:.1} %", 100.0 * mfu))
        ),
    );
    if done.step < config.steps {
        let left = config.steps - done.step;
        let text = format!("no better validation for long enough: {left} steps were not needed");
        line("early stop", text);
    }
    if let Some(best) = done.best.filter(|_| config.keeps_best()) {
        let which = if config.result == Keeps::Best { "written" } else { "kept as a checkpoint" };
        let text = format!("after step {}, {:.3} nats per token; {which}", best.step, best.nats);
        line("best validation", text);
    }
    if done.skipped > 0 {
        line("outliers", format!("{} steps skipped", done.skipped));
    }
}

/// Input tokens per second of training.
pub(crate) fn speed(done: &Finished) -> f64 {
    done.tokens as f64 / done.seconds.max(1e-9)
}
