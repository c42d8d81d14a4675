//! Flash attention as a GPU is given it, on the CPU: libtorch has the two operations for GPUs alone, so native/ registers
//! them written out in plain operations, and models run through them. Losses and gradients are held against those of plain
//! attention in float32; what a GPU's own kernels round is not seen here.
#![allow(clippy::unwrap_used, unsafe_code, reason = "a test may panic, and calls what native/ registers")]

use std::path::{Path, PathBuf};

use llama_pro_checkpoint::Checkpoint;
use llama_pro_checkpoint::cost::Recompute;
use llama_pro_model::{Attends, Inputs, Llama, LoadOptions, Path as Blocks, Trained, attends_by};
use llama_pro_torch_ext::{Documents, Heads, WithoutKernels, backward, flash};
use llama_pro_train::{Dtype, Keep, MicroBatch, TrainConfig, Trainer};
use tch::{Device, Kind, Tensor};

#[link(name = "llama_pro_flash_reference", kind = "static")]
unsafe extern "C" {
    fn flash_reference_register();
    fn flash_reference_calls() -> std::ffi::c_int;
}

/// One test, because what is registered serves the whole process: kernels off, reference on.
#[test]
fn what_a_gpu_is_given() {
    tch::set_num_threads(1);
    let _as_on_a_gpu = WithoutKernels::new();
    // SAFETY: registers two functions with libtorch's dispatcher; nothing runs beside it.
    unsafe { flash_reference_register() };
    let checkpoint = Checkpoint::open(&fixture(GROUPS)).unwrap();
    let config = checkpoint.config().llama().unwrap();
    assert_eq!(
        attends_by(&config, Kind::Float, Device::Cpu),
        Attends::Plain,
        "float32 has no flash attention"
    );
    assert_eq!(attends_by(&config, Kind::BFloat16, Device::Cpu), Attends::Flash);

    for (heads, key_heads, window) in [(4, 4, None), (4, 2, None), (4, 1, Some(9)), (2, 2, Some(64))] {
        values_and_gradients(heads, key_heads, window);
    }
    for name in ["llama2", GROUPS, "mistral-window"] {
        for segments in [None, Some(documents())] {
            models_agree(name, segments.as_ref());
        }
        recomputation_keeps_every_bit(name);
    }
    an_expanded_model_is_its_base();
    // A row whose document comes back after another cannot be told by starts alone: a dense mask, and no flash.
    let before = calls();
    let returning = Tensor::from_slice(&[0i64, 1, 0, 0]).view([1, 4]);
    let ids = Tensor::from_slice(&[1i64, 2, 3, 4]).view([1, 4]);
    let _ = model(GROUPS, Kind::BFloat16).logits(&inputs(&ids, Some(&returning)), Blocks::Grown).unwrap();
    assert_eq!(calls(), before);
}

fn calls() -> i32 {
    // SAFETY: reads a number.
    unsafe { flash_reference_calls() }
}

/// Eight query heads and two of keys.
const GROUPS: &str = "llama3-gqa-tied-bf16-sharded";

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Rows of 40 tokens: one document, and three of 5, 21 and 14 tokens.
fn documents() -> Tensor {
    let second = |at: i64| i64::from(at >= 5) + i64::from(at >= 26);
    let rows: Vec<i64> = (0..40).map(|_| 0).chain((0..40).map(second)).collect();
    Tensor::from_slice(&rows).view([2, 40])
}

/// The function alone: plain attention in float64, written out, has the same values and gradients.
fn values_and_gradients(heads: i64, key: i64, window: Option<i64>) {
    let (b, t, size) = (2, 40, 16);
    let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(Kind::BFloat16);
    let inputs = [random(&[b, t, heads * size]), random(&[b, t, key * size]), random(&[b, t, key * size])];
    let half = Tensor::randn([1, 1, t, size / 2], (Kind::Float, Device::Cpu));
    let both = |x: Tensor| Tensor::concat(&[&x, &x], 3).to_kind(Kind::BFloat16);
    let (cosine, sine) = (both(half.cos()), both(half.sin()));
    let leaves = |kind| inputs.each_ref().map(|x| x.to_kind(kind).copy().set_requires_grad(true));
    let (narrow, wide) = (leaves(Kind::BFloat16), leaves(Kind::Double));

    let starts = Tensor::from_slice(&[0i32, 40, 45, 66, 80]);
    let documents_given = Documents { starts: &starts, longest: 40, window };
    let of = Heads { query: heads, key, size };
    let got = flash(&narrow[0], &narrow[1], &narrow[2], (&cosine, &sine), &documents_given, of).unwrap();

    let split = |x: &Tensor| x.view([b, t, -1, size]).transpose(1, 2);
    let turn = |x: Tensor| {
        let turned = Tensor::concat(&[&x.narrow(3, size / 2, size / 2).neg(), &x.narrow(3, 0, size / 2)], 3);
        &x * cosine.to_kind(Kind::Double) + turned * sine.to_kind(Kind::Double)
    };
    let spread = |x: Tensor| x.repeat_interleave_self_int(heads / key, 1, None);
    let (q, k, v) = (turn(split(&wide[0])), spread(turn(split(&wide[1]))), spread(split(&wide[2])));
    let at = Tensor::arange(t, (Kind::Int64, Device::Cpu));
    let back = at.unsqueeze(1) - at.unsqueeze(0);
    let mut seen = back.ge(0).unsqueeze(0);
    if let Some(window) = window {
        seen = seen.logical_and(&back.lt(window).unsqueeze(0));
    }
    let segments = documents();
    seen = seen.logical_and(&segments.unsqueeze(2).eq_tensor(&segments.unsqueeze(1)));
    let scores =
        (q.matmul(&k.transpose(2, 3)) / 4.0).masked_fill(&seen.logical_not().unsqueeze(1), f64::NEG_INFINITY);
    let expected = scores.softmax(-1, Kind::Double).matmul(&v).transpose(1, 2).reshape([b, t, -1]);

    let seed = random(&[b, t, heads * size]);
    backward(&got, &seed).unwrap();
    backward(&expected, &seed.to_kind(Kind::Double)).unwrap();
    close("output", &got, &expected);
    for (i, (a, b)) in narrow.iter().zip(&wide).enumerate() {
        close(&format!("gradient {i} of {heads} heads"), &a.grad(), &b.grad());
    }
}

