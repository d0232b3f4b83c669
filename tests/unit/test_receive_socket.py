"""Frames of a WebSocket: each is a tracking call, judged as by POST and answered with its id."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.errors import TryAgain
from espial.services.receive_socket import receive_frame
from tests.unit.test_receive_tracking import NOW, PUBLIC, SHOP, World

CALL = {"type": "track", "event": "Cart Updated", "userId": "cust-1", "messageId": "m-1", "writeKey": "wk_shop"}


def frame(world: World, body: Any) -> tuple[int, dict[str, Any]]:
    """The status, for the books, and what is said on the socket."""
    text = body if isinstance(body, str) else json.dumps(body)
    event = {"requestContext": {"requestId": "r-1", "routeKey": "$default"}, "body": text, "isBase64Encoded": False}
    outcome = receive_frame(event, world.connections, world.queue, public_url=PUBLIC, now=NOW)
    return outcome.reply.status, json.loads(outcome.reply.body)


def test_a_frame_is_queued_as_the_call_it_is_and_answered_with_its_id():
    world = World()
    assert frame(world, CALL) == (200, {"success": True, "messageId": "m-1"})
    (kept,) = world.queue.deliveries
    assert (json.dumps(CALL).encode(), "tracking", "shop") == (kept.body, kept.transport, kept.connection)
    assert kept.url == f"{PUBLIC}/v1/track"


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"writeKey": "wrong"}, 401, None),
        ({"type": "telegraph"}, 404, "unknown_call"),
        ({"type": None}, 404, "unknown_call"),
        ({"userId": None}, 400, None),
    ],
)
def test_what_would_be_refused_by_post_is_refused_with_its_id(changed, status, code):
    world = World()
    got, said = frame(world, CALL | changed)
    assert (got, said["success"], said["messageId"]) == (status, False, "m-1")
    assert code in (None, said["code"])
    assert not world.queue.deliveries


def test_a_key_that_is_for_certain_pages_only_is_not_for_a_socket():
    world = World(replace(SHOP, settings={"allowed_origins": ["https://shop.example.com"]}))
    assert frame(world, CALL)[1]["code"] == "origin_not_allowed"


@pytest.mark.parametrize("kind", ["CONNECT", "DISCONNECT"])
def test_a_socket_may_open_and_end(kind):
    world = World()
    event = {"requestContext": {"requestId": "r-1", "eventType": kind}}
    outcome = receive_frame(event, world.connections, world.queue, public_url=PUBLIC, now=NOW)
    assert (outcome.reply.status, outcome.reason) == (200, "handshake")


def test_success_is_said_only_of_what_is_durable():
    world = World()

    def away(_: Any) -> None:
        raise TryAgain("away")

    world.queue.put = away  # type: ignore[method-assign, assignment]
    assert frame(world, CALL)[1] == {
        "success": False,
        "code": "try_again",
        "error": "try again later",
        "messageId": "m-1",
    }


@given(st.one_of(st.text(), st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps)))
def test_no_frame_is_more_than_it_says(text):
    status, said = frame(World(), text)
    assert status in (400, 401, 404)
    assert said["success"] is False
