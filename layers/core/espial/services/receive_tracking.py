"""Accept calls of the Segment tracking spec from sites, apps, shops and servers (Segment, "HTTP Tracking API").

The answers are the spec's where it has one; every error is JSON that says what was wrong. Preflights and the headers
that let a page read an answer are the gateway's (docs/decisions/0002-two-http-apis.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from espial.compression import inflate
from espial.deliveries import Connection, RawDelivery, Reply
from espial.errors import MalformedDelivery, TooLarge, TryAgain
from espial.gateway import Outcome, Refusal, Request, retry_after, url_of
from espial.services.callers import connection_of
from espial.sources.segment import CALLS, MAX_BATCH_BYTES, MAX_CALL_BYTES, problem, split, write_key
from espial.verify.shared import basic_write_key

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


def receive_tracking(
    request: Request, connections: Connections, queue: DeliveryQueue, *, public_url: str, now: datetime
) -> Outcome:
    """The verdict on one request to `/v1/{call}`; success only once it is durable.

    400 unreadable or nobody named, 401 wrong write key, 403 page of another origin, 404 unknown call, 405 not POST,
    413 over the spec's limits, 415 unknown encoding, 503 when queue or connections are away. Whoever shows no right
    key is told no more than that. A batch is accepted with bad items in it; the answer lists them, and recording
    quarantines them by the same rule.
    """
    connection: Connection | None = None
    detail = ""
    try:
        call = _call_of(request)
        if call == TELEMETRY:
            return Outcome(_reply({"success": True}), "handshake")
        connection, body = _admit(request, call, connections)
        _require_origin(request, connection)
        delivery = RawDelivery(
            delivery_id=request.id,
            platform=PLATFORM,
            connection=connection.name,
            transport="tracking",
            body=body,
            received_at=now,
            headers={name: value for name, value in request.headers.items() if name not in DROPPED},
            method=request.method,
            url=url_of(request, f"{public_url}/v1/{call}"),
            mode=connection.mode,
        )
        refused = _refused(delivery, call)
        queue.put(delivery)
    except Refusal as exc:
        reason = exc.reason
        reply = _reply({"success": False, "code": reason, "error": str(exc)}, exc.status, exc.headers)
    except TryAgain as exc:
        reason, detail = "try_again", str(exc)
        reply = _reply({"success": False, "code": reason, "error": "try again later"}, 503, retry_after(exc))
    else:
        reason, detail = "accepted", f"{len(refused)} calls refused" if refused else ""
        reply = _reply({"success": True, "refused": refused} if refused else {"success": True})
    return Outcome.of(reply, reason, connection, len(request.body), detail)


def _call_of(request: Request) -> str:
    name = request.path.get("proxy", "").strip("/")
    call = name if name == TELEMETRY else PATHS.get(name)
    if call is None:
        raise Refusal(404, "unknown_call", f"no such call; known are {', '.join(CALLS)} and batch")
    if request.method != "POST":
        raise Refusal(405, "method_not_allowed", "use POST", {"allow": "POST"})
    return call


def _admit(request: Request, call: str, connections: Connections) -> tuple[Connection, bytes]:
    """Whose call it is, and its plain body. A key in the header is judged before the body is looked at."""
    shown = basic_write_key(request.headers)
    connection = _connection_of(shown, connections) if shown else None
    try:
        body = _plain(request, MAX_BATCH_BYTES if call == "batch" else MAX_CALL_BYTES)
    except MalformedDelivery as exc:
        if connection is None:
            raise _stranger() from exc
        raise Refusal(400, exc.reason, f"the body is not as its Content-Encoding says: {exc.detail}") from exc
    return connection or _connection_of(write_key({}, body), connections), body


def _connection_of(shown: bytes | None, connections: Connections) -> Connection:
    """The connection whose write key is shown.

    Raises Refusal (401) if none fits, TryAgain if none does and some could not be read.
    """
    if not shown:
        raise _stranger()
    found = connection_of(PLATFORM, shown, connections)
    if found is None:
        raise _stranger()
    return found


def _stranger() -> Refusal:
    return Refusal(401, "invalid_write_key", "invalid write key", {"www-authenticate": "Basic"})


def _plain(request: Request, limit: int) -> bytes:
    """The body inflated. Raises Refusal over the limit, before and after; MalformedDelivery if it is damaged."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    too_large = Refusal(413, "too_large", f"the body is over {limit // 1024} KB of JSON")
    if encoding != "identity" and encoding not in COMPRESSED:
        raise Refusal(415, "unknown_encoding", "Content-Encoding may be gzip or deflate")
    if len(request.body) > limit:
        raise too_large
    try:
        return inflate(request.body, limit) if encoding in COMPRESSED else request.body
    except TooLarge as exc:
        raise too_large from exc


def _require_origin(request: Request, connection: Connection) -> None:
    """Pages of other sites may not use the key: a browser always tells whose page it is. Servers and apps send none.

    The origins are the connection's setting `allowed_origins`; without it every page may. Unlike CORS, which only
    hides the answer, this keeps what another site's page posts out of the record.
    """
    allowed = connection.settings.get("allowed_origins")
    origin = request.headers.get("origin")
    if allowed and origin and origin not in allowed:
        raise Refusal(403, "origin_not_allowed", "this write key may not be used from this origin")


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


def _reply(told: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(
        status=status,
        body=orjson.dumps(told).decode(),
        headers={"content-type": "application/json", **(headers or {})},
    )
