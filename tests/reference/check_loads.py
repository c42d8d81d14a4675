#!/usr/bin/env python3
"""Loads a model folder with transformers, strictly, and compares its logits with another folder's.

usage: check_loads.py DIR [BASE] [--dtype auto|float32|bfloat16|float16] [--attn eager|sdpa]
needs: python 3.10+, pip install torch==2.11.0 transformers==5.23.0 safetensors numpy   (CPU is enough)

DIR is loaded with AutoModelForCausalLM. Fails if a parameter has no tensor (missing), a tensor no parameter
(unexpected), a shape differs (mismatched), or a logit is not finite in one forward on 2 x 48 fixed tokens. With BASE,
which is held to the same rules, every logit of both must be equal (torch.equal), as for a freshly expanded model and
the model that it was expanded from. --dtype is the dtype of the weights and the computation: auto (the default) is the
one that DIR is stored in; compare an expanded model with its base in each. The two are loaded one after the other.
Prints one line per folder and one for the comparison. Exit code: 0 all well, 1 a check failed, 2 wrong usage.
"""
import argparse, os, sys
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging


def fail(text):
    print(f"check_loads: FAILED: {text}")
    sys.exit(1)


def load(folder, dtype, attn):
    try:
        m, info = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation=attn, local_files_only=True,
            output_loading_info=True, ignore_mismatched_sizes=True)
    except Exception as e:   # a bad file: the reason, not a traceback
        fail(f"{folder}: {type(e).__name__}: {e}")
    bad = {k: sorted(map(str, x)) if not isinstance(x, str) else [x] for k, x in info.items() if x}
    for k, names in bad.items():
        for n in names:
            print(f"{folder}: {k}: {n}")
    if bad:
        fail(f"{folder}: " + ", ".join(f"{len(x)} {k}" for k, x in bad.items()))
    return m.eval()


@torch.no_grad()
def logits(m, ids, folder):
    x = m(ids).logits
    if not torch.isfinite(x).all():
        fail(f"{folder}: {(~torch.isfinite(x)).sum()} of {x.numel()} logits are not finite")
    c = m.config
    print(f"{folder}: {type(m).__name__}, {c.num_hidden_layers} layers, {m.num_parameters():,} parameters, {m.dtype}, "
          f"no missing or unexpected tensors, |logits| max {x.abs().max().item():.4f}")
    return x


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("dir", metavar="DIR")
    a.add_argument("base", metavar="BASE", nargs="?")
    a.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"])
    a.add_argument("--attn", default="eager", choices=["eager", "sdpa"])
    a = a.parse_args()
    for d in (a.dir, a.base):
        if d and not os.path.isfile(os.path.join(d, "config.json")):
            print(f"check_loads: {d}: no config.json there", file=sys.stderr)
            sys.exit(2)
    logging.disable_progress_bar()
    logging.set_verbosity_error()   # what it would warn about is checked here
    torch.use_deterministic_algorithms(True)

    m = load(a.dir, "auto" if a.dtype == "auto" else getattr(torch, a.dtype), a.attn)
    vocab = m.config.vocab_size
    ids = torch.randint(0, vocab, (2, 48), generator=torch.Generator().manual_seed(1))
    x, dtype = logits(m, ids, a.dir), m.dtype
    del m
    if not a.base:
        return
    m = load(a.base, dtype, a.attn)
    if m.config.vocab_size != vocab:
        fail(f"vocabulary of {vocab} in {a.dir}, of {m.config.vocab_size} in {a.base}")
    y = logits(m, ids, a.base)
    if not torch.equal(x, y):
        d = (x.float() - y.float()).abs()
        fail(f"{(x != y).sum()} of {x.numel()} logits differ, by up to {d.max().item():.3e}")
    print(f"all {x.numel()} logits equal")


if __name__ == "__main__":
    main()
