"""The Avro reader: every row exactly once over any ranges, nothing but intact blocks out of any damage."""

from __future__ import annotations

import io
import itertools
import json
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cramjam
import fastavro
import pytest
from avro.datafile import DataFileReader
from avro.io import DatumReader
from hypothesis import given
from hypothesis import strategies as st

from espial.errors import Malformed
from espial.exports import Damage, Mark, Row, avro, open_container
from espial.sources import Layout

SCHEMA = {
    "type": "record",
    "name": "dataexport.S3.inner.users.messages.email.Open",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "time", "type": "int"},
        {"name": "note", "type": ["null", "bytes"], "default": None},
    ],
}
PARSED = fastavro.parse_schema(SCHEMA)


class Memory:
    """An object in memory that counts its reads and the largest of them."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)
        self.largest = 0

    def read(self, start: int, end: int) -> bytes:
        assert 0 <= start <= end <= self.size
        self.largest = max(self.largest, end - start)
        return self.content[start:end]


def long(value: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", value)
    return out.getvalue()


def header(sync: bytes, codec: str | None = "null", *, negative: bool = False) -> bytes:
    entries = {"avro.schema": json.dumps(SCHEMA).encode()}
    if codec is not None:
        entries["avro.codec"] = codec.encode()
    pairs = b"".join(long(len(k)) + k.encode() + long(len(v)) + v for k, v in entries.items())
    count = long(-len(entries)) + long(len(pairs)) if negative else long(len(entries))
    return b"Obj\x01" + count + pairs + long(0) + sync


def snappy(data: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(data)) + zlib.crc32(data).to_bytes(4, "big")


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACK: dict[str, Callable[[bytes], bytes]] = {
    "null": lambda data: data,
    "deflate": deflate,
    "snappy": snappy,
    "zstandard": lambda data: bytes(cramjam.zstd.compress(data)),
    "bzip2": lambda data: bytes(cramjam.bzip2.compress(data)),
    "xz": lambda data: bytes(cramjam.xz.compress(data)),
}


def block(rows: list[dict[str, Any]], sync: bytes, codec: str = "null") -> bytes:
    out = io.BytesIO()
    for row in rows:
        fastavro.schemaless_writer(out, PARSED, row)
    data = PACK[codec](out.getvalue())
    return long(len(rows)) + long(len(data)) + data + sync


def rows_of(content: bytes, cuts: list[int] | None = None, target: int | None = None) -> tuple[list[Any], list[Damage]]:
    """All rows and damages over the ranges that `cuts` or a plan make of the file; each range by a fresh reader."""
    plan = avro.open_container(Memory(content)).plan(target or len(content) + 1)
    if cuts is not None and plan:
        start = plan[0][0]
        edges = [start, *sorted(cut for cut in set(cuts) if start < cut < len(content)), len(content)]
        plan = list(itertools.pairwise(edges))
    rows, damages = [], []
    for start, end in plan:
        for step in avro.open_container(Memory(content)).rows(start, end):
            if isinstance(step, Row):
                rows.append(step.data)
            elif isinstance(step, Damage):
                damages.append(step)
    return rows, damages


SAMPLES = Path(__file__).parents[2] / "events/exports/braze"
SYNCS = st.lists(st.integers(0, 255), min_size=16, max_size=16, unique=True).map(bytes)
"""Markers are random (Avro 1.12, "Object Container Files"): none that repeats itself, as no writer makes one."""


@st.composite
def files(draw, codecs=tuple(PACK)) -> tuple[bytes, list[list[dict[str, Any]]], list[int]]:
    """A file, its blocks' rows, and where each block starts and the last ends; rows may hold the marker."""
    sync = draw(SYNCS)
    codec = draw(st.sampled_from(codecs))
    # The marker, but never a whole forged block behind it: a row would have to know a marker that is drawn at random
    # when the file is written, and only a reader that starts amid the file would believe it.
    marker = st.just(sync + b"\xff" * 10)
    piece = st.one_of(st.binary(max_size=40), marker, st.just(sync[:9]), st.just(sync[3:]))
    note = st.one_of(st.none(), st.lists(piece, max_size=4).map(b"".join))
    row = st.fixed_dictionaries({"id": st.text(max_size=8), "time": st.integers(0, 2**31 - 1), "note": note})
    blocks = draw(st.lists(st.lists(row, max_size=5), max_size=6))
    parts = [header(sync, None if codec == "null" else codec, negative=draw(st.booleans()))]
    parts += [block(rows, sync, codec) for rows in blocks]
    return b"".join(parts), blocks, list(itertools.accumulate(map(len, parts)))


