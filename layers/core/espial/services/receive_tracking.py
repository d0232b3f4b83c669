"""Accept calls of the Segment tracking spec from sites, apps, shops and servers (Segment, "HTTP Tracking API").

The answers are the spec's where it has one; every error is JSON that says what was wrong, and every answer may be
read by a browser (CORS).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from espial.compression import inflate
from espial.deliveries import Connection, RawDelivery, Reply
from espial.errors import MalformedDelivery, TooLarge, TryAgain
from espial.gateway import Outcome, Refusal, Request, retry_after, url_of
from espial.sources.segment import CALLS, MAX_BATCH_BYTES, MAX_CALL_BYTES, problem, split, write_key

if TYPE_CHECKING:  # at run time the ports would bring the whole event model
    from espial.ports import Connections, DeliveryQueue

PLATFORM = "segment"
PATHS = {
    **{call: call for call in CALLS},
    **{call[0]: call for call in CALLS},  # as browser libraries call them
    **dict.fromkeys(("batch", "b", "import"), "batch"),
}
TELEMETRY = "m"
"""Where browser libraries report on themselves: answered, not kept."""

COMPRESSED = frozenset({"gzip", "deflate"})
DROPPED = frozenset({"content-encoding", "content-length"})
"""Headers that are no longer true of the inflated body."""

CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "POST, OPTIONS",
    "access-control-allow-headers": "Authorization, Content-Type, Content-Encoding, X-Retry-Count",
    "access-control-max-age": "7200",
}


def receive_tracking(
    request: Request, connections: Connections, queue: DeliveryQueue, *, public_url: str, now: datetime
) -> Outcome:
    """The verdict on one request to `/v1/{call}`; success only once it is durable.

    400 unreadable or nobody named, 401 wrong write key, 403 page of another origin, 404 unknown call, 405 not POST,
    413 over the spec's limits, 415 unknown encoding, 503 when queue or connections are away. A batch is accepted
    with bad items in it; the answer lists them, and recording quarantines them by the same rule.
    """
    if request.method == "OPTIONS":
        # A preflight names no write key; whether the origin is welcome shows when the call itself comes.
        return Outcome(Reply(status=204, headers=CORS), "handshake")
    connection: Connection | None = None
    detail = ""
    try:
        call = _call_of(request)
        if call == TELEMETRY:
            return Outcome(_reply({"success": True}), "handshake")
        delivery = _delivery(request, call, public_url, now)
        refused = _refused(delivery, call)
        connection = _connection_of(delivery, connections)
        origin = _allowed_origin(request, connection)
        queue.put(replace(delivery, connection=connection.name, mode=connection.mode))
    except Refusal as exc:
        reason = exc.reason
        reply = _reply({"success": False, "code": reason, "error": str(exc)}, exc.status, exc.headers)
    except TryAgain as exc:
        reason, detail = "try_again", str(exc)
        reply = _reply({"success": False, "code": reason, "error": "try again later"}, 503, retry_after(exc))
    else:
        reason, detail = "accepted", f"{len(refused)} calls refused" if refused else ""
        reply = _reply({"success": True, "refused": refused} if refused else {"success": True}, 200, origin)
    return Outcome.of(reply, reason, connection, len(request.body), detail)


def _call_of(request: Request) -> str:
    name = request.path.get("proxy", "").strip("/")
    call = name if name == TELEMETRY else PATHS.get(name)
    if call is None:
        raise Refusal(404, "unknown_call", f"no such call; known are {', '.join(CALLS)} and batch")
    if request.method != "POST":
        raise Refusal(405, "method_not_allowed", "use POST", {"allow": "POST, OPTIONS"})
    return call


def _delivery(request: Request, call: str, public_url: str, now: datetime) -> RawDelivery:
    """The request with its body inflated; whose it is, is not known yet."""
    return RawDelivery(
        delivery_id=request.id,
        platform=PLATFORM,
        connection="",
        transport="tracking",
        body=_plain(request, MAX_BATCH_BYTES if call == "batch" else MAX_CALL_BYTES),
        received_at=now,
        headers={name: value for name, value in request.headers.items() if name not in DROPPED},
        method=request.method,
        url=url_of(request, f"{public_url}/v1/{call}"),
    )


def _plain(request: Request, limit: int) -> bytes:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    too_large = Refusal(413, "too_large", f"the body is over {limit // 1024} KB of JSON")
    if encoding in COMPRESSED:
        try:
            return inflate(request.body, limit)
        except TooLarge as exc:
            raise too_large from exc
        except MalformedDelivery as exc:
            raise Refusal(400, "damaged_compression", f"the body is not {encoding}") from exc
    if encoding != "identity":
        raise Refusal(415, "unknown_encoding", "Content-Encoding may be gzip or deflate")
    if len(request.body) > limit:
        raise too_large
    return request.body


def _refused(delivery: RawDelivery, call: str) -> list[dict[str, Any]]:
    """Which calls of a batch will not be recorded, and why. A single call that would not be is refused at once."""
    try:
        items = split(delivery)
    except MalformedDelivery as exc:
        raise Refusal(400, exc.reason, exc.detail) from exc
    if call == "batch":
        if b'"batch"' not in delivery.body:
            raise Refusal(400, "no_batch", "`batch` must be an array of calls")
    elif len(items) == 1 and (wrong := problem(items[0])):
        raise Refusal(400, "invalid_call", wrong)
    return [{"index": index, "error": wrong} for index, item in enumerate(items) if (wrong := problem(item))]


def _connection_of(delivery: RawDelivery, connections: Connections) -> Connection:
    """The connection whose write key is shown, in the header or else in the body.

    All keys are compared, in constant time. Raises TryAgain if none fits and some could not be read.
    """
    shown = write_key(delivery.headers, delivery.body) or b""
    found: Connection | None = None
    away: TryAgain | None = None
    for connection in connections.of_platform(PLATFORM):
        try:
            for secret in connections.secrets(connection):
                if hmac.compare_digest(secret, shown) and shown:
                    found = connection
        except TryAgain as exc:
            away = exc
    if found:
        return found
    if away:
        raise away
    raise Refusal(401, "invalid_write_key", "invalid write key", {"www-authenticate": "Basic"})


def _allowed_origin(request: Request, connection: Connection) -> dict[str, str]:
    """CORS for this connection: its setting `allowed_origins`, or everyone."""
    allowed = connection.settings.get("allowed_origins")
    if not allowed:
        return {}
    origin = request.headers.get("origin")
    if origin and origin not in allowed:
        raise Refusal(403, "origin_not_allowed", "this write key may not be used from this origin")
    return {"access-control-allow-origin": origin, "vary": "Origin"} if origin else {}


def _reply(told: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(
        status=status,
        body=orjson.dumps(told).decode(),
        headers=CORS | {"content-type": "application/json"} | dict(headers or {}),
    )
