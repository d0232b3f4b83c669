"""The Parquet reader: every row exactly once over any ranges, as another reader sees it, and damage survived."""

from __future__ import annotations

import base64
import gzip
import io
import json
import subprocess
import sys
import tempfile
import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from espial.errors import Malformed, TryAgain
from espial.exports import Damage, Mark, Row, open_container, parquet, parquet_rows
from espial.sources import Layout

CORE = Path(__file__).parents[2] / "layers/core"
SAMPLES = Path(__file__).parents[2] / "events/exports/adobe"
LAYOUT = Layout()
CODECS = ("none", "snappy", "gzip", "zstd", "brotli", "lz4")


class Memory:
    """An object in memory that counts its reads."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)
        self.reads: list[tuple[int, int]] = []

    def read(self, start: int, end: int) -> bytes:
        assert 0 <= start <= end <= self.size
        self.reads.append((start, end))
        return self.content[start:end]


def written(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def opened(content: bytes) -> parquet.ParquetFile:
    container = open_container(Memory(content), "some.parquet", LAYOUT)
    assert isinstance(container, parquet.ParquetFile)
    return container


def everything(content: bytes, target: int = 1 << 30) -> list[Row | Damage | Mark]:
    """What a pass over every range of a plan gives."""
    container = opened(content)
    return [step for start, end in container.plan(target) for step in container.rows(start, end)]


def data(steps: list[Row | Damage | Mark]) -> list[Any]:
    return [step.data for step in steps if isinstance(step, Row)]


def numbered(rows: int, group: int) -> bytes:
    return written(pa.table({"n": range(rows), "text": [f"row {n}" for n in range(rows)]}), row_group_size=group)


BERLIN = pa.timestamp("ns", "Europe/Berlin")
VALUES = {
    "utc": (pa.array([1, None], BERLIN), "1970-01-01T00:00:00.000000001Z"),
    "milliseconds": (pa.array([1768471237123, None], pa.timestamp("ms", "UTC")), "2026-01-15T10:00:37.123Z"),
    "local": (pa.array([datetime(2026, 1, 15, 10), None], pa.timestamp("us")), "2026-01-15T10:00:00.000000"),
    "before_1970": (pa.array([-1, None], pa.timestamp("ms")), "1969-12-31T23:59:59.999"),
    "date": (pa.array([date(2026, 1, 15), None]), "2026-01-15"),
    "time": (pa.array([time(10, 0, 37), None], pa.time32("ms")), "10:00:37.000"),
    "decimal": (pa.array([Decimal("19.90"), None]), "19.90"),
    "bytes": (pa.array([b"\xff\x00", None]), "/wA="),
    "fixed_bytes": (pa.array([b"ab", None], pa.binary(2)), "YWI="),
    "uuid": (pa.array([uuid.UUID(int=5).bytes, None], pa.uuid()), "00000000-0000-0000-0000-000000000005"),
    "category": (pa.array(["a", None]).dictionary_encode(), "a"),
    "text": (pa.array(["Zoë", None], pa.large_string()), "Zoë"),
    "half": (pa.array([1.5, None], pa.float32()).cast(pa.float16()), 1.5),
    "integer": (pa.array([2**63 - 1, None], pa.int64()), 2**63 - 1),
    "flag": (pa.array([True, None]), True),
    "nothing": (pa.nulls(2), None),
    "seconds": (pa.array([3, None], pa.duration("s")), 3),
    "list": (pa.array([[1, None], None]), [1, None]),
    "fixed_list": (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), [1, 2]),
    "struct": (pa.array([{"at": datetime(2026, 1, 15), "deep": {"n": 1}}, None]), None),
    "map": (
        pa.array(
            [[("Email", [{"id": "ada@example.com", "at": date(2026, 1, 15)}])], None],
            pa.map_(pa.string(), pa.list_(pa.struct([("id", pa.string()), ("at", pa.date32())]))),
        ),
        {"Email": [{"id": "ada@example.com", "at": "2026-01-15"}]},
    ),
    "numbers": (pa.array([[(1, 2)], None], pa.map_(pa.int64(), pa.int32())), {"1": 2}),
}


@pytest.mark.parametrize("name", sorted(VALUES.keys() - {"struct"}))
def test_a_value_is_as_json_has_it(name: str):
    """Whatever the type, a row can be written as JSON, and what is missing is null."""
    array, expected = VALUES[name]
    rows = data(everything(written(pa.table({name: array}))))
    assert [{name: expected}, {name: None}] == rows
    assert rows == json.loads(json.dumps(rows))


def test_a_struct_that_is_missing_is_not_one_of_missing_fields():
    """A null struct is null; one whose fields are null is an object; values in it are as outside."""
    at = pa.array([{"at": datetime(2026, 1, 15, tzinfo=UTC), "deep": {"n": 1}}, None, {"at": None, "deep": None}])
    expected = [{"at": "2026-01-15T00:00:00.000000Z", "deep": {"n": 1}}, None, {"at": None, "deep": None}]
    assert expected == [row["s"] for row in data(everything(written(pa.table({"s": at}))))]


def test_spark_s_old_timestamps_are_read():
    """INT96, which has no unit and no zone, comes as local time in microseconds."""
    table = pa.table({"at": pa.array([datetime(2026, 1, 15, 10)], pa.timestamp("ns"))})
    rows = data(everything(written(table, use_deprecated_int96_timestamps=True)))
    assert [{"at": "2026-01-15T10:00:00.000000"}] == rows


# ── against another reader ──

instants = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31))
COLUMNS = {
    "text": (pa.string(), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)),
    "number": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "small": (pa.uint8(), st.integers(0, 255)),
    "real": (pa.float64(), st.floats(allow_nan=False)),
    "flag": (pa.bool_(), st.booleans()),
    "at": (pa.timestamp("us"), instants),
    "day": (pa.date32(), st.dates()),
    "bytes": (pa.binary(), st.binary(max_size=9)),
    "few": (pa.string(), st.sampled_from(["open", "click", ""])),
    "list": (pa.list_(pa.int32()), st.lists(st.none() | st.integers(-9, 9), max_size=4)),
    "struct": (
        pa.struct([("a", pa.string()), ("b", pa.list_(pa.struct([("c", pa.int8())])))]),
        st.fixed_dictionaries(
            {
                "a": st.none() | st.text("ab", max_size=3),
                "b": st.none() | st.lists(st.fixed_dictionaries({"c": st.none() | st.integers(0, 9)}), max_size=3),
            }
        ),
    ),
    "map": (
        pa.map_(pa.string(), pa.list_(pa.timestamp("us"))),
        st.dictionaries(st.text("ab", max_size=3), st.lists(instants, max_size=2), max_size=3).map(
            lambda found: list(found.items())
        ),
    ),
}


def by_duckdb(path: str) -> list[dict[str, Any]]:
    """The file's rows as DuckDB reads them, in its order."""
    with duckdb.connect() as connection:
        found = connection.execute("SELECT * FROM read_parquet(?)", [path])
        names = [column[0] for column in found.description]
        return [{name: as_json(value) for name, value in zip(names, row, strict=True)} for row in found.fetchall()]


