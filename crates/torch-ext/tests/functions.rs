//! The operations with their own backward pass against their definitions in plain float64 operations, values and
//! gradients, on random inputs of odd sizes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use llama_pro_torch_ext::{
    Heads, LossWeights, WithoutKernels, add_norm, attention, backward, has_kernels, head_loss, linear, norm,
    swiglu,
};
use tch::{Device, Kind, Tensor};

/// Largest difference as a share of the largest number of the reference, and of one at least. bfloat16 keeps 8 bits, and an operation rounds a
/// few times; float32 sums of some hundred terms keep five digits.
fn bound(kind: Kind) -> f64 {
    if kind == Kind::BFloat16 { 2e-2 } else { 1e-5 }
}

fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

fn close(name: &str, kind: Kind, got: &Tensor, reference: &Tensor) {
    assert_eq!(got.size(), reference.size(), "{name}");
    // Inputs are of order one. Where their products cancel, as in the norm of a single number or the attention to a
    // single key, what remains is rounding of that order.
    let largest = reference.abs().max().double_value(&[]).max(1.0);
    let worst = (got.to_kind(Kind::Double) - reference).abs().max().double_value(&[]) / largest;
    assert!(worst <= bound(kind), "{name} in {kind:?}: {worst:e} of the largest value");
}

/// [`compare`] in the kernels, and as where there are none.
fn compare_both(
    name: &str,
    inputs: &[Tensor],
    fused: &dyn Fn(&[Tensor]) -> Vec<Tensor>,
    plain: &dyn Fn(&[Tensor]) -> Vec<Tensor>,
) {
    assert!(has_kernels(Kind::Float, Device::Cpu), "the tests run where the kernels do");
    compare(name, inputs, fused, plain);
    let _guard = WithoutKernels::new();
    assert!(!has_kernels(Kind::Float, Device::Cpu));
    compare(&format!("{name} without kernels"), inputs, fused, plain);
}

/// Values and gradients of `fused` in both dtypes against `plain` in float64. Of the inputs the floating-point ones learn.
fn compare(
    name: &str,
    inputs: &[Tensor],
    fused: &dyn Fn(&[Tensor]) -> Vec<Tensor>,
    plain: &dyn Fn(&[Tensor]) -> Vec<Tensor>,
) {
    for kind in [Kind::Float, Kind::BFloat16] {
        // The reference starts from the numbers that the narrow dtype can hold.
        let held: Vec<Tensor> = inputs
            .iter()
            .map(|x| if x.is_floating_point() { x.to_kind(kind) } else { x.shallow_clone() })
            .collect();
        let leaves = |kind: Kind| -> Vec<Tensor> {
            let leaf = |x: &Tensor| match x.is_floating_point() {
                true => x.to_kind(kind).copy().set_requires_grad(true),
                false => x.shallow_clone(),
            };
            held.iter().map(leaf).collect()
        };
        let (narrow, wide) = (leaves(kind), leaves(Kind::Double));
        let (got, expected) = (fused(&narrow), plain(&wide));
        for (i, (a, b)) in got.iter().zip(&expected).enumerate() {
            close(&format!("{name}: output {i}"), kind, a, b);
            let seed = random(&b.size()).to_kind(kind);
            // Several outputs share their graph: all but the last keep it through the sum below.
            let weight = |t: &Tensor| (t * seed.to_kind(t.kind())).sum(t.kind());
            if got.len() == 1 {
                backward(a, &seed).unwrap();
                weight(b).backward();
            } else if i + 1 == got.len() {
                let total = |list: &[Tensor]| list.iter().map(weight).reduce(|x, y| x + y).unwrap();
                total(&got).backward();
                total(&expected).backward();
            }
        }
        for (i, (a, b)) in narrow.iter().zip(&wide).enumerate() {
            if b.grad().defined() {
                close(&format!("{name}: gradient of input {i}"), kind, &a.grad(), &b.grad());
            }
        }
    }
}

fn plain_norm(x: &Tensor, w: &Tensor, eps: f64) -> Tensor {
    w * x * (x.square().mean_dim(-1, true, Kind::Double) + eps).rsqrt()
}

#[test]
fn norms() {
    for size in [1, 15, 64, 100] {
        let inputs = [random(&[3, 7, size]), random(&[size]), random(&[3, 7, size])];
        compare_both("norm", &inputs[..2], &|x| vec![norm(&x[0], &x[1], 1e-5).unwrap()], &|x| {
            vec![plain_norm(&x[0], &x[1], 1e-5)]
        });
        let plain = |x: &[Tensor]| {
            let sum = &x[0] + &x[2];
            vec![sum.shallow_clone(), plain_norm(&sum, &x[1], 1e-5)]
        };
        let fused = |x: &[Tensor]| {
            let (sum, normal) = add_norm(&x[0], &x[2], &x[1], 1e-5).unwrap();
            vec![sum, normal]
        };
        compare_both("add_norm", &inputs, &fused, &plain);
    }
}

