"""The three formats of feed files: what is written is read back by us and by others, whatever is in the values."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import tracemalloc
from datetime import UTC, date, datetime
from itertools import repeat
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espial.feeds.definition import Column, built_in
from espial.feeds.formats import Format, decode, encode

ROOT = Path(__file__).parents[2]
FORMATS: tuple[Format, ...] = ("csv", "jsonl", "parquet")
DELIMITERS = (",", "|", "\t", ";")
COLUMNS = (
    Column(name="id"),
    Column(name="note"),
    Column(name="at", type="datetime"),
    Column(name="day", type="date"),
    Column(name="count", type="integer"),
    Column(name="share", type="number"),
    Column(name="machine_ind", type="flag"),
)
HARD = (
    "007",
    "=1+1",
    '"',
    'a"b',
    "a,b|c;d\te",
    " x ",
    "a\r\nb",
    "a\rb",
    "a\nb",
    "\r",
    "\n",
    "NULL",
    "é",
    "😀",
    "\ufeff",
    "\u2028",
)
FULL = ["1", "x", "2026-01-15 10:00:05", "2026-01-15", "42", "0.98", "Y"]
EMPTY = ["", "", "", "", "", "", ""]

TEXTS = st.one_of(st.just(""), st.sampled_from(HARD), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
ROWS = st.lists(
    st.tuples(
        TEXTS,
        TEXTS,
        st.just("") | st.datetimes().map(lambda at: str(at.replace(microsecond=0))),
        st.just("") | st.dates().map(str),
        st.just("") | st.integers(-(1 << 63), (1 << 63) - 1).map(str),
        st.just("") | st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.sampled_from(["", "Y", "N"]),
    ).map(list),
    max_size=8,
)


@given(rows=ROWS, delimiter=st.sampled_from(DELIMITERS))
@settings(max_examples=300, deadline=None)
def test_every_format_gives_back_the_same_rows(rows, delimiter):
    """Nothing in a value harms it or its neighbours: quotes, delimiters, line ends, emoji, zeros in front."""
    for kind in FORMATS:
        content = encode(COLUMNS, rows, kind, delimiter)
        assert rows == list(decode(COLUMNS, content, kind, delimiter))
        assert content == encode(COLUMNS, iter(rows), kind, delimiter)


@given(rows=ROWS, delimiter=st.sampled_from(DELIMITERS))
@settings(max_examples=200, deadline=None)
def test_readers_that_are_not_ours_see_the_same(rows, delimiter):
    """The standard library's CSV and JSON, and Arrow's Parquet with its own ideas of types."""
    table = list(
        csv.reader(io.StringIO(encode(COLUMNS, rows, "csv", delimiter).decode(), newline=""), delimiter=delimiter)
    )
    assert [[column.name for column in COLUMNS], *rows] == table
    lines = encode(COLUMNS, rows, "jsonl").decode().split("\n")[:-1]
    assert [typed(row) for row in rows] == [list(json.loads(line).values()) for line in lines]
    read = pq.read_table(io.BytesIO(encode(COLUMNS, rows, "parquet"))).drop(["at", "day"])
    wanted = [value for number, value in enumerate(zip(*map(typed, rows), strict=True)) if number not in (2, 3)]
    assert (wanted or [()] * 5) == [tuple(column) for column in read.to_pydict().values()]


def typed(row: list[str]) -> list[object]:
    values: list[object] = [value or None for value in row]
    values[4] = int(row[4]) if row[4] else None
    values[5] = float(row[5]) if row[5] else None
    return values


def test_csv_is_as_the_rule_says():
    """A header, LF, no BOM, quotes only where they are needed, nothing for no value."""
    rows = [
        FULL,
        EMPTY,
        ['say "hi"', "a,b", *EMPTY[2:]],
        ["two\nlines", "old\rMac", *EMPTY[2:]],
        [" x", "=1+1", *EMPTY[2:]],
    ]
    assert (
        b"id,note,at,day,count,share,machine_ind\n"
        b"1,x,2026-01-15 10:00:05,2026-01-15,42,0.98,Y\n"
        b",,,,,,\n"
        b'"say ""hi""","a,b",,,,,\n'
        b'"two\nlines","old\rMac",,,,,\n'
        b" x,=1+1,,,,,\n"
    ) == encode(COLUMNS, rows, "csv")
    assert b'"a|b"|c\n' == encode(COLUMNS[:2], [["a|b", "c"]], "csv", "|").split(b"\n", 1)[1]
    assert b'id\n""\n' == encode(COLUMNS[:1], [[""]], "csv")


