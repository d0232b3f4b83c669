"""Adobe Campaign: `POST /{organization}/campaign/{api}/{event}` (Adobe's pages on transactional messages by REST)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Plug, Told, is_address
from espial.cli.simulators.senders._shared import granted, is_granted


def _error(status: int, code: str, message: str) -> Reply:
    return Reply(status, {"error_code": code, "message": message})


def _besides(told: Told, secrets: Mapping[str, str], _messages: Sequence[tuple[str, Told]]) -> Reply | None:
    """A token, asked for by a form."""
    if told.path != "/ims/token/v3":
        return None
    said = {name: values[0] for name, values in parse_qs(told.body.decode()).items()}
    return granted(said if said.get("scope") else None, secrets)


def _event(told: Told, known: str) -> dict[str, Any]:
    """A line of the delivery log, exported with a column that holds the event's send key."""
    said = {**told.said, **told.said.get("ctx", {})}
    log = {"id": known, "status": "sent", "address": said["email"], "delivery": "DM190", "at": "2026-01-15T10:00:02Z"}
    return {"_log": {**log, "more": {"send_key": said["send_key"]}}}


PLUG = Plug(
    path=r"/[\w.-]+/campaign/[\w.-]+/EVT\w+",
    proven=is_granted,
    rules=(
        (lambda told: told.headers["x-api-key"], _error(403, "403000", "Api Key is required")),
        (lambda told: is_address(told.said["email"]), _error(400, "400", "email is not valid")),
        (lambda told: isinstance(told.said.get("ctx", {}), dict), _error(400, "400", "ctx is not an object")),
    ),
    took=lambda told, known: Reply(
        200,
        {
            "PKey": f"@{known}",
            "eventId": told.path.rpartition("/")[2],
            "email": told.said["email"],
            "status": "pending",
        },
    ),
    to=lambda told: [told.said["email"]],
    event=_event,
    besides=_besides,
    answers={
        "unauthorised": _error(401, "401013", "Oauth token is not valid"),
        "throttle": Reply(429, {"error_code": "429050", "message": "Too many requests"}, {"Retry-After": "7"}),
        "error": _error(500, "500", "Internal Server Error"),
        "forbidden": _error(403, "403003", "Api Key is invalid"),
        "unknown_event": _error(404, "404", "The event was not found"),
        "bad_request": _error(400, "400", "A field of the event is missing: ada@example.com"),
    },
)
