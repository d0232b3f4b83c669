"""BGZF: what the standard library inflates from the whole file, by any plan; a damaged member costs its own rows."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.exports import Mark, Row, text
from espial.exports.bgzf import BgzfFile, head_of, next_member
from espial.exports.gzip import GzipFile
from espial.sources import Layout
from tests.export_files import Memory, bgzf_member, check, opened, reasons_of, rows_of, steps_of

ROWS = [{"id": n, "note": "é" * (n % 7)} for n in range(90)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
FURTHER = [{"id": 1000 + n, "note": "x" * 900} for n in range(150)]
TAIL = "".join(json.dumps(row) + "\n" for row in FURTHER).encode()
"""So much that what lies before is not looked at to recognise the file."""

EXPECTED = ROWS + FURTHER


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(text, "STRETCH_BYTES", 300)


def bgzf(content: bytes, cuts: list[int], level: int = 6, extra: bytes = b"", *, marked: bool = True) -> bytes:
    """A member for each stretch; `marked`: with the empty one at the end."""
    edges = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    parts = [bgzf_member(content[a:b], level, extra) for a, b in pairwise(edges)]
    return b"".join(parts) + (bgzf_member(b"") if marked else b"")


def every(count: int, size: int = len(LINES)) -> list[int]:
    return list(range(0, size, count))


@given(
    cuts=st.one_of(st.lists(st.integers(1, len(LINES)), max_size=60), st.integers(20, 300).map(every)),
    level=st.integers(0, 9),
    extra=st.sampled_from([b"", b"XY\x03\0abc"]),
    marked=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_plan_gives_each_row_once(cuts, level, extra, marked, seed):
    """The standard library's rows, in the same places, resumed at any mark, wherever the members begin."""
    content = bgzf(LINES, cuts, level, extra, marked=marked)
    assert LINES == gzip.decompress(content)
    assert isinstance(opened(content), BgzfFile)
    check(content, ROWS, random.Random(seed))


