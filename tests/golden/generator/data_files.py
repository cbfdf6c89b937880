"""Files of rows in every format and every compression, and what the datasets library reads of them.

data_files/cases.json: CSV texts and directories of files, each with the rows that `load_dataset` gives (null: it refuses);
data_files/rows.*: the same rows as Parquet in every codec and page version, as gzip and as Zstandard; rows.json: as objects.
"""
import gzip
import json
import math
import os
import subprocess
import tempfile

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

CSV = [
    "text,n,f,b,m\nx,1,1.5,True,3\ny,2,2,false,\nNA,3,,TRUE,x\n",
    'text,n\n"a ""q"", b\nsecond line",1\n c ,2\n',
    "i,u,z,d,e\n1,18446744073709551615,007,2020-01-01,1e3\n-2,1,008,2020-01-02,2\n",
    "b,c\nTrue,1\nx,2\n",
    "b,c\nTrue,1\n,2\n",
    "text,text,\nx,1,2\n",
    "text,n\nx\ny,1\n",
    "n,k\n-nan,1\nnull,2\n 5,3\n6 ,4\n+7,5\n1_0,6\n",
    "n,k\n 5,1\n6 ,2\n+7,3\n",
    "n\ninf\n-Infinity\n1.\n.5\n",
    "n,b\n0x10,True\n5,1\n",
    "text,b\n\nx,True\n\n5,1\n",
    "a,b\nNone,\nn/a,nan\n",
    "a,b\n9223372036854775808,-1\n1,9223372036854775808\n",
    "a\n1.10\n2\n",
    'a,b\r\n"x\r\ny",2\r\n',
    'a,b\nx"y,2\n',
    "a,b\n1e400,2\n",
    "a,b\n0.1,1\n0.30000000000000004,2\n",
    "a,b\n1.7976931348623157e308,1\n123456789.123456789,3\n",
    "\ufefftext,b\nä,1\n",
]


def row(text):
    return json.dumps({"text": text}) + "\n"


CONFIGS = "---\nlanguage: en\nconfigs:\n- config_name: one\n  data_files:\n  - split: train\n    path: one/tr*\n  - split: test\n    path:\n    - one/te.jsonl\n- config_name: two\n  data_files: two.jsonl\n---\n# Rows\n"
DATA_DIRS = "---\nconfigs:\n- config_name: one\n  data_dir: one\n- config_name: two\n  default: true\n  data_dir: two\n---\n"
# (files, configuration)
DIRECTORIES = [
    ({"train.jsonl": row("a"), "test.jsonl": row("b"), "validation.jsonl": row("c")}, None),
    ({"train.jsonl": row("a"), "other.jsonl": row("b")}, None),
    ({"x.jsonl": row("a"), "y.jsonl": row("b")}, None),
    ({"my_train.jsonl": row("a"), "dev-1.jsonl": row("b"), "contest.jsonl": row("c")}, None),
    ({"train/b.jsonl": row("b"), "train/a.jsonl": row("a"), "test/a.jsonl": row("c")}, None),
    ({"data/train-00000-of-00002.jsonl": row("a"), "data/train-00001-of-00002.jsonl": row("b"), "data/test_sft-00000-of-00001.jsonl": row("c")}, None),
    ({"train.jsonl": row("a"), "train.csv": "text\nb\n", "test.csv": "text\nq\n", "train2.csv": "text\nc\n"}, None),
    ({"train_a.jsonl": row("a"), "eval.jsonl": row("b"), "sub/training.jsonl": row("d"), ".hidden/train.jsonl": row("e"), "__x/train.jsonl": row("f")}, None),
    ({"a.jsonl": row("a"), "c.txt": "hello\n", "README.md": "# Rows\n"}, None),
    ({"README.md": CONFIGS, "one/tra.jsonl": row("a"), "one/te.jsonl": row("b"), "two.jsonl": row("c")}, None),
    ({"README.md": CONFIGS, "one/tra.jsonl": row("a"), "one/te.jsonl": row("b"), "two.jsonl": row("c")}, "one"),
    ({"README.md": CONFIGS, "one/tra.jsonl": row("a"), "one/te.jsonl": row("b"), "two.jsonl": row("c")}, "two"),
    ({"README.md": CONFIGS, "one/tra.jsonl": row("a"), "one/te.jsonl": row("b"), "two.jsonl": row("c")}, "three"),
    ({"README.md": DATA_DIRS, "one/train.jsonl": row("a"), "one/test.jsonl": row("b"), "two/x.jsonl": row("c")}, None),
    ({"README.md": DATA_DIRS, "one/train.jsonl": row("a"), "one/test.jsonl": row("b"), "two/x.jsonl": row("c")}, "one"),
    ({"a.tsv": "text\tn\nx, y\t1\n"}, None),
]


