#!/usr/bin/env python3
"""Makes crates/text/tests/fixtures/small.{model,json} and small-*.json: small vocabularies of our own for tests of encoding.
usage: make_small_vocabularies.py OUT_DIR   (needs sentencepiece and tokenizers; trained on this repository's own documents)

small.model          SentencePiece BPE as LLaMA-2's is: byte fallback, identity normalisation, a dummy prefix, digits split, spaces kept
small-llama.json     what small.model is as a tokenizer.json, written by crates/text (see tests/sentencepiece.rs), not by this script
small-bytes.json     byte-level BPE with LLaMA-3's pattern and ignore_merges
small-ids.json       texts and the ids that sentencepiece gives for small.model and tokenizers for small-bytes.json"""
import io, json, os, pathlib, sys
import sentencepiece as spm
from tokenizers import Tokenizer, Regex, models, pre_tokenizers, decoders, trainers
out = pathlib.Path(sys.argv[1]); root = pathlib.Path(__file__).resolve().parents[2]
files = [root / n for n in ("ARCHITECTURE.md", "CONTRIBUTING.md")] + sorted((root / "crates/shards/src").glob("*.rs")) + sorted((root / "tests/reference").glob("*.py"))
own = [f.read_text(encoding="utf-8") for f in files]
math = r"\begin{align} f(x) &= \int_0^1 x^2\,dx \\ \sum_{i=1}^{n} i &= \frac{n(n+1)}{2} \end{align}"
words = "naïve café œuvre Straße Привет мир, Привет всем мир 你好 世界 你好 αβγ αβ こんにちは "
own += [(math + "\n") * 30, (words + "\n") * 30, "    if x:\n        return  None\n\n\n" * 20]
lines = [l for t in own for l in t.split("\n") if l.strip()]
model = io.BytesIO()
spm.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=1200, byte_fallback=True,
    character_coverage=0.998, normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=True, split_digits=True,
    allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2)
(out / "small.model").write_bytes(model.getvalue())
pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
t = Tokenizer(models.BPE(ignore_merges=True))
t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
t.decoder = decoders.ByteLevel()
t.train_from_iterator(own, trainers.BpeTrainer(vocab_size=900, special_tokens=["<|begin_of_text|>", "<|end_of_text|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
(out / "small-bytes.json").write_text(t.to_str(pretty=False) + "\n")
t.encode_special_tokens = True
texts = ["", " ", "a", "  ", "\n", "Hello world", " Hello", "  two  spaces  ", "x\n\n  y\r\n\tz", "<s></s>", "a▁b ▁", "1234567", "naïve Straße", "Привет, мир", "你好世界",
    "😀👩\u200d👩\u200d👧 emoji", "e\u0301 é", "\x00\x01\x7f", "it's IT'S 'ſt we'Ll", math, own[0][:3000], own[5][:3000], own[-1][:200], " " * 700 + "end", "=" * 300, "\u3000\u00a0\u2028x"]
s = spm.SentencePieceProcessor(model_proto=model.getvalue())
(out / "small-ids.json").write_text(json.dumps({"texts": texts, "small.model": [s.encode(x) for x in texts], "small-bytes.json": [t.encode(x, add_special_tokens=False).ids for x in texts]}, ensure_ascii=True, separators=(",", ":")) + "\n")
print({n: os.path.getsize(out / n) for n in ("small.model", "small-bytes.json", "small-ids.json")})
