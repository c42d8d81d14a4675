//! The shim against plain tensor operations.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]
#![allow(unsafe_code, reason = "mapping a file in the test")]

use std::io::Write;
use std::sync::Arc;

use llama_pro_torch_ext::{self as torch_ext, AdamwParams, fused_adamw, tensor_over_mapping};
use tch::{Device, Kind, Tensor};

fn mapped(values: &[f32], lead: usize) -> Arc<memmap2::MmapMut> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![0u8; lead]).unwrap();
    for v in values {
        file.write_all(&v.to_le_bytes()).unwrap();
    }
    // SAFETY: the file is private to this test and nobody truncates it.
    Arc::new(unsafe { memmap2::MmapOptions::new().map_copy(&file).unwrap() })
}

#[test]
fn a_mapped_tensor_reads_the_file_and_keeps_it_alive() {
    let values: Vec<f32> = (0..12).map(|i| i as f32 * 0.5).collect();
    let mapping = mapped(&values, 8);
    let weak = Arc::downgrade(&mapping);
    let tensor = tensor_over_mapping(mapping, 8..56, &[3, 4], Kind::Float).unwrap();
    let view = tensor.narrow(0, 1, 2).transpose(0, 1);
    drop(tensor);
    assert!(weak.upgrade().is_some(), "a view holds the mapping");
    assert_eq!(
        Vec::<f32>::try_from(view.contiguous().view(-1)).unwrap(),
        [2.0, 4.0, 2.5, 4.5, 3.0, 5.0, 3.5, 5.5]
    );
    // Written through the tensor, the private page changes and nothing faults.
    let _ = view.shallow_clone().fill_(7.0);
    drop(view);
    assert!(weak.upgrade().is_none(), "the last view lets it go");
}

#[test]
fn a_wrong_range_shape_or_alignment_is_an_error() {
    let mapping = mapped(&[1.0; 8], 0);
    let fails = |range: std::ops::Range<usize>, shape: &[i64]| {
        tensor_over_mapping(mapping.clone(), range, shape, Kind::Float).unwrap_err().to_string()
    };
    assert!(fails(0..32, &[3]).contains("does not fill"));
    assert!(fails(16..48, &[8]).contains("outside"));
    assert!(fails(2..18, &[4]).contains("not aligned"));
    assert!(fails(0..32, &[-8]).contains("does not fill"));
}

/// AdamW written out in float64 from its definition.
#[test]
fn fused_adamw_equals_the_definition_in_float64() {
    let step = AdamwParams { learning_rate: 3e-2, betas: (0.9, 0.95), eps: 1e-8, weight_decay: 0.1 };
    let cpu = (Kind::Double, Device::Cpu);
    let param = Tensor::from_slice(&[0.5f64, -1.5, 2.0, 0.0, 3.0]);
    let (m, v) = (Tensor::zeros([5], cpu), Tensor::zeros([5], cpu));
    let count = Tensor::zeros([], (Kind::Float, Device::Cpu));
    let (mut p, mut pm, mut pv) = ([0.5f64, -1.5, 2.0, 0.0, 3.0], [0f64; 5], [0f64; 5]);
    for t in 1..=4 {
        let g: Vec<f64> = (0..5).map(|i| ((i * 7 + t * 3) % 5) as f64 * 0.25 - 0.5).collect();
        let _ = count.shallow_clone().g_add_scalar_(1.0);
        let one = |t: &Tensor| [t.shallow_clone()];
        fused_adamw(&one(&param), &one(&Tensor::from_slice(&g)), &one(&m), &one(&v), &one(&count), step)
            .unwrap();
        for i in 0..5 {
            p[i] -= step.learning_rate * step.weight_decay * p[i];
            pm[i] = 0.9 * pm[i] + 0.1 * g[i];
            pv[i] = 0.95 * pv[i] + 0.05 * g[i] * g[i];
            let mean = pm[i] / (1.0 - 0.9f64.powi(t));
            let root = (pv[i] / (1.0 - 0.95f64.powi(t))).sqrt();
            p[i] -= step.learning_rate * mean / (root + step.eps);
        }
    }
    let got = Vec::<f64>::try_from(&param).unwrap();
    for (a, b) in got.iter().zip(p) {
        assert!((a - b).abs() < 1e-9, "{got:?} against {p:?}");
    }
}

/// The kernel itself would write out of bounds.
#[test]
fn lists_that_do_not_match_are_refused() {
    let cpu = (Kind::Float, Device::Cpu);
    let step = AdamwParams { learning_rate: 0.1, betas: (0.9, 0.95), eps: 1e-8, weight_decay: 0.0 };
    let good = || Tensor::zeros([4, 3], cpu);
    let refused = |p: Tensor, g: Tensor, m: Tensor, v: Tensor, s: Tensor| {
        fused_adamw(&[p], &[g], &[m], &[v], &[s], step).unwrap_err().to_string()
    };
    let one = || Tensor::ones([], cpu);
    assert!(refused(good(), Tensor::zeros([2, 3], cpu), good(), good(), one()).contains("gradient"));
    assert!(
        refused(good(), Tensor::zeros([3, 4], cpu).transpose(0, 1), good(), good(), one())
            .contains("gradient")
    );
    assert!(refused(good(), good(), Tensor::new(), good(), one()).contains("exp_avg is nothing"));
    assert!(refused(good(), good(), good(), good(), Tensor::ones([2], cpu)).contains("step count"));
    assert!(fused_adamw(&[good()], &[], &[good()], &[good()], &[one()], step).is_err());
}