def test_json_lines_are_as_the_rule_says():
    """Every column in order in each line; numbers are numbers, all else is text, no value is null."""
    assert (
        b'{"id":"1","note":"x","at":"2026-01-15 10:00:05","day":"2026-01-15","count":42,"share":0.98,'
        b'"machine_ind":"Y"}\n'
        b'{"id":null,"note":null,"at":null,"day":null,"count":null,"share":null,"machine_ind":null}\n'
    ) == encode(COLUMNS, [FULL, EMPTY], "jsonl")


def test_parquet_has_one_schema_whatever_the_rows():
    """A column without a single value has its type all the same, so files can be read together."""
    schemas = [pq.read_schema(io.BytesIO(encode(COLUMNS, rows, "parquet"))) for rows in ([], [EMPTY], [FULL])]
    assert schemas[0] == schemas[1] == schemas[2]
    assert ["string", "string", "timestamp[ms, tz=UTC]", "date32[day]", "int64", "double", "string"] == [
        str(kind) for kind in schemas[0].types
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_duckdb_reads_it(format, tmp_path):
    """A CDP's loader knows nothing of us."""
    file = tmp_path / f"x.{format}"
    file.write_bytes(encode(COLUMNS, [FULL, [HARD[0], 'a"b,\n😀', *EMPTY[2:]]], format))
    read = {
        "csv": "read_csv($1, header=true, all_varchar=true)",
        "jsonl": "read_json($1, format='newline_delimited', columns={id: 'VARCHAR', note: 'VARCHAR', 'at': 'TIMESTAMP',"
        " day: 'DATE', count: 'BIGINT', share: 'DOUBLE', machine_ind: 'VARCHAR'})",
        "parquet": "read_parquet($1)",
    }[format]
    cast = "" if format == "parquet" else "::TIMESTAMP"  # the cast of what has a zone needs a database of zones
    with duckdb.connect() as database:
        rows = database.execute(
            f'SELECT id, note, epoch("at"{cast}), day::DATE, count::BIGINT, share::DOUBLE, machine_ind FROM {read}',
            [str(file)],
        ).fetchall()
    assert [
        ("1", "x", datetime(2026, 1, 15, 10, 0, 5, tzinfo=UTC).timestamp(), date(2026, 1, 15), 42, 0.98, "Y"),
        ("007", 'a"b,\n😀', None, None, None, None, None),
    ] == rows


def test_arrow_reads_it():
    """The third reader, each format with its types."""
    hard = [HARD[0], 'a"b,\n😀', *EMPTY[2:]]
    options = pa.csv.ConvertOptions(column_types={"id": pa.string()}, strings_can_be_null=True)
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    from_csv = pa.csv.read_csv(io.BytesIO(encode(COLUMNS, [FULL, hard], "csv")), None, parse, options)
    assert [["1", "007"], ["x", 'a"b,\n😀'], [42, None]] == [
        from_csv[name].to_pylist() for name in ("id", "note", "count")
    ]
    from_json = pa.json.read_json(io.BytesIO(encode(COLUMNS, [FULL, hard], "jsonl")))
    assert ["1", "007"] == from_json["id"].to_pylist()
    at = pq.read_table(io.BytesIO(encode(COLUMNS, [FULL], "parquet")))["at"].to_pylist()
    assert [datetime(2026, 1, 15, 10, 0, 5, tzinfo=UTC)] == at


@pytest.mark.parametrize(
    ("format", "column", "text", "why"),
    [
        *(
            ("jsonl", "count", text, "not an integer of 64 bits")
            for text in ("1_0", " 1", "1.0", "x@example.com", "٣", str(1 << 63))
        ),
        *(("parquet", "share", text, "not a number") for text in ("nan", "inf", "1e999", "0x1", ".5", "1,5")),
        *(("parquet", "at", text, "not an instant") for text in ("2026-01-15", "2026-01-15T10:00:05Z")),
        ("parquet", "at", "2026-02-30 10:00:05", "day"),
        ("parquet", "day", "15.01.2026", "not a date"),
        *((kind, "note", "\ud83d", "half of a surrogate pair") for kind in FORMATS),
    ],
)
def test_a_value_that_does_not_fit_names_its_row_and_column(format, column, text, why):
    """So that the row maker can be mended."""
    place = [each.name for each in COLUMNS].index(column)
    rows = [FULL] * 1500 + [[*FULL[:place], text, *FULL[place + 1 :]], FULL]
    with pytest.raises(ValueError, match=rf"^row 1501, column {column}: .*{why}"):
        encode(COLUMNS, rows, format)


@pytest.mark.parametrize(
    ("format", "content", "why"),
    [
        ("csv", b"", "column 1 is not as its layout has it"),
        ("csv", b"id,other\n", "column 2 is not as its layout has it: .'other'."),
        ("csv", b"id,note\na\n", "row 1: 1 values for 2 columns"),
        ("csv", b'id,note\na,"b\n', "line 2: unexpected end of data"),
        ("csv", b"id,note\na,\xff\n", "utf-8"),
        ("jsonl", b'{"id":"a"}\n', "line 1: column 2"),
        ("jsonl", b'{"id":"a","note":null}\n{"id"', "line 2: "),
        ("jsonl", b"[1]\n", "line 1: column 1"),
        ("parquet", b"PAR1", "not a Parquet file"),
        ("parquet", encode(COLUMNS, [], "parquet"), "not those of its layout"),
    ],
)
def test_a_file_that_is_not_of_its_layout_says_where(format, content, why):
    """A CDP would load it askew, or not at all."""
    with pytest.raises(ValueError, match=why):
        list(decode(COLUMNS[:2], content, format))


@pytest.mark.parametrize("name", sorted(built_in()))
def test_every_layout_can_be_written(name):
    """Each type of column there is, with and without a value."""
    columns = built_in()[name].columns
    example = {"integer": "1", "number": "0.5", "datetime": "2026-01-15 10:00:05", "date": "2026-01-15", "flag": "Y"}
    rows = [[example.get(column.type, "x") for column in columns], [""] * len(columns)]
    for kind in FORMATS:
        assert rows == list(decode(columns, encode(columns, rows, kind), kind))


def test_a_value_may_be_longer_than_readers_expect():
    """Python's own reader stops at 128 KB unless told."""
    for kind in FORMATS:
        assert [["x" * 200_000]] == list(decode(COLUMNS[:1], encode(COLUMNS[:1], [["x" * 200_000]], kind), kind))


@pytest.mark.parametrize("format", FORMATS)
def test_rows_are_not_held_while_they_are_written(format):
    """Three times the rows take the memory of their bytes and no more: what is held beside them stays as it is."""
    row = ["0123456789" * 5, "x", *FULL[2:]]
    beside = []
    for many in (50_000, 150_000):
        tracemalloc.start()
        content = encode(COLUMNS, repeat(row, many), format)
        beside.append(tracemalloc.get_traced_memory()[1] - 2 * len(content))
        tracemalloc.stop()
    assert beside[1] < beside[0] + (8 << 20)


def test_the_layer_that_reads_parquet_writes_it_too():
    """What is left of pyarrow on Lambda, under the interpreter of the local cloud."""
    build = ROOT / ".local/build"
    if not (build / "ParquetLayer").exists():
        if os.environ.get("CI"):
            pytest.fail("nothing is built: `make build` first")
        pytest.skip("nothing is built: `make build` first")
    layers = [build / "ParquetLayer/python", build / "DepsLayer/python", ROOT / "layers/core"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [ROOT / ".local/venv/cloud/bin/python", "-c", WRITE_ONE],
            env={"PYTHONPATH": os.pathsep.join(map(str, layers)), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=folder,
            capture_output=True,
            check=True,
        )
    assert [["2026-01-15 10:00:05", "2026-01-15", "42", "0.98"]] == list(decode(COLUMNS[2:6], done.stdout, "parquet"))
    assert math.isclose(0.98, pq.read_table(io.BytesIO(done.stdout))["share"][0].as_py())


WRITE_ONE = """
import sys
from espial.feeds.definition import Column
from espial.feeds.formats import encode
kinds = {"at": "datetime", "day": "date", "count": "integer", "share": "number"}
columns = [Column(name=name, type=kind) for name, kind in kinds.items()]
sys.stdout.buffer.write(encode(columns, [["2026-01-15 10:00:05", "2026-01-15", "42", "0.98"]], "parquet"))
"""


def test_csv_and_json_do_not_load_pyarrow():
    """It takes a third of a second and a layer that the deliverer lacks."""
    code = (
        "import sys; from espial.feeds.definition import Column; from espial.feeds.formats import encode\n"
        "for format in ('csv', 'jsonl'): encode([Column(name='a')], [['b']], format)\n"
        "assert 'pyarrow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT / "layers/core")})
