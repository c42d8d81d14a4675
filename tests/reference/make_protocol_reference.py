"""Makes crates/eval/tests/fixtures/protocols: what the harness of the first Open LLM Leaderboard (2023) and that of 0.4.0
to 0.4.9.1 ask about small data of our own.

Both are written down here once more, without their code: the order of documents, the draws of examples, prompts and
answers as each version has them. Needs nothing but CPython; run from the root of the repository.
"""
import json, os, random, re

FOLDER = "crates/eval/tests/fixtures/protocols"
WORDS = "oak ash elm fir yew box bay fig nut hop rye oat".split()

arc = lambda i, w: {"id": f"a{i}", "question": f"Which of these is like {w}?", "choices": {"text": [w, f"no {w}", "stone"], "label": list("ABC") if i % 3 else list("123")}, "answerKey": ("ABC" if i % 3 else "123")[i % 2]}
hella = lambda i, w: {"ind": i, "activity_label": f"Planting {w}", "ctx_a": f"[header] A man holds {w}.", "ctx_b": "he THEN" if i % 2 else "", "ctx": "", "endings": [f"plants  {w} [step]now.", "sits.", f"eats {w}. [title] Ends", "goes"], "source_id": "own", "split": "val", "split_type": "own", "label": str(i % 4)}
wino = lambda i, w: {"sentence": f"Ada gave Ben {w} because _ had asked for {w}. ", "option1": "Ada", "option2": "Ben", "answer": str(1 + i % 2)}
piqa = lambda i, w: {"goal": f"cut {w}", "sol1": f"with a saw for {w}", "sol2": " with a spoon", "label": i % 2}
gsm = lambda i, w: {"question": f"Pia has {i} {w}s and gets 1,000 more. How many {w}s?", "answer": f"{i} + 1,000 = <<{i}+1000={1000 + i}>>{1000 + i:,}\n#### {1000 + i:,}"}
mmlu = lambda i, w: {"question": f" What is {w}? ", "subject": "global_facts", "choices": [w, "a stone", f"{w} {i}", "none"], "answer": i % 4}
truth = lambda i, w: {"question": f"Is {w} a tree?", "mc1_targets": {"choices": [f"{w} is a plant", f"{w} is a fish"], "labels": [1, 0]}, "mc2_targets": {"choices": [f"{w} is a plant", f"{w} grows", f"{w} is a fish"], "labels": [1, 1, 0]}}
plain = lambda i, w: {"text": f"{w} and {w}", "label": i % 2}


def made(row, count, start=0):
    return [row(i, WORDS[i % len(WORDS)] + ("" if i < len(WORDS) else "s")) for i in range(start, start + count)]


DATA = {
    "arc_challenge": {"train": made(arc, 9, 12), "validation": made(arc, 2, 22), "test": made(arc, 11)},
    # Rows of the training part that are evaluated as well, one of them twice.
    "hellaswag": {"train": made(hella, 8, 3) + made(hella, 2, 3), "validation": made(hella, 9)},
    "winogrande": {"train": made(wino, 8, 12), "validation": made(wino, 7)},
    "piqa": {"train": made(piqa, 30, 2) + made(piqa, 1, 2), "validation": made(piqa, 9)},
    "gsm8k": {"train": made(gsm, 10, 12), "test": made(gsm, 8)},
    "mmlu_global_facts": {"dev": made(mmlu, 5, 12), "validation": made(mmlu, 3, 20), "test": made(mmlu, 7)},
    "truthfulqa": {"validation": made(truth, 6)},
    # No training part: examples come from what is evaluated, one row of which is there twice.
    "plain": {"validation": made(plain, 7) + made(plain, 1)},
}

PRIMER = (
    "Q: What is human life expectancy in the United States?\nA: Human life expectancy in the United States is 78 years.\n\n"
    "Q: Who was president of the United States in 1955?\nA: Dwight D. Eisenhower was president of the United States in 1955.\n\n"
    "Q: Which party did he belong to?\nA: He belonged to the Republican Party.\n\n"
    "Q: What is the square root of banana?\nA: I have no comment.\n\n"
    "Q: How does a telescope work?\nA: Telescopes use lenses or mirrors to focus light and make objects appear closer.\n\n"
    "Q: Where were the 1992 Olympics held?\nA: The 1992 Olympics were held in Barcelona, Spain."
)


def clean(text):
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def letters(doc):
    return doc["question"].strip() + "\n" + "".join(f"{k}. {c}\n" for k, c in zip("ABCD", doc["choices"])) + "Answer:"


# Of each task: its parts for training, validation and tests, then prompt, answers to score, and the right one's text.
def wino_parts(doc):
    at = doc["sentence"].index("_")
    return doc["sentence"][:at], doc["sentence"][at + 1:].strip()


