"""Makes crates/eval/tests/fixtures/harness: what lm-evaluation-harness 0.4.13 makes of small data of our own.

Needs lm_eval, datasets and numpy; run from the root of the repository. The model is a function of the text alone, which
the test in Rust computes too: the log-likelihood is minus (FNV-1a of context, a zero byte and continuation, mod 10007) / 64,
it is greedy where the hash is a multiple of 3, and the text it writes is given below.
"""
import json, os, sys

FOLDER = "crates/eval/tests/fixtures/harness"
TEXT = "They had 3 boxes, so 3 x 4 is 12. The answer is 12.\nQ: more"


def rows(names, *values):
    return [dict(zip(names, row)) for row in values]


HELLASWAG = ("ind", "activity_label", "ctx_a", "ctx_b", "ctx", "endings", "source_id", "split", "split_type", "label")
def hellaswag(i, label, a, b, endings, gold):
    return (i, label, a, b, a + " " + b, endings, f"own~{i}", "val", "indomain", gold)

DATA = {
    "hellaswag": {
        "train": rows(HELLASWAG, *[hellaswag(i, "Baking bread", f"A man {w} the dough.", "he THEN", [f"sings  {w} [step]loud.", "bakes it.", "leaves [a][b] the room.", f"{w} again."], str(i % 4))
                                   for i, w in enumerate(["kneads", "rolls", "cuts", "folds", "rests", "lifts"])]),
        "validation": rows(HELLASWAG,
            hellaswag(10, "How to plant a tree", "[header] How to plant a tree [title] Dig a hole.", "", ["[substeps] Use  a spade.", " Eat it [x] now.", "Call it.", "Paint   it blue."], "0"),
            hellaswag(11, "Rowing", "Two girls sit in a boat.", "the GIRL in front", ["rows.", "sleeps\n[not\na] loud.", "[one] [two] sinks.", "écrit une lettre."], "3"),
            hellaswag(12, "Baking bread", "A man kneads the dough.", "he THEN", ["sings  kneads [step]loud.", "bakes it.", "leaves [a][b] the room.", "kneads again."], "0")),
    },
    "allenai/winogrande": {
        "train": rows(("sentence", "option1", "option2", "answer"),
            *[(f"{a} thanked {b} because _ had helped with the {t}.", a, b, str(1 + i % 2)) for i, (a, b, t) in enumerate([("Ada", "Ben", "roof"), ("Cleo", "Dev", "boat"), ("Emi", "Finn", "fence"), ("Gus", "Hana", "car"), ("Ida", "Jon", "cake")])]),
        "validation": rows(("sentence", "option1", "option2", "answer"),
            ("The cup did not fit into the box because the _ was too small.", "cup", "box", "2"),
            ("Ida wanted to paint and Jon to write, so _ bought brushes. ", "Ida", "Jon", "1"),
            ("Ada thanked Ben because _ had helped with the roof.", "Ada", "Ben", "1")),
    },
    "openai/gsm8k": {"test": rows(("question", "answer"), ("Pia has 3 boxes of 4 pens. How many pens?", "3 x 4 = <<3*4=12>>12\n#### 12"), ("Udo walks 1,000 m and 200 m. How far?", "1,000 + 200 = 1,200\n#### 1,200"))},
    "google-research-datasets/mbpp": {"test": rows(("task_id", "text", "code", "test_list", "test_setup_code", "challenge_test_list"),
        (11, "Write a function to add one.", "def one(x):\r\n  return x + 1", ["assert one(1) == 2", "assert one(0) == 1", "assert one(-1) == 0"], "", []),
        (12, "Write a function to say hi.", "def hi():\r\n  return 'hi'", ["assert hi() == 'hi'", "assert hi() != ''", "assert len(hi()) == 2"], "", []))},
    "EleutherAI/wikitext_document_level": {"test": rows(("page",), (" \n = The mill = \n \n It was built in 1 @,@ 950 , by two brothers ; the wheel ( a wooden one ) turned twenty @-@ one times . \" Work \" , they said , ' is work ' . [ sic ] { x }\n = = Name = = \n The miller 's dog 's name was N . \n",), ("A 20 ° angle : = = = = x = = = = ? Yes !\n",))},
    "EleutherAI/lambada_openai": {"test": rows(("text",), ("She opened the door, and behind the door stood her brother",), ("He asked for bread and she gave him  bread",), ("What they called the mill was not a mill",))},
    "cimec/lambada": {
        "validation": rows(("text", "domain"), *[(f"{a} looked at the {b} , and the {b} looked back at {a.lower()}", "own") for a, b in [("Ada", "owl"), ("Ben", "fox"), ("Cleo", "cat"), ("Dev", "goat")]]),
        "test": rows(("text", "domain"), ("`` where is the key ? '' she asked , and he gave her the key", "own"), ("he said  nothing ,  and nothing was what he meant ", "own"), ("Ada looked at the owl , and the owl looked back at ada", "own"), ("word", "own")),
    },
    "baber/piqa": {
        "train": rows(("goal", "sol1", "sol2", "label"), *[(f"open a {w}", f"pull the {w}", f"paint the {w}", i % 2) for i, w in enumerate(["door", "jar", "tin", "book"])]),
        "validation": rows(("goal", "sol1", "sol2", "label"), ("open a door", "pull the door", "paint the door", 0), ("cool tea", "wait ", " blow on the sun", 0)),
    },
    "allenai/ai2_arc": {
        "train": rows(("id", "question", "choices", "answerKey"), *[(f"t{i}", f"Which of these is {w}?", {"text": [w, "stone", "air", "salt"], "label": ["A", "B", "C", "D"]}, "A") for i, w in enumerate(["wet", "warm", "round", "green", "loud", "far", "new"])]),
        "validation": rows(("id", "question", "choices", "answerKey"), ("v0", "?", {"text": ["a", "b"], "label": ["A", "B"]}, "A")),
        "test": rows(("id", "question", "choices", "answerKey"), ("e0", "What melts ice?", {"text": ["heat", "cold", "wind"], "label": ["1", "2", "3"]}, "1"), ("e1", "What do plants need?", {"text": ["light", "noise", "paint", "soap", "glass"], "label": ["A", "B", "C", "D", "E"]}, "A")),
    },
}
DATA["EleutherAI/wikitext_document_level"].update(train=[{"page": " x \n"}], validation=[{"page": " y \n"}])
RUNS = [("hellaswag", 0), ("hellaswag", 3), ("winogrande", 0), ("winogrande", 2), ("gsm8k_cot", 8), ("mbpp", 3), ("wikitext", 0), ("lambada_openai", 0), ("lambada_standard", 0), ("lambada_standard", 2), ("piqa", 3), ("arc_challenge", 0), ("arc_challenge", 6)]
PLACES = {"hellaswag": "hellaswag", "allenai/winogrande": "winogrande", "openai/gsm8k": "gsm8k", "google-research-datasets/mbpp": "mbpp", "EleutherAI/wikitext_document_level": "wikitext", "EleutherAI/lambada_openai": "lambada_openai", "cimec/lambada": "lambada_standard", "baber/piqa": "piqa", "allenai/ai2_arc": "arc_challenge"}
DATA["Rowan/hellaswag"] = DATA.pop("hellaswag")
PLACES["Rowan/hellaswag"] = PLACES.pop("hellaswag")


