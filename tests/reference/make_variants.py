#!/usr/bin/env python3
"""Makes tiny random-weight checkpoints of the less usual config keys, with the numbers transformers gets from them.

usage: make_variants.py OUT_DIR [VARIANT ...] [--seed N]
       make_variants.py tests/fixtures                    all of them
       make_variants.py tests/fixtures qwen2 bf16-logits  only these
needs: python 3.10+, pip install torch==2.11.0 transformers==5.23.0 safetensors numpy   (CPU; ten seconds on 2 cores)

The numbers agree with the committed ones to rounding, not to the bit, on another processor or thread count.
An existing OUT_DIR/VARIANT is overwritten file by file.

Each OUT_DIR/VARIANT is a checkpoint folder as `save_pretrained` writes it (config.json, generation_config.json,
model.safetensors) plus expected.safetensors. The expected numbers come from a model that was loaded back from that
folder, dtype=float32, eager attention, on the CPU, with T = 40:
  input_ids      int64 [2, T]        tokens from 3 up to the vocabulary
  logits         f32   [2, T, vocab]
  loss           f32   []            mean next-token cross-entropy over the 2*(T-1) targets
  logprobs       f32   [2, T-1]      log p(input_ids[:, t+1] | input_ids[:, :t+1])
  greedy         int64 [1, 24]       greedy continuation of input_ids[:1, :16], no KV cache: the whole sequence again
                                     for each token, by a freshly loaded model
  grad.<name>    f32                 d loss / d parameter, for every parameter (tied weights once, as the embedding)
llama-rope-dynamic, whose model remembers the longest sequence it has seen, has two keys more:
  greedy_warm    int64 [1, 24]       the same loop by a model that has seen all T tokens before
  greedy_cached  int64 [1, 24]       with a KV cache, by a freshly loaded model; keys stay rotated as they were stored
Where it says so in VARIANTS, config.legacy.json is the same config in the spelling of transformers 4 (rope_theta,
rope_scaling and torch_dtype at the top level); it was checked to give the same logits to the bit.

The variant bf16-logits reads OUT_DIR/{llama2,mistral-window,llama3-gqa-tied-bf16-sharded} (made elsewhere) and writes
OUT_DIR/bf16-logits.safetensors: <fixture>.eager and <fixture>.sdpa, f32 [2, 48, vocab], the logits of the model loaded
with dtype=bfloat16 for that fixture's input_ids. Weights and activations are bfloat16, the rotary frequencies float32.

A greedy path whose best two logits come nearer than MARGIN, or an `effect` (how far the logits move when the variant's
own keys are taken out of the config) below EFFECT, stops the script: such a fixture would test nothing, or luck.
"""
import argparse, copy, json, os
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.utils import logging

T, PROMPT, NEW = 40, 16, 24
MARGIN, EFFECT = 2e-3, 1e-2
BASE = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            vocab_size=96, max_position_embeddings=128, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
# heads of 16 and small bases, so that with 16 original positions every branch of a frequency rule has a frequency in it
WIDE = dict(num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64)
L, Q = (LlamaConfig, LlamaForCausalLM), (Qwen2Config, Qwen2ForCausalLM)


def v(cls, model, without=None, dtype=torch.float32, legacy=None, seed=0, **kw):
    """One variant. `without`: the config keys that undo it, for `effect`. `legacy`: the name of rope_type in the old
    spelling. `seed`: added to --seed, picked so that the greedy path has no near tie and
    does not repeat one token."""
    return dict(cls=cls, model=model, without=without, dtype=dtype, legacy=legacy, seed=seed,
                kw={**BASE, "rope_parameters": PLAIN, **kw})


def rope(theta, **kw):
    return {"rope_theta": theta, **kw}


