//! `bench train-step --parts`: where the time of a step goes. Each part of it is timed alone, at the step's own shapes and as
//! often as the step does it, and held against what bounds it: matrix products and attention against the rate of products of
//! this shape, the rest against the memory bandwidth, both measured in the same process.
//!
//! Bytes are the least that a part must move: each operand read once and each result written once.

use std::time::Instant;

use anyhow::Result;
use llama_pro_checkpoint::LlamaConfig;
use llama_pro_checkpoint::cost::{Trained, chunk_rows};
use llama_pro_torch_ext::{
    AdamwParams, Heads, LossWeights, MixedState, adamw_mixed, add_norm, attention, backward, fused_adamw,
    has_kernels, head_loss, norm, squares, swiglu,
};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// One part of a step.
struct Part {
    name: &'static str,
    seconds: f64,
    /// Floating-point operations, or bytes that go through memory.
    work: Work,
}

enum Work {
    Operations(f64),
    Bytes(f64),
}

/// The step that is taken apart.
pub(super) struct Step<'a> {
    pub(super) config: &'a LlamaConfig,
    pub(super) trained: &'a Trained,
    /// Rows and tokens of a row.
    pub(super) rows: i64,
    pub(super) length: i64,
    pub(super) kind: Kind,
    /// Seconds of the whole step.
    pub(super) seconds: f64,
    /// Operations per second of products of this shape.
    pub(super) rate: f64,
}

/// Bytes per second of `a += b` over tensors that no cache holds: two read, one written.
fn bandwidth() -> f64 {
    const NUMBERS: i64 = 1 << 26;
    let zeros = || Tensor::zeros([NUMBERS], (Kind::Float, Device::Cpu));
    let (mut a, b) = (zeros(), zeros());
    12.0 * NUMBERS as f64
        / median(5, || {
            let _ = a.g_add_(&b);
        })
}

/// The middle of some timings, after one that is not counted.
fn median(times: usize, mut work: impl FnMut()) -> f64 {
    work();
    let mut seconds: Vec<f64> = (0..times)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_unstable_by(f64::total_cmp);
    seconds[times / 2]
}

/// Seconds of a forward and of a backward pass of `f` over `inputs`.
fn both_ways(inputs: &[Tensor], f: &dyn Fn(&[Tensor]) -> Tensor) -> (f64, f64) {
    let forward = median(7, || drop(tch::no_grad(|| f(inputs))));
    let leaves: Vec<Tensor> =
        inputs.iter().map(|x| x.detach().set_requires_grad(x.is_floating_point())).collect();
    let mut seconds: Vec<f64> = (0..8)
        .map(|_| {
            let y = f(&leaves);
            let dy = y.ones_like();
            let begun = Instant::now();
            let done = backward(&y, &dy);
            let taken = begun.elapsed().as_secs_f64();
            // Gradients that are there would be added to.
            leaves.iter().for_each(|leaf| drop(llama_pro_torch_ext::forget_grad(leaf)));
            done.map_or(f64::NAN, |()| taken)
        })
        .skip(1)
        .collect();
    seconds.sort_unstable_by(f64::total_cmp);
    (forward, seconds[3])
}

/// Every part, what is left over, and the rates that they are held against.
///
/// # Errors
/// A device or dtype without kernels: what runs there is not timed by part.
pub(super) fn measure(step: &Step) -> Result<Value> {
    anyhow::ensure!(
        has_kernels(step.kind, Device::Cpu),
        "--parts: expected a CPU with kernels (x86-64 with AVX2), in f32 or bf16"
    );
    let bytes_per_second = bandwidth();
    let parts: Vec<Part> =
        [products(step), attentions(step), elementwise(step), head(step)?, optimizer(step)?]
            .into_iter()
            .flatten()
            .collect();
    let sum: f64 = parts.iter().map(|part| part.seconds).sum();
    let lines: Vec<Value> = parts
        .iter()
        .map(|part| {
            let (reached, unit, most) = match part.work {
                Work::Operations(n) => (n / part.seconds / 1e9, "GFLOP/s", step.rate / 1e9),
                Work::Bytes(n) => (n / part.seconds / 1e9, "GB/s", bytes_per_second / 1e9),
            };
            json!({
                "part": part.name, "ms": round(1e3 * part.seconds, 2), "share": round(part.seconds / step.seconds, 3),
                "reached": round(reached, 1), "unit": unit, "of": round(reached / most, 2),
            })
        })
        .collect();
    Ok(json!({
        "parts": lines, "parts_sum_of_step": round(sum / step.seconds, 3),
        "memory_gb_per_s": round(bytes_per_second / 1e9, 1), "gemm_gflops_per_s": round(step.rate / 1e9, 1),
    }))
}

