"""Customer.io: `POST /v1/send/email` (its App API reference and Python client)."""

from __future__ import annotations

from typing import Any

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Plug, Told, bearer, is_address, is_mailbox
from espial.cli.simulators.senders._shared import is_finished


def _error(status: int, message: str) -> Reply:
    return Reply(status, {"meta": {"error": message}})


def _is_content(told: Told) -> bool:
    """A template of its own, or all that a message needs, with nothing in it to interpret."""
    said = told.said
    if said.get("transactional_message_id"):
        return isinstance(said["message_data"], dict)
    texts = (said["body"], said["subject"], said.get("body_plain", ""))
    return all((said["body"], said["subject"], is_mailbox(said["from"]), *map(is_finished, texts)))


def _are_headers(told: Told) -> bool:
    headers = told.said.get("headers", {})
    return all(isinstance(value, str) and value.isascii() and value.isprintable() for value in headers.values())


def _event(told: Told, known: str) -> dict[str, Any]:
    """With the option Body Content, which headers belong to."""
    said = told.said
    return {
        "event_id": f"01K{known}",
        "object_type": "email",
        "metric": "sent",
        "timestamp": 1768471202,
        "data": {
            "customer_id": said["identifiers"].get("id", ""),
            "delivery_id": known,
            "recipient": said["to"],
            "transactional_message_id": 3,
            "headers": said.get("headers", {}),
        },
    }


PLUG = Plug(
    path="/v1/send/email",
    proven=bearer("app_api_key"),
    rules=(
        (lambda told: is_address(told.said["to"]), _error(400, "to: is not valid")),
        (
            lambda told: len(told.said["identifiers"]) == 1 and {*told.said["identifiers"]} < {"id", "email", "cio_id"},
            _error(400, "identifiers: exactly one is required"),
        ),
        (_is_content, _error(400, "body, subject and from are required without a transactional_message_id")),
        (_are_headers, _error(400, "headers: must be ASCII")),
    ),
    took=lambda _told, known: Reply(200, {"delivery_id": known, "queued_at": 1768471201}),
    to=lambda told: [told.said["to"]],
    event=_event,
    answers={
        "unauthorised": _error(401, "Unauthorized request"),
        "throttle": Reply(429, {"meta": {"error": "too many requests"}}, {"Retry-After": "7"}),
        "error": _error(500, "internal server error"),
        "bad_request": _error(400, "to: ada@example.com is not valid"),
        "unknown_template": _error(404, "transactional message not found"),
        "too_large": _error(413, "request is too large"),
    },
)
