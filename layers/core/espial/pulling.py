"""What clients of the pull call over HTTP: the SOAP interface with its descriptions, and the REST one.

Everybody may reach these; who it is they say themselves, by a login or a bearer token.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import msgspec
from isal import igzip

from espial import admin
from espial.compression import inflate
from espial.errors import MalformedDelivery, Refused, TooLarge
from espial.events import Instant
from espial.gateway import Refusal, Request
from espial.logs import logger, where
from espial.notifications.facts import without
from espial.notifications.pull import MOST, trigger
from espial.notifications.pulled import PullDestination
from espial.services.pull_notifications import Denied, Page, Pull, Wanted
from espial.soap import envelope, facade
from espial.soap.envelope import Fault
from espial.soap.facade import Answered
from espial.soap.values import BadField, form_of
from espial.soap.wsdl import Use, wsdl

LARGEST = 6_000_000
"""Bytes of an answer as Lambda hands it over; it refuses more than 6 MB (of 1,048,576 bytes)."""
WORTH_PACKING = 1_024
LONGEST_WAIT = 20
"""Seconds that a client may wait for events; the gateway gives up after 30."""
LARGEST_BODY = 1 << 20

SOAP = "/_bus/request.soap"
WSDLS: Mapping[str, Use] = {"/ctrlPaint.wsdl": "encoded", "/ctrlPaintLiteral.wsdl": "literal"}

_PRIVATE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}

Response = dict[str, Any]
"""An answer as Lambda hands it over."""


class _Out(NamedTuple):
    """How answers leave: packed where the caller takes that."""

    packs: bool

    def __call__(self, status: int, body: bytes, kind: str) -> Response:
        headers = {"content-type": kind, "vary": "accept-encoding", **_PRIVATE}
        if self.packs and len(body) >= WORTH_PACKING:
            packed = b64encode(igzip.compress(body)).decode()
            headers["content-encoding"] = "gzip"
            return {"statusCode": status, "headers": headers, "body": packed, "isBase64Encoded": True}
        return {"statusCode": status, "headers": headers, "body": body.decode()}

    def json(self, status: int, content: Any) -> Response:
        return self(status, msgspec.json.encode(content), "application/json")


def fit(response: Response) -> float:
    """Its size, as a part of the largest that may be given."""
    if response.get("isBase64Encoded"):
        return len(response["body"]) / LARGEST
    return len(json.dumps(response["body"])) / LARGEST


def respond(request: Request, path: str, pull: Pull, public_url: str) -> Response:
    """The answer to a request, whatever is wrong with it."""
    out = _Out(_takes_gzip(request.headers.get("accept-encoding", "")))
    try:
        if path == SOAP and request.method == "POST":
            return _soap(request, pull, out)
        if request.method == "GET" and (use := WSDLS.get(path) or _asked_for(path, request)):
            return out(200, wsdl(use, f"{public_url}{SOAP}").encode(), envelope.TYPE)
        return _rest(request, path, pull, out)
    except Exception as exc:  # noqa: BLE001  whatever it is, the caller gets an answer, and the log what is ours
        refused = admin.refused(_refusal(exc))
        logger.warning("pull.refused", extra={"reason": json.loads(refused.body)["reason"]})
        response = out(refused.status, refused.body.encode(), "application/json")
        response["headers"].update(refused.headers)
        return response


def _asked_for(path: str, request: Request) -> Use | None:
    return "encoded" if path == SOAP and request.query.lower().startswith("wsdl") else None


def _soap(request: Request, pull: Pull, out: _Out) -> Response:
    """Whatever can be read is answered 200; the rest by a fault, which SOAP 1.1 has under 500."""
    try:
        root = envelope.parse(_body(request, envelope.LARGEST))
    except (Fault, MalformedDelivery, TooLarge) as exc:
        return out(500, envelope.fault(str(exc)), envelope.TYPE)

    def render(said: Answered) -> Response:
        if said.result != "success":
            logger.warning("pull.refused", extra={"reason": said.result})
        return out(200, envelope.answer(*said), envelope.TYPE)

    form = form_of(root) or "map"
    try:
        return facade.handle(envelope.call(root), pull, render, fit)
    except Fault as exc:
        return out(500, envelope.fault(str(exc)), envelope.TYPE)
    except BadField as exc:
        return render(Answered("bean_exception_validation", exc.problems, form))
    except Exception as exc:  # noqa: BLE001  whatever it is, the caller gets an answer, and the log where it was
        logger.error("pull.failed", extra={"detail": where(exc)})
        return render(Answered("bean_exception_system", "this is our fault; the function's log has it", form))


def _rest(request: Request, path: str, pull: Pull, out: _Out) -> Response:
    """`GET /pull/{destination}`, and `POST /pull/{destination}/{ack, release or replay}`."""
    match request.method, path.strip("/").split("/"):
        case "GET", ["pull", name]:
            of = pull.shown(name, _token(request))
            return _events(request, pull, of, out)
        case "POST", ["pull", name, "ack"]:
            of = pull.shown(name, _token(request))
            return out.json(200, {"acknowledged": pull.acknowledge(of, *_leased(request))})
        case "POST", ["pull", name, "release"]:
            of = pull.shown(name, _token(request))
            return out.json(200, {"released": pull.release(of, *_leased(request))})
        case "POST", ["pull", name, "replay"]:
            of = pull.shown(name, _token(request))
            given = _given(request, _Replay)
            count, more_since = pull.replay(of, given.since, given.until)
            return out.json(200, {"replayed": count, "more_since": more_since})
    raise Refusal(404, "unknown_route", "no such route")


class _Leased(msgspec.Struct, forbid_unknown_fields=True):
    """Which batch, and which of its records; all of them by default."""

    lease: str
    ids: list[str] | None = None


class _Replay(msgspec.Struct, forbid_unknown_fields=True):
    """What was put from then on, and until then."""

    since: Instant
    until: Instant | None = None


def _events(request: Request, pull: Pull, of: PullDestination, out: _Out) -> Response:
    """A batch under a lease. `cursor` acknowledges the batch that it came with."""
    given = {name: values[-1] for name, values in parse_qs(request.query, keep_blank_values=True).items()}
    if unknown := given.keys() - {"limit", "types", "wait", "cursor"}:
        raise Refusal(400, "unknown_parameter", f"no parameter {min(unknown)!r}: limit, types, wait or cursor")
    names = [name for name in given.get("types", "").split(",") if name.strip()]
    triggers = [trigger(name) for name in names]
    if None in triggers:
        raise Refusal(400, "bad_types", "types must be names of triggers or event types, comma-separated")
    wanted = Wanted(
        limit=_number(given, "limit", 1_000, 1, MOST),
        triggers=tuple(filter(None, triggers)),
        mode="hold",
        newest_first=False,
        wait=_number(given, "wait", 0, 0, LONGEST_WAIT),
    )
    if cursor := given.get("cursor"):
        pull.acknowledge(of, cursor)
    return pull.batch(of, wanted, lambda page: out.json(200, _page(page, of)), fit)


def _page(page: Page, of: PullDestination) -> Mapping[str, Any]:
    held = page.lease or None
    return {
        "lease": held,
        "until": page.until if held else None,
        "cursor": held,
        "more": page.more,
        "events": [
            {"id": one.id, "trigger": one.trigger, "replayed": one.replayed, "event": without(one.event, of.gives)}
            for one in page.notifications
        ],
    }


def _number(given: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    said = given.get(name, str(default))
    if not (said.isascii() and said.isdigit() and least <= int(said[:9]) <= most):
        raise Refusal(400, f"bad_{name}", f"{name} must be a whole number from {least} to {most}")
    return int(said[:9])


def _leased(request: Request) -> tuple[str, list[str] | None]:
    given = _given(request, _Leased)
    return given.lease, given.ids


def _given(request: Request, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(_body(request, LARGEST_BODY), type=kind)
    except msgspec.MsgspecError as exc:
        raise Refusal(400, "bad_body", f"the body is not what is asked for: {exc}") from exc


def _body(request: Request, limit: int) -> bytes:
    packed = request.headers.get("content-encoding", "").strip().lower() in ("gzip", "deflate")
    body = inflate(request.body, limit) if packed else request.body
    if len(body) > limit:
        raise TooLarge(f"the body is larger than {limit:,} bytes")
    return body


def _token(request: Request) -> bytes:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip().encode("utf-8", "replace") if scheme.lower() == "bearer" else b""


def _refusal(exc: Exception) -> Exception:
    """What a client of the REST interface is told."""
    match exc:
        case Denied():
            return Refusal(401, "unauthorised", "the destination or the token is wrong", {"www-authenticate": "Bearer"})
        case Refused():
            return Refusal(410 if exc.reason == "lease_over" else 409, exc.reason, exc.detail)
    return exc


def _takes_gzip(accepted: str) -> bool:
    """By `Accept-Encoding`: named, or `*`, and not at quality 0."""
    for part in accepted.lower().split(","):
        name, _, quality = part.partition(";")
        if name.strip() in ("gzip", "x-gzip", "*"):
            return quality.replace(" ", "").rstrip("0.") != "q="
    return False
