#!/usr/bin/env python3
"""Reads token shards of ours with other programs' own readers and compares every token with a reader written here from the layout.
usage: check_megatron.py PREFIX...     PREFIX.bin and PREFIX.idx; prints one line per reader and shard, exits 1 on a difference
Readers: Megatron-core's IndexedDataset (pip install megatron-core), and datatrove's DatatroveFolderDataset over a folder of *.ds files,
which is what nanotron's Nanoset reads tokens with (pip install datatrove); PREFIX.bin is linked as such a file. What is not installed is named and left out; at least one must be there."""
import inspect, os, struct, sys, tempfile
import numpy as np

def plain(prefix):
    b = open(prefix + ".idx", "rb").read()
    assert b[:9] == b"MMIDIDX\0\0", b[:9]
    version, code, s, d = struct.unpack_from("<QBQQ", b, 9)
    assert version == 1 and code in (4, 8)
    lengths = struct.unpack_from(f"<{s}i", b, 34); pointers = struct.unpack_from(f"<{s}q", b, 34 + 4 * s); ends = struct.unpack_from(f"<{d}q", b, 34 + 12 * s)
    assert len(b) == 34 + 12 * s + 8 * d and ends[0] == 0 and ends[-1] == s
    kind = np.dtype("<u2" if code == 8 else "<i4"); tokens = np.frombuffer(open(prefix + ".bin", "rb").read(), kind)
    return [tokens[p // kind.itemsize : p // kind.itemsize + n] for p, n in zip(pointers, lengths)], list(ends), tokens

def megatron(prefix, documents, ends, tokens):
    from megatron.core.datasets.indexed_dataset import IndexedDataset
    for mmap in (True, False):
        data = IndexedDataset(prefix, mmap=mmap)
        assert len(data) == len(documents) and list(data.document_indices) == ends and data.index.dtype == tokens.dtype
        assert all(np.array_equal(data[i], d) for i, d in enumerate(documents))
    return f"{len(documents)} sequences"

def nanoset(prefix, documents, ends, tokens):
    from datatrove.utils.dataset import DatatroveFolderDataset
    length = max(1, min(127, len(tokens) // 3))
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(os.path.abspath(prefix + ".bin"), os.path.join(folder, "shard.ds"))
        # The first argument has had two names; older versions take the pattern with the folder before it, as Nanoset gives it.
        old = "folder_path" in inspect.signature(DatatroveFolderDataset.__init__).parameters
        pattern = os.path.join(folder, "*.ds") if old else "*.ds"
        data = DatatroveFolderDataset(folder, length, filename_pattern=pattern, recursive=False, token_size=tokens.itemsize, shuffle=True)
        assert len(data) == len(tokens) // (length + 1), (len(data), len(tokens))
        for i in range(len(data)):
            assert np.array_equal(np.asarray(data[i]["input_ids"]), tokens[i * (length + 1) : (i + 1) * (length + 1)].astype(np.int64))
    return f"{len(data)} rows of {length} + 1"

used = failed = 0
for prefix in sys.argv[1:]:
    content = plain(prefix)
    for name, reader in (("Megatron-core", megatron), ("datatrove (nanotron)", nanoset)):
        try: found = reader(prefix, *content); used += 1
        except ImportError as e: print(f"{name}: not installed ({e})"); continue
        except AssertionError as e: print(f"{name}: {prefix} DIFFERS {e}"); failed += 1; continue
        print(f"{name}: {prefix}: {found}, {len(content[2])} tokens, all equal")
sys.exit(1 if failed or not used else 0)
