"""Resend: `POST /emails` (its API reference, Send Email, Errors and Idempotency Keys)."""

from __future__ import annotations

import re
from typing import Any

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Plug, Told, bearer, is_address, is_mailbox

MOST_RECIPIENTS = 50
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")
_PLAIN_NAME = re.compile(r"[^\"(),.:;<>@\[\\\]]* <[^<>]+>|[^<>\s]+")


def _error(status: int, name: str, message: str = "") -> Reply:
    return Reply(status, {"statusCode": status, "name": name, "message": message})


def _people(told: Told) -> list[str]:
    to = told.said["to"]
    return [to] if isinstance(to, str) else list(to)


def _is_sender(told: Told) -> bool:
    """Encoded and quoted names are refused."""
    sender = told.said["from"]
    return is_mailbox(sender) and "=?" not in sender and _PLAIN_NAME.fullmatch(sender) is not None


def _are_tags(told: Told) -> bool:
    return all(_TAG.fullmatch(one["name"]) and _TAG.fullmatch(one["value"]) for one in told.said.get("tags", []))


def _event(told: Told, known: str) -> dict[str, Any]:
    return {
        "type": "email.delivered",
        "created_at": "2026-01-15T10:00:02.101Z",
        "data": {
            "created_at": "2026-01-15T09:59:58.000Z",
            "email_id": known,
            "from": told.said["from"],
            "to": _people(told),
            "subject": told.said["subject"],
            "tags": {one["name"]: one["value"] for one in told.said.get("tags", [])},
        },
    }


PLUG = Plug(
    path="/emails",
    proven=bearer("api_key"),
    rules=(
        (lambda told: told.said["from"], _error(422, "missing_required_field", "Missing `from` field.")),
        (_is_sender, _error(422, "invalid_from_address", "Invalid `from` field.")),
        (lambda told: all(map(is_address, _people(told))), _error(422, "validation_error", "Invalid `to` field.")),
        (lambda told: 0 < len(_people(told)) <= MOST_RECIPIENTS, _error(422, "validation_error", "Too many `to`.")),
        (lambda told: told.said["subject"], _error(422, "missing_required_field", "Missing `subject` field.")),
        (
            lambda told: told.said.get("html") or told.said.get("text"),
            _error(422, "missing_required_field", "Missing `html` or `text` field."),
        ),
        (
            lambda told: all(one.isprintable() for one in told.said.get("headers", {}).values()),
            _error(422, "validation_error", "Invalid `headers`."),
        ),
        (_are_tags, _error(422, "validation_error", "Tags should only contain ASCII letters, numbers, _ and -.")),
        (
            lambda told: 1 <= len(told.headers.get("idempotency-key", "none")) <= 256,
            _error(400, "invalid_idempotency_key", "The key must be between 1-256 chars."),
        ),
    ),
    repeated=lambda told: told.headers.get("idempotency-key", ""),
    another=_error(409, "invalid_idempotent_request", "Same idempotency key used with a different request payload."),
    took=lambda _told, known: Reply(200, {"id": known}),
    to=_people,
    event=_event,
    answers={
        "unauthorised": _error(401, "validation_error", "API key is invalid"),
        "throttle": Reply(429, {"name": "rate_limit_exceeded", "statusCode": 429}, {"Retry-After": "7"}),
        "error": _error(500, "application_error", "An unexpected error occurred."),
        "quota": _error(429, "daily_quota_exceeded", "You have reached your daily email sending quota."),
        "bad_key": _error(403, "invalid_api_key", "API key is invalid"),
        "bad_sender": _error(422, "invalid_from_address", "Invalid `from` field."),
        "bad_request": _error(422, "validation_error", "Invalid `to` field: ada@example.com"),
        "unverified": _error(403, "validation_error", "The shop.example.com domain is not verified."),
        "security": _error(451, "security_error", "We may have found a security issue with the request."),
        "concurrent": _error(409, "concurrent_idempotent_requests", "Same idempotency key used while in progress."),
    },
    new_id=lambda digits: f"{digits[:8]}-{digits[8:12]}-4000-8000-{digits[12:24]}",
)
