#!/usr/bin/env python3
"""Makes the references of generation, with transformers (5.23.0) and torch (2.11.0):

  make_sampling.py processors OUT          crates/model/tests/fixtures/sampling.safetensors
  make_sampling.py greedy MODEL OUT        crates/cli-torch/tests/fixtures/{base-tiny,stories260k}-greedy.json, from
                                           data/base-tiny and the model stories260K

processors: what transformers' own list of processors makes of random logits, for 18 settings.
  logits     float32 [18, 300]
  seen       int64 [18, 12]     the tokens so far
  settings   float64 [18, 5]    temperature, top_k (0: none), top_p, min_p (0: none), repetition_penalty
  processed  float32 [18, 300]  -inf where a token was removed
Settings whose result hangs on a rounding (a token at the very edge of top-p or min-p) are drawn again.

greedy: text in float32 with a KV cache, for each prompt alone.
"""
import json
import sys

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, LlamaForCausalLM


def processors(out):
    from safetensors.torch import save_file

    tiny = LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1, vocab_size=300)
    model = LlamaForCausalLM(tiny)
    settings = [
        (1.0, 0, 1.0, 0.0, 1.0),
        (0.7, 0, 1.0, 0.0, 1.0),
        (1.3, 0, 1.0, 0.0, 1.0),
        (1.0, 1, 1.0, 0.0, 1.0),
        (1.0, 20, 1.0, 0.0, 1.0),
        (1.0, 300, 1.0, 0.0, 1.0),
        (1.0, 900, 1.0, 0.0, 1.0),
        (1.0, 0, 0.9, 0.0, 1.0),
        (1.0, 0, 0.3, 0.0, 1.0),
        (1.0, 0, 0.01, 0.0, 1.0),
        (1.0, 0, 1.0, 0.05, 1.0),
        (1.0, 0, 1.0, 1.0, 1.0),
        (1.0, 0, 1.0, 0.0, 1.2),
        (1.0, 0, 1.0, 0.0, 0.8),
        (0.5, 40, 0.95, 0.0, 1.0),
        (0.8, 40, 0.9, 0.02, 1.1),
        (2.0, 5, 0.5, 0.3, 1.5),
        (0.2, 0, 0.8, 0.1, 1.05),
    ]
    g = torch.Generator().manual_seed(1)
    rows = []
    for temperature, top_k, top_p, min_p, penalty in settings:
        config = GenerationConfig(
            do_sample=True, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p or None,
            repetition_penalty=penalty, pad_token_id=0,
        )
        model._prepare_special_tokens(config)

        def run(logits):
            chain = model._get_logits_processor(config, input_ids_seq_length=12, prefix_allowed_tokens_fn=None,
                                                logits_processor=[], device="cpu")
            return chain(seen, logits)

        while True:
            logits = torch.randn(1, 300, generator=g) * 3
            seen = torch.randint(0, 300, (1, 12), generator=g)
            seen[0, 3] = logits.argmax()
            processed = run(logits.clone())
            kept = processed.isfinite()
            # The same in float64 keeps the same tokens: no edge is near.
            if bool((run(logits.double()).isfinite() == kept).all()):
                break
        rows.append((logits, seen, processed.float()))
    save_file(
        dict(
            logits=torch.cat([r[0] for r in rows]),
            seen=torch.cat([r[1] for r in rows]),
            settings=torch.tensor(settings, dtype=torch.float64),
            processed=torch.cat([r[2] for r in rows]),
        ),
        out,
    )


def greedy(folder, out):
    # transformers 5.23 loses a leading space of LLaMA-2's tokenizers; the file itself is what counts.
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompts = ["Once upon a time", "The little dog", "Lily and Tom went to the", "One day, a bird", "\u00e9t\u00e9 was a",
               " two  spaces", "He said \"hello"]
    records = []
    for prompt in prompts:
        ids = torch.tensor([tokenizer.encode(prompt).ids])
        with torch.inference_mode():
            full = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=80, do_sample=False,
                                  pad_token_id=0)[0]
        records.append(dict(prompt=prompt, prompt_ids=ids[0].tolist(), new_ids=full[ids.shape[1]:].tolist(),
                            text=tokenizer.decode(full.tolist(), skip_special_tokens=True)))
    with open(out, "w") as file:
        json.dump(records, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    {"processors": processors, "greedy": greedy}[sys.argv[1]](*sys.argv[2:])