def named(value):
    """NaN and infinities by name: JSON has none."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, list):
        return [named(v) for v in value]
    if isinstance(value, dict):
        return {k: named(v) for k, v in value.items()}
    return value


def loaded(path, **more):
    with tempfile.TemporaryDirectory() as cache:
        try:
            sets = datasets.load_dataset(path, cache_dir=cache, **more)
        except ValueError:
            return None
        return {split: named(rows.to_list()) for split, rows in sets.items()}


def cases():
    csv = []
    for text in CSV:
        with tempfile.TemporaryDirectory() as d:
            with open(f"{d}/a.csv", "w", newline="") as f:
                f.write(text)
            csv.append({"text": text, "rows": loaded("csv", data_files=f"{d}/a.csv")["train"]})
    directories = []
    for files, config in DIRECTORIES:
        with tempfile.TemporaryDirectory() as d:
            for name, text in files.items():
                os.makedirs(os.path.dirname(f"{d}/{name}"), exist_ok=True)
                with open(f"{d}/{name}", "w") as f:
                    f.write(text)
            directories.append({"files": files, "config": config, "splits": loaded(d, name=config)})
    return {"csv": csv, "directories": directories}


MESSAGE = pa.struct([
    ("role", pa.string()),
    ("content", pa.string()),
    ("tool_calls", pa.list_(pa.struct([("name", pa.string()), ("arguments", pa.string())]))),
])
SCHEMA = pa.schema([
    ("text", pa.string()),
    ("messages", pa.list_(MESSAGE)),
    ("score", pa.float64()),
    ("half", pa.float32()),
    ("n", pa.int64()),
    ("small", pa.int8()),
    ("large", pa.uint64()),
    ("good", pa.bool_()),
    ("tags", pa.list_(pa.string())),
    ("nested", pa.list_(pa.list_(pa.int32()))),
    ("extra", pa.struct([("a", pa.int64()), ("b", pa.struct([("c", pa.string())]))])),
])


def rows():
    say = lambda role, content, calls=None: {"role": role, "content": content, "tool_calls": calls}
    return [
        {
            "text": "ä first", "messages": [say("user", "Hi"), say("assistant", None, [{"name": "f", "arguments": "{}"}])],
            "score": 0.1, "half": 0.5, "n": -(2**53) - 1, "small": -3, "large": 2**64 - 1, "good": True,
            "tags": ["a", None, ""], "nested": [[1, 2], [], None, [3]], "extra": {"a": 1, "b": {"c": "x"}},
        },
        {
            "text": "", "messages": [], "score": float("nan"), "half": None, "n": None, "small": 127, "large": 0, "good": None,
            "tags": None, "nested": None, "extra": None,
        },
        {
            "text": None, "messages": None, "score": float("-inf"), "half": 1e10, "n": 7, "small": None, "large": None,
            "good": False, "tags": [], "nested": [], "extra": {"a": None, "b": None},
        },
        {
            "text": "many " * 40, "messages": [say("user", None), say("tool", "3", [])], "score": None, "half": -0.25, "n": 0, "small": 0,
            "large": 1, "good": True, "tags": ["b"], "nested": [[None]], "extra": {"a": 5, "b": {"c": None}},
        },
    ]


def write(root, seed):
    target = root / "data_files"
    target.mkdir(exist_ok=True)
    datasets.disable_progress_bars()
    (target / "cases.json").write_text(json.dumps(cases(), ensure_ascii=False, indent=1) + "\n")
    table = pa.Table.from_pylist(rows(), SCHEMA)
    for codec in ["none", "snappy", "gzip", "lz4", "zstd", "brotli"]:
        pq.write_table(table, target / f"{codec}.parquet", compression=codec)
    # Pages of version 2, two groups of rows, no dictionaries.
    pq.write_table(
        table, target / "zstd-2.parquet", compression="zstd", data_page_version="2.0", row_group_size=3, use_dictionary=False
    )
    pq.write_table(table, target / "snappy-2.parquet", compression="snappy", data_page_version="2.0", row_group_size=2)
    picture = pa.table({"text": ["a", "b"], "image": pa.array([b"\xff\xd8\x00", b"\x89PNG"], pa.binary())})
    pq.write_table(picture, target / "bytes.parquet")
    as_read = pq.read_table(target / "zstd.parquet").to_pylist()
    (target / "rows.json").write_text(json.dumps(named(as_read), ensure_ascii=False, indent=1) + "\n")
    lines = "".join(row(t) for t in ["a", "b"]).encode()
    (target / "rows.jsonl.gz").write_bytes(gzip.compress(lines, mtime=0) + gzip.compress(row("c").encode(), mtime=0))
    (target / "rows.jsonl.zst").write_bytes(
        b"".join(subprocess.run(["zstd", "-q", "-c"], input=part, stdout=subprocess.PIPE, check=True).stdout for part in [lines, row("c").encode()])
    )
