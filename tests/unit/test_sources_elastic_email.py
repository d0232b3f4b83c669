"""Elastic Email: what its parameters mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import sources
from espial.errors import MalformedItem
from espial.events import Event
from espial.normalise import normalise
from tests import samples

ELASTIC = sources.load("elastic_email")
CASE = samples.case("elastic_email", "clicked")
BASE = {
    "transaction": "t-1",
    "messageid": "m-1",
    "to": "ada@example.com",
    "date": "1/15/2026 10:00:00 AM",
    "status": "Clicked",
    "target": "https://shop.example.com/p?id=7&x=ä",
    "channel": "receipts",
}


def read(**changes: Any) -> Event:
    return normalise(ELASTIC, {**BASE, **changes}, CASE.arrival).event


def test_a_get_without_a_body_and_a_post_report_the_same() -> None:
    """The setting DeliveryMethod changes the shape, not the event."""
    url = f"{CASE.delivery.url}?key=secret&{urlencode(BASE)}"
    (got,) = ELASTIC.split(replace(CASE.delivery, method="GET", body=b"", url=url))
    (posted,) = ELASTIC.split(replace(CASE.delivery, body=orjson.dumps(BASE)))
    assert BASE == got == posted
    assert frozenset({"GET", "POST"}) == ELASTIC.methods


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("1/15/2026 10:00:02 AM", "2026-01-15T10:00:02+00:00"),
        ("1/15/2026 9:00:02 PM", "2026-01-15T21:00:02+00:00"),
        ("1/15/2026 12:00:02 AM", "2026-01-15T00:00:02+00:00"),
        ("1/15/2026 12:00:02 PM", "2026-01-15T12:00:02+00:00"),
        ("01/15/2026 21:00:02", "2026-01-15T21:00:02+00:00"),
        ("2026-01-15T10:00:02", "2026-01-15T10:00:02+00:00"),
        ("2026-01-15 10:00:02", "2026-01-15T10:00:02+00:00"),
    ],
)
def test_dates_are_american_or_iso_and_utc(date: str, expected: str) -> None:
    """The documentation shows no sample: both were seen."""
    assert expected == ELASTIC.normalise({**BASE, "date": date}, CASE.arrival)["occurred_at"].isoformat()


@pytest.mark.parametrize("date", ["13/13/2026 10:00:00 AM", "1/15/2026 25:00:00", "1/15/1999 1:00:00 AM", "", None, 7])
def test_an_impossible_date_is_named(date: Any) -> None:
    """The quarantine says which field is to be mended."""
    with pytest.raises(MalformedItem) as caught:
        read(date=date)
    assert ("bad_timestamp", "date") == (caught.value.reason, caught.value.path)


@pytest.mark.parametrize("status", ["Clicked", "clicked", "CLICKED"])
def test_case_says_nothing(status: str) -> None:
    """The name and its spelling differ between the old notifications and the API."""
    event = read(status=status)
    assert ("clicked", "Clicked") == (event.type, event.platform_type)
    assert ELASTIC.identity(BASE) == ELASTIC.identity({**BASE, "status": status})


def test_without_a_message_id_the_transaction_ties_events_together() -> None:
    """Old notifications lack it; the recipient tells the messages of one transaction apart."""
    bare = {name: value for name, value in BASE.items() if name != "messageid"}
    assert "t-1/ada@example.com" == ELASTIC.send_key(bare)
    assert "m-1/ada@example.com" == ELASTIC.send_key(BASE)
    assert ELASTIC.send_key({**bare, "transaction": ""}) is None


@given(st.permutations(list(BASE)))
def test_identity_rests_on_what_a_retry_repeats(names: list[str]) -> None:
    """Order says nothing; another link is another click."""
    assert ELASTIC.identity(BASE) == ELASTIC.identity({name: BASE[name] for name in names})
    assert ELASTIC.identity(BASE) != ELASTIC.identity({**BASE, "target": "https://shop.example.com/b"})
