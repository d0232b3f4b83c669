"""SessionM's REST calls: whose they are, what is taken, what is answered, and what is recorded of them."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest

from espial.deliveries import Connection
from espial.errors import TryAgain
from espial.gateway import read
from espial.services.receive_sessionm import receive_sessionm
from espial.services.record_events import record
from espial.vocabulary import EventType
from tests.fakes import (
    FakeArchive,
    FakeConnections,
    FakeDeliveryQueue,
    FakeEventStore,
    FakeQuarantine,
    FakeRequests,
)
from tests.http_events import http_event

pytestmark = pytest.mark.disable_socket
NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
PUBLIC = "https://hooks.example.com"
LOYALTY = Connection(name="loyalty", platform="sessionm", secrets=("ssm:espial/loyalty",), account="loyalty")
OTHER = Connection(name="other", platform="sessionm", secrets=("ssm:espial/other",), account="other")
USERS = "/priv/v1/apps/k1/users"
PERSON = "/priv/v1/apps/k1/external/users/P-1"
TRANSACTION: dict[str, Any] = {
    "store_id": "s-1",
    "client_id": "pos-3",
    "request_id": "r-1",
    "request_payload": {
        "transaction_id": "t-1",
        "modified_time": "2026-01-15T09:59:00Z",
        "items": [{"line_id": "1", "item_id": "coffee", "quantity": 2, "unit_price": 12.5}],
        "payments": [{"payment_id": "1", "user_id": "P-1", "user_id_type": "external_id", "amount": 25.0}],
    },
}


def basic(credentials: str) -> dict[str, str]:
    return {"Authorization": f"Basic {b64encode(credentials.encode()).decode()}"}


class World:
    """Two connections, a queue, and what request ids came with."""

    def __init__(self) -> None:
        secrets = {"loyalty": [b"k1:s3cret", b"k0:former"], "other": [b"k2:s3cret"]}
        self.connections = FakeConnections(LOYALTY, OTHER, secrets=secrets)
        self.queue = FakeDeliveryQueue()
        self.requests = FakeRequests()
        self.store = FakeEventStore()

    def call(
        self, path: str, content: Any, *, credentials: str = "k1:s3cret", method: str = "POST"
    ) -> tuple[int, dict[str, Any]]:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        request = read(http_event(path, body, basic(credentials) if credentials else {}, method=method))
        outcome = receive_sessionm(request, self.connections, self.queue, self.requests, public_url=PUBLIC, now=NOW)
        return outcome.reply.status, json.loads(outcome.reply.body)

    def recorded(self) -> list[Any]:
        """What the queue's deliveries become."""
        tally = record(
            self.queue.deliveries,
            connections=self.connections,
            store=self.store,
            archive=FakeArchive(),
            quarantine=FakeQuarantine(),
            now=NOW,
        )
        assert not tally.failures
        return [stored.event for stored in self.store.items.values()]


def test_a_customer():
    """Created by anybody with the key, changed under either id; the traits are theirs."""
    for path, user in (
        (USERS, {"external_id": "P-1", "email": "Ann.Lee@example.com", "city": "Leeds"}),
        (PERSON, {"city": "York"}),
        (f"{USERS}/u-7", {"city": "Bath"}),
    ):
        world = World()
        status, told = world.call(path, {"user": user}, method="POST" if path == USERS else "PUT")
        assert (202, {"status": "ok", "accepted": 1}) == (status, told)
        (event,) = world.recorded()
        assert (EventType.PROFILE_UPDATED, user["city"]) == (event.type, event.properties["traits"]["city"])
    assert "u-7" == event.person.source_contact_id


def test_events_of_a_person():
    """One or several; the path says whose, the name and payload what."""
    world = World()
    events = [
        {"name": "Button Clicked", "event_id": "e-1", "timestamp": "2026-01-15T09:00:00Z", "payload": {"id": "buy"}},
        {"name": "Page Opened", "event_id": "e-2", "timestamp": "2026-01-15T09:00:01Z"},
    ]
    assert (202, {"status": "ok", "accepted": 2}) == world.call(f"{PERSON}/events", {"events": events})
    assert (202, {"status": "ok", "accepted": 1}) == world.call(f"{PERSON}/events", {"event": events[0]})
    first, second = world.recorded()
    assert (EventType.CUSTOM, "Button Clicked", "P-1") == (first.type, first.platform_type, first.person.external_id)
    assert ("buy", "Page Opened") == (first.properties["id"], second.platform_type)


def test_tags_of_a_person():
    """With a life, or counted."""
    world = World()
    assert 202 == world.call(f"{PERSON}/tags", {"tags": ["vip", "gold"], "ttl": 3600})[0]
    assert [("vip", 3600), ("gold", 3600)] == [
        (one.properties["tag"], one.properties["ttl_seconds"]) for one in world.recorded()
    ]


