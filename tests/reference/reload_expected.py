#!/usr/bin/env python3
"""Recomputes FOLDER/expected.safetensors, for the input_ids in it, from the folder as transformers loads it in float32.

usage: reload_expected.py FOLDER
needs: pip install torch==2.11.0 transformers==5.23.0 safetensors

Used once, on llama3-gqa-tied-bf16-sharded: its first expected numbers came from a model in memory that had been cast
to bfloat16 and back, which rounds the rotary frequencies too (a buffer that no checkpoint holds). A model that is
loaded from the folder keeps them in float32, as transformers does for its users; the logits differ by 2.0e-5.
"""
import os, sys, torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

folder = sys.argv[1]
path = os.path.join(folder, "expected.safetensors")
old = load_file(path)
torch.use_deterministic_algorithms(True)
m = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
ids = old["input_ids"]
logits = m(ids).logits
lp = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
loss = -lp.mean()
loss.backward()
new = {"input_ids": ids, "logits": logits, "loss": loss, "logprobs": lp}
new |= {f"grad.{n}": p.grad for n, p in m.named_parameters()}
with torch.no_grad():
    g = ids[:1, :16]
    for _ in range(24):
        g = torch.cat([g, m(g).logits[:, -1:].argmax(-1)], 1)
new["greedy"] = g[:, 16:]
assert new.keys() == old.keys(), new.keys() ^ old.keys()
print("max |logit difference| to the file before:", (new["logits"] - old["logits"]).abs().max().item())
save_file({k: x.detach().contiguous() for k, x in new.items()}, path)
