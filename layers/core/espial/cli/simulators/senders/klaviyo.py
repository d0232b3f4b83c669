"""Klaviyo: `POST /api/events` (its API reference, Create Event; errors)."""

from __future__ import annotations

import re
from typing import Any

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Plug, Told, bearer, is_address

LARGEST_EVENT = 5_000_000


def _error(status: int, code: str, detail: str, pointer: str = "/data") -> Reply:
    error = {"id": "9e1c", "status": status, "code": code, "title": "Invalid input.", "detail": detail}
    return Reply(status, {"errors": [{**error, "source": {"pointer": pointer}}]})


def _said(told: Told) -> Any:
    return told.said["data"]["attributes"]


def _inner(told: Told, name: str) -> Any:
    found = _said(told)[name]["data"]
    return found["attributes"] if found["type"] == name else {}


def _event(told: Told, known: str) -> dict[str, Any]:
    """The event itself, as a webhook of its metric reports it."""
    attributes = {"timestamp": 1768471202, "event_properties": _said(told)["properties"], "uuid": known}
    related = {"profile": {"data": {"type": "profile", "id": "01HPROF"}}}
    event = {"type": "event", "id": known, "attributes": attributes, "relationships": related}
    return {"external_id": known, "topic": "event:api.message_for_you", "payload": {"data": event}}


PLUG = Plug(
    path="/api/events/?",
    proven=bearer("api_key", scheme="Klaviyo-API-Key "),
    rules=(
        (
            lambda told: re.fullmatch(r"\d{4}-\d{2}-\d{2}(\.\w+)?", told.headers["revision"]),
            _error(400, "invalid", "The revision header is missing or no revision."),
        ),
        (lambda told: told.said["data"]["type"] == "event", _error(400, "invalid", "type must be event", "/data/type")),
        (
            lambda told: 0 < len(_inner(told, "metric")["name"]) <= 128,
            _error(400, "invalid", "A metric needs a name.", "/data/attributes/metric/data/attributes/name"),
        ),
        (
            lambda told: is_address(_inner(told, "profile")["email"]),
            _error(400, "invalid", "Invalid email address", "/data/attributes/profile/data/attributes/email"),
        ),
        (
            lambda told: isinstance(_said(told)["properties"], dict) and isinstance(_said(told)["unique_id"], str),
            _error(400, "invalid", "properties must be an object.", "/data/attributes/properties"),
        ),
        (lambda told: len(str(told.said)) < LARGEST_EVENT, _error(413, "payload_too_large", "Too large.")),
    ),
    took=lambda _told, _known: Reply(202, None),
    to=lambda told: [_inner(told, "profile")["email"]],
    event=_event,
    repeated=lambda told: _said(told)["unique_id"],
    answers={
        "unauthorised": _error(401, "authentication_failed", "Missing or invalid private key."),
        "throttle": Reply(429, {"errors": [{"code": "throttled"}]}, {"Retry-After": "7"}),
        "error": _error(500, "error", "A server error occurred."),
        "scope": _error(403, "permission_denied", "The key has no scope events:write."),
        "bad_recipient": _error(
            400, "invalid", "Invalid email: ada@example.com", "/data/attributes/profile/data/attributes/email"
        ),
        "bad_request": _error(400, "invalid", "Invalid metric.", "/data/attributes/metric"),
    },
)
