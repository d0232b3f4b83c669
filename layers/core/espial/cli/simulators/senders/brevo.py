"""Brevo: `POST /v3/smtp/email` (its API reference, Send a transactional email)."""

from __future__ import annotations

import re
from typing import Any

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Plug, Told, bearer, is_address

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _error(status: int, code: str, message: str) -> Reply:
    return Reply(status, {"code": code, "message": message})


def _people(told: Told) -> list[str]:
    return [one["email"] for one in told.said["to"]]


def _headers(told: Told) -> dict[str, str]:
    return dict(told.said.get("headers", {}))


def _event(told: Told, known: str) -> dict[str, Any]:
    """Its message id has brackets, as in the answer."""
    return {
        "event": "delivered",
        "email": _people(told)[0],
        "id": 26224,
        "date": "2026-01-15 10:00:02",
        "ts": 1768471202,
        "message-id": f"<{known}>",
        "ts_event": 1768471202,
        "subject": told.said["subject"],
        "X-Mailin-custom": _headers(told).get("X-Mailin-custom", ""),
        "tags": told.said.get("tags", []),
    }


PLUG = Plug(
    path="/v3/smtp/email",
    proven=bearer("api_key", "api-key", ""),
    rules=(
        (
            lambda told: is_address(told.said["sender"]["email"]),
            _error(400, "invalid_parameter", "sender is not valid"),
        ),
        (_people, _error(400, "missing_parameter", "to is missing")),
        (
            lambda told: all(map(is_address, _people(told))),
            _error(400, "invalid_parameter", "email is not valid in to"),
        ),
        (lambda told: told.said["subject"], _error(400, "missing_parameter", "subject is missing")),
        (
            lambda told: told.said.get("htmlContent") or told.said.get("textContent"),
            _error(400, "missing_parameter", "Either of htmlContent, textContent or templateId is required"),
        ),
        (
            lambda told: all(one.isascii() and one.isprintable() for one in _headers(told).values()),
            _error(400, "invalid_parameter", "headers are not valid"),
        ),
        (
            lambda told: _UUID.fullmatch(_headers(told).get("idempotencyKey", "0" * 8 + "-0000" * 3 + "-" + "0" * 12)),
            _error(400, "invalid_parameter", "idempotencyKey must be a UUID"),
        ),
    ),
    took=lambda _told, known: Reply(201, {"messageId": f"<{known}>"}),
    to=_people,
    event=_event,
    answers={
        "unauthorised": _error(401, "unauthorized", "Key not found"),
        "throttle": Reply(429, {"message": "Too many requests"}, {"Retry-After": "7"}),
        "error": _error(500, "", "Internal Server Error"),
        "bad_request": _error(400, "invalid_parameter", "email is not valid in to: ada@example.com"),
        "no_credits": _error(402, "not_enough_credits", "Not enough credits"),
        "under_validation": _error(403, "account_under_validation", "Your account is under validation"),
        "forbidden": _error(403, "permission_denied", "Permission denied"),
    },
    new_id=lambda digits: f"202601151000.{digits[:11]}@smtp-relay.example.net",
)