VARIANTS = {
    # q, k and v with biases, tied embeddings
    "qwen2": v(*Q, seed=296, tie_word_embeddings=True),
    # layer 0 sees everything, layers 1 and 2 a window of 8
    "qwen2-sliding": v(*Q, seed=2, tie_word_embeddings=True, use_sliding_window=True, max_window_layers=1,
                       sliding_window=8, without={"layer_types": ["full_attention"] * 3}),
    "llama-biases": v(*L, seed=17, attention_bias=True, mlp_bias=True),
    # 4 heads of 24 on a hidden size of 32; two layers, for the file size
    "llama-head-dim": v(*L, head_dim=24, num_hidden_layers=2),
    "llama-rope-linear": v(*L, seed=2, rope_parameters=rope(10000.0, rope_type="linear", factor=4.0),
                           without={"rope_parameters": PLAIN}),
    # 16 positions, 40 tokens: the NTK rule is at work
    "llama-rope-dynamic": v(*L, seed=108, max_position_embeddings=16, without={"rope_parameters": PLAIN},
                            rope_parameters=rope(10000.0, rope_type="dynamic", factor=2.0)),
    # default betas (32, 1), attention factor from factor alone
    "llama-rope-yarn": v(*L, **WIDE, seed=1, legacy="type",
        without={"rope_parameters": rope(20.0, rope_type="default")},
        rope_parameters=rope(20.0, rope_type="yarn", factor=4.0, original_max_position_embeddings=16)),
    # betas given, attention factor from mscale / mscale_all_dim
    "llama-rope-yarn-mscale": v(*L, **WIDE, seed=1, legacy="rope_type",
        without={"rope_parameters": rope(20.0, rope_type="default")},
        rope_parameters=rope(20.0, rope_type="yarn", factor=4.0, original_max_position_embeddings=16,
                             beta_fast=1.5, beta_slow=0.25, mscale=2.0, mscale_all_dim=0.5)),
    # frequencies in all three zones: kept, blended (two), divided
    "llama-rope-llama3": v(*L, **WIDE, seed=1, legacy="rope_type",
        without={"rope_parameters": rope(100.0, rope_type="default")},
        rope_parameters=rope(100.0, rope_type="llama3", factor=8.0, low_freq_factor=0.5, high_freq_factor=2.0,
                             original_max_position_embeddings=16)),
    # weights stored in float16, computed in float32
    "llama-f16": v(*L, seed=2, dtype=torch.float16),
}
BF16_OF = ["llama2", "mistral-window", "llama3-gqa-tied-bf16-sharded"]


def load(folder, config=None, dtype=torch.float32, attn="eager"):
    # never model.to(dtype) or .half().float(): they round the rotary frequencies, from_pretrained does not
    kw = {} if config is None else {"config": config}
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=attn, **kw).eval()


def legacy_config(path, type_key):
    c = json.load(open(path))
    r = c.pop("rope_parameters")
    c["rope_theta"] = r.pop("rope_theta")
    c["rope_scaling"] = {type_key: r.pop("rope_type"), **r}
    c["torch_dtype"] = c.pop("dtype")
    c["transformers_version"] = "4.40.0"
    with open(path.replace("config.json", "config.legacy.json"), "w") as f:
        json.dump(c, f, indent=2, sort_keys=True)
        f.write("\n")
    return c


def save(tensors, path):
    save_file({k: x.detach().contiguous() for k, x in tensors.items()}, path)
    os.chmod(path, 0o644)


@torch.no_grad()
def greedy(m, ids, cached=False):
    """The continuation and the smallest distance between the best two logits on the way."""
    g, margin, past = ids[:1, :PROMPT], float("inf"), None
    for _ in range(NEW):
        if cached:
            out = m(g if past is None else g[:, -1:], past_key_values=past, use_cache=True)
            past = out.past_key_values
        else:
            out = m(g)
        top = out.logits[0, -1].topk(2)
        margin = min(margin, (top.values[0] - top.values[1]).item())
        g = torch.cat([g, top.indices[None, :1]], 1)
    return g[:, PROMPT:], margin


