#!/usr/bin/env python3
"""MinHash near-dedup by datatrove's own pipeline (signatures, buckets, clusters, filter) in one process. usage: dedup_datatrove.py IN_DIR OUT_DIR
[THRESHOLD=0.7] [PERMS=256] [SETTINGS=spacy|bigcode|defaults]
Set as dedup_numpy.py is: 5-grams, bands and rows by datasketch's optimum, SHA-1 of 32 bits, no change to the text (its permutations are as many
as the bands use, so not the same numbers). It cannot be the same in this:
- Words are those of datatrove's tokenizer for English, spaCy's blank "en", which comes with the package. It is made for prose: of
  `f(self, x=1):` it makes `f(self`, `,`, `x=1` and `):`, and no empty words. So the similarity of a pair is not that of the truth, mostly lower.
- The stages hand files to each other. Buckets want a task for each band; one worker does them in turn.
- The filter reads the documents again and writes those that stay; the other arms only name the clusters. Its time is in `cluster`.
SETTINGS=bigcode puts BigCode's split in place of spaCy's words, to tell what the words do from what the pipeline does. SETTINGS=defaults is datatrove
as it comes: 14 bands of 8 rows, xxhash of 64 bits, lower case, numbers as 0, no punctuation, no diacritics; THRESHOLD and PERMS say nothing then."""
import contextlib, json, os, re, struct, sys, tempfile, time
from datasketch.lsh import _optimal_param
src, d = sys.argv[1], sys.argv[2]; th = float((sys.argv[3:] or [0.7])[0]); K = int((sys.argv[4:] or [256])[0]); how = (sys.argv[5:] or ["spacy"])[0]
assert how in ("spacy", "bigcode", "defaults"), how
b, r = _optimal_param(th, K, 0.5, 0.5); os.makedirs(d, exist_ok=True)
# datatrove logs every stage to stderr; that goes into a file, an exception still to the real one. A scratch folder of its own, since the
# executor skips what an earlier run has completed.
with tempfile.TemporaryDirectory(dir=d) as tmp, open(d + "/log.txt", "w") as log, contextlib.redirect_stderr(log):
    import spacy  # noqa: F401  (datatrove would do it while the clock runs)
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.text import TextNormConfig
    from datatrove.utils.typeshelper import Languages
    from datatrove.utils.word_tokenizers import WordTokenizer
    class BigCode(WordTokenizer):
        def word_tokenize(self, text): return re.split("[^A-Za-z_0-9]", text)
        sent_tokenize = span_tokenize = None  # abstract; MinHash asks for words only
    as_it_is = TextNormConfig(lowercase=False, norm_whitespace=False, remove_punctuation=False, norm_unicode_diacritics=False, norm_numbers=False)
    c = MinhashConfig(n_grams=5, num_buckets=b, hashes_per_bucket=r, seed=42, norm_config=as_it_is, hash_config=HashConfig(precision=32, hash_fc="sha1"))
    if how == "defaults": c = MinhashConfig(); b, r = c.num_buckets, c.hashes_per_bucket
    def read(): return JsonlReader(src, glob_pattern="docs.jsonl")
    def run(stage, pipeline, tasks=1): LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=f"{tmp}/logs/{stage}").run()
    t0 = time.perf_counter()
    run("signatures", [read(), MinhashDedupSignature(tmp + "/signatures", config=c, language=BigCode() if how == "bigcode" else Languages.english)])
    t1 = time.perf_counter()
    run("buckets", [MinhashDedupBuckets(tmp + "/signatures", tmp + "/pairs", config=c)], tasks=b)
    run("clusters", [MinhashDedupCluster(tmp + "/pairs", tmp + "/clusters", config=c, save_cluster_id=True)])
    run("filter", [read(), MinhashDedupFilter(tmp + "/clusters"), JsonlWriter(tmp + "/kept", compression=None)])
    t2 = time.perf_counter()
    with open(src + "/docs.jsonl") as f: cl = list(range(sum(1 for _ in f)))
    # (document, cluster) of all that are in a cluster of two or more, by document: a cluster has the number of its first.
    first = {}
    with open(tmp + "/clusters/000000.clusters", "rb") as f:
        for doc, k in struct.iter_unpack("<2I", f.read()): cl[doc] = first.setdefault(k, doc)
    # What is scored must be what was removed.
    with open(tmp + "/kept/00000.jsonl") as f: kept = sum(1 for _ in f)
    assert kept == len(set(cl)), (kept, len(set(cl)))
with open(d + "/clusters.json", "w") as f: json.dump(cl, f)
print(json.dumps(dict(signatures=round(t1 - t0, 2), cluster=round(t2 - t1, 2), bands=b, rows=r, settings=how)))
