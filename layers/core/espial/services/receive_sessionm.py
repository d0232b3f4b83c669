"""Accept calls of SessionM's REST API: customers, events, tags and transactions (C4, C5, C7, C16, C24).

Paths, Basic credentials of key and secret, the containers of a transaction and its answer are SessionM's
(https://docs.sessionm.com/); the bodies of events and tags are as `espial.sources.sessionm` says. Everything is
queued, and answered before anything is done about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import orjson

from espial import sources
from espial.deliveries import Arrival, Connection, RawDelivery, Reply
from espial.errors import MalformedDelivery, MalformedItem, TryAgain
from espial.gateway import Outcome, Refusal, Request, retry_after
from espial.services.callers import connection_of
from espial.verify.shared import basic_credentials

if TYPE_CHECKING:  # at run time the ports would bring the whole event model
    from espial.ports import Connections, DeliveryQueue, Requests

PLATFORM = "sessionm"
MAX_BODY = 1_048_576
"""Bytes."""
TRANSACTION = "send_transaction"
_PARTS: Mapping[str, frozenset[str]] = {
    "": frozenset({"PUT", "POST"}),
    "events": frozenset({"POST"}),
    "tags": frozenset({"POST"}),
}
"""What may stand behind a user, and how it is called."""


class _Call(NamedTuple):
    """What is asked, and the path that says so, without the key."""

    what: str
    path: str


def receive_sessionm(
    request: Request,
    connections: Connections,
    queue: DeliveryQueue,
    requests: Requests,
    *,
    public_url: str,
    now: datetime,
) -> Outcome:
    """The verdict on a call of `/priv/v1/apps/{api_key}/…` or `/api/2.0/send_transaction`; success once it is durable.

    400 unreadable or nobody named, 401 wrong key or secret, 404 unknown call, 405 wrong method, 409 a request id that
    came with another body, 413 too big, 503 when queue, secrets or store are away.
    """
    connection: Connection | None = None
    detail = ""
    try:
        connection = _connection(request, connections)
        call = _call_of(request)
        body = _object(request)
        delivery = RawDelivery(
            delivery_id=request.id,
            platform=PLATFORM,
            connection=connection.name,
            transport="tracking",
            body=request.body,
            received_at=now,
            headers=request.headers,
            method=request.method,
            url=public_url + call.path,
            mode=connection.mode,
        )
        accepted, refused = _judged(delivery, connection)
        if call.what == TRANSACTION:
            _require_same(body, connection, requests)
        queue.put(delivery)
        reply, reason = _accepted(call, body, accepted, refused), "accepted"
    except Refusal as exc:
        reason = exc.reason
        reply = _reply(exc.status, {"status": "error", "errors": {"code": reason, "message": str(exc)}}, exc.headers)
    except TryAgain as exc:
        reason, detail = "try_again", str(exc)
        told = {"code": reason, "message": "try again later"}
        reply = _reply(503, {"status": "error", "errors": told}, retry_after(exc))
    return Outcome.of(reply, reason, connection, len(request.body), detail)


def _connection(request: Request, connections: Connections) -> Connection:
    """Whose key and secret are shown; the key in the path must be that one. Whoever shows none is told nothing else."""
    shown = basic_credentials(request.headers)
    found = connection_of(PLATFORM, shown, connections) if shown else None
    key = (shown or b"").partition(b":")[0].decode("utf-8", "replace")
    if found is None or request.path.get("api_key", key) != key:
        raise Refusal(401, "invalid_credentials", "invalid key or secret", {"www-authenticate": "Basic"})
    return found


def _call_of(request: Request) -> _Call:
    """`users`, `users/ID…`, `external/users/ID…`, or the transaction. Raises Refusal."""
    parts = [part for part in request.path.get("proxy", "").split("/") if part]
    if "api_key" not in request.path:
        if parts != [TRANSACTION]:
            raise Refusal(404, "unknown_call", f"no such call; known is {TRANSACTION}")
        return _allowed(request, frozenset({"POST"}), _Call(TRANSACTION, f"/api/2.0/{TRANSACTION}"))
    place = "external/users" if parts[:2] == ["external", "users"] else "users"
    behind = parts[place.count("/") + 1 :]
    if (
        parts[: len(parts) - len(behind)] != place.split("/")
        or len(behind) > 2
        or (behind[1:] or [""])[0] not in _PARTS
    ):
        raise Refusal(404, "unknown_call", "no such call; known are users, and their events and tags")
    path = "/".join((f"/priv/v1/apps/-/{place}", *(quote(part, safe="") for part in behind)))
    if not behind:
        if place != "users":
            raise Refusal(404, "unknown_call", "an external id is missing")
        return _allowed(request, frozenset({"POST"}), _Call("users", path))
    what = (behind[1:] or [""])[0]
    return _allowed(request, _PARTS[what], _Call(what or "users", path))


def _allowed(request: Request, methods: frozenset[str], call: _Call) -> _Call:
    if request.method not in methods:
        raise Refusal(405, "method_not_allowed", "the call has another method", {"allow": ", ".join(sorted(methods))})
    return call


def _object(request: Request) -> dict[str, Any]:
    if len(request.body) > MAX_BODY:
        raise Refusal(413, "too_large", f"over {MAX_BODY} bytes")
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError as exc:
        raise Refusal(400, "not_json", "the body is not JSON") from exc
    if not isinstance(body, dict):
        raise Refusal(400, "not_an_object", "the body is not a JSON object")
    return body


def _judged(delivery: RawDelivery, connection: Connection) -> tuple[int, list[dict[str, Any]]]:
    """How many items will be recorded, and which will not and why. Raises Refusal where none would."""
    source = sources.of(connection)
    arrival = Arrival(connection=connection, transport=delivery.transport, received_at=delivery.received_at)
    refused: list[dict[str, Any]] = []
    try:
        items = source.split(delivery)
    except MalformedDelivery as exc:
        raise Refusal(400, exc.reason, exc.detail) from exc
    for index, item in enumerate(items):
        try:
            source.normalise(item, arrival)
        except MalformedItem as exc:
            refused.append({"index": index, "code": exc.reason, "message": exc.detail})
    if len(refused) == len(items):
        first = refused[0] if refused else {"code": "empty", "message": "the body says nothing"}
        raise Refusal(400, first["code"], first["message"])
    return len(items) - len(refused), refused


def _require_same(body: Mapping[str, Any], connection: Connection, requests: Requests) -> None:
    """A request id stands for one body: the same one is answered as before, and recorded once. Raises Refusal."""
    request = body.get("request_id")
    if not isinstance(request, str) or not 0 < len(request) <= 200:
        raise Refusal(400, "missing_request_id", "`request_id` is a text of 1 to 200 characters")
    content = sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
    if requests.first(connection.name, request, content) != content:
        raise Refusal(409, "request_id_reused", "this request_id came with another body before")


def _accepted(call: _Call, body: Mapping[str, Any], accepted: int, refused: list[dict[str, Any]]) -> Reply:
    if call.what == TRANSACTION:
        said = {"request_id": body["request_id"], "state": "queued"}
        return _reply(200, {"status": "OK", "payload": said, "errors": None})
    told: dict[str, Any] = {"status": "ok", "accepted": accepted}
    return _reply(202, {**told, "refused": refused} if refused else told)


def _reply(status: int, told: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Reply:
    kept = {"content-type": "application/json", **(headers or {})}
    return Reply(status=status, body=orjson.dumps(told).decode(), headers=kept)