#[test]
fn swiglus() {
    let inputs = [random(&[5, 33]) * 4.0, random(&[5, 33])];
    compare_both("swiglu", &inputs, &|x| vec![swiglu(&x[0], &x[1]).unwrap()], &|x| vec![x[0].silu() * &x[1]]);
    // Far out the sigmoid is 0 or 1, and nothing is NaN.
    let far = Tensor::from_slice(&[-200.0f32, -90.0, 90.0, 200.0, 0.0]);
    let got = swiglu(&far, &Tensor::ones([5], (Kind::Float, Device::Cpu))).unwrap();
    assert_eq!(Vec::<f32>::try_from(&got).unwrap(), [0.0, 0.0, 90.0, 200.0, 0.0]);
}

#[test]
fn linears_add_to_the_gradient_that_is_there() {
    let inputs = [random(&[2, 5, 24]), random(&[17, 24]), random(&[17])];
    let fused = |x: &[Tensor]| vec![linear(&x[0], &x[1], Some(&x[2])).unwrap()];
    compare_both("linear", &inputs, &fused, &|x| vec![x[0].linear(&x[1], Some(&x[2]))]);
    // Two passes give twice the gradient, in the same tensor.
    let (x, w) = (random(&[6, 8]), random(&[4, 8]).set_requires_grad(true));
    let seed = random(&[6, 4]);
    backward(&linear(&x, &w, None).unwrap(), &seed).unwrap();
    let (once, place) = (w.grad().copy(), w.grad().data_ptr());
    backward(&linear(&x, &w, None).unwrap(), &seed).unwrap();
    close("two passes", Kind::Float, &w.grad(), &(once * 2.0).to_kind(Kind::Double));
    assert_eq!(w.grad().data_ptr(), place);
}

/// Softmax attention written out, with the keys `first..=t` of each query t.
fn plain_attention(x: &[Tensor], heads: Heads) -> Vec<Tensor> {
    let (b, t) = (x[0].size()[0], x[0].size()[1]);
    let split = |q: &Tensor| q.view([b, t, -1, heads.size]).transpose(1, 2);
    let half = heads.size / 2;
    let turn = |q: Tensor| {
        let turned = Tensor::concat(&[&q.narrow(3, half, half).neg(), &q.narrow(3, 0, half)], 3);
        &q * x[3].detach() + turned * x[4].detach()
    };
    let group = heads.query / heads.key;
    let spread = |k: Tensor| k.repeat_interleave_self_int(group, 1, None);
    let (q, k, v) = (turn(split(&x[0])), spread(turn(split(&x[1]))), spread(split(&x[2])));
    let at = Tensor::arange(t, (Kind::Int64, Device::Cpu));
    let seen = at
        .view([1, 1, -1])
        .ge_tensor(&x[5].unsqueeze(2))
        .logical_and(&at.view([1, 1, -1]).le_tensor(&at.view([1, -1, 1])));
    let scores = q.matmul(&k.transpose(2, 3)) / (heads.size as f64).sqrt();
    let scores = scores.masked_fill(&seen.logical_not().unsqueeze(1), f64::NEG_INFINITY);
    let out = scores.softmax(-1, Kind::Double).matmul(&v);
    vec![out.transpose(1, 2).reshape([b, t, -1])]
}

#[test]
fn attentions() {
    // Sizes that fill vectors and blocks and such that do not; rows above the larger block.
    for (b, t, query, key, size) in
        [(2, 45, 4, 2, 16), (1, 1, 2, 2, 6), (2, 64, 2, 1, 4), (1, 130, 3, 1, 40), (1, 1100, 1, 1, 8)]
    {
        let heads = Heads { query, key, size };
        let causal = Tensor::zeros([1, t], (Kind::Int, Device::Cpu));
        // Documents that begin at every 7th token, or at random ones of each row.
        let every = (Tensor::arange(t, (Kind::Int, Device::Cpu)) / 7).floor().to_kind(Kind::Int) * 7;
        let begins = Tensor::rand([b, t], (Kind::Float, Device::Cpu)).lt(0.1);
        let places = Tensor::arange(t, (Kind::Int64, Device::Cpu)) * begins;
        let drawn = places.cummax(1).0.to_kind(Kind::Int);
        for first in [causal, every.unsqueeze(0), drawn] {
            let angles = random(&[1, 1, t, size / 2]);
            let both = |x: Tensor| Tensor::concat(&[&x, &x], 3);
            let inputs = [
                random(&[b, t, query * size]),
                random(&[b, t, key * size]),
                random(&[b, t, key * size]),
                both(angles.cos()),
                both(angles.sin()),
                first,
            ];
            let fused = |x: &[Tensor]| {
                vec![attention(&x[0], &x[1], &x[2], (&x[3].detach(), &x[4].detach()), &x[5], heads).unwrap()]
            };
            compare(&format!("attention {t} {size}"), &inputs, &fused, &|x| plain_attention(x, heads));
        }
    }
}

