"""The REST interface of the pull: batches under a lease, and what becomes of them (goal 74)."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from espial import events, pulling
from espial.events import Link
from espial.services.pull_notifications import HELD, READING
from tests.builders import NOON, an_event
from tests.notifying import a_notification
from tests.pulling import SHOP, TOKEN, SoapClient, World, a_request, csv_of, plain_body, pure360


class RestClient:
    """Asks and reads JSON."""

    def __init__(self, world: World, token: str = TOKEN, **headers: str) -> None:
        self._world = world
        self._headers = {"Authorization": f"Bearer {token}", **headers}

    def ask(self, method: str, path: str, content: Any = None, **query: Any) -> tuple[int, Any]:
        body = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
        request = a_request(method, f"{path}?{urlencode(query)}", body, self._headers)
        response = pulling.respond(request, path, self._world.pull, "https://pull.example.com")
        assert "no-store" == response["headers"]["cache-control"]
        return response["statusCode"], json.loads(plain_body(response))

    def take(self, **query: Any) -> Any:
        status, found = self.ask("GET", "/pull/shop", **query)
        assert 200 == status, found
        return found

    def post(self, action: str, **content: Any) -> tuple[int, Any]:
        return self.ask("POST", f"/pull/shop/{action}", content)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def client(world) -> RestClient:
    return RestClient(world)


def ids(found: Any) -> list[str]:
    return [one["id"] for one in found["events"]]


def test_events_come_whole_under_a_lease(world, client):
    """Oldest first, each as the canonical event; acknowledged, they are gone."""
    put = world.wait("one", "two")
    found = client.take()
    assert [one.id for one in put] == ids(found)
    assert [one.event for one in put] == [events.decode(json.dumps(one["event"])) for one in found["events"]]
    assert ("OPEN", 0, False) == (found["events"][0]["trigger"], found["events"][0]["replayed"], found["more"])
    assert [] == ids(client.take())
    assert (200, {"acknowledged": 2}) == client.post("ack", lease=found["lease"])
    assert (200, {"acknowledged": 2}) == client.post("ack", lease=found["lease"])
    world.now += 2 * HELD
    empty = client.take()
    assert (None, None, None, False, []) == tuple(
        empty[name] for name in ("lease", "until", "cursor", "more", "events")
    )


def test_only_the_fields_that_go_out(world, client):
    """Where the destination lists them, the recipient's others stay here."""
    world.destinations["shop"] = SHOP._replace(custom_fields=("first name",))
    world.outbox.put([pure360("o", "OPEN", 1700519196)])
    (found,) = client.take()["events"]
    assert {"First Name": "Ann"} == found["event"]["properties"]["traits"]
    world.destinations["shop"] = SHOP
    world.now += HELD
    (found,) = client.take()["events"]
    assert {"First Name", "external_id"} == {*found["event"]["properties"]["traits"]}


def test_what_is_not_acknowledged_comes_again(world, client):
    """When the lease is over; then it is too late for the first reader, and nothing of the second's is settled."""
    world.wait("one", "two")
    first = client.take()
    world.now += HELD
    second = client.take()
    assert ids(first) == ids(second)
    for content in ({}, {"ids": ids(first)[:1]}):
        status, told = client.post("ack", lease=first["lease"], **content)
        assert (410, "lease_over") == (status, told["reason"])
    assert ["waiting"] * 2 == [*world.outbox.states("shop").values()]
    assert (200, {"acknowledged": 2}) == client.post("ack", lease=second["lease"])


def test_some_of_a_batch_can_be_acknowledged_or_given_back(world, client):
    """The rest stays with the reader until it is, too."""
    world.wait("one", "two", "three")
    found = client.take()
    one, two, three = ids(found)
    assert (200, {"acknowledged": 1}) == client.post("ack", lease=found["lease"], ids=[one])
    assert (200, {"released": 1}) == client.post("release", lease=found["lease"], ids=[two])
    again = client.take()
    assert [two] == ids(again)
    assert (200, {"acknowledged": 3}) == client.post("ack", lease=found["lease"])
    assert {one: "delivered", two: "waiting", three: "delivered"} == world.outbox.states("shop")
    assert (200, {"released": 1}) == client.post("release", lease=again["lease"])
    assert [two] == ids(client.take())


def test_a_cursor_acknowledges_what_came_before(world, client):
    """Read, and go on with the cursor: every event once, and no call more."""
    world.wait(*map(str, range(25)))
    found = client.take(limit=10)
    seen = ids(found)
    while found["cursor"]:
        found = client.take(limit=10, cursor=found["cursor"])
        seen += ids(found)
    assert len(seen) == len({*seen}) == 25
    assert {"delivered"} == {*world.outbox.states("shop").values()}


