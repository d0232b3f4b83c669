"""Delimited text: what csv.reader reads of the whole, whatever the plan, the encoding and the quoting."""

from __future__ import annotations

import csv
import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.errors import Malformed
from espial.exports import Damage, Row, folded, text
from espial.exports import csv as exports_csv
from espial.sources import Layout
from tests.export_files import Memory, check, opened, reasons_of, rows_of, steps_of

HOSTILE = st.text(st.sampled_from("\",;\n\r'ab\té€😀 |\u2028\x0b"), max_size=12)
INNER_ROWS = st.lists(st.sampled_from(["a,b,c", "1,2,3", '"x","y","z"', "a,b,", ",,"]), min_size=1, max_size=6).map(
    "\n".join
)
FIELD = st.one_of(HOSTILE, INNER_ROWS, INNER_ROWS.map(lambda rows: rows + "\n"))


@pytest.fixture
def small(monkeypatch):
    """Limits so small that hypothesis reaches them."""
    monkeypatch.setattr(exports_csv, "MAX_RECORD_BYTES", 2000)
    monkeypatch.setattr(exports_csv, "_GLANCE_BYTES", 60)
    monkeypatch.setattr(text, "STRETCH_BYTES", 50)


@pytest.fixture(autouse=True)
def _small(small):
    return small


def written(rows, delimiter=",", quoting=csv.QUOTE_MINIMAL, line="\r\n") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=line).writerows(rows)
    return out.getvalue()


def expected_of(content: str, delimiter: str = ","):
    """The rows as csv.reader has them."""
    header, *rows = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter)
    return [dict(zip(map(folded, header), row, strict=True)) for row in rows]


@given(
    rows=st.lists(st.tuples(FIELD, FIELD, FIELD), max_size=25),
    form=st.tuples(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.sampled_from(["\r\n", "\n"])),
    delimiter=st.sampled_from(exports_csv.DELIMITERS),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be"]),
    seed=st.integers(0, 9999),
)
def test_any_plan_gives_the_rows_that_csv_reader_gives(rows, form, delimiter, encoding, seed):
    """Quoted line feeds, doubled quotes, rows within fields: each row once, at the same place, resumed at any mark."""
    quoting, line = form
    if line == "\n":  # csv.writer would leave a carriage return unquoted, which ends a record
        rows = [[field.replace("\r", "") for field in row] for row in rows]
    content = written([("Send ID", "b", "c"), *rows], delimiter, quoting, line)
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    layout = Layout(delimiter=delimiter)
    check((mark + content).encode(encoding), expected_of(content, delimiter), random.Random(seed), layout=layout)


@given(content=st.binary(max_size=400), seed=st.integers(0, 9999), target=st.integers(1, 50))
def test_rubbish_never_raises(content, seed, target):
    """Bytes of any kind behind a header give rows and damages that fill the file; nothing is raised but Malformed."""
    for rubbish in (content, b"a,b\n" + content, b'a,b\n"x,' + content, b"\xff\xfea\0\n\0" + content):
        try:
            file = opened(rubbish)
        except Malformed:
            continue
        for start, end in file.plan(target):
            list(opened(rubbish).rows(start, end))


@given(cut=st.integers(0, 2000), seed=st.integers(0, 99))
def test_splits_are_found_in_quoted_files(cut, seed):
    """A file that quotes everything is split, not read by one worker."""
    chance = random.Random(seed)
    rows = [("a", "b", "c"), *((str(n), 'say "hi",\n' * chance.randint(0, 3), "x" * (n % 7)) for n in range(200))]
    content = written(rows, quoting=csv.QUOTE_ALL).encode()
    assert len(opened(content).plan(500)) > len(content) // 500 // 2


def test_plain_files_are_split_everywhere():
    """A file without any quotation mark is split at the line behind every edge."""
    content = b"id,note\n" + b"".join(b"%d,abc\n" % n for n in range(10_000))
    assert -(-(len(content) - 8) // 1000) == len(opened(content).plan(1000))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_split(encoding):
    """Quoted or not, at whole characters, of which some hold the byte of a line feed."""
    rows = [("a", "b"), *((str(n), 'say "hi",\n\u0a0a\u0d0a\U0001f40a' * (n % 3)) for n in range(300))]
    content = ("\ufeff" * (encoding == "utf-16-be") + written(rows)).encode(encoding)
    plan = opened(content).plan(1001)
    assert len(plan) > len(content) // 1001 // 2
    assert [{"a": a, "b": b} for a, b in rows[1:]] == rows_of(content, target=1001)


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        ("1,2,3,", {"a": "1", "b": "2", "c": "3"}),
        ("1,2,3,x", "ragged_row"),
        ("1,2", "ragged_row"),
        ("1,,", {"a": "1", "b": "", "c": ""}),
    ],
)
def test_ragged_rows(line, outcome):
    """Only empty fields may be too many. The damage names the line, and the rows around it come."""
    content = f"a,b,c\n7,8,9\n{line}\n4,5,6\n".encode()
    steps = [step for step in steps_of(content) if isinstance(step, Row | Damage)]
    assert outcome == (steps[1].data if isinstance(steps[1], Row) else steps[1].reason)
    assert 12 == steps[1].place
    assert ["7", "4"] == [step.data["a"] for step in (steps[0], steps[2]) if isinstance(step, Row)]