#[test]
fn first_keys_outside_the_row_are_refused() {
    let heads = Heads { query: 1, key: 1, size: 4 };
    let x = random(&[1, 3, 4]);
    let angles = random(&[1, 1, 3, 4]);
    for bad in [[0, 0, 3], [-1, 0, 0], [1, 0, 0]] {
        let first = Tensor::from_slice(&bad).view([1, 3]);
        let error = attention(&x, &x, &x, (&angles, &angles), &first, heads).unwrap_err().to_string();
        assert!(error.contains("begins at key"), "{error}");
    }
    assert!(
        attention(&x, &x, &x, (&angles, &angles), &Tensor::zeros([1, 2], (Kind::Int, Device::Cpu)), heads)
            .is_err()
    );
}

fn plain_loss(x: &[Tensor], targets: &Tensor, weights: LossWeights, base: bool) -> (Tensor, f64, f64) {
    let model = x[0].matmul(&x[1].tr()).log_softmax(-1, Kind::Double);
    let nats = model.gather(1, &targets.unsqueeze(1), false).sum(Kind::Double).neg();
    let mut objective = &nats * weights.cross_entropy;
    let mut kl = 0.0;
    if base {
        let old = x[2].matmul(&x[3].tr()).log_softmax(-1, Kind::Double).detach();
        let divergence = (old.exp() * (&old - &model)).sum(Kind::Double);
        kl = divergence.double_value(&[]);
        objective += divergence * weights.kl;
    }
    (objective, nats.double_value(&[]), kl)
}

#[test]
fn head_losses() {
    let (n, d, v) = (37, 24, 201);
    let inputs = [random(&[n, d]), random(&[v, d]) * 0.3, random(&[n, d]), random(&[v, d]) * 0.3];
    let targets = Tensor::randint(v, [n], (Kind::Int64, Device::Cpu));
    for (cross_entropy, kl, base) in [(1.0, 0.0, false), (0.25, 0.5, true), (0.0, 1.0, true)] {
        let weights = LossWeights { cross_entropy, kl };
        // Chunks that divide the rows, that do not, and one larger than all.
        for chunk in [1, 10, 64] {
            let sums = std::cell::RefCell::new(Vec::new());
            let fused = |x: &[Tensor]| {
                let old = base.then_some((&x[2], &x[3]));
                let loss = head_loss(&x[0], &x[1], &targets, old, weights, chunk).unwrap();
                sums.borrow_mut().push((loss.cross_entropy, loss.kl));
                vec![loss.objective]
            };
            compare_both("head loss", &inputs, &fused, &|x| {
                let (objective, nats, kl) = plain_loss(x, &targets, weights, base);
                let got = sums.borrow_mut().pop().unwrap();
                assert!((got.0 - nats).abs() < 2e-2 * nats, "{got:?} against {nats}");
                assert!((got.1 - kl).abs() < 2e-2 * kl.max(1e-3), "{got:?} against {kl}");
                vec![objective]
            });
        }
    }
}

/// What other devices and dtypes run, in float64 to float64 precision.
#[test]
fn the_plain_way_of_the_head_loss_is_exact_in_float64() {
    let wide = |shape: &[i64]| random(shape).to_kind(Kind::Double);
    let leaves = || -> Vec<Tensor> {
        tch::manual_seed(3);
        (0..4).map(|i| wide(&[if i % 2 == 0 { 9 } else { 31 }, 6]).set_requires_grad(true)).collect()
    };
    let (a, b) = (leaves(), leaves());
    let targets = Tensor::randint(31, [9], (Kind::Int64, Device::Cpu));
    let weights = LossWeights { cross_entropy: 0.7, kl: 0.4 };
    let got = head_loss(&a[0], &a[1], &targets, Some((&a[2], &a[3])), weights, 4).unwrap();
    let (objective, ..) = plain_loss(&b, &targets, weights, true);
    assert!((got.objective.double_value(&[]) - objective.double_value(&[])).abs() < 1e-12);
    got.objective.backward();
    objective.backward();
    for i in 0..2 {
        let worst = (a[i].grad() - b[i].grad()).abs().max().double_value(&[]);
        assert!(worst < 1e-12, "input {i}: {worst:e}");
    }
    assert!(!a[2].grad().defined(), "the base learns nothing");
}

#[test]
fn a_target_outside_the_vocabulary_is_refused() {
    let weights = LossWeights { cross_entropy: 1.0, kl: 0.0 };
    let targets = Tensor::from_slice(&[0i64, 5]);
    let result = head_loss(&random(&[2, 4]), &random(&[5, 4]), &targets, None, weights, 8);
    assert!(result.is_err_and(|e| e.to_string().contains("target 5 outside a vocabulary of 5")));
}
