"""Benchmark: export files from bytes to serialised events, against the bare readers of the same bytes.

    python -m tests.perf.bench_export            files of 50 MB of plain bytes
    python -m tests.perf.bench_export --size 500 … of another size

Decode, map twelve fields, serialise: CPU time of one core, interleaved rounds, medians. MB/s are of plain, inflated
bytes (of Avro and Parquet: of the same rows as CSV). Then peak memory at that size and ten times it, each in a process
of its own. Exit status 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import csv
import gc
import gzip
import io
import json
import random
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastavro
import orjson

from espial.exports import Row, open_container
from espial.sources import Layout

ROUNDS = 3
COLUMNS = tuple(f"field_{n}" for n in range(19))
MEMORY_MB = 64


def rows(count: int, seed: int = 7) -> Iterator[dict[str, Any]]:
    """Rows like a Currents click's, 31 fields of which most are filled."""
    chance = random.Random(seed)
    for number in range(count):
        person = chance.randrange(1_000_000)
        yield {
            "id": f"{chance.getrandbits(128):032x}",
            "user_id": f"{person:024x}",
            "external_user_id": f"cust-{person}",
            "time": 1_768_470_000 + number // 50,
            "email_address": f"reader.{person}@example.com",
            "campaign_id": f"{chance.randrange(40):036x}",
            "campaign_name": f"Winter \N{EN DASH} wave {chance.randrange(40)}",
            "send_id": f"{chance.getrandbits(64):016x}",
            "url": f"https://shop.example.com/p/{chance.randrange(9000)}?utm_source=mail&utm_campaign=winter",
            "user_agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15",
            "timezone": "Europe/Berlin",
            "ip_pool": "main",
            **{name: (f"value {chance.randrange(500)}" if chance.random() < 0.6 else "") for name in COLUMNS},
        }


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


class Repeated:
    """A gzip object of many equal members, however large, of which only one is in memory."""

    def __init__(self, member: bytes, count: int) -> None:
        self.member = member
        self.size = len(member) * count

    def read(self, start: int, end: int) -> bytes:
        """See `RangeSource`."""
        skip = start % len(self.member)
        count = (skip + end - start) // len(self.member) + 1
        return (self.member * count)[skip : skip + end - start]


def parts(content: bytes) -> Iterator[Iterator[Any]]:
    """The steps of each range of a file, read as the workers do."""
    source = Memory(content)
    for start, end in open_container(source, "file", Layout()).plan(64 << 20):
        yield open_container(source, "file", Layout()).rows(start, end)


def decoded(content: bytes) -> int:
    """How many rows a file has."""
    return sum(1 for part in parts(content) for step in part if type(step) is Row)


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
    fields = [{"name": name, "type": "int" if name == "time" else ["null", "string"]} for name in some[0]]
    fastavro.writer(
        avro, {"type": "record", "name": "x.inner.Click", "fields": fields}, some, codec="deflate", sync_interval=64_000
    )
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
    missed = []
    print(f"{'':12s} {'rows':>8s} {'decode':>8s} {'all':>8s} {'rows/s':>9s} {'decode':>7s} {'map':>7s}  peer")
    for name, (content, plain) in files(megabytes).items():
        peer, ratio, least = PEERS.get(name, (None, 0, 0))
        map_row = mapped_text if name == "CSV" else mapped
        taken: dict[str, list[float]] = {"decode": [], "all": [], "peer": []}
        count = decoded(content)
        for _ in range(ROUNDS):
            taken["decode"].append(timed(lambda: decoded(content)))  # noqa: B023  run at once
            taken["all"].append(timed(lambda: worked(content, map_row)))  # noqa: B023
            if peer:
                taken["peer"].append(timed(lambda: peer(content)))  # noqa: B023
        decode, whole = statistics.median(taken["decode"]), statistics.median(taken["all"])
        times = statistics.median(taken["peer"]) / whole if peer else 0
        print(
            f"{name:12s} {count:8d} {plain / decode / 1e6:5.0f}MB/s {plain / whole / 1e6:4.0f}MB/s {count / whole:9.0f}"
            f" {decode / whole:6.0%} {1 - decode / whole:6.0%}  "
            + (f"{times:.2f}x {peer.__doc__.rstrip('.')}" if peer and peer.__doc__ else "")
        )
        if times < ratio:
            missed.append(f"{name}: {times:.2f}x, wanted {ratio}x")
        if plain / whole / 1e6 < least:
            missed.append(f"{name}: {plain / whole / 1e6:.0f} MB/s, wanted {least:.0f}")
    return missed


def peak(megabytes: int) -> float:
    """Peak memory in MB of reading so much NDJSON.gz; in a process of its own."""
    member = gzip.compress(b"".join(orjson.dumps(row) + b"\n" for row in rows(2000)), 6)
    source = Repeated(member, megabytes // 2)
    container = open_container(source, "file", Layout())
    dumps = orjson.dumps
    for start, end in container.plan(64 << 20):
        for step in container.rows(start, end):
            if isinstance(step, Row):
                dumps(mapped(step.data))
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000  # what getrusage gives is inherited from the parent


def memory(megabytes: int) -> list[str]:
    """Print peak memory at two sizes; returns what missed its target."""
    peaks = []
    for size in (megabytes, 10 * megabytes):
        command = [sys.executable, "-m", "tests.perf.bench_export", "--peak", str(size)]
        peaks.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        print(f"NDJSON.gz, {size} MB plain: peak {peaks[-1]:.0f} MB")
    missed = [] if peaks[-1] <= MEMORY_MB else [f"memory: {peaks[-1]:.0f} MB, wanted {MEMORY_MB}"]
    return missed if peaks[1] <= 1.1 * peaks[0] else [*missed, f"memory grows: {peaks[0]:.0f} to {peaks[1]:.0f} MB"]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--size", type=int, default=50, help="MB of plain bytes")
    arguments.add_argument("--peak", type=int, help="print peak memory of reading so many MB")
    chosen = arguments.parse_args()
    if chosen.peak:
        print(peak(chosen.peak))
        return 0
    missed = speed(chosen.size) + memory(chosen.size)
    print("export: " + ("all targets met" if not missed else "missed: " + "; ".join(missed)))
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