impl Step<'_> {
    fn tokens(&self) -> i64 {
        self.rows * self.length
    }
    fn width(&self) -> f64 {
        self.kind.elt_size_in_bytes() as f64
    }
    fn blocks(&self) -> f64 {
        self.trained.blocks.len() as f64
    }
    /// Blocks with a backward pass, and those that are trained.
    fn above(&self) -> f64 {
        self.blocks() - self.trained.lowest() as f64
    }
    fn learning(&self) -> f64 {
        self.trained.blocks.iter().filter(|&&t| t).count() as f64
    }
    fn random(&self, shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(self.kind)
    }
    /// Widths of the residual stream, of all query heads, of all key heads, and of the feed-forward layer.
    fn widths(&self) -> (i64, i64, i64, i64) {
        let c = self.config;
        let of = |heads: usize| (heads * c.head_dim) as i64;
        (
            c.hidden_size as i64,
            of(c.num_attention_heads),
            of(c.num_key_value_heads),
            c.intermediate_size as i64,
        )
    }
}

/// The matrices of all blocks: forward, gradients of activations, gradients of weights.
fn products(step: &Step) -> Vec<Part> {
    let (d, q, k, inner) = step.widths();
    let n = step.tokens();
    let (mut forward, mut activations, mut weights, mut operations) = (0.0, 0.0, 0.0, 0.0);
    for (input, output, times) in [(d, q, 1.0), (d, k, 2.0), (q, d, 1.0), (d, inner, 2.0), (inner, d, 1.0)] {
        let (x, w, dy) = (step.random(&[n, input]), step.random(&[output, input]), step.random(&[n, output]));
        forward += times * median(7, || drop(x.linear::<Tensor>(&w, None)));
        activations += times * median(7, || drop(dy.matmul(&w)));
        weights += times * median(7, || drop(dy.tr().matmul(&x)));
        operations += times * 2.0 * (n * input * output) as f64;
    }
    let part = |name, seconds: f64, times: f64| Part {
        name,
        seconds: seconds * times,
        work: Work::Operations(operations * times),
    };
    vec![
        part("products, forward", forward, step.blocks()),
        part("products, gradients of activations", activations, step.above()),
        part("products, gradients of weights", weights, step.learning()),
    ]
}

fn attentions(step: &Step) -> Vec<Part> {
    let (_, q, k, _) = step.widths();
    let size = step.config.head_dim as i64;
    let (b, t) = (step.rows, step.length);
    let angles = step.random(&[1, 1, t, size]);
    let first = Tensor::zeros([1, t], (Kind::Int, Device::Cpu));
    let heads = Heads {
        query: step.config.num_attention_heads as i64,
        key: step.config.num_key_value_heads as i64,
        size,
    };
    let inputs = [step.random(&[b, t, q]), step.random(&[b, t, k]), step.random(&[b, t, k])];
    let (forward, back) = both_ways(&inputs, &|x| {
        attention(&x[0], &x[1], &x[2], (&angles, &angles), &first, heads).unwrap_or_else(|e| panic!("{e}"))
    });
    // Scores that a query sees, twice in the forward pass (scores and values) and five times in the backward pass.
    let product = 2.0 * (b * q) as f64 * (t * (t + 1) / 2) as f64;
    let part = |name, seconds: f64, products: f64, times: f64| Part {
        name,
        seconds: seconds * times,
        work: Work::Operations(product * products * times),
    };
    vec![
        part("attention, forward", forward, 2.0, step.blocks()),
        part("attention, backward", back, 5.0, step.above()),
    ]
}

/// Norms, SwiGLU and the additions to the residual stream.
fn elementwise(step: &Step) -> Vec<Part> {
    let (d, _, _, inner) = step.widths();
    let n = step.tokens();
    let (stream, gate) = (step.random(&[n, d]), step.random(&[n, inner]));
    let weight = step.random(&[d]);
    let eps = step.config.rms_norm_eps;
    let first = both_ways(&[stream.copy(), weight.copy()], &|x| {
        norm(&x[0], &x[1], eps).unwrap_or_else(|e| panic!("{e}"))
    });
    let second = both_ways(&[stream.copy(), stream.copy(), weight.copy()], &|x| {
        add_norm(&x[0], &x[1], &x[2], eps).unwrap_or_else(|e| panic!("{e}")).1
    });
    let middle =
        both_ways(&[gate.copy(), gate.copy()], &|x| swiglu(&x[0], &x[1]).unwrap_or_else(|e| panic!("{e}")));
    let add = median(7, || drop(&stream + &stream));
    let of = |numbers: i64| (n * numbers) as f64 * step.width();
    let (all, above) = (step.blocks(), step.above());
    let part = |name, seconds: f64, bytes: f64| Part { name, seconds, work: Work::Bytes(bytes) };
    vec![
        part("norms, forward", all * (first.0 + second.0), all * of(2 * d + 4 * d)),
        part("norms, backward", above * (first.1 + second.1), above * of(3 * d + 4 * d)),
        part("SwiGLU, forward", all * middle.0, all * of(3 * inner)),
        part("SwiGLU, backward", above * middle.1, above * of(5 * inner)),
        part("residual additions", all * add, all * of(3 * d)),
    ]
}