def make(name, spec, out, seed):
    seed += spec["seed"]
    torch.manual_seed(seed)
    m = spec["model"](spec["cls"](attn_implementation="eager", **copy.deepcopy(spec["kw"]))).eval()
    with torch.no_grad():
        for n, p in m.named_parameters():
            if n.endswith("bias"):
                p.copy_(torch.randn_like(p) * 0.1)
            elif p.dim() > 1:   # larger than the usual 0.02, so that errors show in the logits
                p.copy_(torch.randn_like(p) * 0.08)
            else:
                p.copy_(torch.randn_like(p) * 0.1 + 1.0)
    folder = os.path.join(out, name)
    m.to(spec["dtype"]).save_pretrained(folder)
    os.chmod(os.path.join(folder, "model.safetensors"), 0o644)

    m = load(folder)
    ids = torch.randint(3, spec["kw"]["vocab_size"], (2, T), generator=torch.Generator().manual_seed(seed + 1))
    logits = m(ids).logits
    lp = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    loss = -lp.mean()
    loss.backward()
    t = {"input_ids": ids, "logits": logits, "loss": loss, "logprobs": lp}
    t |= {f"grad.{n}": p.grad for n, p in m.named_parameters()}
    t["greedy"], margin = greedy(load(folder), ids)
    if spec["kw"]["rope_parameters"]["rope_type"] == "dynamic":
        for key, model, cached in (("greedy_warm", m, False), ("greedy_cached", load(folder), True)):
            t[key], x = greedy(model, ids, cached)
            margin = min(margin, x)
    save(t, os.path.join(folder, "expected.safetensors"))

    effect, note = None, ""
    with torch.no_grad():
        if spec["without"]:
            c = AutoConfig.from_pretrained(folder)
            for k, x in spec["without"].items():
                setattr(c, k, copy.deepcopy(x))
            effect = (load(folder, c)(ids).logits - logits).abs().max().item()
        if spec["legacy"]:
            c = spec["cls"].from_dict(legacy_config(os.path.join(folder, "config.json"), spec["legacy"]))
            assert torch.equal(load(folder, c)(ids).logits, logits), f"{name}: config.legacy.json gives other logits"
            note = ", legacy =="
    size = sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder))
    rot = m.model.rotary_emb
    print(f"{name}: loss {loss.item():.6f}, |logits| max {logits.abs().max():.3f}, "
          f"greedy {t['greedy'].unique().numel()} distinct, margin {margin:.1e}, "
          f"effect {'-' if effect is None else format(effect, '.1e')}{note}, {size} bytes, "
          f"rope scale {rot.attention_scaling:.6f}, inv_freq {[float(f'{x:.4g}') for x in rot.inv_freq]}")
    assert margin >= MARGIN, f"{name}: near tie ({margin:.1e}) on the greedy path; give the variant another seed"
    assert effect is None or effect >= EFFECT, f"{name}: its config keys move the logits by only {effect:.1e}"


@torch.no_grad()
def bf16_logits(out):
    t = {}
    for name in BF16_OF:
        folder = os.path.join(out, name)
        e = load_file(os.path.join(folder, "expected.safetensors"))
        for attn in ("eager", "sdpa"):
            x = load(folder, dtype=torch.bfloat16, attn=attn)(e["input_ids"]).logits
            assert x.dtype == torch.bfloat16
            t[f"{name}.{attn}"] = x.float()
            d = (t[f"{name}.{attn}"] - e["logits"]).abs().max().item()
            print(f"bf16-logits: {name}.{attn} {list(x.shape)}, |bf16 - f32| max {d:.2e}")
        print(f"bf16-logits: {name} |eager - sdpa| max {(t[name + '.eager'] - t[name + '.sdpa']).abs().max():.2e}")
    save(t, os.path.join(out, "bf16-logits.safetensors"))


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("out")
    a.add_argument("variants", nargs="*", metavar="VARIANT", help=", ".join([*VARIANTS, "bf16-logits"]))
    a.add_argument("--seed", type=int, default=11)
    a = a.parse_args()
    names = a.variants or [*VARIANTS, "bf16-logits"]
    for n in names:
        if n != "bf16-logits" and n not in VARIANTS:
            raise SystemExit(f"make_variants.py: no variant {n!r}; there are {', '.join([*VARIANTS, 'bf16-logits'])}")
    logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True)
    for n in names:
        bf16_logits(a.out) if n == "bf16-logits" else make(n, VARIANTS[n], a.out, a.seed)
