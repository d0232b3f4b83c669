"""Export files of any size, written to a disk block by block: neither they nor their rows are ever in memory.

A file repeats a block of about a megabyte. Its rows differ from block to block by the block's number in `MARK`'s place,
so each has an `id` of its own: the row's number in the file, twelve digits.
"""

from __future__ import annotations

import csv
import io
import os
import random
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import fastavro
import orjson
from isal import igzip

MARK = "@@@@@@@@"
ROWS_A_BLOCK = 1000
COLUMNS = tuple(f"field_{n}" for n in range(19))
EVENT = "users.messages.email.Click"


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


def schema(row: Mapping[str, Any]) -> dict[str, Any]:
    """The Avro record of such rows, as Currents names it."""
    fields = [{"name": name, "type": "int" if name == "time" else ["null", "string"]} for name in row]
    return {"type": "record", "name": f"dataexport.S3.inner.{EVENT}", "fields": fields}


def template() -> list[dict[str, Any]]:
    """A block's rows, without its number."""
    return [
        {**row, "id": f"{MARK}{number:04d}", "external_user_id": f"{MARK}{number:04d}"}
        for number, row in enumerate(rows(ROWS_A_BLOCK))
    ]


def blocks(block: bytes, count: int) -> Iterator[bytes]:
    """The block so many times, each with its number."""
    return (block.replace(MARK.encode(), b"%08d" % number) for number in range(count))


def as_lines() -> bytes:
    """A block of JSON lines."""
    return b"".join(orjson.dumps({"event": EVENT, **row}) + b"\n" for row in template())


def as_csv() -> tuple[bytes, bytes]:
    """The header, a block of rows."""
    some, text = [{"event": EVENT, **row} for row in template()], io.StringIO()
    writer = csv.DictWriter(text, list(some[0]), lineterminator="\r\n")
    writer.writeheader()
    header = text.tell()
    writer.writerows(some)
    content = text.getvalue()
    return content[:header].encode(), content[header:].encode()


def write_ndjson(path: Path, megabytes: int) -> int:
    """Returns the number of rows, as all of these do; `megabytes` are of plain text."""
    block = as_lines()
    count = _count(megabytes, block)
    with path.open("wb") as file:
        file.writelines(blocks(block, count))
    return count * ROWS_A_BLOCK


def write_gzip(path: Path, megabytes: int) -> int:
    """One stream of one member."""
    block = as_lines()
    count = _count(megabytes, block)
    with igzip.open(path, "wb", compresslevel=1) as file:
        file.writelines(blocks(block, count))
    return count * ROWS_A_BLOCK


def write_zip(path: Path, megabytes: int) -> int:
    """One member."""
    block = as_lines()
    count = _count(megabytes, block)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("rows.json", "w", force_zip64=True) as member,
    ):
        for one in blocks(block, count):
            member.write(one)
    return count * ROWS_A_BLOCK


def write_csv(path: Path, megabytes: int) -> int:
    """With a header."""
    header, block = as_csv()
    count = _count(megabytes, block)
    with path.open("wb") as file:
        file.write(header)
        file.writelines(blocks(block, count))
    return count * ROWS_A_BLOCK


def write_avro(path: Path, megabytes: int) -> int:
    """Deflated, 100 rows a block; `megabytes` are those of the same rows as CSV."""
    some, sync, head, bodies = template(), os.urandom(16), io.BytesIO(), []
    fastavro.writer(head, schema(some[0]), [], codec="deflate", sync_marker=sync)
    for start in range(0, ROWS_A_BLOCK, 100):
        out = io.BytesIO()
        for row in some[start : start + 100]:
            fastavro.schemaless_writer(out, schema(row), row)
        bodies.append(out.getvalue())
    count = _count(megabytes, as_csv()[1])
    with path.open("wb") as file:
        file.write(head.getvalue())
        for number in range(count):
            for body in bodies:
                deflater = zlib.compressobj(1, zlib.DEFLATED, -15)
                packed = deflater.compress(body.replace(MARK.encode(), b"%08d" % number)) + deflater.flush()
                file.write(_long(100) + _long(len(packed)) + packed + sync)
    return count * ROWS_A_BLOCK


def write_parquet(path: Path, megabytes: int) -> int:
    """Row groups of 100,000 rows, all the same; `megabytes` are those of the same rows as CSV.

    Of smaller groups a large file has so many that its footer shows in the memory: 56 KB for each group of 31 columns.
    """
    import pyarrow as pa
    import pyarrow.parquet

    table = pa.concat_tables([pa.Table.from_pylist(list(rows(20 * ROWS_A_BLOCK)))] * 5)
    count = _count(megabytes, as_csv()[1] * 100)
    with pyarrow.parquet.ParquetWriter(path, table.schema) as writer:
        for _ in range(count):
            writer.write_table(table)
    return int(count * table.num_rows)


WRITERS: Mapping[str, Callable[[Path, int], int]] = {
    "NDJSON": write_ndjson,
    "NDJSON.gz": write_gzip,
    "ZIP": write_zip,
    "CSV": write_csv,
    "Avro": write_avro,
    "Parquet": write_parquet,
}


def _count(megabytes: int, block: bytes) -> int:
    return max(1, megabytes * 1_000_000 // len(block))


def _long(value: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", value)
    return out.getvalue()


class Disk:
    """A file on the disk as `ExportObjects` reads an object. `total` counts the bytes."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.size = path.stat().st_size
        self.total = 0

    def read(self, _file: object, start: int, end: int) -> bytes:
        """Exactly [start, end)."""
        self.total += end - start
        return os.pread(self._file.fileno(), end - start, start)

    def close(self) -> None:
        """No more reads."""
        self._file.close()


class KeptOnDisk:
    """`Resumes` in a folder: what containers keep costs no memory, as in production."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, name: str, state: bytes, /) -> None:
        """Keep it."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(state)

    def load(self, name: str, /) -> bytes | None:
        """What was kept."""
        path = self._folder / name
        return path.read_bytes() if path.exists() else None


def peak_mb() -> float:
    """This process's peak memory; what getrusage gives is inherited from the parent."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000