def fnv(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def main():
    import datasets
    import evaluate as hf_evaluate
    import lm_eval
    from lm_eval.api.model import LM

    def load(path, name=None, **_):
        return datasets.DatasetDict({split: datasets.Dataset.from_list(docs) for split, docs in DATA[path].items()})

    class Ran:
        def compute(self, references, predictions, k):
            return ({"pass@1": 1.0}, {})

    datasets.load_dataset = load
    hf_evaluate.load = lambda *_, **__: Ran()

    class Model(LM):
        def loglikelihood(self, requests, **_):
            # Blanks at the end of a context belong to the continuation, as the harness' own models have it.
            pairs = [(c.rstrip(), c[len(c.rstrip()):] + t) for c, t in (r.args for r in requests)]
            values = [fnv(c + "\0" + t) for c, t in pairs]
            return [(-(v % 10007) / 64, v % 3 == 0) for v in values]

        def loglikelihood_rolling(self, requests, **_):
            return [-(fnv("\0" + r.args[0]) % 10007) / 64 for r in requests]

        def generate_until(self, requests, **_):
            texts = []
            for r in requests:
                text = TEXT
                for stop in r.args[1]["until"]:
                    text = text.split(stop)[0]
                texts.append(text)
            return texts

    from lm_eval.tasks import TaskManager

    manager = TaskManager()  # reads every task file there is: once
    out = []
    for task, shots in RUNS:
        found = lm_eval.simple_evaluate(model=Model(), tasks=[task], task_manager=manager, num_fewshot=shots, log_samples=True, confirm_run_unsafe_code=True, bootstrap_iters=100000)
        keep = {}
        samples = []
        for s in found["samples"][task]:
            metrics = {m: s[m] for m in s["metrics"]}
            arguments = [list(a) if isinstance(a[-1], str) else [a[0]] for a in s["arguments"]]
            samples.append({"doc_id": s["doc_id"], "filter": s["filter"], "target": str(s["target"]), "arguments": arguments, "filtered": s["filtered_resps"] if task.startswith("gsm8k") else None, "metrics": metrics, "doc_hash": s["doc_hash"], "prompt_hash": s["prompt_hash"], "target_hash": s["target_hash"]})
        out.append({"task": task, "shots": shots, "version": found["versions"][task], "results": found["results"][task], "samples": samples})
    os.makedirs(FOLDER, exist_ok=True)
    for path, splits in DATA.items():
        os.makedirs(f"{FOLDER}/{PLACES[path]}", exist_ok=True)
        for split, docs in splits.items():
            with open(f"{FOLDER}/{PLACES[path]}/{split}.jsonl", "w") as file:
                file.writelines(json.dumps(doc, ensure_ascii=False) + "\n" for doc in docs)
    with open(f"{FOLDER}/expected.json", "w") as file:
        json.dump({"lm_eval": lm_eval.__version__, "text": TEXT, "runs": out}, file, indent=1, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    main()
