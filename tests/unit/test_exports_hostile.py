"""Every source's reading of export rows against hostile input: whatever a row holds, it is judged by itself."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import sources
from espial.deliveries import Arrival
from espial.errors import Malformed, MalformedItem
from espial.exports import Row
from espial.normalise import normalise
from espial.sources import Export
from tests import samples

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
