"""ZIP: what the standard library's reader gives of every member, and a reason for what it would not."""

from __future__ import annotations

import io
import json
import random
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.errors import Malformed
from espial.exports import Damage, Mark, Row, text
from espial.exports import zip as exports_zip
from espial.sources import Layout
from tests.export_files import Memory, check, opened, reasons_of, rows_of, steps_of

NAME = st.text(st.characters(codec="utf-8", exclude_characters="\0/\\"), min_size=1, max_size=8)
ROW = st.fixed_dictionaries({"id": st.integers(0, 999), "note": st.text(max_size=6)})


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(text, "STRETCH_BYTES", 100)


def zipped(members, method=zipfile.ZIP_DEFLATED, *, streamed=False, prefix=b"", **options) -> bytes:
    out = io.BytesIO(prefix)
    out.seek(len(prefix))
    target = Unseekable(out) if streamed else out
    with zipfile.ZipFile(target, "w", method, **options) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


class Unseekable(io.RawIOBase):
    """A stream that is only written to, as by programs that do not know sizes before."""

    def __init__(self, out):
        self.out = out

    def writable(self):
        return True

    def write(self, data):
        return self.out.write(data)


def lines(rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@given(
    members=st.lists(st.tuples(NAME, st.lists(ROW, max_size=8)), max_size=6),
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    streamed=st.booleans(),
    chunks=st.integers(1, 1000),
    seed=st.integers(0, 99),
)
def test_members_come_whole(members, method, streamed, chunks, seed):
    """Each member's rows once, in order, whatever the plan; resumed at any mark; folders and empty members skipped."""
    members = [(f"{number}{name}.json", lines(rows)) for number, (name, rows) in enumerate(members)]
    content = zipped([("folder/", b""), *members], method, streamed=streamed)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        expected = [json.loads(line) for name in archive.namelist() for line in archive.read(name).splitlines()]
    if not expected:
        with pytest.raises(Malformed, match="empty_file"):
            opened(content)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exports_zip, "MAX_CHUNKS", chunks)
        check(content, expected, random.Random(seed))
        assert len(opened(content).plan(1)) <= chunks


def test_kind_name_and_columns_are_the_members():
    """They change with the member that is being read."""
    content = zipped([("Opens.csv", "Send ID,b\r\n1,2\r\n".encode("utf-16")), ("sub/x.json", b'{"a":1}\n')])
    file = opened(content)
    seen = [
        (file.kind, file.record_name, dict(file.columns), step.data)
        for start, end in file.plan(1)
        for step in file.rows(start, end)
        if isinstance(step, Row)
    ]
    assert [
        ("csv", "Opens.csv", {"sendid": "Send ID", "b": "b"}, {"sendid": "1", "b": "2"}),
        ("ndjson", "sub/x.json", {}, {"a": 1}),
    ] == seen


def test_zip64(monkeypatch):
    """Sizes, offsets and counts of more than 32 and 16 bits stand elsewhere."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    rows = [{"id": n} for n in range(50)]
    content = zipped([(f"{n}.json", lines(rows)) for n in range(4)])
    assert b"PK\x06\x06" in content
    assert rows * 4 == rows_of(content)


def test_a_prefix_and_a_comment():
    """The directory is found from the file's end, where it lies behind a prefix, before a comment."""
    content = zipped([("a.json", b'{"a":1}\n')], prefix=b"PK\x03\x04junk")
    with zipfile.ZipFile(appended := io.BytesIO(content), "a") as archive:
        archive.comment = b"a comment"
    assert [{"a": 1}] == rows_of(appended.getvalue())


def broken(content: bytes, flag: int = 0, method: int | None = None, name: bytes = b"b.json") -> bytes:
    """The archive with other flags or another method in the directory's entry of a member."""
    data = bytearray(content)
    at = data.rindex(name) - 46
    data[at + 8] |= flag
    if method is not None:
        data[at + 10] = method
    return bytes(data)


THREE = [("a.json", b'{"a":1}\n' * 5), ("b.json", b'{"a":2}\n' * 5), ("c.json", b'{"a":3}\n' * 5)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (broken(zipped(THREE), flag=1), "encrypted_member"),
        (broken(zipped(THREE), method=9), "unsupported_compression"),
        (zipped([THREE[0], ("b.zip", zipped(THREE)), THREE[2]]), "nested_archive"),
        (zipped([THREE[0], ("b.avro", b"Obj\x01" + bytes(60)), THREE[2]]), "unsupported_container"),
    ],
)
def test_a_member_that_cannot_be_read_says_why(content, reason):
    """The others come."""
    assert ([1] * 5 + [3] * 5, [reason]) == ([row["a"] for row in rows_of(content)], reasons_of(content))