def test_a_transaction_is_answered_at_once_and_recorded_once():
    """The same request id and body: the same answer, one event; another body: 409, and nothing queued."""
    world = World()
    answer = (200, {"status": "OK", "payload": {"request_id": "r-1", "state": "queued"}, "errors": None})
    assert answer == world.call("/api/2.0/send_transaction", TRANSACTION)
    reordered = json.dumps(dict(reversed(TRANSACTION.items())), indent=1).encode()
    assert answer == world.call("/api/2.0/send_transaction", reordered)
    payload = {**TRANSACTION["request_payload"], "payments": []}
    status, told = world.call("/api/2.0/send_transaction", {**TRANSACTION, "request_payload": payload, "user_id": "u"})
    assert (409, "request_id_reused") == (status, told["errors"]["code"])
    assert 2 == len(world.queue.deliveries)
    (event,) = world.recorded()
    assert (EventType.TRANSACTION, 25.0, "P-1") == (
        event.type,
        event.commerce.order.total,
        event.person.external_id,
    )


def test_a_request_id_is_of_one_account():
    """Another caller's request ids are their own."""
    world = World()
    other = {**TRANSACTION, "store_id": "s-2"}
    assert 200 == world.call("/api/2.0/send_transaction", TRANSACTION)[0]
    assert 200 == world.call("/api/2.0/send_transaction", other, credentials="k2:s3cret")[0]
    assert ["loyalty", "other"] == [one.connection for one in world.queue.deliveries]


@pytest.mark.parametrize("credentials", ["", "k1:wrong", "k1", "k2:s3cret", "nobody:s3cret"])
def test_wrong_credentials_are_told_nothing_else(credentials):
    """Neither does another account's key reach this one's path; nothing is looked at before."""
    world = World()
    status, told = world.call(f"{PERSON}/nowhere", b"no json", credentials=credentials)
    assert (401, "invalid_credentials") == (status, told["errors"]["code"])
    assert [] == world.queue.deliveries


def test_a_former_secret_still_serves():
    """Two while one is rotated; the key in the path is the one that is shown."""
    world = World()
    assert 202 == world.call("/priv/v1/apps/k0/users", {"user": {"email": "a@example.com"}}, credentials="k0:former")[0]


@pytest.mark.parametrize(
    ("path", "method", "content", "status", "code"),
    [
        (f"{PERSON}/campaigns", "POST", {}, 404, "unknown_call"),
        (f"{PERSON}/events/more", "POST", {}, 404, "unknown_call"),
        ("/priv/v1/apps/k1/external/users", "POST", {"user": {}}, 404, "unknown_call"),
        ("/priv/v1/apps/k1/people", "POST", {"user": {}}, 404, "unknown_call"),
        ("/api/2.0/other", "POST", TRANSACTION, 404, "unknown_call"),
        ("/api/2.0/send_transaction", "GET", TRANSACTION, 405, "method_not_allowed"),
        (f"{PERSON}/events", "PUT", {"events": []}, 405, "method_not_allowed"),
        (f"{PERSON}/events", "POST", b"{", 400, "not_json"),
        (f"{PERSON}/events", "POST", [1], 400, "not_an_object"),
        (f"{PERSON}/events", "POST", {"events": []}, 400, "missing_kind"),
        (f"{PERSON}/events", "POST", {"events": ["x"]}, 400, "not_an_object"),
        (USERS, "POST", {"user": {"city": "Leeds"}}, 400, "missing_person"),
        ("/api/2.0/send_transaction", "POST", {**TRANSACTION, "request_id": None}, 400, "missing_request_id"),
        (USERS, "POST", b'{"user": {"email": "' + b"a" * 1_048_576 + b'"}}', 413, "too_large"),
    ],
)
def test_what_is_refused_says_why(path, method, content, status, code):
    """And nothing of it is queued."""
    world = World()
    answered, told = world.call(path, content, method=method)
    assert (status, code) == (answered, told["errors"]["code"])
    assert [] == world.queue.deliveries


def test_a_bad_event_does_not_harm_its_neighbours():
    """It is listed in the answer, and quarantined by the same rule."""
    world = World()
    status, told = world.call(f"{PERSON}/events", {"events": [{"name": "Ok", "event_id": "1"}, "no event"]})
    assert (202, 1, [1]) == (status, told["accepted"], [one["index"] for one in told["refused"]])
    assert ["Ok"] == [one.platform_type for one in world.recorded()]


def test_no_key_in_what_is_kept():
    """The path that goes on says whom, not with which key."""
    world = World()
    world.call("/priv/v1/apps/k1/external/users/P%2F1%3F/tags", {"tags": ["vip"]})
    (kept,) = world.queue.deliveries
    assert "k1" not in kept.url
    (event,) = world.recorded()
    assert event.person.external_id


def test_later_when_the_queue_is_away():
    """503, and the same call again is taken."""
    world = World()
    world.queue.away = True
    assert 503 == world.call("/api/2.0/send_transaction", TRANSACTION)[0]
    world.queue.away = False
    assert 200 == world.call("/api/2.0/send_transaction", TRANSACTION)[0]
    assert 1 == len(world.recorded())


def test_later_when_request_ids_cannot_be_looked_up():
    """Nothing is queued that may be another body's."""
    world = World()

    def away(connection: str, request: str, content: str) -> str:
        raise TryAgain(f"s3 is throttled: {connection} {request} {content}")

    world.requests.first = away  # type: ignore[method-assign]
    assert 503 == world.call("/api/2.0/send_transaction", TRANSACTION)[0]
    assert [] == world.queue.deliveries
