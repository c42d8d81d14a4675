#!/usr/bin/env python3
"""Holds the TensorBoard event files of a run against its metrics.jsonl, through the tensorboard package.

usage: check_tensorboard.py RUN
needs: python 3.10+, pip install tensorboard

RUN is a run folder of pretrain, resumed any number of times. Every scalar of every line of metrics.jsonl must be in the
event files at its step, as the float32 nearest to it, and nothing else: steps that a killed run had written past its last
checkpoint are gone from both. Prints one line per tag. Exit code: 0 all well, 1 something differs, 2 wrong usage.
"""
import json, struct, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TRAIN = ["loss", "grad_norm", "learning_rate", "tokens_per_second", "keep_loss", "keep_kl", "skipped"]
MOVED = ["kl_to_base", "unshifted", "marginal", "shifted"]


def single(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def expected(run):
    tags = {}
    with open(f"{run}/metrics.jsonl") as lines:
        for line in map(json.loads, lines):
            step = line["step"]
            for key in TRAIN:
                if key in line:
                    tags.setdefault(f"train/{key}", []).append([step, single(line[key])])
            for name, value in line.get("validation", {}).items():
                tags.setdefault(f"validation/{name}", []).append([step, single(value)])
            for key in MOVED:
                for name, value in line.get(key, {}).items():
                    tags.setdefault(f"forgetting/{name}/{key}", []).append([step, single(value)])
    return tags


def main():
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
    events.Reload()
    found = {tag: [[s.step, s.value] for s in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    wanted = expected(sys.argv[1])
    bad = 0
    for tag in sorted(set(found) | set(wanted)):
        same = found.get(tag) == wanted.get(tag)
        bad += not same
        word = "equal" if same else "DIFFERS"
        print(f"{tag}: {len(found.get(tag, []))} in event files, {len(wanted.get(tag, []))} in metrics.jsonl, {word}")
    return 1 if bad or not wanted else 0


sys.exit(main())