def test_a_wrong_cursor_or_lease_takes_nothing(world, client):
    """Unknown ones are a conflict, those that are over are gone."""
    world.wait("one", "two")
    found = client.take(limit=1)
    assert 409 == client.ask("GET", "/pull/shop", cursor="nobody's")[0]
    assert 1 == len(world.outbox.leases)
    for action in ("ack", "release"):
        status, told = client.post(action, lease="nobody's")
        assert (409, "unknown_lease") == (status, told["reason"])
        status, told = client.post(action, lease=found["lease"], ids=["somebody else's"])
        assert (409, "unknown_id") == (status, told["reason"])
    world.now += HELD
    assert 410 == client.ask("GET", "/pull/shop", cursor=found["cursor"])[0]
    assert ["waiting"] * 2 == [*world.outbox.states("shop").values()]
    client.post("ack", lease=client.take()["lease"])
    assert 410 == client.post("release", lease=found["lease"])[0]


def test_another_destinations_lease_is_unknown(world, client):
    """Whoever may read one of them."""
    world.destinations["outlet"] = SHOP._replace(name="outlet")
    world.wait("one")
    found = client.take()
    status, told = client.ask("POST", "/pull/outlet/ack", {"lease": found["lease"]})
    assert (409, "unknown_lease") == (status, told["reason"])
    assert ["waiting"] == [*world.outbox.states("shop").values()]


@pytest.mark.parametrize("token", ["", "guess", TOKEN + "x", TOKEN[:-1]])
@pytest.mark.parametrize("call", [("GET", "/pull/shop"), ("POST", "/pull/shop/ack"), ("GET", "/pull/nowhere")])
def test_without_the_token_nothing_goes(world, token, call):
    """Whether the destination or the token is wrong is not told."""
    status, told = RestClient(world, token).ask(*call)
    assert (401, "unauthorised") == (status, told["reason"])


def test_a_destination_without_tokens_is_closed(world, client):
    """So is one whose secret is empty; one whose secret is away says so."""
    assert 401 == client.ask("GET", "/pull/outlet")[0]
    world.secrets["ssm:/espial/rest"] = ""
    assert 401 == RestClient(world, "").ask("GET", "/pull/shop")[0]
    del world.secrets["ssm:/espial/rest"]
    assert 503 == client.ask("GET", "/pull/shop")[0]


@pytest.mark.parametrize(
    ("method", "path", "content", "query", "status", "reason"),
    [
        ("GET", "/pull/shop", None, {"limit": "0"}, 400, "bad_limit"),
        ("GET", "/pull/shop", None, {"limit": "10001"}, 400, "bad_limit"),
        ("GET", "/pull/shop", None, {"wait": "21"}, 400, "bad_wait"),
        ("GET", "/pull/shop", None, {"types": "OPEN,FOO"}, 400, "bad_types"),
        ("GET", "/pull/shop", None, {"since": "1"}, 400, "unknown_parameter"),
        ("POST", "/pull/shop/ack", {}, {}, 400, "bad_body"),
        ("POST", "/pull/shop/ack", {"lease": 1}, {}, 400, "bad_body"),
        ("POST", "/pull/shop/ack", {"lease": "1", "id": "x"}, {}, 400, "bad_body"),
        ("POST", "/pull/shop/ack", b"\xff", {}, 400, "bad_body"),
        ("POST", "/pull/shop/ack", b"", {}, 400, "bad_body"),
        ("POST", "/pull/shop/ack", b"x" * (1 << 20) + b"x", {}, 413, "too_large"),
        ("POST", "/pull/shop/replay", {"since": "yesterday"}, {}, 400, "bad_body"),
        ("POST", "/pull/shop/replay", {"since": "2026-11-20T12:00:00"}, {}, 400, "bad_body"),
        ("PUT", "/pull/shop", None, {}, 404, "unknown_route"),
        ("POST", "/pull/shop/eat", None, {}, 404, "unknown_route"),
        ("GET", "/", None, {}, 404, "unknown_route"),
        ("GET", "/_bus/request.soap", None, {}, 404, "unknown_route"),
    ],
)
def test_what_cannot_be_answered_has_its_reason(  # noqa: PLR0917
    world, client, method, path, content, query, status, reason
):
    """A code for programs and a sentence for people; nothing is taken."""
    world.wait("one")
    answered, told = client.ask(method, path, content, **query)
    assert (status, reason) == (answered, told["reason"])
    assert told["detail"]
    assert {} == world.outbox.leases


def test_only_the_types_that_are_asked_for(world, client):
    """By trigger or canonical type."""
    for trigger in ("OPEN", "CLICK", "delivered"):
        world.wait(trigger, trigger=trigger)
    assert {"OPEN", "delivered"} == {one["trigger"] for one in client.take(types="open,delivered")["events"]}


