"""What transformers renders from the templates in chat_templates/ and a set of conversations, for
crates/text/tests/chat.rs.

    python3 tests/reference/chat_reference.py crates/text/tests/fixtures/chat.json

Needs transformers 5.23.0 and jinja2. The templates and conversations are this project's own; the styles are those of
published models. For every pair: the text with and without the generation prompt, or the message of the error; token
ids of the tokenizer in data/base-tiny; and, where the template has generation blocks, the mask of the assistant's
tokens.
"""
import datetime
import json
import pathlib
import sys

import transformers
from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).parent
NOW = 1_709_210_096  # 2024-02-29 12:34:56 UTC, a Thursday


class Fixed(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc)


chat_template_utils.datetime = Fixed

TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "The weather <today> & tomorrow's",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                       "required": ["city"]}}},
    {"type": "function", "function": {"name": "clock", "description": "Die Uhrzeit, 時刻", "parameters": {}}},
]


def call(name, arguments, identifier=None):
    out = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return {"id": identifier, **out} if identifier else out


def chat(*turns):
    return [{"role": role, "content": content} for role, content in turns]


CONVERSATIONS = {
    "one": {"messages": chat(("user", "What is 2 + 2?"), ("assistant", "4"))},
    "question": {"messages": chat(("user", "Are you there?"))},
    "system": {"messages": chat(("system", "  Answer in\none word.  "), ("user", "Capital of France?"),
                                ("assistant", "Paris"))},
    "rounds": {"messages": chat(("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "A joke?"),
                                ("assistant", "A horse walks into a bar.\nWhy the long face?"), ("user", "Thanks a lot"),
                                ("assistant", "Any time."))},
    "whitespace": {"messages": chat(("user", "\n  leading\ttab and trailing \n\n"), ("assistant", " \n spaced \n "),
                                    ("user", " "), ("assistant", "ok\n"))},
    "unicode": {"messages": chat(("user", "Wie heißt „Straße“ auf 日本語? 🤖\u200d🔧"), ("assistant", "通り — naïve é, e\u0301 ✓"))},
    "markup": {"messages": chat(("user", "Is <b>\"this\"</b> & 'that' {{ safe }} {% raw %}?"),
                                ("assistant", "def f(x):\n    return {'a': [x], \"b\": x}\n\n```\n%d\\n\n```"))},
    "tools": {"tools": TOOLS, "messages": [
        {"role": "user", "content": "Weather in Rome?"},
        {"role": "assistant", "content": "", "tool_calls": [
            call("weather", {"city": "Rome", "days": 2, "exact": True, "scale": 1.5, "none": None}, "abcdefghi")]},
        {"role": "tool", "content": "{\"sky\": \"clear\"}", "name": "weather"},
        {"role": "assistant", "content": "Clear."},
        {"role": "user", "content": "And the time?"},
    ]},
    "out-of-order": {"messages": chat(("user", "a"), ("user", "b"), ("assistant", "c"))},
}


def rendered(tokenizer, conversation, prompt):
    options = {"tools": conversation.get("tools"), "add_generation_prompt": prompt}
    try:
        text = tokenizer.apply_chat_template(conversation["messages"], tokenize=False, **options)
    except Exception as error:  # whatever a template can raise
        return {"error": str(error)}
    out = {"text": text, "ids": tokenizer.apply_chat_template(conversation["messages"], return_dict=False, **options)}
    if "{% generation" in tokenizer.chat_template or "{%- generation" in tokenizer.chat_template:
        both = tokenizer.apply_chat_template(conversation["messages"], return_dict=True,
                                             return_assistant_tokens_mask=True, **options)
        out["mask"] = both["assistant_masks"]
    return out


def main():
    tokenizer = transformers.AutoTokenizer.from_pretrained(HERE / "../../data/base-tiny")
    templates = {path.stem: path.read_bytes().decode() for path in sorted((HERE / "chat_templates").glob("*.jinja"))}
    cases = []
    for template, source in templates.items():
        tokenizer.chat_template = source
        for name, conversation in CONVERSATIONS.items():
            for prompt in (False, True):
                case = {"template": template, "conversation": name, "prompt": prompt}
                cases.append({**case, **rendered(tokenizer, conversation, prompt)})
    out = {"transformers": transformers.__version__, "now": NOW, "templates": templates,
           "conversations": CONVERSATIONS, "cases": cases}
    pathlib.Path(sys.argv[1]).write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n")
    errors = [c for c in cases if "error" in c]
    print(len(cases), "cases,", len(errors), "of them errors:")
    for c in errors:
        print(" ", c["template"], c["conversation"], c["prompt"], c["error"])


main()
