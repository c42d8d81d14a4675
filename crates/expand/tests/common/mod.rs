//! Small checkpoints, made and read back without this project's reader, so that tests compare with something else.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use llama_pro_checkpoint::Checkpoint;
use llama_pro_expand::{ExpandOptions, Placement, Report, expand};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};

pub(crate) type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

pub(crate) fn blocks(blocks: usize, per_group: usize) -> Placement {
    Placement::Blocks { blocks, per_group }
}

pub(crate) fn grow(base: &Path, out: &Path, placement: &Placement) -> Report {
    expand(base, out, placement, &ExpandOptions::default()).unwrap()
}

pub(crate) fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Every tensor of every weight file of a folder.
pub(crate) fn tensors(dir: &Path) -> Tensors {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with("model") || path.extension().is_none_or(|ending| ending != "safetensors") {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let tensor = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
            assert!(all.insert(name, tensor).is_none());
        }
    }
    all
}

/// Every file of a folder with its bytes.
pub(crate) fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let file =
        |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    fs::read_dir(dir).unwrap().map(|entry| file(entry.unwrap())).collect()
}

/// A llama-like folder of `layers` tiny blocks whose tensors are of the given names; bytes differ everywhere.
pub(crate) fn make(dir: &Path, config: &Value, layers: usize, within: &[&str]) {
    let mut names: Vec<String> =
        ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"].map(str::to_owned).to_vec();
    for layer in 0..layers {
        names.extend(within.iter().map(|within| format!("model.layers.{layer}.{within}")));
    }
    make_named(dir, config, &names);
}

pub(crate) fn make_named(dir: &Path, config: &Value, names: &[String]) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("config.json"), serde_json::to_string_pretty(config).unwrap()).unwrap();
    let mut state = 1u64;
    let mut data = Vec::new();
    for name in names {
        let elements = if name.ends_with("bias") || name.contains("norm") { 3 } else { 6 };
        let mut bytes = vec![0; 2 * elements];
        bytes.fill_with(|| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            // Never 0, so that a zero in the output was put there.
            (state >> 56) as u8 | 1
        });
        data.push((name.clone(), elements, bytes));
    }
    let views = data.iter().map(|(name, elements, bytes)| {
        (name.clone(), TensorView::new(Dtype::BF16, vec![*elements / 3, 3], bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &dir.join("model.safetensors")).unwrap();
}

pub(crate) const LLAMA: [&str; 9] = [
    "input_layernorm.weight",
    "self_attn.q_proj.weight",
    "self_attn.k_proj.weight",
    "self_attn.v_proj.weight",
    "self_attn.o_proj.weight",
    "post_attention_layernorm.weight",
    "mlp.gate_proj.weight",
    "mlp.up_proj.weight",
    "mlp.down_proj.weight",
];

pub(crate) fn llama_config(layers: usize) -> Value {
    json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": layers, "eos_token_id": 2})
}

/// Changes one byte of a tensor where it lies.
pub(crate) fn poke(dir: &Path, tensor: &str, at: u64, change: impl Fn(u8) -> u8) {
    let (path, offset) = {
        let checkpoint = Checkpoint::open(dir).unwrap();
        let info = checkpoint.info(tensor).unwrap();
        assert!(at < info.len);
        (checkpoint.shards()[info.shard].path().to_owned(), info.offset + at)
    };
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[change(byte[0])], offset).unwrap();
}

/// What an expanded folder must hold, from the base's tensors and a list of (source block, is new).
pub(crate) fn expected(base: &Tensors, layers: &[(usize, bool)]) -> Tensors {
    let mut all = Tensors::new();
    for (name, tensor) in base {
        match name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) {
            None => {
                all.insert(name.clone(), tensor.clone());
            }
            Some((block, within)) => {
                for (index, (source, new)) in layers.iter().enumerate() {
                    if *source == block.parse::<usize>().unwrap() {
                        let mut tensor = tensor.clone();
                        if *new && (within.contains("o_proj") || within.contains("down_proj")) {
                            tensor.2.fill(0);
                        }
                        all.insert(format!("model.layers.{index}.{within}"), tensor);
                    }
                }
            }
        }
    }
    all
}
