#!/usr/bin/env python3
"""Makes crates/corpus/tests/fixtures/notebook.ipynb and notebook.md: a notebook, and what nbconvert and the steps around it that
EleutherAI/math-lm describes for AlgebraicStack make of it.  usage: make_notebook.py FOLDER   (pip install nbconvert)"""
import json, re, sys, nbformat
from nbconvert.exporters import MarkdownExporter

def code(source, *outputs): return {"cell_type": "code", "execution_count": 1, "metadata": {}, "source": source, "outputs": list(outputs)}
def markdown(source): return {"cell_type": "markdown", "metadata": {}, "source": source}
def stream(text): return {"output_type": "stream", "name": "stdout", "text": text}
def data(kind, **forms):
    forms = {name.replace("_", "/").replace("svg", "svg+xml"): text for name, text in forms.items()}
    return {"output_type": kind, "metadata": {}, "data": forms} | ({"execution_count": 1} if kind == "execute_result" else {})

cells = [
    markdown(["# Gauß\n", "\n", "A plot ![plot](a b.png \"title\") and ![x](y.png), <img src=\"z.png\"> inline.\n", "\\begin{equation}\n", "x = 1\n", "\\end{equation}"]),
    code(["import sympy as sp\n", "x = sp.symbols('x')\n", "print('<b>', x)"], stream(["one\n", "\n", "  two\n"])),
    code("x**2", data("execute_result", text_latex="$\\displaystyle x^{2}$", text_plain="x**2")),
    code("table", data("execute_result", text_html=["<table>\n", "<tr><td>1</td></tr>\n", "</table>"], text_plain="  1")),
    code("plot()", stream("lost with the picture\n"), data("display_data", image_png="iVBORw0KGgo=", text_plain="<Figure>")),
    code("1 / 0", stream("lost with the exception\n"), {"output_type": "error", "ename": "ZeroDivisionError", "evalue": "division by zero", "traceback": ["\x1b[0;31mZeroDivisionError\x1b[0m"]}),
    code("both()", data("display_data", text_markdown="**bold**", text_plain="plain"), data("display_data", text_plain=["a\n", " b"])),
    code("svg()", data("display_data", image_svg="<svg></svg>", text_plain="<svg>"), stream("kept\n")),
    markdown("<video controls>\n a \n</video> after <script>\nx()\n</script>\n<iframe src='a'></iframe>end"),
    {"cell_type": "raw", "metadata": {}, "source": "raw *text*"},
    code(""),
]
notebook = {"nbformat": 4, "nbformat_minor": 4, "metadata": {"language_info": {"name": "python"}}, "cells": cells}
text = json.dumps(notebook, indent=1, ensure_ascii=False)
node = nbformat.reads(text, as_version=4)
for cell in node.cells:
    lost = lambda o: ("data" in o and len(o["data"].get("image/png", "")) > 0) or ("ename" in o and "traceback" in o)
    if any(lost(output) for output in cell.get("outputs", [])): cell["outputs"] = []
body, _ = MarkdownExporter().from_notebook_node(node)
for pattern, flags in ((r'!\[[^\]]*\]\(.*?(".*")?\)', 0), (r"<img[^>]*>", 0), (r"<video.*?</video>|<script.*?</script>|<iframe.*?</iframe>", re.DOTALL)):
    body = re.sub(re.compile(pattern, flags), "", body)
body = "\n".join(line.rstrip() for line in body.split("\n")).rstrip("\n") + "\n"  # white space at ends is not compared
open(sys.argv[1] + "/notebook.ipynb", "w").write(text + "\n"); open(sys.argv[1] + "/notebook.md", "w").write(body)
