//! Low-rank adapters: they begin as nothing, compute what the merged matrices compute, and get the gradients that the
//! definition W + alpha / r * B A gives.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod common;

use common::{Expected, fixture, max_difference};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_model::{Inputs, LORA_TARGETS, Llama, LoadOptions, LoraOptions, Path, merged};
use tch::{Kind, Tensor};

fn options(targets: &[&str]) -> LoraOptions {
    LoraOptions { rank: 4, alpha: 12.0, targets: targets.iter().map(|t| (*t).to_owned()).collect(), seed: 5 }
}

fn model() -> Llama {
    Llama::load(&Checkpoint::open(&fixture("llama2")).unwrap(), &LoadOptions::default()).unwrap()
}

fn ids() -> Tensor {
    Expected::read(&fixture("llama2/expected.safetensors")).get("input_ids")
}

fn logits(model: &Llama) -> Tensor {
    model.logits(&Inputs::tokens(&ids()), Path::Grown).unwrap()
}

fn part(model: &Llama, name: &str) -> Tensor {
    model.parameters().iter().find(|p| p.name == name).unwrap().tensor.shallow_clone()
}

#[test]
fn adapters_begin_as_nothing_and_compute_what_the_merged_matrices_do() {
    let (plain, mut adapted) = (model(), model());
    adapted.add_lora(&options(&LORA_TARGETS)).unwrap();
    assert_eq!(logits(&plain), logits(&adapted), "B is zero");
    assert_eq!(adapted.parameters().iter().filter(|p| p.trained).count(), 4 * 7 * 2);
    {
        let _guard = tch::no_grad_guard();
        tch::manual_seed(1);
        for p in adapted.parameters().iter().filter(|p| p.name.ends_with("lora_B.weight")) {
            let _ = p.tensor.shallow_clone().normal_(0.0, 0.02);
        }
    }
    let by_adapters = logits(&adapted);
    assert!(max_difference(&by_adapters, &logits(&plain)) > 1e-2, "the adapters do something");
    {
        let _guard = tch::no_grad_guard();
        for p in plain.parameters() {
            let Some(module) = p.name.strip_suffix(".weight") else { continue };
            let name = |x: &str| format!("{module}.{x}.weight");
            if adapted.parameters().iter().any(|q| q.name == name("lora_A")) {
                let (a, b) = (part(&adapted, &name("lora_A")), part(&adapted, &name("lora_B")));
                let whole = merged(&p.tensor, &a, &b, 3.0);
                // The weights of a loaded model lie in the mapped file: `set_data` gives it others.
                p.tensor.shallow_clone().set_data(&whole);
            }
        }
    }
    let by_merging = logits(&plain);
    assert!(
        max_difference(&by_adapters, &by_merging) < 2e-5,
        "{}",
        max_difference(&by_adapters, &by_merging)
    );
}

#[test]
fn gradients_are_those_of_the_definition() {
    let mut adapted = model();
    adapted.add_lora(&options(&["down_proj"])).unwrap();
    let (a_name, b_name) =
        ("model.layers.3.mlp.down_proj.lora_A.weight", "model.layers.3.mlp.down_proj.lora_B.weight");
    let (a, b) = (part(&adapted, a_name), part(&adapted, b_name));
    {
        let _guard = tch::no_grad_guard();
        tch::manual_seed(2);
        let _ = b.shallow_clone().normal_(0.0, 0.02);
    }
    let loss = |model: &Llama| {
        let ids = ids();
        let context = model.context(&Inputs::tokens(&ids)).unwrap();
        let hidden = model.run(model.embed(&ids), 0..model.n_blocks(), &context, Path::Grown);
        model.head(&model.finish(&hidden)).square().mean(Kind::Float)
    };
    loss(&adapted).backward();
    // By small steps along a random direction: the definition of a derivative.
    for (tensor, name) in [(&a, "A"), (&b, "B")] {
        let direction = Tensor::randn_like(&tensor.detach());
        let along = (tensor.grad() * &direction).sum(Kind::Double).double_value(&[]);
        let at = |h: f64| {
            let _guard = tch::no_grad_guard();
            let mut view = tensor.detach();
            let _ = view.g_add_(&(&direction * h));
            let value = loss(&adapted).double_value(&[]);
            let _ = view.g_sub_(&(&direction * h));
            value
        };
        let h = 1e-2;
        let slope = (at(h) - at(-h)) / (2.0 * h);
        assert!((slope - along).abs() < 2e-2 * along.abs().max(1e-4), "{name}: {slope} and {along}");
    }
}

#[test]
fn what_cannot_be_adapted_is_refused() {
    let line = |o: LoraOptions| model().add_lora(&o).unwrap_err().to_string();
    assert!(line(options(&["q_porj"])).contains("`q_porj`"));
    assert!(line(options(&[])).contains("lora.targets"));
    assert!(line(LoraOptions { rank: 1000, ..options(&["q_proj"]) }).contains("lora.rank = 1000"));
    assert!(line(LoraOptions { rank: 0, ..options(&["q_proj"]) }).contains("lora.rank = 0"));
    let mut twice = model();
    twice.add_lora(&options(&["q_proj"])).unwrap();
    assert!(twice.add_lora(&options(&["q_proj"])).is_err());
}
