"""Writes crates/text/tests/fixtures/records.parquet: instruction records as public sets store them, by pyarrow.

    python tests/reference/make_records.py OUT.parquet
"""

import sys

import pyarrow as pa
import pyarrow.parquet as pq

turn = pa.struct([("from", pa.string()), ("value", pa.large_string())])
schema = pa.schema(
    [
        ("id", pa.string()),
        ("conversations", pa.list_(turn)),
        ("weight", pa.float64()),
        ("year", pa.int32()),
        ("tags", pa.list_(pa.string())),
        ("checked", pa.bool_()),
    ]
)
rows = [
    {
        "id": "a",
        "conversations": [{"from": "human", "value": "What is 1 + 1?"}, {"from": "gpt", "value": "2"}],
        "weight": 0.5,
        "year": 2023,
        "tags": ["math", "é"],
        "checked": True,
    },
    {"id": "b", "conversations": [], "weight": None, "year": -1, "tags": [], "checked": None},
    {
        "id": "c",
        "conversations": [{"from": "system", "value": "Be brief.\n"}, {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hi 🦀"}],
        "weight": 1.25,
        "year": 0,
        "tags": [None, "x"],
        "checked": False,
    },
]
# Two row groups, so that more than one is read.
pq.write_table(pa.Table.from_pylist(rows, schema), sys.argv[1], row_group_size=2, compression="zstd")