def as_json(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat(timespec="microseconds")
        case date():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode()
        case dict():
            return {name: as_json(inner) for name, inner in value.items()}
        case list():
            return [as_json(inner) for inner in value]
    return value


@st.composite
def files(draw: st.DrawFn) -> bytes:
    names = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=5, unique=True))
    count = draw(st.integers(0, 40))
    group = draw(st.integers(1, 20))
    # One row of lists with an empty page behind it: pyarrow 26 writes that for tiny pages, and cannot read it itself.
    single = 1 in (group, count % group)
    table = pa.table(
        {
            name: pa.array(draw(st.lists(st.none() | strategy, min_size=count, max_size=count)), kind)
            for name, (kind, strategy) in ((name, COLUMNS[name]) for name in names)
        }
    )
    return written(
        table,
        row_group_size=group,
        compression=draw(st.sampled_from(CODECS)),
        use_dictionary=draw(st.booleans()),
        data_page_version=draw(st.sampled_from(["1.0", "2.0"])),
        data_page_size=1 << 20 if single else draw(st.sampled_from([1, 1 << 20])),
        version=draw(st.sampled_from(["1.0", "2.6"])) if "small" in names else "2.6",
        write_page_checksum=draw(st.booleans()),
        store_schema=draw(st.booleans()),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=files(), target=st.integers(1, 4000), batch=st.integers(1, 9))
