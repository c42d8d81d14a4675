"""Makes crates/eval/tests/fixtures/formats: rows of the other fixtures as Parquet the way a data set is downloaded, as one
list of JSON, and as CSV with JSON in the cells that hold lists.

Needs datasets (and with it pyarrow); run from the root of the repository, after the scripts that make harness/ and
protocols/.
"""
import csv, json, os, shutil

import datasets

FIXTURES = "crates/eval/tests/fixtures"
SETS = [
    ("harness", "arc_challenge"), ("harness", "hellaswag"), ("harness", "winogrande"), ("harness", "piqa"), ("harness", "gsm8k"),
    ("harness", "mbpp"), ("harness", "wikitext"), ("harness", "lambada_standard"), ("protocols", "mmlu_global_facts"), ("protocols", "truthfulqa"),
]
# Not a public set's rows: how its columns look.
UNFAIR = [
    {"text": "We may end your account at any time, \"for any reason\".", "labels": [1]},
    {"text": "[3] The laws of Utopia apply,\nand its courts decide.", "labels": [5, 6]},
    {"text": "You can write to us.", "labels": []},
    {"text": "By using it you agree.", "labels": [4]},
    {"text": "12", "labels": []},
]


def write(name, split, rows):
    place = lambda kind, end: f"{FIXTURES}/formats/{kind}/{name}/{split}{end}"
    for kind in ("jsonl", "json", "csv", "parquet"):
        os.makedirs(f"{FIXTURES}/formats/{kind}/{name}", exist_ok=True)
    with open(place("jsonl", ".jsonl"), "w") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with open(place("json", ".json"), "w") as file:
        json.dump(rows, file, ensure_ascii=True, indent=1)
        file.write("\n")
    with open(place("csv", ".csv"), "w", newline="") as file:
        cell = lambda value: json.dumps(value) if isinstance(value, (list, dict)) else value
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: cell(value) for key, value in row.items()} for row in rows)
    table = datasets.Dataset.from_list(rows)
    parts = 2 if name == "hellaswag" else 1
    for part in range(parts):
        end = f"-{part:05}-of-{parts:05}.parquet" if parts > 1 or split == "train" else ".parquet"
        table.shard(parts, part, contiguous=True).to_parquet(place("parquet", end))


def main():
    shutil.rmtree(f"{FIXTURES}/formats", ignore_errors=True)
    for folder, name in SETS:
        for file in sorted(os.listdir(f"{FIXTURES}/{folder}/{name}")):
            with open(f"{FIXTURES}/{folder}/{name}/{file}") as lines:
                write(name, file.removesuffix(".jsonl"), [json.loads(line) for line in lines])
    write("unfair_tos", "train", UNFAIR)
    write("unfair_tos", "test", UNFAIR[::-1])


if __name__ == "__main__":
    main()