def test_an_archive_of_which_nothing_can_be_read():
    """It has the reason of its members."""
    with pytest.raises(Malformed, match="encrypted_member"):
        opened(broken(zipped([THREE[1]]), flag=1))


def test_checksums_are_checked():
    """A member that is not what the directory says is damage behind its rows."""
    content = bytearray(zipped(THREE, zipfile.ZIP_STORED))
    content[content.index(b'{"a":2}') + 5] = ord("7")
    assert ([1] * 5 + [7] + [2] * 4 + [3] * 5) == [row["a"] for row in rows_of(bytes(content))]
    assert ["bad_checksum"] == reasons_of(bytes(content))


def test_a_member_larger_than_it_says():
    """It is inflated no further, and the next one starts at its own place."""
    content = bytearray(zipped([THREE[0], ("b.json", b'{"a":2}\n' * 500_000), THREE[2]]))
    at = content.rindex(b"b.json") - 46
    content[at + 24 : at + 28] = (80).to_bytes(4, "little")
    assert ["inflates_too_much"] == reasons_of(bytes(content))
    assert [3] * 5 == [row["a"] for row in rows_of(bytes(content))][-5:]


def test_too_many_members(monkeypatch):
    """An archive of more is refused."""
    monkeypatch.setattr(exports_zip, "MAX_MEMBERS", 2)
    with pytest.raises(Malformed, match="too_many_members"):
        opened(zipped(THREE))


def test_members_that_share_bytes_are_refused():
    """The way of bombs that need no nesting."""
    content = bytearray(zipped(THREE))
    for name in (b"b.json", b"c.json"):
        at = content.rindex(name) - 46
        content[at + 42 : at + 46] = bytes(4)
    with pytest.raises(Malformed, match="overlapping_members"):
        opened(bytes(content))


def test_what_lies_beside_the_data_is_skipped():
    """Pictures and pages in an archive are no reports."""
    content = zipped(
        [("pics/a.PNG", b"\x89PNG"), ("t/mail.html", b"<html>"), ("__MACOSX/._a.json", b"\0\x05"), THREE[0]]
    )
    assert ([1] * 5, []) == ([row["a"] for row in rows_of(content)], reasons_of(content))


def test_the_platform_says_what_is_known_of_each_member():
    """Whether it is data, its delimiter, encoding and columns; the places of the others stay the same."""
    members = [("skip/a.csv", b"x|y\n"), ("b.csv", "é|1\n".encode("cp1252")), ("c.csv", b"n;m\n2;3\n")]
    layouts = {
        "skip/a.csv": Layout(skip=True),
        "b.csv": Layout(delimiter="|", encoding="cp1252", columns=("n", "m")),
        "c.csv": Layout(),
    }
    layout = Layout(members=layouts.__getitem__)
    check(zipped(members), [{"n": "é", "m": "1"}, {"n": "2", "m": "3"}], random.Random(1), layout=layout)
    assert [4, 12] == [step.place for step in steps_of(zipped(members), layout=layout) if isinstance(step, Row)]


def test_an_archive_without_data_says_so():
    """Not by mistake: what it holds is known to report nothing."""
    for members in ([("logo.png", b"\x89PNG")], [("skip.csv", b"a,b\n")]):
        with pytest.raises(Malformed, match="not_data"):
            opened(zipped(members), layout=Layout(members=lambda name: Layout(skip=name == "skip.csv")))


@given(cut=st.integers(0, 10_000), place=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_damage_never_raises(cut, place, byte):
    """Truncated or changed anywhere: rows and damages, or a reason."""
    content = bytearray(zipped(THREE))
    content[place % len(content)] ^= byte
    for damaged in (bytes(content), bytes(content[: cut % len(content)])):
        try:
            file = opened(damaged)
            for start, end in file.plan(1):
                for step in file.rows(start, end):
                    assert isinstance(step, Row | Damage | Mark)
        except Malformed:
            pass


def test_a_truncated_archive_says_so():
    """Its directory is at the end, so nothing of it can be trusted."""
    with pytest.raises(Malformed, match="truncated_zip"):
        opened(zipped(THREE)[:-30])


def test_only_the_member_is_read():
    """A worker reads the directory and its own member, however large the archive."""
    chance = random.Random(1)
    members = [(f"{n}.json", lines([{"x": f"{chance.getrandbits(8000):x}"} for _ in range(100)])) for n in range(20)]
    source = Memory(zipped(members, zipfile.ZIP_STORED))
    file = exports_zip.open_container(source, "x.zip", Layout())
    start, end = file.plan(1)[7]
    source.total = 0
    assert 100 == sum(isinstance(step, Row) for step in file.rows(start, end))
    assert source.total < 2.2 * (end - start)