def test_it_reads_what_duckdb_reads(content: bytes, target: int, batch: int):
    """Whatever the types, codec, page layout, plan and batch: the same rows in the same order, each once."""
    with pytest.MonkeyPatch.context() as patch, tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        patch.setattr(parquet_rows, "BATCH_ROWS", batch)
        file.write(content)
        file.flush()
        assert by_duckdb(file.name) == data(everything(content, target))


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 60), group=st.integers(1, 25), target=st.integers(1, 3000), batch=st.integers(1, 9))
def test_it_goes_on_from_every_mark(rows: int, group: int, target: int, batch: int):
    """Whoever stops at a mark and goes on from it, in a new process or not, sees every row once, as numbered before."""
    content = numbered(rows, group)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_rows, "BATCH_ROWS", batch)
        container = opened(content)
        for start, end in container.plan(target):
            steps = list(container.rows(start, end))
            for at, mark in enumerate(steps):
                if isinstance(mark, Mark):
                    assert steps[at + 1 :] == list(opened(content).rows(start, end, mark.place))
    assert list(range(rows)) == [row["n"] for row in data(everything(content, target))]
    places = [(step.place, step.ordinal) for step in everything(content, target) if isinstance(step, Row)]
    assert len(set(places)) == rows


def test_a_file_of_another_writer(tmp_path: Path):
    """DuckDB's files, whose encodings and page sizes are not pyarrow's."""
    path = tmp_path / "rows.parquet"
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT i AS n, 'reader.' || i || '@example.com' AS email, [i, NULL] AS both, {'a': i % 3} AS s "
            f"FROM range(5000) t(i)) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 2048, PARQUET_VERSION v2)"
        )
    steps = everything(path.read_bytes(), 1000)
    assert by_duckdb(str(path)) == data(steps)
    assert 3 == len({step.place for step in steps if isinstance(step, Row)})


def test_an_export_of_journey_optimizer_says_the_same_in_both_formats():
    """The Parquet file of an Adobe dataset holds the rows of its JSON twin, but for fields that are null in it."""
    twin, *_ = SAMPLES.rglob("*.json.gz")
    file, *_ = SAMPLES.rglob("*.gz.parquet")
    expected = [json.loads(line) for line in gzip.decompress(twin.read_bytes()).splitlines()]
    rows = [present(row) for row in data(everything(file.read_bytes()))]
    assert [row for row in expected if row["_id"] in {row["_id"] for row in rows}] == rows


def present(value: Any) -> Any:
    match value:
        case dict():
            return {name: present(inner) for name, inner in value.items() if inner is not None}
        case list():
            return [present(inner) for inner in value]
    return value


# ── planning and reading by ranges ──


def test_a_plan_holds_the_target_and_covers_the_file():
    """Neighbouring row groups share a range until it is large enough; each range begins where one ends."""
    content = numbered(10_000, 500)
    for target in (1, 5_000, 20_000, 1 << 30):
        plan = opened(content).plan(target)
        assert [end for _, end in plan[:-1]] == [start for start, _ in plan[1:]]
        assert len(content) == plan[-1][1]
        assert all(end - start >= target for start, end in plan[:-1])
        assert plan == opened(content).plan(target)
    assert 1 == len(opened(content).plan(1 << 30))
    assert 20 == len(opened(content).plan(1))


def test_a_file_without_rows_has_no_range():
    """Adobe writes such files; there is nothing to plan."""
    assert [] == opened(numbered(0, 5)).plan(100)


def test_a_file_of_many_row_groups_has_no_more_chunks_than_its_ledger_entry_can_list(monkeypatch: pytest.MonkeyPatch):
    """However small the target."""
    monkeypatch.setattr(parquet, "MAX_CHUNKS", 4)
    assert 4 >= len(opened(numbered(400, 10)).plan(1))


def test_a_small_file_is_read_in_two_requests_and_one_a_row_group():
    """Each request to the bucket costs tens of milliseconds, and columns are many."""
    memory = Memory(written(pa.table({f"c{n}": range(30) for n in range(40)}), row_group_size=10))
    container = open_container(memory, "k", LAYOUT)
    assert 30 == len(data([step for range_ in container.plan(1) for step in container.rows(*range_)]))
    assert 5 == len(memory.reads)