#[test]
fn an_error_of_libtorch_comes_back_as_one_line() {
    // No arithmetic of this kernel exists for integers.
    let t = || [Tensor::zeros([2], (Kind::Int64, Device::Cpu))];
    let step = AdamwParams { learning_rate: 0.1, betas: (0.9, 0.95), eps: 1e-8, weight_decay: 0.0 };
    let count = [Tensor::ones([], (Kind::Float, Device::Cpu))];
    let error = fused_adamw(&t(), &t(), &t(), &t(), &count, step).unwrap_err().to_string();
    assert!(error.starts_with("libtorch: ") && !error.contains('\n'), "{error}");
}

/// The one pass over a bfloat16 weight against the same in float64, with a clip, for numbers that fill no whole vector.
#[test]
fn the_mixed_step_equals_the_definition_in_float64() {
    if !torch_ext::has_kernels(Kind::BFloat16, Device::Cpu) {
        println!("skipped: this processor has no kernels");
        return;
    }
    let step = AdamwParams { learning_rate: 3e-2, betas: (0.9, 0.95), eps: 1e-8, weight_decay: 0.1 };
    let cpu = (Kind::Float, Device::Cpu);
    for kind in [Kind::Float, Kind::BFloat16] {
        let n = (1 << 16) + 37;
        tch::manual_seed(5);
        let master = Tensor::randn([n], cpu);
        let weight = master.to_kind(Kind::BFloat16);
        let (m, v) = (Tensor::zeros([n], cpu), Tensor::zeros([n], cpu));
        let mut p = master.to_kind(Kind::Double);
        let (mut pm, mut pv) = (p.zeros_like(), p.zeros_like());
        for t in 1..=3 {
            let grad = Tensor::randn([n], cpu).to_kind(kind);
            let exact = grad.to_kind(Kind::Double);
            let squares = torch_ext::squares(&grad).unwrap();
            let expected = (&exact * &exact).sum(Kind::Double).double_value(&[]);
            assert!((squares - expected).abs() <= 1e-6 * expected, "{squares} against {expected}");
            let scale = 0.25;
            let state = torch_ext::MixedState { master: &master, exp_avg: &m, exp_avg_sq: &v };
            torch_ext::adamw_mixed(&weight, &state, &grad, t, step, scale).unwrap();
            let g = exact * scale;
            pm = pm * 0.9 + &g * 0.1;
            pv = pv * 0.95 + &g * &g * 0.05;
            let (a, b) = (1.0 - 0.9f64.powi(t as i32), 1.0 - 0.95f64.powi(t as i32));
            p = p * (1.0 - 3e-2 * 0.1) - (&pm / a) / ((&pv / b).sqrt() + 1e-8) * 3e-2;
            let apart = (&p - master.to_kind(Kind::Double)).abs().max().double_value(&[]);
            assert!(apart < 2e-6, "{kind:?}, step {t}: {apart}");
            assert!(weight.equal(&master.to_kind(Kind::BFloat16)), "the weight is the master rounded");
        }
    }
}

#[test]
fn sums_of_gradients_are_exact_and_gradients_can_be_let_go() {
    if !torch_ext::has_kernels(Kind::BFloat16, Device::Cpu) {
        println!("skipped: this processor has no kernels");
        return;
    }
    let cpu = (Kind::Float, Device::Cpu);
    let sum = Tensor::randn([70_001], cpu);
    let x = Tensor::randn([70_001], cpu).to_kind(Kind::BFloat16);
    let expected = &sum + x.to_kind(Kind::Float);
    torch_ext::add_into(&sum, &x).unwrap();
    assert!(sum.equal(&expected));
    assert!(torch_ext::add_into(&sum, &x.narrow(0, 0, 5)).is_err());
    assert!(torch_ext::add_into(&x, &x).is_err());
    assert!(torch_ext::squares(&Tensor::zeros([3], (Kind::Int64, Device::Cpu))).is_err());
    let leaf = Tensor::ones([3], cpu).set_requires_grad(true);
    (&leaf * 2.0).sum(Kind::Float).backward();
    assert!(leaf.grad().defined());
    torch_ext::forget_grad(&leaf).unwrap();
    assert!(!leaf.grad().defined());
    (&leaf * 3.0).sum(Kind::Float).backward();
    assert_eq!(Vec::<f32>::try_from(leaf.grad()).unwrap(), [3.0; 3]);
    assert!(torch_ext::forget_grad(&(&leaf * 2.0)).is_err());
}
