"""The owner's API: what its routes take and answer. Who may call them API Gateway decides, by IAM."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from aws_lambda_powertools.event_handler.exceptions import NotFoundError

from espial.deliveries import Reply
from espial.errors import MalformedDelivery, Refused, TooLarge, TryAgain
from espial.events import PersonKey
from espial.gateway import Refusal, Request, retry_after
from espial.journal.page import page
from espial.journal.table import Journal
from espial.logs import logger, where
from espial.services.explain import Explanation
from espial.services.onboarding import Accepted

MOST_ROWS = 1000
LONGEST_KEY = 1024
"""Bytes of a person's key; a table's key takes 2,048 with everything around it."""

_PRIVATE = {"cache-control": "no-store", "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
_INERT = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}


class Asked(NamedTuple):
    """Whose timeline, how much of it, and whether as a page."""

    person: PersonKey
    limit: int
    messages_only: bool
    as_page: bool


def asked(request: Request) -> Asked:
    """What `GET /timeline/{person+}?limit=&messages_only=&format=` asks for. Raises Refusal (400)."""
    given = _given(request, "limit", "messages_only", "format")
    return Asked(
        person(request.path.get("person", "")),
        _limit(given, "200"),
        messages_only=_one_of(given, "messages_only", ("false", "true")) == "true",
        as_page=_one_of(given, "format", (_preferred(request), "html", "json")) == "html",
    )


def answered(found: Journal, asked: Asked) -> Reply:
    """The timeline as JSON or as a page. Raises Refusal (404) where nothing is known."""
    if not found.rows:
        raise Refusal(404, "nothing_recorded", "nothing is recorded of this person")
    if asked.as_page:
        return Reply(body=page(found), headers={"content-type": "text/html; charset=utf-8", **_PRIVATE, **_INERT})
    return _json(
        200,
        {
            "person": str(found.person),
            "keys": [str(key) for key in found.keys],
            "earlier": found.earlier,
            "rows": [row.plain() for row in found.rows],
        },
    )


class Reasons(NamedTuple):
    """Whom a trigger is asked about, and how much."""

    trigger: str
    person: PersonKey
    key: str | None
    limit: int


def asked_why(request: Request, trigger: str, about: str) -> Reasons:
    """What `GET /explain/{trigger}/{person+}?key=&limit=` asks for. Raises Refusal (400)."""
    given = _given(request, "key", "limit")
    return Reasons(trigger, person(about), given.get("key"), _limit(given, "20"))


def explained(found: Explanation, person: PersonKey) -> Reply:
    """Every decision on record, every run as it would be decided now, and what the last events began.

    Raises Refusal (404) where there is no such trigger and never was one that decided about the person.
    """
    if not (found.in_force or found.decided):
        raise Refusal(404, "unknown_trigger", f"no trigger {found.trigger!r} is in force")
    said = {"person": str(person), "trigger": found.trigger, "at": found.at.isoformat(), "in_force": found.in_force}
    return _json(200, {**said, "found": list(found.plain())})


def taken(accepted: Accepted) -> Reply:
    """Recipients are durable, and will be handed over: 202, and under which id and file they go on."""
    return _json(202, accepted._asdict())


def refused(exc: Exception) -> Reply:
    """What the caller is told of an error; of ours nothing but that it is one, and where it was goes to the log."""
    headers: Mapping[str, str] = {}
    match exc:
        case Refusal():
            status, reason, detail, headers = exc.status, exc.reason, str(exc), exc.headers
        case Refused():
            status, reason, detail = 404 if exc.reason.startswith("unknown_") else 409, exc.reason, exc.detail
        case MalformedDelivery():
            status, reason, detail = 400, exc.reason, exc.detail
        case TooLarge():
            status, reason, detail = 413, "too_large", str(exc)
        case TryAgain():
            status, reason, detail, headers = 503, "try_again", "try again later", retry_after(exc)
        case NotFoundError():
            status, reason, detail = 404, "unknown_route", "no such route"
        case _:
            status, reason, detail = 500, "internal_error", "this is our fault; the function's log has it"
            logger.error("api.failed", extra={"detail": where(exc)})
    return _json(status, {"reason": reason, "detail": detail}, headers)


def _given(request: Request, *known: str) -> dict[str, str]:
    """The query's parameters, the last of each."""
    given = {name: values[-1] for name, values in parse_qs(request.query, keep_blank_values=True).items()}
    if unknown := given.keys() - {*known}:
        names = f"{', '.join(known[:-1])} or {known[-1]}"
        raise Refusal(400, "unknown_parameter", f"no parameter {min(unknown)!r}: {names}")
    return given


def _limit(given: dict[str, str], otherwise: str) -> int:
    limit = given.get("limit", otherwise)
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MOST_ROWS):
        raise Refusal(400, "bad_limit", f"limit must be a whole number from 1 to {MOST_ROWS}")
    return int(limit)


def person(text: str) -> PersonKey:
    """A person's key. Raises Refusal (400)."""
    if len(text.encode()) > LONGEST_KEY:
        raise Refusal(400, "bad_person", f"a person's key has at most {LONGEST_KEY} bytes")
    try:
        found = PersonKey.parse(text)
    except ValueError as exc:
        raise Refusal(400, "bad_person", str(exc)) from exc
    if not found.value.strip():
        raise Refusal(400, "bad_person", "a person's key is empty")
    return found


def _preferred(request: Request) -> str:
    """What the caller would rather read: a browser names HTML, programs do not."""
    return "html" if "text/html" in request.headers.get("accept", "") else "json"


def _one_of(given: dict[str, str], name: str, values: tuple[str, ...]) -> str:
    """The parameter, by default the first of its values."""
    value = given.get(name, values[0])
    if value not in values:
        raise Refusal(400, f"bad_{name}", f"{name} must be one of {', '.join(sorted({*values}))}")
    return value


def _json(status: int, content: Any, headers: Mapping[str, str] | None = None) -> Reply:
    body = json.dumps(content, ensure_ascii=False)
    return Reply(status=status, body=body, headers={"content-type": "application/json", **_PRIVATE, **(headers or {})})
