"""SparkPost: wrapped events, texts for numbers, and one view reported twice."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import sources
from espial.deliveries import Item
from espial.errors import MalformedDelivery
from espial.events import Event
from espial.normalise import normalise
from espial.sources._sparkpost import BOUNCE_CLASSES, bounced
from tests import samples

SPARKPOST = sources.load("sparkpost")
ALL = samples.case("sparkpost", "all-types")
ARRIVAL = ALL.arrival
ITEMS: dict[str, dict[str, Any]] = {item["type"]: item for item in ALL.items}


def read(kind: str, settings: dict[str, Any] | None = None, **changes: Any) -> Event:
    arrival = replace(ARRIVAL, connection=replace(ARRIVAL.connection, settings=settings or {}))
    return normalise(SPARKPOST, {**ITEMS[kind], **changes}, arrival).event


def split(document: Any) -> list[Item]:
    return SPARKPOST.split(replace(ALL.delivery, body=orjson.dumps(document)))


def test_a_ping_is_no_event() -> None:
    """Neither alone, as at set-up, nor among events."""
    assert [] == split([{"msys": {}}])
    assert [] == split([])
    assert ["open"] == [item["type"] for item in split([{"msys": {}}, {"msys": {"track_event": {"type": "open"}}}])]


def test_the_account_beside_the_class_is_not_taken_for_an_event() -> None:
    """Relays of several accounts put it there, before or after."""
    event = {"message_event": {"type": "delivery"}}
    for msys in ({"cust": {"id": "7"}, **event}, {**event, "cust": {"id": "7"}}):
        assert [{"type": "delivery", "_class": "message_event"}] == split([{"msys": msys}])


@pytest.mark.parametrize("body", [b"", b"[", b"7", b'"msys"', b"null"])
def test_what_is_no_array_is_malformed(body: bytes) -> None:
    """The batch is quarantined whole."""
    with pytest.raises(MalformedDelivery):
        SPARKPOST.split(replace(ALL.delivery, body=body))


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("1768471200", datetime(2026, 1, 15, 10, tzinfo=UTC)),
        (1768471200, datetime(2026, 1, 15, 10, tzinfo=UTC)),
        ("2026-01-15T10:00:00.000Z", datetime(2026, 1, 15, 10, tzinfo=UTC)),
        ("2026-01-15T10:00:00+00:00", datetime(2026, 1, 15, 10, tzinfo=UTC)),
    ],
)
def test_a_time_is_text_of_seconds_or_iso(stamp: Any, expected: datetime) -> None:
    """Everything is text; ingest events and samples write ISO 8601."""
    assert expected == read("open", timestamp=stamp).occurred_at


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"open", "amp_open"}),
        ({"opens": "open"}, {"open", "amp_open"}),
        ({"opens": "initial_open"}, {"initial_open", "amp_initial_open"}),
        ({"opens": ["both"]}, {"open", "amp_open"}),
    ],
)
def test_one_view_counts_once(settings: dict[str, Any], expected: set[str]) -> None:
    """Both pixels of a view are reported; the one that is not chosen is kept as unknown."""
    kinds = ("open", "initial_open", "amp_open", "amp_initial_open")
    types = {kind: read(kind, settings).type.value for kind in kinds}
    assert expected == {kind for kind, type_ in types.items() if type_ == "opened"}
    assert {"opened", "unknown"} == set(types.values())


def test_every_bounce_class_has_its_meaning() -> None:
    """Only an address that does not exist is a hard bounce; what is not known yet counts as the usual one."""
    hard = {code for code, type_ in BOUNCE_CLASSES.items() if type_ == "bounced"}
    assert {"10", "30"} == hard
    assert "soft_bounced" == bounced("1") == bounced(22) == bounced("70")
    assert "blocked" == bounced("50") == bounced("54")
    assert "dropped" == bounced("25")
    assert "unsubscribed" == bounced("90")
    assert "autoresponded" == bounced("60") == bounced("100")
    assert "bounced" == bounced(None) == bounced("999") == bounced({})


@pytest.mark.parametrize("kind", ["policy_rejection", "generation_rejection"])
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"bounce_class": None, "raw_reason": "550 5.7.1 unconfigured domain"}, "rejected"),
        ({"bounce_class": "25", "raw_reason": "554"}, "dropped"),
        ({"bounce_class": None, "raw_reason": "554 recipient address Suppressed"}, "dropped"),
    ],
)
def test_a_rejection_is_a_drop_when_the_address_is_suppressed(
    kind: str, changes: dict[str, Any], expected: str
) -> None:
    """Who said no: SparkPost about the message, or its suppression list about the address."""
    assert expected == read(kind, **{"reason": None, **changes}).type


def test_the_address_of_a_delivery_is_a_server_and_not_the_reader() -> None:
    """`ip_address` is the reader's in engagement events alone."""
    assert read("delivery").client is None
    client = read("open").client
    assert client is not None
    assert ("203.0.113.7", None) == (client.ip, client.machine)


@pytest.mark.parametrize(("flag", "expected"), [(True, True), (False, None), ("true", None), (None, None)])
def test_only_a_prefetch_is_a_machine(flag: Any, expected: bool | None) -> None:
    """A proxy alone may show a message to somebody, and no flag is no verdict."""
    client = read("open", user_agent_parsed={"is_prefetched": flag, "is_proxy": True}).client
    assert client is not None
    assert expected is client.machine


def test_a_send_is_the_transmission_and_the_recipient_in_lower_case() -> None:
    """Whichever of the two spellings of the address an event has."""
    raw = {name: value for name, value in ITEMS["open"].items() if name != "rcpt_to"}
    assert "70000000000000001/ada@example.net" == SPARKPOST.send_key(ITEMS["injection"]) == SPARKPOST.send_key(raw)
    assert SPARKPOST.send_key({**raw, "transmission_id": None}) is None


@given(st.randoms(use_true_random=False))
def test_a_batch_sent_again_in_another_order_gives_the_same_events(chance: random.Random) -> None:
    """Retries carry the same event ids; nothing else of the batch is part of an event."""
    entries = orjson.loads(ALL.body)
    chance.shuffle(entries)
    later = replace(ARRIVAL, received_at=ARRIVAL.received_at + timedelta(hours=chance.randrange(9)))
    again = {normalise(SPARKPOST, item, later).event.event_id for item in split(entries)}
    assert {record.event.event_id for record in ALL.recordables} == again


def test_an_inbound_message_is_its_senders() -> None:
    """It has neither type nor time nor id: its class names it, its receipt dates it."""
    event = samples.case("sparkpost", "relay-message").recordables[0].event
    assert ("replied", "ada@example.net", True) == (event.type, event.person.email, event.time_uncertain)
    assert event.send_key is None
