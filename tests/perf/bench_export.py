"""Benchmark: export files from bytes to serialised events, against the bare readers of the same bytes.

    python -m tests.perf.bench_export                          everything; about a quarter of an hour
    python -m tests.perf.bench_export --size 10 --memory 20    a smoke run

Speed: decode, map twelve fields, serialise, of `--size` MB of plain bytes in memory; CPU time of one core, interleaved
rounds, medians; where the time goes, with the cost of writing an event beside it. MB/s are of plain, inflated bytes (of
Avro and Parquet: of the same rows as CSV). Memory: the same of a file of `--memory` MB on the disk and of one ten times
as large, each in a process of its own, which stops in the middle and goes on from its checkpoint: how much is read
again is printed, too. Exit status 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import csv
import gc
import gzip
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
import orjson
from isal import isal_zlib

from espial.exports import Container, Mark, Row, open_container
from espial.exports.files import ExportFile, FileSource
from espial.services.split_export import TARGET_BYTES
from espial.sources import Layout
from tests.perf.large_files import WRITERS, Disk, KeptOnDisk, peak_mb, rows, schema

ROUNDS = 3
FOLDER = Path(".local/bench-export")
MEMORY_MB = {"Parquet": 256}
OTHERS_MEMORY_MB = 64
GROWTH = 1.1
READ_AGAIN = 0.01
READ_AGAIN_BYTES = 6 << 20
"""A worker reads ahead, and looks at a file's beginning when it opens it: of a small file that is more than 1 %."""


def mapped(row: Any) -> dict[str, Any]:
    """Twelve fields of an event."""
    return {
        "event_id": row["id"],
        "type": "clicked",
        "channel": "email",
        "occurred_at": row["time"],
        "person": {
            "external_id": row["external_user_id"],
            "email": row["email_address"],
            "id": row["user_id"],
        },
        "campaign": {"id": row["campaign_id"], "name": row["campaign_name"]},
        "message": row["send_id"],
        "url": row["url"],
        "user_agent": row["user_agent"],
    }


def mapped_text(row: Any) -> dict[str, Any]:
    """The same of a delimited row, whose columns are folded."""
    return {
        "event_id": row["id"],
        "type": "clicked",
        "channel": "email",
        "occurred_at": row["time"],
        "person": {"external_id": row["externaluserid"], "email": row["emailaddress"], "id": row["userid"]},
        "campaign": {"id": row["campaignid"], "name": row["campaignname"]},
        "message": row["sendid"],
        "url": row["url"],
        "user_agent": row["useragent"],
    }


class Memory:
    """An object in memory."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)

    def read(self, start: int, end: int) -> bytes:
        """See `RangeSource`."""
        return self.content[start:end]


def parts(content: bytes) -> Iterator[Iterator[Any]]:
    """The steps of each range of a file, read as the workers do."""
    source = Memory(content)
    for start, end in open_container(source, "file", Layout()).plan(TARGET_BYTES):
        yield open_container(source, "file", Layout()).rows(start, end)


def decoded(content: bytes) -> int:
    """How many rows a file has."""
    return sum(1 for part in parts(content) for step in part if type(step) is Row)


def inflated(name: str, content: bytes) -> None:
    """Read the bytes alone; of Parquet, its columns."""
    if name == "NDJSON.gz":
        _inflate(memoryview(content), 31)
    elif name == "ZIP":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            (member,) = archive.infolist()
        _inflate(memoryview(content)[member.header_offset + 30 + len(member.filename) :], -15)
    elif name == "Avro":
        for _ in fastavro.block_reader(io.BytesIO(content)):
            pass
    elif name == "Parquet":
        import pyarrow.parquet

        for _ in pyarrow.parquet.ParquetFile(io.BytesIO(content)).iter_batches(2000, use_threads=False):
            pass


def _inflate(packed: memoryview, window: int) -> None:
    inflater = isal_zlib.decompressobj(window)
    for at in range(0, len(packed), 64 << 10):
        data = bytes(packed[at : at + (64 << 10)])
        while data and not inflater.eof:
            inflater.decompress(data, 1 << 20)
            data = inflater.unconsumed_tail


def mapping(content: bytes, map_row: Callable[[Any], dict[str, Any]]) -> int:
    """How many rows a file has, each mapped."""
    return sum(map_row(step.data) is not None for part in parts(content) for step in part if type(step) is Row)


def worked(content: bytes, map_row: Callable[[Any], dict[str, Any]]) -> int:
    """Bytes of serialised events."""
    dumps = orjson.dumps
    return sum(len(dumps(map_row(step.data))) for part in parts(content) for step in part if type(step) is Row)


def peer_json(content: bytes) -> int:
    """gzip and json of the standard library, the same mapping."""
    with gzip.open(io.BytesIO(content)) as lines:
        return sum(len(json.dumps(mapped(json.loads(line)))) for line in lines)


def peer_zip(content: bytes) -> int:
    """zipfile and json of the standard library, the same mapping."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return sum(
            len(json.dumps(mapped(json.loads(line)))) for name in archive.namelist() for line in archive.open(name)
        )


