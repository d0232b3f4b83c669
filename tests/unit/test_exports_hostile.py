"""Export files against hostile input: each file has its own reason, each row is judged by itself."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import sources
from espial.deliveries import Arrival, Connection
from espial.errors import Malformed, MalformedItem
from espial.exports import Row, text
from espial.normalise import normalise
from espial.sources import Export
from tests import samples
from tests.exporting import AT, World

NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats()
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
)
TYPED = JSON | st.datetimes() | st.dates() | st.binary(max_size=9) | st.decimals() | st.timedeltas()
TEXTS = st.text(max_size=20) | st.sampled_from(
    ["", "{", "[1", '["a"]', '{"a":1}', "2026-01-15 10:00:37", "1768471237", "1/15/2026", "null", "9" * 400, "open"]
)
KEYS = ["emailClick.csv", "Clicks.csv", "event_type=users.canvas.Entry/1.avro", "exportTime=202601151000/part.parquet"]


def known_rows() -> list[tuple[str, str, Any, Export]]:
    """Good rows of every sample file that can be read without settings."""
    found = []
    for platform in sources.NAMES:
        for path in samples.exports(platform):
            with suppress(Malformed):
                good = [(kind, row.data, file) for kind, row, file in samples.rows(path) if isinstance(row, Row)]
                found += [(platform, *one) for one in good[:3]]
    return found


KNOWN = [one for one in known_rows() if isinstance(one[2], dict)]
KINDS = [(name, kind) for name in sources.NAMES for kind in sources.load(name).exports]


def judged(platform: str, kind: str, row: Any, file: Export) -> int:
    """How many events and refusals come of it; anything else that is raised is a bug."""
    source, connection = sources.load(platform), samples.connection(platform)
    arrival = Arrival(connection=connection, transport="export", received_at=datetime(2026, 2, 1, tzinfo=UTC))
    try:
        found: Any = source.exports[kind](row, file)
    except MalformedItem:
        return 1
    items = found if isinstance(found, list) else [] if found is None else [found]
    for item in items:
        with suppress(MalformedItem):
            normalise(source, item, arrival)
    return len(items)


@pytest.mark.parametrize(("platform", "kind"), KINDS, ids="-".join)
@given(data=st.data())
def test_any_row_is_events_or_refused(platform: str, kind: str, data: st.DataObject) -> None:
    """A row that raised anything else would stop its file and be tried for ever."""
    if kind == "csv":
        row: Any = data.draw(st.dictionaries(st.from_regex(r"[a-z0-9]{1,12}", fullmatch=True), TEXTS, max_size=6))
        columns = {name: name.title() for name in row}
    else:
        row = data.draw(JSON if kind == "ndjson" else st.dictionaries(st.text(max_size=12), TYPED, max_size=6))
        columns = {}
    key = f"exports/{platform}/prod/{data.draw(st.sampled_from(KEYS))}"
    assert judged(platform, kind, row, Export(bucket="b", key=key, etag="e", columns=columns)) >= 0


@given(st.sampled_from(KNOWN), st.data())
def test_a_good_row_with_odd_cells_is_events_or_refused(
    known: tuple[str, str, Any, Export], data: st.DataObject
) -> None:
    """One or two of its columns hold anything at all, or are missing."""
    platform, kind, row, file = known
    odd = dict(row)
    for _ in range(data.draw(st.integers(1, 2))):
        name = data.draw(st.sampled_from(sorted(odd) or [""]))
        if data.draw(st.booleans()):
            odd[name] = data.draw(TEXTS if kind == "csv" else JSON if kind == "ndjson" else TYPED)
        else:
            odd.pop(name, None)
    assert judged(platform, kind, odd, file) >= 0


@pytest.mark.parametrize("value", [timedelta(days=1), date(2026, 1, 15), b"\xff", float("nan"), 2**70])
def test_typed_values_that_json_has_not_are_events_or_refused(value: Any) -> None:
    """Containers with types of their own hand them over as they are."""
    for platform, kind in KINDS:
        if kind in ("parquet", "avro"):
            file = Export(bucket="b", key=f"exports/{platform}/prod/x", etag="e")
            names = ["created_at", "timestamp", "occurred_at", "time", "metric", "type", "_id", "properties", "id"]
            assert judged(platform, kind, dict.fromkeys(names, value), file) >= 0


def as_csv(*ids: str, delimiter: str = ",") -> str:
    """A report a line."""
    rows = [("id", "type", "occurred_at", "user_id"), *((one, "opened", str(AT), one) for one in ids)]
    return "".join(delimiter.join(row) + "\n" for row in rows)


def as_lines(*ids: str) -> str:
    """The same as JSON lines."""
    return "".join(json.dumps({"id": one, "type": "opened", "occurred_at": AT, "user_id": one}) + "\n" for one in ids)


def as_zip(second: str, change: tuple[int, bytes]) -> bytes:
    """Three members; the second has other bytes at a place of its entry in the directory."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in (("a.csv", as_csv("a")), ("b.json", second), ("c.csv", as_csv("c"))):
            archive.writestr(name, member)
    content = bytearray(out.getvalue())
    place = content.rindex(b"b.json") - 46 + change[0]
    content[place : place + len(change[1])] = change[1]
    return bytes(content)


