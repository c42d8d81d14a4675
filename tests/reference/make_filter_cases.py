"""Makes crates/eval/tests/fixtures/gsm8k-filters.jsonl: texts of our own through the filters and the exact match of
lm-evaluation-harness 0.4.13's gsm8k.

Needs lm_eval; run from the root of the repository. The patterns are read out of the harness' own task file.
"""
import json, os

import yaml
import lm_eval
from lm_eval.api.metrics import exact_match_fn
from lm_eval.filters.extraction import RegexFilter

OUT = "crates/eval/tests/fixtures/gsm8k-filters.jsonl"
TARGETS = ["3 x 4 = <<3*4=12>>12\n#### 12", "1,000 + 200 = 1,200\n#### 1,200", "So 45.\n#### 45.\n", "#### -7", "#### 0.5\n\n"]
TEXTS = [
    "", "\n", "#### 12", " #### 12\n", "#### 12.", "#### 12.\n", "#### 12\n#### 45", "####12", "#### twelve", "### 12", "The answer is 12.", "The answer is 12.\n",
    "The answer is 1200", "It is 1,200.00", "$1,200", "1,200.", "1 200", "#### 1,200", "#### 1,200,", "#### 1200.", "so 45.", "so 45.\n", "45 .", "4 5", "#### 45\n\n\n", "#### -7",
    "-7", "- 7", "--7", "minus -7.", "7-", "0.5", ".5", "#### .5", "0.50", "$", "...", "#### ...", "#### ,", "٤٥", "４５", "#### 45\x1c", "\u00a045\u2003", "12%\r\n",
]


def main():
    assert lm_eval.__version__ == "0.4.13", lm_eval.__version__

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    with open(os.path.join(os.path.dirname(lm_eval.__file__), "tasks/gsm8k/gsm8k.yaml")) as file:
        task = yaml.load(file, Loader)
    metric = {k: v for k, v in task["metric_list"][0].items() if k in ("ignore_case", "ignore_punctuation", "regexes_to_ignore")}
    filters = {}
    for given in task["filter_list"]:
        (first,) = [f for f in given["filter"] if f["function"] == "regex"]
        filters[given["name"]] = RegexFilter(**{k: v for k, v in first.items() if k != "function"})
    with open(OUT, "w") as file:
        for i, text in enumerate(TEXTS):
            target = TARGETS[next((n for n, t in enumerate(["12", "1,200", "45", "-7", ".5"]) if t in text or t.replace(",", "") in text), i % 5)]
            found = {}
            for name, one in filters.items():
                ((answer,),) = one.apply([[text]], [{}])
                same = exact_match_fn(predictions=[answer], references=[target], **metric)["exact_match"]
                found[name] = {"answer": answer, "exact_match": float(same)}
            file.write(json.dumps({"text": text, "target": target, "filtered": found}, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