@given(file=files(), data=st.data())
def test_any_ranges_give_each_row_once(file, data):
    """Whatever the codec, the blocks and the cuts: the rows are fastavro's, in its order, and nothing is damage.

    Where the data hold the marker, a reader that starts amid the file may take what follows for a damaged block.
    """
    content, blocks, edges = file
    expected = list(itertools.chain(*blocks))
    if b"zstandard" not in content:  # fastavro wants one more library for it
        assert expected == list(fastavro.reader(io.BytesIO(content)))
    cuts = data.draw(st.lists(st.integers(0, len(content)), max_size=8))
    rows, damages = rows_of(content, cuts)
    assert expected == rows
    if content.count(content[edges[0] - 16 : edges[0]]) == len(edges):  # the marker stands nowhere else
        assert [] == damages


def by_apache(content: bytes) -> list[Any]:
    """The rows by Avro's own library, which shares nothing with ours."""
    with DataFileReader(io.BytesIO(content), DatumReader()) as reader:
        return list(reader)


@given(file=files(codecs=("null", "deflate", "bzip2")), target=st.integers(1, 500))
def test_it_reads_what_apache_avro_reads(file, target):
    """Row by row, over any plan; also of a file that names no codec."""
    content, _, _ = file
    rows, damages = rows_of(content, target=target)
    assert (by_apache(content), []) == (rows, damages)


@pytest.mark.parametrize("path", sorted({*SAMPLES.rglob("*.avro")} - {*SAMPLES.rglob("edge/*-[tb]*.avro")}))
def test_it_reads_samples_as_apache_avro_does(path):
    """Every field of every row."""
    content = path.read_bytes()
    assert by_apache(content) == rows_of(content, target=5000)[0]


@given(file=files(), target=st.integers(1, 400))
def test_a_plan_is_contiguous_and_complete(file, target):
    """The ranges of a plan adjoin, end at the object's end, and hold every row once."""
    content, blocks, _ = file
    plan = avro.open_container(Memory(content)).plan(target)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(plan))
    assert [len(content)] == [end for _, end in plan][-1:] or not any(blocks)
    assert list(itertools.chain(*blocks)) == rows_of(content, target=target)[0]


@given(file=files(), data=st.data())
def test_resuming_at_any_mark_gives_the_rest(file, data):
    """What came before a mark and what comes after it make the whole."""
    content, _, _ = file
    opened = avro.open_container(Memory(content))
    steps = [step for start, end in opened.plan(len(content)) for step in opened.rows(start, end)]
    at = [index for index, step in enumerate(steps) if isinstance(step, Mark)]
    if not at:
        return
    index = data.draw(st.sampled_from(at))
    start, end = opened.plan(len(content))[0]
    rest = list(avro.open_container(Memory(content)).rows(start, end, steps[index].place))
    assert steps[index + 1 :] == rest


@given(file=files(), data=st.data())
def test_a_truncated_file_gives_its_whole_blocks_and_says_where_it_ends(file, data):
    """Exactly the rows of the blocks that are whole; damage if and only if the cut lies within a block."""
    content, blocks, edges = file
    cut = data.draw(st.integers(edges[0], len(content)))
    cuts = data.draw(st.lists(st.integers(edges[0], len(content)), max_size=4))
    rows, damages = rows_of(content[:cut], cuts)
    whole = sum(1 for end in edges[1:] if end <= cut)
    assert list(itertools.chain(*blocks[:whole])) == rows
    assert ([] if cut in edges else ["truncated_block"]) == [damage.reason for damage in damages]


@given(file=files(), data=st.data())
def test_a_changed_byte_never_raises_and_costs_at_most_its_block(file, data):
    """Whatever byte of the blocks changes: every block that it does not lie in comes whole.

    A change within a value of a block without checksum may alter that block's rows: their number stays.
    """
    content, blocks, edges = file
    if len(edges) == 1:
        return
    place = data.draw(st.integers(edges[0], len(content) - 1))
    byte = data.draw(st.integers(1, 255))
    broken = content[:place] + bytes([content[place] ^ byte]) + content[place + 1 :]
    cuts = data.draw(st.lists(st.integers(edges[0], len(content)), max_size=4))
    rows, damages = rows_of(broken, cuts)
    hit = next(index for index, end in enumerate(edges[1:]) if place < end)
    before, after = list(itertools.chain(*blocks[:hit])), list(itertools.chain(*blocks[hit + 1 :]))
    missing = len(before) + len(blocks[hit]) + len(after) - len(rows)
    assert (before, after) == (rows[: len(before)], rows[len(rows) - len(after) :])
    assert missing in (0, len(blocks[hit]))
    assert damages or missing == 0