/// The head, its loss and its gradients.
fn head(step: &Step) -> Result<Vec<Part>> {
    let (d, v, n) = (step.config.hidden_size as i64, step.config.vocab_size as i64, step.tokens());
    let hidden = step.random(&[n, d]).set_requires_grad(true);
    let weight = step.random(&[v, d]).set_requires_grad(step.trained.head);
    let targets = Tensor::randint(v, [n], (Kind::Int64, Device::Cpu));
    let chunk = chunk_rows(v as u64, step.width() as u64) as i64;
    let weights = LossWeights { cross_entropy: 1.0, kl: 0.0 };
    head_loss(&hidden, &weight, &targets, None, weights, chunk)?;
    let seconds = median(5, || drop(head_loss(&hidden, &weight, &targets, None, weights, chunk)));
    let products = if step.trained.head { 6.0 } else { 4.0 };
    let operations = products * (n * d * v) as f64;
    Ok(vec![Part { name: "head and loss, both ways", seconds, work: Work::Operations(operations) }])
}

/// The norm of the gradients and one step of AdamW over everything that is trained.
fn optimizer(step: &Step) -> Result<Vec<Part>> {
    let (config, trained) = (step.config, step.trained);
    let is_trained = |name: &str| match name.strip_prefix("model.layers.") {
        Some(rest) => {
            rest.split_once('.').and_then(|(i, _)| i.parse().ok()).is_some_and(|i: usize| trained.blocks[i])
        }
        None => match name {
            "model.norm.weight" => trained.norm,
            "lm_head.weight" => trained.head,
            _ => trained.embedding,
        },
    };
    let params = AdamwParams { learning_rate: 1e-4, betas: (0.9, 0.95), eps: 1e-8, weight_decay: 0.1 };
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let slots: Vec<[Tensor; 5]> = config
        .parameters()
        .into_iter()
        .filter(|spec| is_trained(&spec.name))
        .map(|spec| {
            let shape: Vec<i64> = spec.shape.iter().map(|&n| n as i64).collect();
            let master = zeros(&shape);
            [master.to_kind(step.kind), step.random(&shape), master, zeros(&shape), zeros(&shape)]
        })
        .collect();
    let numbers: f64 = slots.iter().map(|slot| slot[0].numel() as f64).sum();
    let one_pass = step.kind == Kind::BFloat16;
    let mut failed = None;
    let seconds = median(5, || {
        let done = tch::no_grad(|| {
            let mut norms = Vec::new();
            for [weight, grad, master, first, second] in &slots {
                if one_pass {
                    squares(grad)?;
                    let state = MixedState { master, exp_avg: first, exp_avg_sq: second };
                    adamw_mixed(weight, &state, grad, 2, params, 0.5)?;
                } else {
                    norms.push(grad.norm());
                }
            }
            if !one_pass {
                let list = |i: usize| slots.iter().map(|slot| slot[i].shallow_clone()).collect::<Vec<_>>();
                let counts: Vec<Tensor> = slots.iter().map(|_| Tensor::from(2f32)).collect();
                fused_adamw(&list(0), &list(1), &list(3), &list(4), &counts, params)?;
            }
            Ok::<(), llama_pro_torch_ext::Error>(())
        });
        failed = failed.take().or(done.err());
    });
    failed.map_or(Ok(()), Err)?;
    // bfloat16: the gradient twice, moments and master read and written, the weight written. float32: the gradient twice,
    // moments and weight read and written.
    let bytes = numbers * if one_pass { 2.0 * 2.0 + 16.0 + 8.0 + 2.0 } else { 2.0 * 4.0 + 16.0 + 8.0 };
    Ok(vec![Part { name: "optimizer", seconds, work: Work::Bytes(bytes) }])
}

fn round(x: f64, digits: i32) -> f64 {
    (x * 10f64.powi(digits)).round() / 10f64.powi(digits)
}
