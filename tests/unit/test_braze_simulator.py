"""Braze's simulator: it refuses what Braze refuses, and what it reports is what our source of Braze reads."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from espial import sources
from espial.cli.simulators.braze import Braze, Reply
from espial.normalise import normalise
from tests.builders import a_connection, a_delivery, an_arrival

CAMPAIGN = "c0000000-0000-4000-8000-000000000001"


class World:
    """A workspace and its clock."""

    def __init__(self, **options: Any) -> None:
        self.now = 1_768_471_200.0
        self.braze = Braze("k", lambda: self.now, **options)

    def post(self, path: str, said: Any, key: str = "k", kind: str = "application/json") -> Reply:
        headers = {"authorization": f"Bearer {key}", "content-type": kind}
        return self.braze.answer("POST", path, headers, said if isinstance(said, bytes) else json.dumps(said).encode())

    def track(self, *attributes: dict[str, Any], **how: Any) -> Reply:
        return self.post("/users/track", {"attributes": list(attributes)}, **how)

    def send(self, *users: str, **said: Any) -> Reply:
        recipients = [{"external_user_id": user} for user in users]
        return self.post("/campaigns/trigger/send", {"campaign_id": CAMPAIGN, "recipients": recipients, **said})

    def inside(self, path: str) -> Any:
        return json.loads(json.dumps(self.braze.answer("GET", f"/_simulator/{path}", {}, b"").body))


@pytest.fixture
def world() -> World:
    return World()


def test_users_are_created_and_updated(world):
    """Null takes an attribute away, arrays are sets to which what is added moves to the end."""
    assert 201 == world.track({"external_id": "P-1", "email": "a@example.com", "city": "x", "n": 1}).status
    world.track({"external_id": "P-1", "city": None, "tags": {"add": ["a", "b"]}, "n": {"inc": 2}})
    world.track({"external_id": "P-1", "tags": {"add": ["a"]}})
    world.track({"email": "a@example.com", "tags": {"remove": ["b"]}, "o": {"p": 1}})
    user = world.inside("users")["users"]["P-1"]
    assert {"external_id": "P-1", "email": "a@example.com", "n": 3, "tags": ["a"], "o": {"p": 1}} == {
        name: value for name, value in user.items() if name != "braze_id"
    }
    assert 24 == len(user["braze_id"])


def test_events_and_purchases_make_users_too(world):
    """One user, by whatever identifier is given first."""
    event = {"email": "e@example.com", "name": "e", "time": "2026-01-01T00:00:00Z"}
    world.post("/users/track", {"events": [event, {**event, "name": "f"}]})
    world.track({"email": "e@example.com", "first_name": "Eve"})
    ((_, user),) = world.inside("users")["users"].items()
    assert (["e", "f"], "Eve") == ([one["name"] for one in user["events"]], user["first_name"])


def test_update_existing_only_creates_nobody(world):
    """It is no error either."""
    answer = world.track({"external_id": "P-1", "_update_existing_only": True, "output_name": "x"})
    assert (201, 1) == (answer.status, answer.body["attributes_processed"])
    assert {} == world.braze.users


def test_bad_objects_are_named_by_place_and_the_others_processed(world):
    """Only where none is any good is it fatal."""
    world.braze.trouble({"refuse": ["P-3"]})
    bad = [{"email": ""}, {"external_id": "P-2", "dob": "1.1.1980"}, {"external_id": "P-3"}]
    answer = world.track({"external_id": "P-1"}, *bad)
    assert (201, 1) == (answer.status, answer.body["attributes_processed"])
    assert [("attributes", 1), ("attributes", 2), ("attributes", 3)] == [
        (error["input_array"], error["index"]) for error in answer.body["errors"]
    ]
    answer = world.track(*bad)
    assert (400, 3) == (answer.status, len(answer.body["errors"]))
    assert ["P-1"] == list(world.braze.users)


@pytest.mark.parametrize(
    ("said", "how", "status"),
    [
        ({"attributes": [{"external_id": "1"}]}, {"key": "other"}, 401),
        (b"{", {}, 400),
        ([], {}, 400),
        ({}, {}, 400),
        ({"attributes": [{"external_id": "1"}]}, {"kind": "text/plain"}, 400),
        ({"attributes": [{"external_id": str(n)} for n in range(76)]}, {}, 400),
        ({"attributes": [{"external_id": str(n)} for n in range(75)]}, {}, 201),
        ({"events": [{"external_id": "1", "name": "e", "time": "2026-01-01T00:00:00Z"}]}, {}, 201),
        ({"events": [{"external_id": "1", "name": "e"}]}, {}, 400),
        ({"purchases": [{"external_id": "1", "product_id": "p", "currency": "EUR", "price": 1, "time": "t"}]}, {}, 201),
    ],
)
def test_requests_are_checked(world, said, how, status):
    """Key, content type, JSON, sizes, and what each object needs."""
    assert status == world.post("/users/track", said, **how).status


def test_the_rate_limit_is_told_and_kept(world):
    """Until its window is over."""
    world.braze._rate_limit = 2
    seen = [world.track({"external_id": "P-1"}) for _ in range(3)]
    assert [201, 201, 429] == [one.status for one in seen]
    assert ["1", "0", "0"] == [one.headers["X-RateLimit-Remaining"] for one in seen]
    world.now = float(seen[2].headers["X-RateLimit-Reset"])
    assert 201 == world.track({"external_id": "P-1"}).status


def test_trouble_comes_as_it_was_ordered(world):
    """A dropped request was taken, the others were not."""
    world.braze.trouble({"throttle": 1, "error": 1, "timeout": 1, "drop": 1})
    seen = [world.track({"external_id": f"P-{n}"}) for n in range(5)]
    assert [(429, ""), (503, ""), (0, "timeout"), (201, "drop"), (201, "")] == [
        (one.status, one.trouble) for one in seen
    ]
    assert ["P-3", "P-4"] == list(world.braze.users)
    assert 400 == world.post("/_simulator/faults", {"earthquake": 1}).status
    assert 404 == world.post("/users/delete", {}).status


def test_sends_are_dispatched_to_those_who_are_known(world):
    """One dispatch a request; its checks are those of the documents."""
    world.track({"external_id": "P-1", "email": "a@example.com"}, {"external_id": "P-2"})
    answer = world.send("P-1", "P-2", "P-3")
    assert (201, "success", 24) == (answer.status, answer.body["message"], len(answer.body["dispatch_id"]))
    assert 1 == len(world.braze.reports)
    new = {"external_user_id": "P-4", "send_to_existing_only": False, "attributes": {"email": "d@example.com"}}
    assert 201 == world.send(recipients=[new]).status
    assert ["P-1", "P-4"] == [one["user"]["external_user_id"] for one in world.braze.reports]
    wrong: list[dict[str, Any]] = [{"campaign_id": ""}, {"recipients": []}, {"broadcast": True}, {"recipients": [{}]}]
    for said in wrong:
        assert 400 == world.send("P-1", **said).status
    assert 400 == world.send(*map(str, range(51))).status


def test_currents_tells_what_our_source_reads(world):
    """Sends, and what was ordered to happen to them, field by field as Braze posts it."""
    world.post("/_simulator/campaigns", {CAMPAIGN: "Autumn Offer"})
    arrays = {"rpi_contact_ids": {"add": ["700001"]}, "rpi_channel_exec_ids": {"add": ["9001"]}}
    world.track({"external_id": "P-1", "email": "Ann@example.com", **arrays})
    dispatch = world.send("P-1").body["dispatch_id"]
    world.now += 96
    for action in ("Open", "Click", "Bounce"):
        assert 200 == world.post("/_simulator/happen", {"type": action, "dispatch_id": dispatch}).status
    assert 400 == world.post("/_simulator/happen", {"type": "Teleport"}).status
    source, body = sources.load("braze"), json.dumps(world.inside("currents")).encode()
    items = source.split(a_delivery(platform="braze", body=body))
    arrival = an_arrival(connection=a_connection(platform="braze"), received_at=datetime(2026, 1, 15, 11, tzinfo=UTC))
    events = [normalise(source, item, arrival, "raw").event for item in items]
    assert ["sent", "opened", "clicked", "bounced"] == [event.type.value for event in events]
    assert {("P-1", "ann@example.com", dispatch, "Autumn Offer")} == {
        (e.person.external_id, e.person.email, e.campaign.dispatch_id, e.campaign.name) for e in events
    }
    assert {"rp_contact_id": "700001", "rp_channel_execution_id": "9001"} == json.loads(
        items[0]["properties"]["message_extras"]
    )
    assert [1_768_471_200, 1_768_471_296] == sorted({item["time"] for item in items})
    assert 1 == len(world.inside("currents?after=3")["events"])


def test_the_same_seed_gives_the_same_ids():
    """A demo that is repeated shows the same."""
    told = []
    for seed in ("a", "a", "b"):
        world = World(seed=seed)
        world.track({"external_id": "P-1", "email": "a@example.com"})
        world.send("P-1")
        told.append(world.inside("currents"))
    assert told[0] == told[1] != told[2]
