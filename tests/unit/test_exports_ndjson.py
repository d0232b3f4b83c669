"""JSON rows: lines, values one behind the other, one array; what json.loads reads of each."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.errors import Malformed
from espial.exports import Damage, Row, ndjson, text
from espial.sources import Layout
from tests.export_files import Memory, check, opened, reasons_of, rows_of, steps_of

TEXT = st.text(st.sampled_from('{}[]",\\ \n\ta€😀:é'), max_size=10)
LEAF = st.one_of(
    TEXT, st.integers(-(2**53), 2**53), st.booleans(), st.none(), st.floats(allow_nan=False, allow_infinity=False)
)
VALUE = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)
OBJECT = st.dictionaries(TEXT, VALUE, max_size=4)
BLANK = st.text(st.sampled_from(" \n\r\t"), max_size=3)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(text, "STRETCH_BYTES", 40)


@given(
    values=st.lists(OBJECT, min_size=1, max_size=20),
    line=st.sampled_from(["\n", "\r\n", "\n\n"]),
    last=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
    seed=st.integers(0, 9999),
)
def test_lines(values, line, last, encoding, seed):
    """Every line once, whatever the plan, the line ends, blank lines and encoding; resumed at any mark."""
    lines = [json.dumps(value, ensure_ascii=encoding == "latin-1" or seed % 2 == 0) for value in values]
    content = (line.join(lines) + line * last).encode(encoding)
    layout = Layout(encoding=encoding if encoding == "latin-1" else "")
    check(content, list(map(json.loads, lines)), random.Random(seed), layout=layout)


def test_utf_16_is_split():
    """At whole characters, of which some hold the byte of a line feed."""
    values = [{"n": n, "x": "\u0a0a\u0d0a\U0001f40a" * (n % 3)} for n in range(100)]
    content = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values).encode("utf-16")
    assert len(opened(content).plan(301)) > len(content) // 301
    assert values == rows_of(content, target=301)


@given(
    values=st.lists(OBJECT, min_size=2, max_size=20),
    blanks=st.lists(BLANK, min_size=20, max_size=20),
    indent=st.sampled_from([None, 1]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    seed=st.integers(0, 9999),
)
def test_values_one_behind_the_other(values, blanks, indent, encoding, seed):
    """With nothing or any blanks between them, printed over several lines or not."""
    parts = [
        json.dumps(value, ensure_ascii=False, indent=indent) + blank
        for value, blank in zip(values, blanks, strict=False)
    ]
    check("".join(parts).encode(encoding), values, random.Random(seed))


@given(
    values=st.lists(VALUE, min_size=1, max_size=20),
    indent=st.sampled_from([None, 1]),
    before=BLANK,
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    seed=st.integers(0, 9999),
)
def test_an_array(values, indent, before, encoding, seed):
    """Its elements are the rows, whatever they hold."""
    content = before + json.dumps(values, ensure_ascii=False, indent=indent) + before
    check(content.encode(encoding), values, random.Random(seed))


@given(
    content=st.binary(max_size=300),
    soup=st.text(st.sampled_from('{}[]",:\\ \n1a'), max_size=80),
    seed=st.integers(0, 99),
)
def test_rubbish_never_raises(content, soup, seed):
    """Bytes of any kind give rows and damages."""
    for rubbish in (
        content,
        b'{"a":1}\n' + content,
        b'{"a":1}{"b":' + content,
        b"[1," + content,
        soup.encode(),
        b"[" + soup.encode(),
    ):
        try:
            plan = opened(rubbish, "x.json").plan(random.Random(seed).randint(1, 50))
        except Malformed:
            continue
        for start, end in plan:
            list(opened(rubbish, "x.json").rows(start, end))


@given(values=st.lists(OBJECT, min_size=3, max_size=12), at=st.data())
def test_a_bad_line_costs_itself(values, at):
    """It is damage at its own place; every other line comes."""
    lines = [json.dumps(value).encode() + b"\n" for value in values]
    bad = at.draw(st.integers(1, len(lines) - 1))
    lines[bad] = at.draw(
        st.sampled_from(
            [b"{nonsense}\n", b'{"a":}\n', b"NaN\n", b'"\xff"\n', b'{"a":"\\ud800"}\n', b"[" * 5000 + b"\n"]
        )
    )
    steps = [
        step
        for step in steps_of(b"".join(lines), target=at.draw(st.integers(1, 500)))
        if isinstance(step, Row | Damage)
    ]
    damage = steps[bad]
    assert isinstance(damage, Damage)
    assert len(b"".join(lines[:bad])) == damage.place
    assert damage.reason in ("not_json", "not_utf_8")
    assert values[:bad] + values[bad + 1 :] == [step.data for step in steps if isinstance(step, Row)]


@pytest.mark.parametrize(
    ("content", "rows", "reasons"),
    [
        (b'{"a":1}{"a":}{"a":3}{"a":4}', [1, 3, 4], ["not_json"]),
        (b'{"a":1}{"a":2{"a":3}{"a":4}', [1, 4], ["not_json"]),
        (b'{"a":1}{"a":2}{"a":"3', [1, 2], ["truncated_json"]),
        (b'[{"a":1},{"a":},{"a":3}]', [1, 3], ["not_json"]),
        (b'[\n{"a":1},\n{"a":2},\n{"a":"3', [1, 2], ["truncated_json", "truncated_json"]),
        (b'[{"a":1},{"a":2},', [1, 2], ["truncated_json"]),
        (b'{"a":1}\n{"a":2}{"a":3}\n{"a":4', [1, 2, 3], ["truncated_json"]),
        (b'{"a":1}\n{"a":2}x\n{"a":4}', [1, 2, 4], ["not_json"]),
        (b'{"a":1}\nil": "x"}\n{"a":4}', [1, 4], ["not_json"]),
    ],
)
def test_damaged_values(content, rows, reasons):
    """What is damaged is left out with its reason, and reading goes on behind it."""
    assert rows == [row["a"] for row in rows_of(content, "x.json")]
    assert reasons == reasons_of(content, "x.json")


def test_a_line_that_is_too_long(monkeypatch):
    """It is damage, read over in pieces; the lines around it come."""
    monkeypatch.setattr(ndjson.Lines, "max_record", 1000)
    content = b'{"a":1}\n{"a":"' + b"x" * 5_000 + b'"}\n{"a":3}\n'
    assert [1, 3] == [row["a"] for row in rows_of(content)]
    assert ["line_too_long"] == reasons_of(content)


def test_a_value_that_is_too_long(monkeypatch):
    """Among values one behind the other, reading goes on at what looks like the next."""
    monkeypatch.setattr(ndjson.Values, "max_record", 1000)
    monkeypatch.setattr(text, "SAMPLE_BYTES", 100)
    content = b'{"a":1}{"a":"' + b"x" * 5_000 + b'"}{"a":3}{"a":4}'
    assert ["line_too_long"] == reasons_of(content)
    assert [1, 3, 4] == [row["a"] for row in rows_of(content)]


def test_reads_are_bounded(monkeypatch):
    """No read is larger than a piece, whatever the file."""
    monkeypatch.undo()
    content = b'{"a":1}' * 500_000
    source = Memory(content)
    form = ndjson.open_format('{"a":1}{"a":1', text.encoding_of(b"{", Layout()), whole=False)
    assert 500_000 == sum(isinstance(step, Row) for step in text.read(form, text.Plain(source), 0, source.size, 0))
    assert text.READ_BYTES == source.largest
