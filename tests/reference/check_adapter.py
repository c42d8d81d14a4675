"""Loads an adapter that `llama-pro sft` wrote with the peft package, and compares it with the merged model.

    python3 tests/reference/check_adapter.py BASE RUN/adapter RUN/model

Needs torch, transformers and peft. The logits of BASE with the adapter, of peft's own merge of the two, and of the
merged folder must agree to rounding, and must differ from those of BASE.
"""
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

base_dir, adapter_dir, merged_dir = sys.argv[1:4]


def load(path):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


base = load(base_dir)
generator = torch.Generator().manual_seed(0)
ids = torch.randint(3, base.config.vocab_size, (2, 24), generator=generator)
with torch.no_grad():
    plain = base(ids).logits
    adapted_model = PeftModel.from_pretrained(base, adapter_dir).eval()
    unexpected = [n for n, p in adapted_model.named_parameters() if "lora_B" in n and not p.abs().sum() > 0]
    adapted = adapted_model(ids).logits
    by_peft = adapted_model.merge_and_unload()(ids).logits
    merged = load(merged_dir)(ids).logits
moved = (adapted - plain).abs().max().item()
apart = (adapted - merged).abs().max().item()
apart_peft = (by_peft - merged).abs().max().item()
print(f"adapter moves logits by {moved:.3e}; merged folder is {apart:.3e} from it, {apart_peft:.3e} from peft's merge")
if unexpected:
    sys.exit(f"adapters that stayed zero: {unexpected}")
if not (moved > 1e-4 and apart < 1e-4 and apart_peft < 1e-4):
    sys.exit("they do not agree")