/// bfloat16 keeps 8 bits and the operation rounds a few times.
fn close(name: &str, got: &Tensor, expected: &Tensor) {
    let largest = expected.abs().max().double_value(&[]).max(1.0);
    let worst = (got.to_kind(Kind::Double) - expected.to_kind(Kind::Double)).abs().max().double_value(&[]);
    assert!(worst <= 2e-2 * largest, "{name}: {worst:e} of {largest:e}");
}

/// Block 1 learns.
fn model(name: &str, kind: Kind) -> Llama {
    let checkpoint = Checkpoint::open(&fixture(name)).unwrap();
    let names = checkpoint.names().filter(|name| name.starts_with("model.layers.1.")).map(str::to_owned);
    let trained = Trained::Names(names.collect());
    let options = LoadOptions { kind: Some(kind), trained, added: vec![1], ..LoadOptions::default() };
    Llama::load(&checkpoint, &options).unwrap()
}

fn inputs<'a>(ids: &'a Tensor, segments: Option<&'a Tensor>) -> Inputs<'a> {
    Inputs { segments, ..Inputs::tokens(ids) }
}

/// A whole model through flash attention in bfloat16 against the same weights through plain attention in float32.
fn models_agree(name: &str, segments: Option<&Tensor>) {
    let ids = Tensor::randint(200, [2, 40], (Kind::Int64, Device::Cpu));
    let before = calls();
    let narrow = model(name, Kind::BFloat16).logits(&inputs(&ids, segments), Blocks::Grown).unwrap();
    assert_eq!(calls() - before, 4, "one call for each block");
    let wide = model(name, Kind::Float).logits(&inputs(&ids, segments), Blocks::Grown).unwrap();
    // transformers' own bfloat16 is 0.0086 to 0.0104 from its float32 on these fixtures, root mean square.
    let rms = |a: &Tensor, b: &Tensor| {
        (a.to_kind(Kind::Float) - b).square().mean(Kind::Double).sqrt().double_value(&[])
    };
    let apart = rms(&narrow, &wide);
    assert!(apart < 1.5e-2, "{name}: {apart:e}");
    // The mask is what the model sees by: without it the logits are others.
    let whole = model(name, Kind::Float).logits(&inputs(&ids, None), Blocks::Grown).unwrap();
    let apart = rms(&whole, &wide);
    assert!(segments.is_none() || apart > 5e-2, "{name}: documents make no difference: {apart:e}");
}

/// What is thrown away and computed again gives the same gradients.
fn recomputation_keeps_every_bit(name: &str) {
    let ids = Tensor::randint(200, [2, 40], (Kind::Int64, Device::Cpu));
    let micro = || MicroBatch { segments: Some(documents()), ..MicroBatch::tokens(&ids) };
    let mut seen = Vec::new();
    for recompute in [Recompute::None, Recompute::NewBlocks, Recompute::AllBlocks] {
        let train = TrainConfig { recompute, dtype: Dtype::Bf16, ..TrainConfig::new(3, 2, 1e-3) };
        let mut trainer = Trainer::new(model(name, Kind::BFloat16), None, &train, Keep::default()).unwrap();
        let losses: Vec<u64> =
            (1..=3).map(|step| trainer.step(&[micro()], step, 1e-3).unwrap().loss().to_bits()).collect();
        let weights = trainer.model().parameters().iter().filter(|p| p.trained).map(|p| p.tensor.copy());
        seen.push((losses, weights.collect::<Vec<_>>()));
    }
    for (losses, weights) in &seen[1..] {
        assert_eq!(losses, &seen[0].0);
        assert!(weights.iter().zip(&seen[0].1).all(|(a, b)| a.equal(b)), "weights differ");
    }
}

/// New blocks that are zero change nothing in this way either: every logit ==.
fn an_expanded_model_is_its_base() {
    use llama_pro_expand::{ExpandOptions, Expansion, Placement, expand};
    let dir = tempfile::tempdir().unwrap();
    let grown = dir.path().join("grown");
    let base = fixture(GROUPS);
    expand(&base, &grown, &Placement::Blocks { blocks: 2, per_group: 1 }, &ExpandOptions::default()).unwrap();
    let ids = Tensor::randint(300, [2, 40], (Kind::Int64, Device::Cpu));
    let before = calls();
    let logits = |dir: &Path| {
        let checkpoint = Checkpoint::open(dir).unwrap();
        let added = Expansion::read(dir).unwrap().map(|r| r.new_blocks()).unwrap_or_default();
        let options = LoadOptions { kind: Some(Kind::BFloat16), added, ..LoadOptions::default() };
        let model = Llama::load(&checkpoint, &options).unwrap();
        model.logits(&Inputs::tokens(&ids), Blocks::Grown).unwrap()
    };
    assert!(logits(&grown).equal(&logits(&base)));
    assert!(calls() > before, "flash attention was not used");
}
