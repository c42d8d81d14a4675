#!/usr/bin/env python3
"""The Python standard library's own sources as {"text"} lines, sorted by path. usage: stdlib_jsonl.py OUT.jsonl [MB]
Every .py file that is UTF-8 and not empty, site-packages left out; at most MB megabytes of text if given. Plain python3 will do."""
import json, os, sys, sysconfig
root = sysconfig.get_path("stdlib")
limit = float(sys.argv[2]) * 1e6 if len(sys.argv) > 2 else float("inf")
paths = []
for folder, names, files in os.walk(root):
    names[:] = [n for n in names if n not in ("site-packages", "dist-packages", "__pycache__")]
    paths += [os.path.join(folder, f) for f in files if f.endswith(".py")]
total = docs = 0
with open(sys.argv[1] + ".partial", "w", encoding="utf-8") as out:
    for path in sorted(paths):
        try: text = open(path, encoding="utf-8", newline="").read()
        except (UnicodeDecodeError, OSError): continue
        if not text: continue
        if total >= limit: break
        total += len(text.encode()); docs += 1
        out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
os.replace(sys.argv[1] + ".partial", sys.argv[1])
print(json.dumps({"docs": docs, "mb": round(total / 1e6, 2)}))
