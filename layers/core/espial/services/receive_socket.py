"""Tracking calls over a WebSocket (requirement E19): one call as JSON a frame, answered on the socket.

A frame is what `POST /v1/<type>` takes as a body, with the `writeKey` in it. The answer is that of the call, with the
call's `messageId`, so that the page knows which one it is about. The call goes the way of every other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from espial.deliveries import Reply
from espial.gateway import Outcome, Request
from espial.services.receive_tracking import receive_tracking

if TYPE_CHECKING:  # at run time the ports would bring the whole event model
    from espial.ports import Connections, DeliveryQueue

LONGEST_ID = 200
UNKNOWN_ORIGIN = "null"
"""As browsers write an origin that they do not tell."""


def receive_frame(
    event: Mapping[str, Any], connections: Connections, queue: DeliveryQueue, *, public_url: str, now: datetime
) -> Outcome:
    """The verdict on one frame; success only once it is durable. See `receive_tracking` for the refusals.

    A connection that is for certain origins only takes calls by POST: a frame says nothing of its page.
    """
    context, text = event["requestContext"], event.get("body") or ""
    if context.get("eventType", "MESSAGE") != "MESSAGE":  # a socket opens or ends; on AWS that has a route of its own
        return Outcome(Reply(), "handshake")
    call = _object(text)
    request = Request(
        id=context["requestId"],
        method="POST",
        path={"proxy": str(call.get("type", ""))},
        query="",
        headers={"content-type": "application/json", "origin": UNKNOWN_ORIGIN},
        body=text.encode("utf-8", "surrogatepass"),
    )
    outcome = receive_tracking(request, connections, queue, public_url=public_url, now=now)
    known = call.get("messageId")
    said = orjson.loads(outcome.reply.body)
    if isinstance(known, str) and len(known) <= LONGEST_ID:
        said["messageId"] = known
    return outcome._replace(reply=replace(outcome.reply, body=orjson.dumps(said).decode()))


def _object(text: str) -> Mapping[str, Any]:
    try:
        found = orjson.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
