//! The cost of training against numbers worked out by hand for LLaMA-2-7B grown to 40 blocks (the paper's LLaMA Pro).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use llama_pro_checkpoint::cost::{MemoryPlan, Recompute, Step, Trained, flops_per_token};
use llama_pro_checkpoint::{ConfigFile, LlamaConfig};

fn pro() -> LlamaConfig {
    let text = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":4096,
        "intermediate_size":11008,"num_hidden_layers":40,"num_attention_heads":32,"num_key_value_heads":32,
        "vocab_size":32000,"max_position_embeddings":4096,"rms_norm_eps":1e-5,"hidden_act":"silu",
        "tie_word_embeddings":false,"torch_dtype":"bfloat16"}"#;
    ConfigFile::from_json(Path::new("config.json"), text).unwrap().llama().unwrap()
}

fn new_blocks() -> Trained {
    Trained::blocks(&pro(), &[4, 9, 14, 19, 24, 29, 34, 39])
}

/// A block of LLaMA-2-7B has 4 * 4096^2 + 3 * 4096 * 11008 = 202,375,168 weights in matrices; attention at 4096 tokens is
/// 4 * 4096 * 4096 per block forward. 4 blocks below, 28 frozen above, 8 trained, the head 4 * 4096 * 32000.
#[test]
fn flops_of_the_papers_model() {
    let (w, attention) = (202_375_168f64, 4.0 * 4096.0 * 4096.0);
    let frozen = 4.0 * (2.0 * w + attention)
        + 28.0 * (4.0 * w + 3.0 * attention)
        + 8.0 * (6.0 * w + 3.0 * attention)
        + 4.0 * 4096.0 * 32000.0;
    let got = flops_per_token(&pro(), &new_blocks(), 4096);
    assert!((got / frozen - 1.0).abs() < 1e-12, "{got} against {frozen}");
    assert!((got / 1e9 - 42.04).abs() < 0.01, "{got}");
    let full = flops_per_token(&pro(), &Trained::all(&pro()), 4096);
    assert!((full / 1e9 - 57.41).abs() < 0.01, "{full}");
}

#[test]
fn optimizer_state_is_of_the_new_blocks_alone() {
    let step = Step { accumulates: true, ..Step::new(1, 4096, 2) };
    let plan = MemoryPlan::new(&pro(), &new_blocks(), step, Recompute::None);
    let trained = 8 * (202_375_168u64 + 2 * 4096);
    assert_eq!(plan.optimizer, trained * 12);
    assert_eq!(plan.gradients, trained * 6);
    let all = 40 * (202_375_168u64 + 2 * 4096) + 2 * 32000 * 4096 + 4096;
    assert_eq!(plan.weights, all * 2);
    assert!(plan.kept[..4].iter().all(|&b| b == 0), "nothing is kept below the lowest new block");
    assert!(plan.kept[5] < plan.kept[4], "a frozen block keeps less than a trained one");
}

#[test]
fn recomputing_more_keeps_less_and_a_budget_is_kept() {
    let step = Step { accumulates: true, ..Step::new(2, 4096, 2) };
    let of = |recompute| MemoryPlan::new(&pro(), &new_blocks(), step, recompute);
    let (none, new, all) = (of(Recompute::None), of(Recompute::NewBlocks), of(Recompute::AllBlocks));
    assert!(all.total() < new.total() && new.total() < none.total());
    assert_eq!(
        all.recomputed.iter().filter(|&&r| r).count(),
        36,
        "the four lowest blocks have no backward pass"
    );
    let between = u64::midpoint(all.total(), new.total());
    let kept = of(Recompute::Budget(between));
    assert!(kept.total() <= between);
    let n = kept.recomputed.iter().filter(|&&r| r).count();
    assert!((9..36).contains(&n), "{n} blocks");
    assert_eq!(of(Recompute::Budget(none.total())), none, "a budget that is large enough costs nothing");
    assert_eq!(of(Recompute::Budget(1)).total(), all.total(), "the smallest plan there is");
}

#[test]
fn policies_are_read_and_written() {
    for text in ["none", "new-blocks", "all-blocks", "24 GiB", "1.5 GiB"] {
        assert_eq!(Recompute::parse(text).unwrap().to_string(), text);
    }
    for text in ["", "some", "24", "-1 GiB", "NaN GiB", "24 GB", "0 GiB"] {
        assert_eq!(Recompute::parse(text), None, "{text}");
    }
}
