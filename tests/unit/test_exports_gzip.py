"""gzip: what the standard library inflates, whole or damaged, in one member or many."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.errors import Malformed
from espial.exports import Row, deflate, text
from espial.exports import gzip as exports_gzip
from tests.export_files import Memory, check, opened, reasons_of, rows_of

ROWS = [{"id": n, "note": "é" * (n % 5)} for n in range(80)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(text, "STRETCH_BYTES", 300)
    monkeypatch.setattr(deflate, "_SLICE_BYTES", 50)


@given(
    cuts=st.lists(st.integers(0, len(LINES)), max_size=5),
    level=st.integers(0, 9),
    padding=st.integers(0, 70),
    seed=st.integers(0, 99),
)
def test_members_are_one_text(cuts, level, padding, seed):
    """However the text is cut into members, empty ones too, and whatever zeros fill a last block."""
    edges = [0, *sorted(cuts), len(LINES)]
    content = b"".join(gzip.compress(LINES[a:b], level) for a, b in pairwise(edges)) + bytes(padding)
    assert LINES == gzip.decompress(content)
    check(content, ROWS, random.Random(seed))


def test_delimited_text_inside():
    """What is inside decides what the rows are."""
    content = gzip.compress('a,b\r\n1,"x\ny"\r\n'.encode("utf-16"))
    assert ("csv", [{"a": "1", "b": "x\ny"}]) == (opened(content, "x.csv.gz").kind, rows_of(content))


@given(cut=st.integers(1, 10_000))
def test_a_truncated_stream_gives_the_rows_before(cut):
    """Every row that can be inflated comes, then the damage; a piece of a row never does."""
    content = gzip.compress(LINES)
    content = content[: len(content) - 1 - cut % (len(content) - 20)]
    inflated = zlib.decompressobj(31).decompress(content)
    if not inflated:
        with pytest.raises(Malformed, match="truncated_gzip"):
            opened(content)
        return
    rows, reasons = rows_of(content), reasons_of(content)
    assert ["truncated_gzip"] == reasons
    assert ROWS[: len(rows)] == rows
    assert len(rows) >= inflated.count(b"\n") - 1


@given(place=st.integers(10, 10_000), byte=st.integers(1, 255))
def test_a_changed_byte_never_raises(place, byte):
    """It is seen at the latest by the checksum."""
    content = bytearray(gzip.compress(LINES))
    content[10 + place % (len(content) - 10)] ^= byte
    try:
        reasons = reasons_of(bytes(content))
    except Malformed:
        return
    assert reasons or ROWS == rows_of(bytes(content))


@given(flags=st.integers(0, 31), name=st.integers(0, 10_000), cut=st.integers(0, 10_000))
def test_what_may_stand_before_a_member(flags, name, cut):
    """Fields, a name, a comment and a checksum of these are skipped; cut within them, the file is truncated."""
    head = b"\x1f\x8b\x08" + bytes([flags]) + bytes(6)
    head += b"\x05\0ab\x01\0c" * bool(flags & 4)
    head += (b"n" * name + b"\0") * bool(flags & 8) + b"\0" * bool(flags & 16)
    head += (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little") * bool(flags & 2)
    first = gzip.compress(LINES[:500])
    content = first + head + gzip.compress(LINES[500:])[10:]
    assert LINES == gzip.decompress(content)
    assert ROWS == rows_of(content)
    assert ["truncated_gzip"] == reasons_of(content[: len(first) + 3 + cut % len(head)])
    assert ["corrupt_gzip"] == reasons_of(first + head[:3] + b"\xff" + content[len(first) + 4 :])


def test_what_follows_the_last_member():
    """Garbage is told of and costs no row, not even a last one without line end."""
    content = gzip.compress(LINES.strip()) + b"garbage"
    assert (ROWS, ["trailing_garbage"]) == (rows_of(content), reasons_of(content))


def test_a_wrong_checksum():
    """The rows came before it is known; the damage says so."""
    content = gzip.compress(LINES)
    content = content[:-8] + bytes(4) + content[-4:]
    assert (ROWS, ["bad_checksum"]) == (rows_of(content), reasons_of(content))


def test_archives_within_archives_are_not_opened():
    """Their own reason."""
    for inner in (gzip.compress(LINES), b"PK\x03\x04" + bytes(60)):
        with pytest.raises(Malformed, match="nested_archive"):
            opened(gzip.compress(inner))
    with pytest.raises(Malformed, match="unsupported_container"):
        opened(gzip.compress(b"Obj\x01" + bytes(60)))


def test_bombs_end(monkeypatch):
    """A line without end, or blank lines without end, are inflated only so far."""
    monkeypatch.undo()
    monkeypatch.setattr(text, "BARREN_BYTES", 20 << 20)
    line = gzip.compress(b'{"a":1}\n{"a":"' + b"x" * (60 << 20))
    assert ["line_too_long", "inflates_too_much"] == reasons_of(line)
    assert [1] == [row["a"] for row in rows_of(line)]
    blank = gzip.compress(b'{"a":1}\n' + b"\n" * (60 << 20))
    assert ["inflates_too_much"] == reasons_of(blank)
    monkeypatch.setattr(exports_gzip, "MAX_INFLATED_BYTES", 2 << 20)
    rows = gzip.compress(b'{"a":1}\n' * 1_000_000)
    assert ["inflates_too_much"] == reasons_of(rows)
    assert 200_000 < len(rows_of(rows)) < 400_000


def test_reads_are_bounded(monkeypatch):
    """No read is larger than a piece, whatever the file."""
    monkeypatch.undo()
    chance = random.Random(1)
    content = gzip.compress(b"".join(b'{"a":"%x"}\n' % chance.getrandbits(4000) for _ in range(5000)))
    source = Memory(content)
    stream = exports_gzip.Inflated(source)
    assert 5000 == sum(piece.count(b"\n") for piece in stream.pieces(0))
    assert (text.READ_BYTES, len(content)) == (source.largest, source.total)
    assert 5000 == sum(isinstance(step, Row) for step in opened(content).rows(0, len(content)))