def test_waiting_for_events(world, client):
    """Returns as soon as there are some, and empty when the time is over."""
    start = world.now
    assert [] == ids(client.take(wait=5))
    assert timedelta(seconds=5) == world.now - start
    late = a_notification("late", "shop", put_at=NOON, due=world.now + timedelta(seconds=3))
    world.outbox.put([late])
    start = world.now
    assert [late.id] == ids(client.take(wait=20))
    assert timedelta(seconds=3) == world.now - start


def test_what_was_delivered_can_be_had_again(world, client):
    """By when it was put; what waits or is out with a reader stays as it is."""
    put = world.wait(*"abcd")
    client.post("ack", lease=client.take(limit=3)["lease"])
    out = client.take()
    since = put[1].put_at.isoformat()
    assert (200, {"replayed": 2, "more_since": None}) == client.post("replay", since=since)
    again = client.take()
    assert [put[1].id, put[2].id] == ids(again)
    assert [1, 1] == [one["replayed"] for one in again["events"]]
    assert (200, {"acknowledged": 1}) == client.post("ack", lease=out["lease"])
    before = put[0].put_at.isoformat()
    assert (200, {"replayed": 1, "more_since": None}) == client.post("replay", since=before, until=before)


def heavy(number: int, trigger: str = "CLICK") -> Any:
    """A click on the longest link that anybody sends, which no compression makes shorter."""
    url = f"https://shop.example/{random.Random(number).randbytes(1024).hex()}"
    event = an_event(str(number), link=Link(url=url))
    return a_notification(event=event, destination="shop", trigger=trigger)


@pytest.mark.parametrize("headers", [{}, {"Accept-Encoding": "gzip, br"}])
def test_the_heaviest_ten_thousand_come_in_pages(world, headers):
    """As many as Lambda lets through, packed or not, by REST and by SOAP; together every one once."""
    world.outbox.put([heavy(number) for number in range(4_000)])
    client, seen, pages = RestClient(world, **headers), [], 0
    found = client.take(limit=10_000)
    while found["cursor"]:
        pages += 1
        seen += ids(found)
        assert found["more"] == (len(seen) < 4_000)
        found = client.take(limit=10_000, cursor=found["cursor"])
    assert len(seen) == len({*seen}) == 4_000
    world.outbox.held.clear()
    world.outbox.put([heavy(number) for number in range(4_000)])
    world.destinations.pop("outlet")
    soap = SoapClient(world.pull, **headers)
    soap.login()
    counts: list[int] = []
    while not counts or counts[-1]:
        batch = soap.batch()
        assert csv_of(batch).count("\n") == int(batch["eventCount"])
        counts.append(int(batch["eventCount"]))
        assert ("Y" if sum(counts) < 4_000 else "N") == batch["moreInd"]
    assert 4_000 == sum(counts)
    assert pages >= 2 if not headers else pages >= 1


@pytest.mark.parametrize("headers", [{}, {"accept-encoding": "gzip"}])
def test_no_answer_is_larger_than_lambda_lets_through(world, headers):
    """However little can be packed; what had to stay behind waits at once."""
    world.outbox.put([heavy(number) for number in range(6_000)])
    request = a_request("GET", "/?limit=10000", headers={"authorization": f"Bearer {TOKEN}", **headers})
    response = pulling.respond(request, "/pull/shop", world.pull, "")
    assert 0.8 < len(json.dumps(response)) / pulling.LARGEST <= 1.001
    found = json.loads(plain_body(response))
    held = [one for one in world.outbox.held.values() if one.lease == found["lease"]]
    assert found["more"]
    assert len(found["events"]) == len(held) < 6_000
    assert 6_000 - len(held) == len(world.outbox.look("shop", 10_000, now=world.now).notifications)


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip", True), ("deflate, gzip;q=0.5", True), ("*", True), ("gzip;q=0", False), ("br", False), ("", False)],
)
def test_answers_are_packed_for_those_who_take_it(world, accepted, packed):
    """And say so."""
    world.wait(*map(str, range(50)))
    headers = {"authorization": f"Bearer {TOKEN}", "accept-encoding": accepted}
    response = pulling.respond(a_request("GET", "/", headers=headers), "/pull/shop", world.pull, "")
    assert packed == (response["headers"].get("content-encoding") == "gzip") == bool(response.get("isBase64Encoded"))
    assert 50 == len(json.loads(plain_body(response))["events"])


def test_a_batch_that_took_too_long_is_not_consumed(world):
    """The reader is told to come again, and all of it waits."""
    world.wait("one")

    world.destinations.pop("outlet")
    soap = SoapClient(world.pull)
    soap.login()
    consume = world.outbox.consume
    world.outbox.consume = lambda taken, now: consume(taken, now=now + READING)
    assert "bean_exception_system" == soap.ask("bus_facade_eventNotification", "getBatch")[0]
    world.outbox.consume = consume
    world.now += READING
    assert "1" == soap.batch()["eventCount"]
