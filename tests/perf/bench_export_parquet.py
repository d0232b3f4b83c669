"""Benchmark: Parquet rows decoded, mapped to a dozen canonical fields and serialised, on one core.

    python -m tests.perf.bench_export_parquet

Floor: pyarrow's batches left as they are, in columns. Peer: the same job on pyarrow's own rows
(`RecordBatch.to_pylist`). Interleaved rounds of CPU time, medians; a megabyte is one of the values as Arrow holds them,
uncompressed. Memory is the peak of a fresh process. Exit status 1 if a target is missed.
"""

from __future__ import annotations

import io
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from espial.exports import Damage, Row, parquet
from espial.sources import Layout
from tests.perf.bench_normalise import medians

ROWS = 60_000
ROUNDS = 7
TARGET_MB = 100
TARGET_PEAK_MB = 256
TARGET_GROWTH = 1.1
SMALL, LARGE = 2, 8  # row groups of about 65 MB in the files that memory is measured on


class File:
    """A file as the containers read it."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self.size = file.seek(0, io.SEEK_END)

    def read(self, start: int, end: int) -> bytes:
        self._file.seek(start)
        return self._file.read(end - start)


def table(rows: int, seed: int = 7) -> pa.Table:
    """31 columns, 28 of them nullable, in the manner of an event export: ids, names, few and many values."""
    chance = random.Random(seed)
    ids = [f"{chance.getrandbits(96):024x}" for _ in range(40)]

    def some(share: float, values: Iterable[Any]) -> list[Any]:
        return [value if chance.random() < share else None for value in values]

    numbers = range(rows)
    columns: dict[str, Any] = {
        "id": [f"{chance.getrandbits(128):032x}" for _ in numbers],
        "user_id": [f"{chance.getrandbits(96):024x}" for _ in numbers],
        "sent_at": pa.array([1768471200000 + n for n in numbers], pa.timestamp("ms", "UTC")),
        "email": some(0.99, (f"reader.{chance.randrange(100_000)}@example.com" for _ in numbers)),
        "url": some(0.5, (f"https://shop.example.com/p?id={chance.randrange(10**6)}&utm=winter" for _ in numbers)),
        "user_agent": some(0.7, (f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_{n % 20} like Mac OS X)" for n in numbers)),
        "is_bot": some(0.8, (n % 2 == 0 for n in numbers)),
        "price": some(0.5, (n * 1.5 for n in numbers)),
        "attempt": some(0.5, (n % 5 for n in numbers)),
        **{f"ref_{m}": some(0.7, (ids[(n * 7 + m) % 40] for n in numbers)) for m in range(10)},
        **{f"name_{m}": some(0.5, (f"Winter {m} mailing {n % 30}" for n in numbers)) for m in range(6)},
        **{f"count_{m}": some(0.2, (n % 7 for n in numbers)) for m in range(6)},
    }
    return pa.table(columns)


def mapped(row: Mapping[str, Any]) -> bytes:
    """Twelve of the fields, renamed and nested, as JSON."""
    email = row["email"]
    return orjson.dumps(
        {
            "id": row["id"],
            "type": "message.clicked" if row["url"] else "message.opened",
            "occurred_at": row["sent_at"],
            "person": {"user_id": row["user_id"], "email": email.lower() if email else None},
            "message": {"campaign_id": row["ref_0"], "variation_id": row["ref_1"], "name": row["name_0"]},
            "context": {"user_agent": row["user_agent"], "url": row["url"], "bot": row["is_bot"]},
            "amount": row["price"],
        }
    )


def ours(content: bytes) -> int:
    file = File(io.BytesIO(content))
    steps = parquet.open_container(file, "k", Layout()).rows(0, file.size)
    return sum(len(mapped(step.data)) for step in steps if isinstance(step, Row))


def rows_only(content: bytes) -> int:
    file = File(io.BytesIO(content))
    return sum(isinstance(step, Row) for step in parquet.open_container(file, "k", Layout()).rows(0, file.size))


def peer(content: bytes) -> int:
    batches = pq.ParquetFile(io.BytesIO(content)).iter_batches(1024, use_threads=False)
    return sum(len(mapped(row)) for batch in batches for row in batch.to_pylist())


def floor(content: bytes) -> int:
    return sum(b.num_rows for b in pq.ParquetFile(io.BytesIO(content)).iter_batches(1024, use_threads=False))


def peak(path: Path) -> int:
    """Megabytes of a process that reads the file from end to end."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.perf.bench_export_parquet", str(path)], capture_output=True, check=True, text=True
    )
    return int(done.stdout)


def read_through(path: str) -> None:
    """What `peak` runs."""
    import resource

    with Path(path).open("rb") as raw:
        file = File(raw)
        container = parquet.open_container(file, "k", Layout())
        for start, end in container.plan(64 << 20):
            for step in container.rows(start, end):
                assert not isinstance(step, Damage)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)


def speed() -> bool:
    values = table(ROWS)
    out = io.BytesIO()
    pq.write_table(values, out, compression="snappy", row_group_size=20_000)
    content = out.getvalue()
    contestants = {
        "columns only (floor)": lambda: floor(content),
        "espial, rows": lambda: rows_only(content),
        "espial, mapped and serialised": lambda: ours(content),
        "pyarrow to_pylist, mapped and serialised": lambda: peer(content),
    }
    megabytes = values.nbytes / 1e6
    sizes = f"{values.nbytes / ROWS:.0f} bytes a row, {len(content) / ROWS:.0f} stored (snappy)"
    print(f"{values.num_columns} columns, {sizes}")
    medians(contestants, 1)
    found = medians(contestants, ROUNDS)
    for name, seconds in found.items():
        print(f"{name:42s} {ROWS / seconds:>10,.0f} rows/s {megabytes / seconds:>6.0f} MB/s")
    reached = megabytes / found["espial, mapped and serialised"]
    print(f"target {TARGET_MB} MB/s: {reached:.0f}{'' if reached >= TARGET_MB else ', missed'}")
    return bool(reached >= TARGET_MB)


def memory() -> bool:
    block = table(20_000)
    group = pa.concat_tables([block] * 7)
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "export.parquet")
        for groups in (SMALL, LARGE):
            with pq.ParquetWriter(path, group.schema, compression="none", use_dictionary=False) as writer:
                for _ in range(groups):
                    writer.write_table(group, row_group_size=group.num_rows)
            peaks.append(peak(path))
            print(f"{path.stat().st_size >> 20:5d} MB in {groups} row groups: peak {peaks[-1]} MB")
    met = peaks[1] <= TARGET_PEAK_MB and peaks[1] <= TARGET_GROWTH * peaks[0]
    print(f"target {TARGET_PEAK_MB} MB, within 10 % of each other{'' if met else ': missed'}")
    return met


def main(arguments: list[str]) -> int:
    """Print what was measured against the targets."""
    if arguments:
        read_through(arguments[0])
        return 0
    return 0 if all([speed(), memory()]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
