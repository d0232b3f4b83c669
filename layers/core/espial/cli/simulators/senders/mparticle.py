"""mParticle: `POST /v2/events` (its HTTP API reference and OpenAPI file)."""

from __future__ import annotations

from typing import Any

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Plug, Told, is_address
from espial.cli.simulators.senders._shared import by_anybody

LONGEST_ATTRIBUTE = 4096


def _error(status: int, message: str) -> Reply:
    return Reply(status, {"errors": [{"code": "BAD_REQUEST", "message": message}]})


def _data(told: Told) -> Any:
    return told.said["events"][0]["data"]


def _are_attributes(told: Told) -> bool:
    values = _data(told).get("custom_attributes", {}).values()
    return all(isinstance(one, str) and len(one) <= LONGEST_ATTRIBUTE for one in values)


def _event(told: Told, known: str) -> dict[str, Any]:
    """One event with what the batch says, as `split` gives it."""
    batch = {"environment": told.said["environment"], "mpid": 7346244611012968789, "batch_id": 1}
    people = [{"identity_type": name, "identity": value} for name, value in told.said["user_identities"].items()]
    event = {"event_type": "custom_event", "data": {**_data(told), "event_id": int(known[:12], 16)}}
    return {**event, "_batch": {**batch, "user_identities": people}}


PLUG = Plug(
    path="/v2/events",
    proven=by_anybody("api_secret"),
    rules=(
        (
            lambda told: told.said["environment"] in ("production", "development"),
            _error(400, 'Required field "environment" is missing.'),
        ),
        (
            lambda told: [one["event_type"] for one in told.said["events"]] == ["custom_event"],
            _error(400, 'Required event field "event_type" is missing or empty.'),
        ),
        (
            lambda told: _data(told)["event_name"] and _data(told)["custom_event_type"] == "other",
            _error(400, 'Required field "event_name" is missing.'),
        ),
        (lambda told: is_address(told.said["user_identities"]["email"]), _error(400, "Invalid identity.")),
        (_are_attributes, _error(400, "An attribute is too long.")),
    ),
    took=lambda _told, _known: Reply(202, None),
    to=lambda told: [told.said["user_identities"]["email"]],
    event=_event,
    answers={
        "unauthorised": Reply(401, None),
        "wrong_key": Reply(403, None),
        "throttle": Reply(429, None, {"Retry-After": "7"}),
        "error": Reply(500, None),
        "unavailable": Reply(503, None),
        "bad_request": _error(400, "Required event field is missing or empty."),
    },
)
