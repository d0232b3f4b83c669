"""Brevo: what its fields mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import sources
from espial.events import Event
from espial.normalise import normalise
from tests import samples

BREVO = sources.load("brevo")
ARRIVAL = samples.case("brevo", "all-types").arrival
BASE = {
    "id": 90210,
    "event": "opened",
    "email": "ada@example.com",
    "message-id": "<m-1@smtp-relay.example.com>",
    "ts": 1768471200,
    "ts_event": 1768471200,
    "ts_epoch": 1768471200123,
}


def read(**changes: Any) -> Event:
    return normalise(BREVO, {**BASE, **changes}, ARRIVAL).event


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"ts_epoch": 1768471200123}, "2026-01-15T10:00:00.123000+00:00"),
        ({"ts_epoch": 1768471200}, "2026-01-15T10:00:00+00:00"),
        ({"ts_epoch": None, "s_epoch": 1768471201000}, "2026-01-15T10:00:01+00:00"),
        ({"ts_epoch": None, "ts_event": 1768471202}, "2026-01-15T10:00:02+00:00"),
        ({"ts_epoch": None, "ts_event": None, "ts": 1768471203}, "2026-01-15T10:00:03+00:00"),
    ],
)
def test_the_best_time_given_counts_in_seconds_or_milliseconds(given: dict[str, Any], expected: str) -> None:
    """Documents show ts_epoch in both units; the size tells which."""
    assert expected == read(**given).occurred_at.isoformat()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"tags": ["a", "b"], "tag": "c"}, ("a", "b")),
        ({"tag": "c"}, ("c",)),
        ({"tag": '["c","d"]'}, ("c", "d")),
        ({"tag": ["c", None, 7]}, ("c", "7")),
        ({"tag": "[not json"}, ("[not json",)),
    ],
)
def test_tags_come_as_text_array_or_array_in_text(given: dict[str, Any], expected: tuple[str, ...]) -> None:
    """All three were seen, and `tags` is the fuller one."""
    campaign = read(**given).campaign
    assert campaign is not None
    assert expected == campaign.tags


def test_metadata_that_is_not_json_is_kept_as_text() -> None:
    """It is whatever the sender put there."""
    assert {"custom": "just words"} == read(**{"X-Mailin-custom": "just words"}).properties
    assert {"a": "1", "b": "x:y"} == read(**{"X-Mailin-custom": "a:1|b:x:y"}).properties


@pytest.mark.parametrize("event", ["proxy_open", "unique_proxy_open", "unique_proxy_opened", "proxyOpen"])
def test_only_proxy_opens_are_machine_opens(event: str) -> None:
    """Of other opens Brevo says nothing, so that neither do we."""
    client = read(event=event).client
    assert client is not None
    assert client.machine is True
    assert read(event="opened").client is None


def test_the_webhooks_id_is_not_the_events() -> None:
    """`id` is the same for every event; two opens a second apart are two."""
    again = {**BASE, "id": 1}
    later = {**BASE, "ts_epoch": 1768471201123, "ts_event": 1768471201}
    assert BREVO.identity(BASE) == BREVO.identity(again)
    assert BREVO.identity(BASE) != BREVO.identity(later)


@given(st.permutations(list(BASE)), st.sampled_from(["opened", "uniqueOpened", "unique_opened", "UNIQUE_OPENED"]))
def test_identity_rests_on_neither_order_nor_spelling(names: list[str], event: str) -> None:
    """A redelivery is the same event, however its fields are ordered or its name is spelt."""
    item = {**BASE, "event": event}
    plain = {**BASE, "event": "opened" if event == "opened" else "unique_opened"}
    assert BREVO.identity(plain) == BREVO.identity({name: item[name] for name in names})


@pytest.mark.parametrize(
    ("lists", "topics"), [([34, 12], ["list/34", "list/12"]), ([34, 34], ["list/34"]), (34, ["list/34"]), ([], [None])]
)
def test_being_added_to_lists_is_about_these_alone(lists: Any, topics: list[str | None]) -> None:
    """Each addition is an event, whatever else happens in that second, and no consent to all mail."""
    body = orjson.dumps({**BASE, "event": "list_addition", "list_id": lists})
    items = BREVO.split(replace(samples.case("brevo", "marketing").delivery, body=body))
    found = [normalise(BREVO, item, ARRIVAL).event for item in items]
    assert topics == [event.properties.get("topic") for event in found]
    assert len(topics) == len({event.event_id for event in found})


def test_a_wrong_secret_does_not_cost_events() -> None:
    """Brevo throws away what is answered with a 4xx other than 429."""
    assert BREVO.unproven == 429
