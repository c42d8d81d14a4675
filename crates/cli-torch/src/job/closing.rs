//! Lines that every closing table has.

use llama_pro_cli::{output, progress};
use llama_pro_train::{Finished, Keeps, TrainConfig, Trainer};

/// A named fact.
pub(crate) fn line(name: &str, text: impl std::fmt::Display) {
    println!("  {name:<18} {text}");
}

/// Memory of the run, and how it went.
pub(crate) fn facts(trainer: &Trainer, config: &TrainConfig, done: &Finished) {
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
