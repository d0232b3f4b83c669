"""The verdict on a tracking call: the spec's answers, limits, write keys and origins."""

from __future__ import annotations

import gzip
import json
import zlib
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.deliveries import Connection
from espial.errors import TryAgain
from espial.gateway import read
from espial.services.receive_tracking import receive_tracking
from tests.fakes import FakeConnections, FakeDeliveryQueue
from tests.http_events import http_event

pytestmark = pytest.mark.disable_socket
NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
PUBLIC = "https://hooks.example.com"
SHOP = Connection(name="shop", platform="segment", secrets=("ssm:espial/shop",), mode="backfill")
BLOG = Connection(name="blog", platform="segment", secrets=("ssm:espial/blog",))
CALL = {"userId": "cust-1", "event": "Cart Updated", "properties": {}}
KEY = {"Authorization": "Basic " + b64encode(b"wk_shop:").decode()}


class World:
    """Two connections and a queue."""

    def __init__(self, shop=SHOP):
        self.connections = FakeConnections(BLOG, shop, secrets={"blog": [b"wk_blog"], "shop": [b"wk_new", b"wk_shop"]})
        self.queue = FakeDeliveryQueue()

    def post(self, call="track", content=CALL, headers=KEY, **event):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        request = read(http_event(f"/v1/{call}", body, headers, **event))
        outcome = receive_tracking(request, self.connections, self.queue, public_url=PUBLIC, now=NOW)
        return outcome, json.loads(outcome.reply.body or "null")


@pytest.mark.parametrize(
    ("path", "call"),
    [("track", "track"), ("t", "track"), ("i", "identify"), ("p", "page"), ("s", "screen"), ("page/", "page")],
)
def test_a_call_is_queued_as_it_came_under_its_full_name(path, call):
    """Success, the exact bytes, the connection's mode, and a URL whose path says which call it was."""
    world = World()
    outcome, told = world.post(path)
    (kept,) = world.queue.deliveries
    assert (200, {"success": True}, "accepted") == (outcome.reply.status, told, outcome.reason)
    assert (json.dumps(CALL).encode(), "tracking", "shop") == (kept.body, kept.transport, kept.connection)
    assert ("backfill", f"{PUBLIC}/v1/{call}") == (kept.mode, kept.url)


@pytest.mark.parametrize(
    ("headers", "member", "connection"),
    [
        ({"Authorization": "Basic " + b64encode(b"wk_shop:").decode()}, None, "shop"),
        ({"Authorization": "Basic " + b64encode(b"wk_new").decode()}, None, "shop"),
        ({"Authorization": "basic " + b64encode(b"wk_blog:ignored").decode()}, None, "blog"),
        ({}, "wk_blog", "blog"),
        ({"Authorization": "Bearer of-another-scheme"}, "wk_shop", "shop"),
    ],
)
def test_the_write_key_says_whose_call_it_is(headers, member, connection):
    """In the header with or without its colon, or in the body; current or former key."""
    world = World()
    outcome, _ = world.post(content=CALL | {"writeKey": member}, headers=headers)
    assert (200, connection) == (outcome.reply.status, world.queue.deliveries[0].connection)


@pytest.mark.parametrize("key", [b"wk_sho", b"wk_shop ", b"", "wk_shöp".encode()])
def test_a_wrong_write_key_is_401(key):
    """With a JSON error, and nothing kept."""
    world = World()
    outcome, told = world.post(headers={"Authorization": "Basic " + b64encode(key + b":").decode()})
    assert (401, False, "invalid write key") == (outcome.reply.status, told["success"], told["error"])
    assert [] == world.queue.deliveries


def test_an_empty_secret_opens_nothing():
    """A secret stored empty by mistake does not admit calls without a key."""
    world = World()
    world.connections = FakeConnections(SHOP, secrets={"shop": [b""]})
    assert 401 == world.post(headers={})[0].reply.status


def test_keys_that_cannot_be_read_are_503_unless_another_fits(monkeypatch):
    """A right key must not be called wrong because its store is away."""
    world = World()
    known = world.connections.secrets

    def secrets(connection):
        if connection.name == "shop":
            raise TryAgain("away")
        return known(connection)

    monkeypatch.setattr(world.connections, "secrets", secrets)
    blog = {"Authorization": "Basic " + b64encode(b"wk_blog:").decode()}
    assert [503, 200] == [world.post(headers=headers)[0].reply.status for headers in (KEY, blog)]


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
def test_compressed_bodies_are_queued_inflated(compress, request):
    """So that size and content are known before success is told; the header that would lie is gone."""
    world = World()
    encoding = request.node.callspec.id
    outcome, _ = world.post(content=compress(json.dumps(CALL).encode()), headers=KEY | {"Content-Encoding": encoding})
    (kept,) = world.queue.deliveries
    assert (200, json.dumps(CALL).encode()) == (outcome.reply.status, kept.body)
    assert "content-encoding" not in kept.headers


