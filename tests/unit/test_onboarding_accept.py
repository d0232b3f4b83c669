"""Recipients that come by a call: kept as a file before the caller is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from espial.errors import MalformedDelivery, Refused, TooLarge
from espial.onboarding.state import Counts
from espial.services import onboarding
from espial.services.onboarding import Accepted, accept
from tests.onboarding import NAME, NOW, World, a_definition, a_row


class Drops:
    """The bucket as a dict; what lands there is a file like any other."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def put(self, key: str, body: bytes) -> None:
        self.files[key] = body


@pytest.fixture
def drops() -> Drops:
    return Drops()


def call(drops: Drops, body: bytes, name: str = NAME, **definition: Any) -> Accepted:
    known = {NAME: a_definition(**definition)}
    return accept(body, name, definition=known.get, drops=drops, now=NOW)


ROWS = [a_row(1), a_row(2)]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(ROWS).encode(),
        json.dumps({"recipients": ROWS}).encode(),
        b"\n".join(json.dumps(row).encode() for row in ROWS) + b"\n\n",
    ],
    ids=["array", "envelope", "lines"],
)
def test_every_shape_is_the_same_file(drops, body):
    """A line a recipient, under the id that is answered."""
    accepted = call(drops, body)
    assert f"onboarding/welcome/api/{accepted.id}.ndjson" == accepted.key
    assert ([accepted.key], 2) == (list(drops.files), accepted.recipients)
    assert ROWS == [json.loads(line) for line in drops.files[accepted.key].splitlines()]
    assert accepted.id == call(Drops(), json.dumps(ROWS).encode()).id


def test_what_was_kept_is_sent_like_any_file(drops):
    """From there on it is one."""
    accepted = call(drops, json.dumps(ROWS).encode())
    world = World()
    outcome = world.onboard(world.drop(drops.files[accepted.key], accepted.key))
    assert ("done", Counts(sent=2)) == (outcome.outcome, outcome.counts)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_recipients"),
        (b"[]", "not_recipients"),
        (b"7", "not_recipients"),
        (b'{"PID": 1}\n{"PID"', "not_json"),
        (b'[{"PID": 1}, 2]', "not_recipients"),
        (b'{"recipients": {"PID": 1}}', "not_recipients"),
    ],
)
def test_what_is_no_list_of_recipients_is_refused(drops, body, reason):
    """Nothing is kept of it."""
    with pytest.raises(MalformedDelivery) as refused:
        call(drops, body)
    assert reason == refused.value.reason
    assert {} == drops.files


def test_only_for_an_onboarding_that_is_there_and_enabled(drops, monkeypatch):
    """And no more than a call may bring."""
    with pytest.raises(Refused, match="unknown_onboarding"):
        call(drops, b"[{}]", "nobody")
    with pytest.raises(Refused, match="disabled"):
        call(drops, b"[{}]", enabled=False)
    monkeypatch.setattr(onboarding, "MAX_BYTES", 3)
    with pytest.raises(TooLarge):
        call(drops, b"[{}]")
    assert {} == drops.files