@given(content=st.binary(max_size=300), at=st.integers(0, 400))
def test_rubbish_is_refused_with_a_reason(content, at):
    """Bytes that are no Avro file raise Malformed when opened, or give damage; never anything else."""
    whole = header(b"s" * 16)
    for rubbish in (content, b"Obj\x01" + content, whole[:at] + content):
        try:
            opened = avro.open_container(Memory(rubbish))
        except Malformed:
            continue
        for start, end in opened.plan(64):
            list(opened.rows(start, end))


def test_a_broken_marker_costs_its_block_alone():
    """The next block still stands where the broken one's size says, even where another range begins in between."""
    sync = bytes(range(16))
    rows = [[{"id": f"{b}-{i}", "time": i, "note": None} for i in range(3)] for b in range(4)]
    parts = [block(some, sync) for some in rows]
    parts[1] = parts[1][:-1] + b"\xff"
    content = header(sync) + b"".join(parts)
    intact = [row for index in (0, 2, 3) for row in rows[index]]
    damaged = len(header(sync)) + len(parts[0])
    for cut in range(len(header(sync)), len(content)):
        found, damages = rows_of(content, [cut])
        assert intact == found
        assert [("bad_sync", damaged, damaged + len(parts[1]))] == [(d.reason, d.place, d.until) for d in damages]


def test_record_name_and_absent_codec_are_read():
    """Braze's dotted record name without namespace, and no `avro.codec` entry, are what its files really have."""
    opened = avro.open_container(Memory(header(b"s" * 16, None)))
    assert "dataexport.S3.inner.users.messages.email.Open" == opened.record_name


def test_an_unknown_codec_is_refused():
    """A codec that nobody here can inflate is a reason, not a row of damages."""
    with pytest.raises(Malformed, match="unsupported_codec"):
        avro.open_container(Memory(header(b"s" * 16, "lz77")))


def test_an_inflating_bomb_is_damage(monkeypatch):
    """A block that inflates beyond the limit is not inflated."""
    monkeypatch.setattr(avro, "MAX_BLOCK_BYTES", 100_000)
    sync = b"s" * 16
    for codec in PACK:
        if codec == "null":
            continue
        row = {"id": "x", "time": 1, "note": bytes(200_000)}
        _, damages = rows_of(header(sync, codec) + block([row], sync, codec))
        assert ["undecodable_block"] == [damage.reason for damage in damages], codec


@pytest.mark.parametrize(
    ("name", "rows", "reasons"),
    [
        ("click-deflate-5blocks-50rows.avro", 50, []),
        ("send-null-8blocks-400rows.avro", 400, []),
        ("send-header-only-0rows.avro", 0, []),
        ("send-truncated-mid-block.avro", 250, ["truncated_block"]),
        ("delivery-bad-trailing-sync.avro", 0, ["bad_sync"]),
    ],
)
def test_edge_samples(name, rows, reasons):
    """What each of the sample library's edge files holds, read in pieces of 20 KB."""
    (path,) = SAMPLES.rglob(name)
    content = path.read_bytes()
    found, damages = rows_of(content, target=20_000)
    assert (rows, reasons) == (len(found), [damage.reason for damage in damages])


def peak(megabytes: int) -> int:
    sync = bytes(range(100, 116))
    one = block([{"id": f"{i:030}", "time": i, "note": bytes(70)} for i in range(600)], sync)
    start = header(sync)
    count = megabytes * 1_000_000 // len(one)

    class Endless:
        size = len(start) + count * len(one)

        def read(self, first: int, last: int) -> bytes:
            if first < len(start):
                return (start + one * (1 + last // len(one)))[first:last]
            _, skip = divmod(first - len(start), len(one))
            return (one * (2 + (last - first) // len(one)))[skip : skip + last - first]

    tracemalloc.start()
    opened = open_container(Endless(), "x.avro", Layout())
    rows = sum(isinstance(step, Row) for a, b in opened.plan(64 << 20) for step in opened.rows(a, b))
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 600 * count == rows
    return used


def test_memory_does_not_grow_with_the_file():
    """Ten times the file, the same peak: bounded reads, one block at a time."""
    assert peak(60) < 1.1 * peak(12)