@pytest.mark.parametrize(
    ("call", "content", "more", "status", "code"),
    [
        ("track", b"{", {}, 400, "not_json"),
        ("track", b"[1]", {}, 400, "not_an_object"),
        ("track", {"event": "Cart Updated"}, {}, 400, "invalid_call"),
        ("track", {"userId": "cust-1"}, {}, 400, "invalid_call"),
        ("batch", {"batch": {}}, {}, 400, "batch_not_an_array"),
        ("batch", CALL, {}, 400, "no_batch"),
        ("track", b"plain", {"Content-Encoding": "gzip"}, 400, "damaged_compression"),
        ("track", CALL, {"Content-Encoding": "br"}, 415, "unknown_encoding"),
        ("tracks", CALL, {}, 404, "unknown_call"),
        ("track/more", CALL, {}, 404, "unknown_call"),
        ("track", CALL | {"x": "y" * 33_000}, {}, 413, "too_large"),
        ("batch", {"batch": [CALL], "x": "y" * 513_000}, {}, 413, "too_large"),
        ("track", gzip.compress(b" " * 40_000), {"Content-Encoding": "gzip"}, 413, "too_large"),
    ],
)
def test_what_is_wrong_is_said_in_json(call, content, more, status, code):
    """Status, code and a sentence; nothing is queued."""
    world = World()
    outcome, told = world.post(call, content, KEY | more)
    assert (status, code, False) == (outcome.reply.status, told["code"], told["success"])
    assert told["error"]
    assert (code, []) == (outcome.reason, world.queue.deliveries)


@pytest.mark.parametrize("more", [{}, {"Authorization": "Basic " + b64encode(b"wk_other:").decode()}])
@pytest.mark.parametrize(
    ("content", "encoding"),
    [(b"{", {}), (b"[1]", {}), ({"event": "E"}, {}), (b"plain", {"Content-Encoding": "gzip"})],
    ids=["not json", "not an object", "nobody named", "damaged"],
)
def test_a_stranger_is_told_nothing_but_401(content, encoding, more):
    """Without a right key nobody learns what is wrong with the body; a wrong one is refused before it is read."""
    world = World()
    outcome, told = world.post(content=content, headers=more | encoding)
    assert (401, "invalid_write_key") == (outcome.reply.status, told["code"])
    assert [] == world.queue.deliveries


def test_a_body_is_not_inflated_for_a_wrong_key(monkeypatch):
    """Work on a body is for those who may post."""
    monkeypatch.setattr("espial.services.receive_tracking.inflate", lambda *_: pytest.fail("inflated"))
    wrong = {"Authorization": "Basic " + b64encode(b"wk_other:").decode(), "Content-Encoding": "gzip"}
    assert 401 == World().post(content=gzip.compress(b"{}"), headers=wrong)[0].reply.status


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_405(method):
    """With the one that would do; preflights are answered by the gateway."""
    outcome, _ = World().post(method=method)
    assert (405, "POST") == (outcome.reply.status, outcome.reply.headers["allow"])


def test_limits_are_exact():
    """32 KB is taken, a byte more is not."""
    call = CALL | {"type": "track"}
    empty = len(json.dumps(call | {"x": ""}))
    verdicts = [World().post(content=call | {"x": "y" * (32 * 1024 - empty + more)})[0] for more in (0, 1)]
    assert [200, 413] == [outcome.reply.status for outcome in verdicts]


def test_a_batch_with_bad_calls_is_taken_and_says_which():
    """The whole batch is queued, since recording quarantines the bad ones by the same rule."""
    world = World()
    good = CALL | {"type": "track"}
    batch = {"batch": [good, {"type": "track", "event": "E"}, good, "text", good | {"x": "y" * 33_000}]}
    outcome, told = world.post("batch", batch)
    assert (200, True, [1, 3, 4]) == (
        outcome.reply.status,
        told["success"],
        [refused["index"] for refused in told["refused"]],
    )
    assert "userId or anonymousId is required" == told["refused"][0]["error"]
    assert json.dumps(batch).encode() == world.queue.deliveries[0].body


def test_a_beacon_may_call_its_json_text():
    """sendBeacon posts text/plain, which needs no preflight."""
    outcome, _ = World().post(headers=KEY | {"Content-Type": "text/plain;charset=UTF-8"})
    assert 200 == outcome.reply.status


def test_a_connection_may_name_its_origins():
    """Its own pages and servers, which send no origin, are taken; another site's page is 403 and nothing is kept."""
    world = World(replace(SHOP, settings={"allowed_origins": ["https://shop.example.com"]}))
    origins = [{"Origin": "https://shop.example.com"}, {"Origin": "https://evil.example.org"}, {}]
    assert [200, 403, 200] == [world.post(headers=KEY | origin)[0].reply.status for origin in origins]
    assert 2 == len(world.queue.deliveries)


def test_cors_is_left_to_the_gateway():
    """Two answers to one question would contradict each other one day."""
    replies = [World().post(headers=headers | {"Origin": "https://shop.example.com"})[0].reply for headers in (KEY, {})]
    assert [200, 401] == [reply.status for reply in replies]
    assert [] == [name for reply in replies for name in reply.headers if name.startswith("access-control")]


def test_a_browser_librarys_own_telemetry_is_not_kept():
    """`/v1/m` is answered, so that the library is content."""
    world = World()
    assert (200, []) == (world.post("m", {"series": []}, {})[0].reply.status, world.queue.deliveries)


def test_a_queue_that_is_away_is_503_with_a_time():
    """SDKs try again on 5xx."""
    world = World()
    world.queue.away = True
    outcome, told = world.post()
    assert (503, "1", "try_again") == (outcome.reply.status, outcome.reply.headers["retry-after"], told["code"])


@given(st.binary(max_size=300), st.sampled_from(["track", "batch"]), st.sampled_from(["", "gzip"]))
def test_no_bytes_break_it(body, call, encoding):
    """Whatever is posted gets an answer of the spec, never an exception."""
    headers = KEY | ({"Content-Encoding": encoding} if encoding else {})
    assert World().post(call, body, headers)[0].reply.status in (200, 400, 413)
