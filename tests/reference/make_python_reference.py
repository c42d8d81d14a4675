"""Makes crates/eval/tests/fixtures/python.json and crates/eval/src/python/titles.txt: what CPython says of characters,
strings, patterns and numbers that benchmark tasks meet.

Needs nothing but CPython 3.11; run from the root of the repository.
"""
import json, re, sys, unicodedata

PATTERNS = [
    # Those of tasks.
    r"#### (\-?[0-9\.\,]+)", r"(-?[$0-9.,]{2,})|(-?[0-9]+)", r"The answer is (\-?[0-9\.\,]+).", ",", r"\$", r"(?s).*#### ",
    r"\.$", r"\[.*?\]", r"\(\s*([^\)]*?)\s*\)", r'"\s*([^"]*?)\s*"', r"\s+",
    # `$`, `^`, `\Z` and lines.
    "$", "a$", r"a\Z", r"\n$", r"\s$", r"(?m)$", "(?m)^a", "(?m)a$", "^", r"\A.", ".$", ".*$", "(?s).*$", "(?m:a$)|b$", "(a|b$)", r"[$]$",
    # Classes and escapes.
    r"\w+", r"\W", r"\d+", r"\D+", r"\s", r"\S+", r"\b", r"\bb", r"\B.", r"[\w.]+", r"[^\W\d]+", r"[\s,]+", r"[^\s]+", r"[\S]", r"[]a]", r"[^]a]", r"[[a]", r"[a&&b]", r"[+--]",
    r"[a\-z]", r"[\b]", r"\<a\>", r"[a-]+", r"[\]\[]", r"\x41|\u0062|\U00000063", r"\101", r"\0", r"[\101]", r"[é-ü]+", r"[\t\n]", r"\/", r"\"", r"~|#|&| ",
    # Counts and groups.
    "a{2}", "a{,2}", "a{2,}", "a{,}", "a{", "{}", "{a}", "a{1,2,3}", "a{x}", "}", "(a)(b)?", "(?:a|(b))", "(?P<n>a)(?P=n)", r"(a)\1", "(a)?(?(1)b|c)", "a(?#comment)b", "(?i)A", "(?i:A)b", "(?a)\\w+", r"(?a:\w+)|\w",
    "(?x) a  # a letter\n b", "a*", "a*?", "|a", "a|", "()", "(a*)(b*)", "(?=a)", "(?<=a)b", "(?<!a)b", "a++", "(?>a*)b", "x*",
]
TEXTS = [
    "", "a", "a\n", "b\n", "a\n\n", "ab\nba\n", "a.\n", "12.\n", ".", "$", "#### 45.\n", "#### 1,234\n#### 5", "The answer is $1,200.50. The answer is 3!\n", "x\x1cy\x1f z\x85\xa0\u2003w\u200b", "é ü_ß ² ½ Ⅷ ٣ 一 e\u0301 ‿ \u200d x",
    "aab aaa{2} {} {a} a{ } a{x}", "[b] [[a]] a-z & && - + , ]", '( x ) " y " \'z\' [ q\n] <a> ~#', "abABc AbC\tA\x00\x08", "a b, c  d\r\n e\n",
]
REFUSED = ["(", ")", "[", "a**", r"\q", "[z-a]", "(?z)", r"\x4", "a(?i)", "*", "(?P<n>a", r"[\d-z", "(?#", r"\400", "(?P=n)", r"\1", "\\"]
STRINGS = [
    "", " ", "a", " a b ", "\x1ca\x1d", "\u200ba\u200b", "\u3000x\u2028y\u2029", "\x85\xa0", "a\x1eb\x1fc", "ΑΣ", "ΑΣ ΣΑΣ", "Σ", "ΣA", "ßa", "ﬁX", "ǆ", "Ǆb", "İSTANBUL", "ŉx", "ᾳΣ", "აბ", "ᲐᲑ", "he THEN", "éCOLE",
    "it's", 'say "hi"', "both ' and \"", "back\\slash", "\x00\x1f\x7f\x80\x9f\xad", "\u200b\u2028\ue000\U000e0001\U0001f600", "tab\tline\ncr\r", "a  b\n\nc ", "\n", "x\x0by\x0cz",
]
FLOATS = ["1", "1.5", " 2 ", "-3e2", "+4", "1_000", "_1", "1_", "1__0", "1_.5", "inf", "-Infinity", "nan", "", ".5", "5.", ".", "1e", "0x10", "1,000", "\x1c7\x1d", "1 2", "infinit", "1e400", "1e_1", "1e1_0"]


def ranges(test):
    out = []
    for n in range(0x110000):
        if 0xD800 <= n < 0xE000 or unicodedata.category(chr(n)) == "Cn" or not test(chr(n)):
            continue
        if out and out[-1][1] == n - 1:
            out[-1][1] = n
        else:
            out.append([n, n])
    return out


def number(text):
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else str(value)


def main():
    assert sys.version_info[:2] == (3, 11), sys.version
    word = re.compile(r"\w")
    titles = {chr(n): chr(n).capitalize() for n in range(0x110000) if not 0xD800 <= n < 0xE000 and chr(n).capitalize() != chr(n).upper()}
    patterns = []
    for pattern in PATTERNS:
        compiled = re.compile(pattern)
        texts = [{"text": t, "matches": [[m.group(0), *m.groups()] for m in compiled.finditer(t)], "sub": compiled.sub("-", t)} for t in TEXTS]
        patterns.append({"pattern": pattern, "texts": texts})
    for pattern in REFUSED:
        try:
            re.compile(pattern)
        except re.error:
            continue
        raise AssertionError(pattern)
    strings = [{"text": s, "strip": s.strip(), "split": s.split(), "words": len(re.split(r"\s+", s)), "capitalize": s.capitalize(), "lower": s.lower(), "upper": s.upper(), "repr": repr(s)} for s in STRINGS]
    out = {
        "unicode": unicodedata.unidata_version,
        "assigned": ranges(lambda c: True),
        "space": ranges(str.isspace),
        "word": ranges(word.match),
        "digit": ranges(re.compile(r"\d").match),
        "printable": ranges(str.isprintable),
        "titles": titles,
        "strings": strings,
        "floats": [[f, number(f)] for f in FLOATS],
        "patterns": patterns,
        "refused": REFUSED,
    }
    for name in ("space",):
        assert all(bool(re.match(r"\s", chr(n))) for a, b in out[name] for n in range(a, b + 1))
    with open("crates/eval/tests/fixtures/python.json", "w") as file:
        json.dump(out, file, ensure_ascii=True, separators=(",", ":"))
        file.write("\n")
    with open("crates/eval/src/python/titles.txt", "w") as file:
        file.writelines(f"{c} {title}\n" for c, title in titles.items() if not 0x10D0 <= ord(c) <= 0x10FF)


if __name__ == "__main__":
    main()