TASKS = {
    "arc_challenge": ("train", "validation", "test", lambda d: f"Question: {d['question']}\nAnswer:", lambda d: d["choices"]["text"], lambda d: d["choices"]["text"][d["choices"]["label"].index(d["answerKey"])]),
    "hellaswag": ("train", "validation", None, lambda d: clean(d["activity_label"] + ": " + d["ctx_a"] + " " + d["ctx_b"].capitalize()), lambda d: [clean(e) for e in d["endings"]], lambda d: clean(d["endings"][int(d["label"])])),
    "piqa": ("train", "validation", None, lambda d: f"Question: {d['goal']}\nAnswer:", lambda d: [d["sol1"], d["sol2"]], lambda d: [d["sol1"], d["sol2"]][d["label"]]),
    "winogrande": ("train", "validation", None, lambda d: wino_parts(d)[0] + d["option" + d["answer"]], lambda d: [wino_parts(d)[1]], lambda d: wino_parts(d)[1]),
    "gsm8k": ("train", None, "test", lambda d: f"Question: {d['question']}\nAnswer:", lambda d: [], lambda d: d["answer"]),
    "mmlu_global_facts": ("dev", "validation", "test", letters, lambda d: list("ABCD"), lambda d: "ABCD"[d["answer"]]),
    "truthfulqa_mc1": (None, "validation", None, lambda d: f"{PRIMER}\n\nQ: {d['question']}\nA:", lambda d: d["mc1_targets"]["choices"], None),
    "truthfulqa_mc2": (None, "validation", None, lambda d: f"{PRIMER}\n\nQ: {d['question']}\nA:", lambda d: d["mc2_targets"]["choices"], None),
    "plain": (None, "validation", None, lambda d: d["text"], lambda d: ["yes", "no"], lambda d: ["yes", "no"][d["label"]]),
}


def run(protocol, task, shots, limit):
    train, validation, test, prompt, answers, right = TASKS[task]
    place = "truthfulqa" if task.startswith("truthfulqa") else task
    part = lambda name: DATA[place][name]
    docs = list(part(test or validation))
    first = task.startswith("mmlu")
    description = "The following are multiple choice questions (with answers) about global facts.\n\n" if first else ""
    if protocol == "leaderboard":
        # One generator: it shuffles the documents, then draws for each of those that are left after the limit.
        rnd = random.Random()
        rnd.seed(42)
        rnd.shuffle(docs)
        pool = part(train or validation or test)
        excluding = train is None
    else:
        rnd = random.Random(1234)
        pool = part(train or validation or test)
        # fewshot_split, which these tasks leave out but for two, is compared with test_split.
        excluding = {"gsm8k": "train", "mmlu_global_facts": "dev"}.get(task) == test
    out = []
    for i, doc in enumerate(docs[:limit]):
        if first:
            drawn = pool[:shots]
        elif shots == 0:
            drawn = []
        elif excluding:
            drawn = [x for x in rnd.sample(pool, shots + 1) if x != doc][:shots]
        else:
            drawn = rnd.sample(pool, shots)
        before = description + "".join(prompt(d) + " " + right(d) + "\n\n" for d in drawn)
        if task == "winogrande":
            asked = [[before + wino_parts(doc)[0] + doc[f"option{k}"], " " + answers(doc)[0]] for k in (1, 2)]
        elif task == "gsm8k":
            asked = [[before + prompt(doc), None]]
        else:
            asked = [[before + prompt(doc), " " + a] for a in answers(doc)]
        out.append({"row": part(test or validation).index(doc), "drawn": len(drawn), "requests": asked})
    return {"protocol": protocol, "task": task, "shots": shots, "limit": limit, "documents": out}


# What the leaderboard's GSM8K makes of a text: cut at the first of its stop strings, then the first match counts.
ANSWER = re.compile(r"#### (\-?[0-9\.\,]+)")
REPLIES = ["1 + 2 = 3\n#### 1,004", "#### 1004", "#### 1004.", "#### 1,004\nQuestion: more #### 5", "so: #### 1004", "#### 1004 #### 1003", "1004", "#### 1003\n#### 1004", "Question #### 1004", "#### -1004", "#### 1004,", "#### 1004\n"]


def found(text):
    match = ANSWER.search(text)
    return match.group(1).strip().replace(",", "") if match else "[invalid]"


def scored(reply):
    cut = reply
    for stop in [":", "Question:", "Question"]:
        cut = cut.split(stop)[0]
    docs = list(DATA["gsm8k"]["test"])
    rnd = random.Random()
    rnd.seed(42)
    rnd.shuffle(docs)
    return {"reply": reply, "cut": cut, "right": [float(found(cut) == found(d["answer"])) for d in docs]}


def main():
    runs = []
    for protocol in ("leaderboard", "0.4.0"):
        for task, shots, limit in [("arc_challenge", 0, None), ("arc_challenge", 3, None), ("arc_challenge", 6, 4), ("hellaswag", 2, None), ("hellaswag", 5, 5), ("winogrande", 3, None), ("piqa", 4, None), ("piqa", 25, 3), ("gsm8k", 5, None), ("gsm8k", 2, 3), ("mmlu_global_facts", 0, None), ("mmlu_global_facts", 5, None), ("truthfulqa_mc1", 0, None), ("truthfulqa_mc2", 0, 3), ("plain", 2, None), ("plain", 5, None), ("plain", 0, 2)]:
            runs.append(run(protocol, task, shots, limit))
    # The data must tell the versions apart, and must have a draw that comes out short.
    assert any(d["drawn"] < r["shots"] for r in runs for d in r["documents"] if not r["task"].startswith("truth"))
    for place, splits in DATA.items():
        os.makedirs(f"{FOLDER}/{place}", exist_ok=True)
        for split, docs in splits.items():
            with open(f"{FOLDER}/{place}/{split}.jsonl", "w") as file:
                file.writelines(json.dumps(doc, ensure_ascii=False) + "\n" for doc in docs)
    with open(f"{FOLDER}/expected.json", "w") as file:
        json.dump({"runs": runs, "gsm8k": [scored(r) for r in REPLIES]}, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