def test_a_file_is_shared():
    """Ranges of about the size asked for."""
    content = bgzf(LINES, every(100))
    plan = opened(content).plan(len(content) // 8)
    assert 8 <= len(plan) <= 9
    assert max(end - start for start, end in plan) < len(content) // 8 + 300


def test_places_are_virtual_offsets():
    """The member's byte and the offset in its text, whatever the plan: seeking there finds the row."""
    content = bgzf(LINES, every(90))
    for step in steps_of(content, target=300):
        if isinstance(step, Row):
            start, within = divmod(step.place, 1 << 16)
            inflated = gzip.decompress(content[start:])
            assert step.data == json.loads(inflated[within:].partition(b"\n")[0])


NOTES = st.text(st.sampled_from('a"\n\r,é'), max_size=12)


@given(
    notes=st.lists(NOTES, min_size=1, max_size=60),
    size=st.integers(30, 400),
    quoted=st.booleans(),
    seed=st.integers(0, 99),
)
def test_delimited_text(notes, size, quoted, seed):
    """Also with line feeds in quotes: it is split only where a record is known to start."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    writer.writerows([["id", "note"], *([number, note] for number, note in enumerate(notes))])
    whole = out.getvalue().encode()
    expected = [{"id": str(number), "note": note} for number, note in enumerate(notes)]
    check(bgzf(whole, every(size, len(whole))), expected, random.Random(seed), "x.csv.gz")


def test_delimited_text_is_shared():
    """With and without quotes that mean something."""
    whole = b"id,note\n" + b"".join(b'%d,"a\nb"\n' % number for number in range(3000))
    content = bgzf(whole, every(500, len(whole)))
    assert len(opened(content, "x.csv").plan(len(content) // 5)) > 3
    plain = bgzf(whole.replace(b"a\n", b"a"), every(500, len(whole)))
    assert len(opened(plain, "x.csv", Layout(quoted=False)).plan(len(plain) // 5)) > 3


@pytest.mark.parametrize(
    ("whole", "rows"),
    [
        (LINES.decode().encode("utf-16"), ROWS),
        (b"[" + LINES.strip().replace(b"\n", b",\n") + b"]", ROWS),
    ],
)
def test_what_cannot_be_split_is_one_range(whole, rows):
    """UTF-16 and an array: no place in the midst tells where a record starts."""
    content = bgzf(whole, every(201, len(whole)))
    assert [(0, len(content))] == opened(content).plan(500)
    check(content, rows, random.Random(1))


@given(
    number=st.integers(0, 40), offset=st.integers(0, 10_000), byte=st.integers(1, 255), target=st.integers(200, 10_000)
)
def test_a_damaged_member_costs_its_own_rows(number, offset, byte, target):
    """Whatever byte of it changed; the line that ends in it and the one that begins in it go with it."""
    edges = [*every(150), *range(len(LINES), len(LINES) + len(TAIL), 30_000), len(LINES) + len(TAIL)]
    cuts = list(pairwise(edges))
    parts = [bgzf_member((LINES + TAIL)[a:b], 0 if a >= len(LINES) else 6) for a, b in cuts]
    start, end = cuts[number := 1 + number % (len(every(150)) - 1)]
    damaged = bytearray(parts[number])
    damaged[offset % len(damaged)] ^= byte
    content = b"".join([*parts[:number], bytes(damaged), *parts[number + 1 :], bgzf_member(b"")])
    rows, reasons = rows_of(content, target=target), reasons_of(content, target=target)
    places = accumulate((len(json.dumps(row, ensure_ascii=False).encode()) + 1 for row in ROWS), initial=0)
    kept = [row for row, (at, behind) in zip(ROWS, pairwise(places), strict=True) if behind <= start or at > end]
    ids = [row["id"] for row in rows]
    assert len(ids) == len(set(ids))
    assert {row["id"] for row in kept} <= set(ids) <= {row["id"] for row in EXPECTED}
    assert {"corrupt_gzip", "bad_checksum"} >= set(reasons)
    assert EXPECTED == rows or reasons


def test_a_truncated_file_is_read_as_one_stream():
    """It says so at its end, and no row is lost before."""
    content = bgzf(LINES, every(150))
    cut = content[: len(content) * 2 // 3]
    assert isinstance(opened(cut), GzipFile)
    assert ["truncated_gzip"] == reasons_of(cut)
    assert ROWS[: len(rows_of(cut))] == rows_of(cut)


def test_other_members_behind_are_read_as_one_stream():
    """A file that only begins as BGZF."""
    content = bgzf(LINES, every(150)) + gzip.compress(LINES)
    assert ROWS * 2 == rows_of(content)


def test_what_only_looks_like_a_member_is_none():
    """A header counts if it leads to another, or to the end."""
    content = bgzf(LINES, every(150), 0)
    fake = bgzf(b"x" * 300 + bgzf_member(b"y")[:18] + b"z" * 300 + LINES, [], 0)
    assert 0 == next_member(Memory(fake), 0)
    assert len(bgzf_member(b"")) == head_of(bgzf_member(b""))[1]
    assert (0, 0) == head_of(content, 1)
    assert len(fake) - len(bgzf_member(b"")) == next_member(Memory(fake), 1)


def test_only_its_own_members_are_read():
    """A worker reads its range, the glances at both its ends and the file's head and tail."""
    chance = random.Random(1)
    whole = b"".join(b'{"x":"%x"}\n' % chance.getrandbits(4000) for _ in range(20_000))
    content = bgzf(whole, every(60_000, len(whole)))
    container: Any = opened(content)
    plan = container.plan(1 << 20)
    assert len(plan) > 5
    source = Memory(content)
    found = BgzfFile(source, container._form)  # what `opened` recognised
    start, end = plan[len(plan) // 2]
    rows = sum(isinstance(step, Row) for step in found.rows(start, end))
    assert 0 < rows < 20_000
    assert source.total < (end - start) + 4 * text.READ_BYTES
    assert any(isinstance(step, Mark) for step in found.rows(start, end))