def peer_csv(content: bytes) -> int:
    """csv.reader alone."""
    return sum(1 for _ in csv.reader(io.TextIOWrapper(io.BytesIO(content), "utf-8", newline="")))


def peer_avro(content: bytes) -> int:
    """fastavro alone."""
    return sum(1 for _ in fastavro.reader(io.BytesIO(content)))


def peer_parquet(content: bytes) -> int:
    """pyarrow's batches as dicts alone."""
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
    return sum(len(batch.to_pylist()) for batch in file.iter_batches(2000))


def files(megabytes: int) -> dict[str, tuple[bytes, int]]:
    """Name -> (file, plain bytes) of the same rows."""
    some = list(rows(megabytes * 1_000_000 // 1020))
    lines = b"".join(orjson.dumps(row) + b"\n" for row in some)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(some[0]), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(some)
    delimited = text.getvalue().encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.json", lines)
    avro = io.BytesIO()
    fastavro.writer(avro, schema(some[0]), some, codec="deflate", sync_interval=64_000)
    import pyarrow.parquet

    parquet = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(some), parquet, row_group_size=20_000)
    return {
        "NDJSON": (lines, len(lines)),
        "NDJSON.gz": (gzip.compress(lines, 6), len(lines)),
        "JSON array": (b"[" + b",".join(lines.splitlines()) + b"]", len(lines)),
        "ZIP": (packed.getvalue(), len(lines)),
        "CSV": (delimited, len(delimited)),
        "Avro": (avro.getvalue(), len(delimited)),
        "Parquet": (parquet.getvalue(), len(delimited)),
    }


PEERS: dict[str, tuple[Callable[[bytes], int], float, float]] = {
    "NDJSON.gz": (peer_json, 3.0, 200),
    "ZIP": (peer_zip, 0, 150),
    "CSV": (peer_csv, 0.45, 0),
    "Avro": (peer_avro, 0.85, 0),
    "Parquet": (peer_parquet, 0, 100),
}
"""Peer, times its speed at least, MB/s at least."""


def timed(run: Callable[[], object]) -> float:
    gc.collect()
    started = time.process_time()
    run()
    return time.process_time() - started


def speed(megabytes: int) -> list[str]:
    """Print the table; returns what missed its target."""
    missed, reading = [], {}
    print(f"{'':12s} {'rows':>8s} {'all':>8s} {'rows/s':>9s}  inflate  decode     map  serialise  peer")
    for name, (content, plain) in files(megabytes).items():
        peer, ratio, least = PEERS.get(name, (None, 0, 0))
        map_row = mapped_text if name == "CSV" else mapped
        count = decoded(content)
        steps: dict[str, Callable[[], object]] = {
            "inflate": lambda: inflated(name, content),  # noqa: B023  run at once
            "decode": lambda: decoded(content),  # noqa: B023
            "map": lambda: mapping(content, map_row),  # noqa: B023
            "all": lambda: worked(content, map_row),  # noqa: B023
        }
        if peer:
            steps["peer"] = lambda: peer(content)  # noqa: B023
        taken: dict[str, list[float]] = {step: [] for step in steps}
        for _ in range(ROUNDS):
            for step, run in steps.items():
                taken[step].append(timed(run))
        found = {step: statistics.median(seconds) for step, seconds in taken.items()}
        whole, before, shares = found["all"], 0.0, []
        for step in ("inflate", "decode", "map", "all"):
            shares.append((found[step] - before) / whole)
            before = found[step]
        times = found["peer"] / whole if peer else 0
        reading[name] = found["decode"] / count * 1e6
        print(
            f"{name:12s} {count:8d} {plain / whole / 1e6:4.0f}MB/s {count / whole:9.0f}  "
            + "".join(f"{max(share, 0):7.0%} " for share in shares)
            + (f"   {times:.2f}x {peer.__doc__.rstrip('.')}" if peer and peer.__doc__ else ""),
            flush=True,
        )
        if times < ratio:
            missed.append(f"{name}: {times:.2f}x, wanted {ratio}x")
        if plain / whole / 1e6 < least:
            missed.append(f"{name}: {plain / whole / 1e6:.0f} MB/s, wanted {least:.0f}")
    from tests.perf import bench_worker  # loads the SDK, which whoever measures memory must not

    writing = statistics.median(bench_worker.measured()["espial"])
    print(
        f"a worker's own CPU from a row to its written item: {writing:.1f} µs; reading is "
        + ", ".join(f"{one:.1f} ({one / (one + writing):.0%}) of {name}" for name, one in reading.items())
        + ". Rows are written in batches as they come: the writers set the pace."
    )
    return missed


def opened(disk: Disk, folder: Path) -> Container:
    """As a worker opens it."""
    file = ExportFile(bucket="b", key="file", etag="e", size=disk.size, modified_at=datetime.now(UTC))
    return open_container(FileSource(disk, file, KeptOnDisk(folder)), "file", Layout())  # type: ignore[arg-type]


def read_through(name: str, path: Path) -> dict[str, float]:
    """Rows, peak memory in MB and bytes read again, of reading a file of which one chunk is interrupted half-way."""
    with closing(Disk(path)) as disk:
        return _read_through(disk, path, mapped_text if name == "CSV" else mapped)


def _read_through(disk: Disk, path: Path, map_row: Callable[[Any], dict[str, Any]]) -> dict[str, float]:
    dumps = orjson.dumps
    count = again = 0
    plan = opened(disk, path.parent).plan(TARGET_BYTES)
    for number, (start, end) in enumerate(plan):
        checkpoint, before = None, disk.total
        if number == len(plan) // 2:
            source = opened(disk, path.parent)
            for step in source.rows(start, end):
                if type(step) is Row:
                    count += bool(dumps(map_row(step.data)))
                elif type(step) is Mark and disk.total - before > (end - start) / 2:
                    checkpoint = step.place
                    break
        for step in opened(disk, path.parent).rows(start, end, checkpoint):
            if type(step) is Row:
                count += bool(dumps(map_row(step.data)))
        if number == len(plan) // 2:
            again = disk.total - before - (end - start)
    return {"rows": count, "peak": peak_mb(), "again": again}


def large(name: str, megabytes: int) -> list[str]:
    """Print memory and bytes read again at two sizes; returns what missed its target."""
    missed, peaks = [], []
    for size in (megabytes, 10 * megabytes):
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            path = Path(folder, "file")
            count, started = WRITERS[name](path, size), time.monotonic()
            stored = path.stat().st_size
            command = [sys.executable, "-m", "tests.perf.bench_export", "--read", name, str(path)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        peaks.append(found["peak"])
        print(
            f"{name:12s} {size:6,d} MB plain, {stored / 1e6:6,.0f} stored: {found['rows']:11,d} rows in "
            f"{time.monotonic() - started:4.0f} s, peak {peaks[-1]:4.0f} MB; resumed half-way: "
            f"{found['again'] / 1e6:6.2f} MB read again, {found['again'] / stored:.2%}",
            flush=True,
        )
        if found["rows"] != count:
            missed.append(f"{name}: {found['rows']} rows of {count}")
        if found["again"] > max(READ_AGAIN * stored, READ_AGAIN_BYTES):
            missed.append(f"{name}: {found['again'] / stored:.1%} of {size} MB read again, wanted {READ_AGAIN:.0%}")
    most = MEMORY_MB.get(name, OTHERS_MEMORY_MB)
    if peaks[-1] > most:
        missed.append(f"{name}: {peaks[-1]:.0f} MB of memory, wanted {most}")
    if peaks[1] > GROWTH * peaks[0]:
        missed.append(f"{name}: memory grows, {peaks[0]:.0f} to {peaks[1]:.0f} MB")
    return missed


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--size", type=int, default=50, help="MB of plain bytes in memory; 0: no speed")
    arguments.add_argument("--memory", type=int, default=500, help="MB of the smaller file on the disk; 0: none")
    arguments.add_argument("--kind", nargs="+", choices=list(WRITERS), default=list(WRITERS), help="of the large files")
    arguments.add_argument("--read", nargs=2, metavar=("KIND", "PATH"), help="read a file and print what it took")
    chosen = arguments.parse_args()
    if chosen.read:
        print(json.dumps(read_through(chosen.read[0], Path(chosen.read[1]))))
        return 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    missed = speed(chosen.size) if chosen.size else []
    for name in chosen.kind if chosen.memory else ():
        missed += large(name, chosen.memory)
    print("export: " + ("all targets met" if not missed else "missed: " + "; ".join(missed)))
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