def test_columns_of_a_file_without_header():
    """Names come from the layout; an older file may have fewer columns."""
    layout = Layout(columns=("Customer ID", "Email", "Extra"), delimiter="|")
    content = b"1|ada@example.com|x\n2|bob@example.com\n"
    expected = [
        {"customerid": "1", "email": "ada@example.com", "extra": "x"},
        {"customerid": "2", "email": "bob@example.com"},
    ]
    assert expected == rows_of(content, layout=layout)


def test_quotes_that_mean_nothing():
    """In a pipe file a quotation mark is a character; such a file is split at every edge."""
    content = b"a|b\n" + b'5" tall|"x\n' * 50
    assert [{"a": '5" tall', "b": '"x'}] * 50 == rows_of(content, layout=Layout(quoted=False), target=30)
    assert len(opened(content, layout=Layout(quoted=False)).plan(30)) > 10


def test_an_open_quote_costs_its_line():
    """A mark that nothing closes, at the file's end or over the limit, is damage; the lines behind it are read."""
    content = b'a,b\n1,2\n3,"x\n5,6\n7,8\n'
    assert [{"a": "1", "b": "2"}, {"a": "5", "b": "6"}, {"a": "7", "b": "8"}] == rows_of(content)
    assert ["open_quote"] == reasons_of(content)
    long = b'a,b\n3,"x\n' + b"5,6\n" * 1000
    assert ["open_quote"] == reasons_of(long)
    assert 1000 == len(rows_of(long))


def test_a_line_that_is_too_long():
    """It is left out whole."""
    content = b"a,b\n1,2\n3," + b"x" * 5000 + b"\n5,6\n"
    assert ["line_too_long"] == reasons_of(content)
    assert ["1", "5"] == [row["a"] for row in rows_of(content)]


def test_bytes_that_are_not_utf_8_cost_their_row():
    """The rows around it come; with the right encoding all do."""
    content = "a,b\n1,é\n2,ü\n3,x\n".encode("latin-1")
    assert (["not_utf_8"] * 2, ["3"]) == (reasons_of(content), [row["a"] for row in rows_of(content)])
    assert ["é", "ü", "x"] == [row["b"] for row in rows_of(content, layout=Layout(encoding="latin-1"))]


@pytest.mark.parametrize(
    ("content", "layout", "reason"),
    [
        (b"\n \n", Layout(), "empty_file"),
        (b"1,ada@example.com\n", Layout(), "no_header"),
        (b",,\n1,2,3\n", Layout(), "no_header"),
        (b"a;b;c\n1;2;3\n", Layout(delimiter=","), "wrong_delimiter"),
        (b"a,b\0\0\n1,2\n", Layout(), "bad_encoding"),
        (b"\xff\xfe\0\0a\0\0\0", Layout(), "bad_encoding"),
        (b"a,b\n", Layout(encoding="klingon"), "bad_encoding"),
        (b"ORC....", Layout(), "unsupported_container"),
        (b"-----BEGIN PGP MESSAGE-----\n", Layout(), "unsupported_container"),
    ],
)
def test_files_that_cannot_be_read_say_why(content, layout, reason):
    """Each has its own reason."""
    with pytest.raises(Malformed) as raised:
        opened(content, layout=layout)
    assert reason == raised.value.reason


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_seen(delimiter):
    """By the header and the first lines, even where another stands in the values."""
    content = (
        f"a{delimiter}b\n" + f"1,5{delimiter}2;3\n" * 3 if delimiter in "\t|" else f"a{delimiter}b\n1{delimiter}x\n"
    )
    assert {"a", "b"} == set(rows_of(content.encode())[0])


def test_columns_keep_their_names():
    """`columns` tells what the file calls them; a name that comes twice gets its number."""
    file = opened(b"Send ID,sendid,,E-mail\n1,2,3,4\n")
    assert {"sendid": "Send ID", "sendid2": "sendid", "column3": "", "email": "E-mail"} == file.columns
    assert "csv" == file.kind


def test_reads_are_bounded(monkeypatch):
    """No read is larger than a piece, whatever the file."""
    source = Memory(b"a,b\n" + b"1,2\n" * 1_000_000)
    file = exports_csv.open_format("a,b\n1,2\n", text.encoding_of(b"a,b", Layout()), Layout(), whole=False)
    monkeypatch.undo()
    rows = sum(isinstance(step, Row) for step in text.read(file, text.Plain(source), 4, source.size))
    assert (1_000_000, text.READ_BYTES) == (rows, source.largest)