ENCRYPTED, SAYS_80_BYTES = (8, b"\x01"), (24, (80).to_bytes(4, "little"))
BOMB = '{"id":"' + "x" * (30 << 20)

HOSTILE: dict[str, tuple[str, bytes, str, dict[str, int]]] = {
    "byte order mark": ("f.csv", as_csv("a", "b").encode("utf-8-sig"), "ab", {}),
    "mark before JSON": ("f.json", as_lines("a", "b").encode("utf-8-sig"), "ab", {}),
    "mark of UTF-16": ("f.csv", as_csv("a", "b").encode("utf-16"), "ab", {}),
    "CSV named as Avro": ("f.avro", as_csv("a", "b").encode(), "ab", {}),
    "JSON named as CSV": ("f.csv", as_lines("a", "b").encode(), "ab", {}),
    "gzip named as nothing": ("f", gzip.compress(as_csv("a", "b").encode()), "ab", {}),
    "ragged rows": ("f.csv", as_csv("a", "b,,x", "c").encode(), "ac", {"ragged_row": 1}),
    "an encrypted member": ("f.zip", as_zip(as_lines("b"), ENCRYPTED), "ac", {"encrypted_member": 1}),
    "a bomb in a member": ("f.zip", as_zip(as_lines("b") + BOMB, SAYS_80_BYTES), "abc", {"inflates_too_much": 1}),
    "a bomb in gzip": (
        "f.json.gz",
        gzip.compress((as_lines("a") + BOMB).encode()),
        "a",
        {"line_too_long": 1, "inflates_too_much": 1},
    ),
    "a cut gzip": ("f.json.gz", gzip.compress(as_lines("a", "b").encode())[:-12], "a", {"truncated_gzip": 1}),
}


def world_of(**settings: Any) -> World:
    """Of a connection that reads any file."""
    return World(Connection(name="main", platform="custom_json", account="main", settings=settings))


@pytest.mark.parametrize(("name", "content", "kept", "reasons"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_says_what_is_wrong_and_its_readable_rows_are_recorded(
    name: str, content: bytes, kept: str, reasons: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its notice to the ledger: each reason is counted, and has its place in quarantine."""
    monkeypatch.setattr(text, "BARREN_BYTES", 20 << 20)
    world, key = world_of(), f"exports/custom_json/main/{name}"
    assert "queued" == world.splitter().split(world.bucket.put(key, content)).outcome
    world.drain()
    state = world.state(key=key)
    assert (set(kept), reasons) == (world.recorded(), state.counts.reasons)
    assert ("done_with_refusals" if reasons else "done") == state.state
    assert sorted(reasons) == sorted(entry.reason for entry in world.quarantine.list())


def test_a_file_of_another_delimiter_than_its_connection_says_has_failed() -> None:
    """It would be one column wide; the reason says so, and nothing of it is guessed."""
    world, key = world_of(delimiter=","), "exports/custom_json/main/f.csv"
    world.splitter().split(world.bucket.put(key, as_csv("a", "b", delimiter=";").encode()))
    assert ("failed", "wrong_delimiter") == (world.state(key=key).state, world.state(key=key).reason)
    assert ["wrong_delimiter"] == [entry.reason for entry in world.quarantine.list()]
    seen = world_of()
    seen.splitter().split(seen.bucket.put(key, as_csv("a", "b", delimiter=";").encode()))
    seen.drain()
    assert {"a", "b"} == seen.recorded()