def test_nothing_else_pays_for_pyarrow():
    """Other containers do not load it, and planning a Parquet file does without: few functions have its layer."""
    program = (
        "import sys, io\n"
        f"sys.path.insert(0, {str(CORE)!r})\n"
        "from espial.exports import avro, parquet\n"
        "from espial.sources import Layout\n"
        "class File:\n"
        "    content = sys.stdin.buffer.read(); size = len(content)\n"
        "    def read(self, start, end): return self.content[start:end]\n"
        "print(len(parquet.open_container(File(), 'k', Layout()).plan(1)), 'pyarrow' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], input=numbered(20, 10), capture_output=True, check=True)
    assert b"2 False" == done.stdout.strip()


# ── damage ──


def refusal(content: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        opened(content)
    return caught.value.reason


def test_a_file_that_is_cut_says_so():
    """Wherever it is cut: an upload that broke off has no footer."""
    content = numbered(50, 10)
    assert {"truncated_parquet"} == {refusal(content[:length]) for length in (4, 11, 12, len(content) // 2)}
    assert {"truncated_parquet"} == {refusal(content[:length]) for length in range(len(content) - 20, len(content))}


def test_a_footer_that_claims_more_than_the_file_has():
    """The length is checked before anything is read by it."""
    content = numbered(50, 10)
    assert "truncated_parquet" == refusal(content[:-8] + len(content).to_bytes(4, "little") + b"PAR1")
    assert "footer_too_large" == refusal(content[:-8] + (parquet.MAX_FOOTER_BYTES + 1).to_bytes(4, "little") + b"PAR1")


def test_a_footer_larger_than_the_first_read():
    """Files of many columns and row groups have one."""
    content = written(pa.table({f"column_{n}": range(40) for n in range(60)}), row_group_size=1)
    assert int.from_bytes(content[-8:-4], "little") > 64 << 10
    assert list(range(40)) == [row["column_59"] for row in data(everything(content))]


def test_a_footer_of_nonsense():
    """It is refused whole: without it nothing in the file can be found."""
    content = numbered(50, 10)
    length = int.from_bytes(content[-8:-4], "little")
    assert "bad_footer" == refusal(content[: -8 - length] + b"\xff" * length + content[-8:])
    assert "bad_footer" == refusal(content[: -8 - length] + b"\x1c" * length + content[-8:])


class Keys(pe.KmsClient):  # type: ignore[misc]
    """Wraps keys by writing them down."""

    def __init__(self, _config: Any) -> None:
        super().__init__()

    def wrap_key(self, key_bytes: bytes, _master: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key: bytes, _master: str) -> bytes:
        return base64.b64decode(wrapped_key)


@pytest.mark.parametrize("plaintext_footer", [True, False])
def test_an_encrypted_file_says_so(plaintext_footer: bool):
    """With its footer encrypted or only its columns, which pyarrow would end the process over."""
    factory = pe.CryptoFactory(Keys)
    configuration = pe.EncryptionConfiguration("footer", column_keys={"c": ["a"]}, plaintext_footer=plaintext_footer)
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), configuration)
    table = pa.table({"a": [1, 2], "b": ["x", "y"]})
    out = io.BytesIO()
    with pq.ParquetWriter(out, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    assert "encrypted_file" == refusal(out.getvalue())


def test_a_damaged_row_group_leaves_the_others(monkeypatch: pytest.MonkeyPatch):
    """Rows before the damaged page are kept, the rest of its row group is named, and the next is read."""
    monkeypatch.setattr(parquet_rows, "BATCH_ROWS", 10)
    table = pa.table({"text": [f"{n:032}" for n in range(300)]})
    content = bytearray(
        written(
            table,
            row_group_size=100,
            use_dictionary=False,
            compression="none",
            data_page_size=360,
            write_batch_size=10,
            write_statistics=False,
        )
    )
    begin = content.index(f"{149:032}".encode()) + 32
    content[begin : begin + 8] = b"\xff" * 8  # the head of the page that begins with row 150
    steps = everything(bytes(content))
    read = [int(row["text"]) for row in data(steps)]
    (damage,) = [step for step in steps if isinstance(step, Damage)]
    assert [*range(150), *range(200, 300)] == read
    assert "undecodable_row_group" == damage.reason
    assert "from row 50 on" in damage.detail
    assert damage.place < begin < damage.until


def test_a_page_whose_checksum_differs_is_not_trusted():
    """Where the writer kept one, a changed byte inside a value is noticed."""
    table = pa.table({"text": [f"{n:032}" for n in range(10)]})
    content = written(table, write_page_checksum=True, use_dictionary=False, compression="none", write_statistics=False)
    steps = everything(content.replace(f"{5:032}".encode(), f"{6:032}".encode()))
    assert ["undecodable_row_group"] == [step.reason for step in steps if isinstance(step, Damage)]
    assert [] == data(steps)


def test_a_text_that_is_not_utf_8_costs_its_row_only():
    """The row is named, and its neighbours in the batch are kept."""
    content = written(pa.table({"text": ["one", "two!", "three"]}), compression="none", write_statistics=False)
    steps = everything(content.replace(b"two!", b"tw\xff\xfe"))
    assert ["one", "three"] == [row["text"] for row in data(steps)]
    assert [0, 2] == [step.ordinal for step in steps if isinstance(step, Row)]
    (damage,) = [step for step in steps if isinstance(step, Damage)]
    assert ("unreadable_row", "row 1: UnicodeDecodeError") == (damage.reason, damage.detail[:25])


def test_a_row_group_that_inflates_too_much_is_not_opened(monkeypatch: pytest.MonkeyPatch):
    """Its sizes stand in the footer; the others are read."""
    monkeypatch.setattr(parquet, "MAX_INFLATED_BYTES", 10_000)
    monkeypatch.setattr(parquet, "MAX_RATIO", 100)
    table = pa.table({"text": ["a", "b" * 1_000_000]})
    steps = everything(written(table, row_group_size=1, compression="zstd"))
    assert [{"text": "a"}] == data(steps)
    assert ["inflates_too_much"] == [step.reason for step in steps if isinstance(step, Damage)]


def test_a_footer_that_promises_more_rows_than_there_are():
    """The row group's rows are kept, and what is missing is told."""
    content = numbered(7, 7)
    length = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - length : -8].replace(b"\x16\x0e", b"\x16\x10")  # rows and values, zig-zag: 7 -> 8
    steps = everything(content[: -8 - length] + footer + content[-8:])
    assert {"truncated_row_group"} == {step.reason for step in steps if isinstance(step, Damage)}
    assert list(range(7)) == [row["n"] for row in data(steps)]


@settings(max_examples=150, deadline=None)
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_bytes_never_raise(changes: list[tuple[float, int]]):
    """Whatever bytes change, opening gives a reason or a file, and reading comes to its end."""
    content = bytearray(MANY)
    for where, value in changes:
        content[int(where * len(content))] = value
    try:
        steps = everything(bytes(content))
    except Malformed:
        return
    assert all(isinstance(step, Row | Damage | Mark) for step in steps)


MANY = numbered(60, 20)


def test_what_reading_the_object_raises_comes_through():
    """A throttle or a deleted object is not the file's damage, and a later try goes on."""
    memory = Memory(numbered(3000, 3000))
    container = open_container(memory, "k", LAYOUT)

    def failing(_start: int, _end: int) -> bytes:
        raise TryAgain("slow down")

    memory.read, read = failing, memory.read  # type: ignore[method-assign,assignment]
    with pytest.raises(TryAgain):
        list(container.rows(0, memory.size))
    memory.read = read  # type: ignore[method-assign]
    assert 3000 == len(data(list(container.rows(0, memory.size))))


MEASURED = """
import sys
sys.path.insert(0, sys.argv[1])
from espial.exports import parquet, Row
from espial.sources import Layout
import espial.exports.parquet_rows
class File:
    def __init__(self, path):
        self.file = open(path, "rb"); self.size = self.file.seek(0, 2); self.largest = 0
    def read(self, start, end):
        self.largest = max(self.largest, end - start)
        self.file.seek(start); return self.file.read(end - start)
file = File(sys.argv[2])
container = parquet.open_container(file, "k", Layout())
rows = sum(isinstance(step, Row) for start, end in container.plan(1 << 26) for step in container.rows(start, end))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(rows, file.largest, int(status["VmHWM"].split()[0]) // 1024)  # ru_maxrss would begin with the parent's
"""


def test_memory_stays_flat_over_large_row_groups(tmp_path: Path):
    """Row groups of over 64 MB, uncompressed and dictionary-less, are read in pieces: under 256 MB in all."""
    path = tmp_path / "large.parquet"
    block = pa.table({f"c{n}": [f"{n}-{row:08}-" + "x" * 150 for row in range(4096)] for n in range(10)})
    table = pa.concat_tables([block] * 12)  # about 80 MB
    with pq.ParquetWriter(path, table.schema, compression="none", use_dictionary=False) as writer:
        for _ in range(3):
            writer.write_table(table, row_group_size=table.num_rows)
    assert path.stat().st_size > 200 << 20
    done = subprocess.run([sys.executable, "-c", MEASURED, CORE, path], capture_output=True, check=True, text=True)
    rows, largest, peak = map(int, done.stdout.split())
    assert 3 * table.num_rows == rows
    assert largest <= 8 << 20
    assert peak <= 256
