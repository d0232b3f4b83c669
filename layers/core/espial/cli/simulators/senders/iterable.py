"""Iterable: `POST /api/email/target` (its API reference, TargetEmailRequest and response codes)."""

from __future__ import annotations

from typing import Any

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Plug, Told, bearer, is_address


def _error(status: int, code: str, message: str) -> Reply:
    return Reply(status, {"msg": message, "code": code, "params": None})


def _event(told: Told, known: str) -> dict[str, Any]:
    said = told.said
    return {
        "email": said["recipientEmail"],
        "eventName": "emailSend",
        "dataFields": {
            "campaignId": said["campaignId"],
            "messageId": known,
            "email": said["recipientEmail"],
            "createdAt": "2026-01-15 10:00:02 +00:00",
            "metadata": said.get("metadata", {}),
        },
    }


PLUG = Plug(
    path="/api/email/target",
    proven=bearer("api_key", "api-key", ""),
    rules=(
        (lambda told: type(told.said["campaignId"]) is int, _error(400, "BadJsonBody", "campaignId must be a number")),
        (
            lambda told: is_address(told.said["recipientEmail"]),
            _error(400, "InvalidEmailAddressError", "Invalid email address"),
        ),
        (
            lambda told: all(isinstance(told.said.get(name, {}), dict) for name in ("dataFields", "metadata")),
            _error(400, "BadJsonBody", "must be an object"),
        ),
        (
            lambda told: told.said.get("allowRepeatMarketingSends", True) in (True, False),
            _error(400, "BadJsonBody", "must be a boolean"),
        ),
    ),
    took=lambda _told, _known: Reply(200, {"msg": "", "code": "Success", "params": None}),
    to=lambda told: [told.said["recipientEmail"]],
    event=_event,
    answers={
        "unauthorised": _error(401, "BadApiKey", "Invalid API key"),
        "throttle": Reply(429, {"msg": "", "code": "RateLimitExceeded", "params": None}, {"Retry-After": "7"}),
        "error": _error(500, "GenericError", "An error occurred"),
        "bad_recipient": _error(400, "InvalidEmailAddressError", "Invalid email: ada@example.com"),
        "forgotten": _error(400, "ForgottenUserError", "The user was forgotten"),
        "bad_request": _error(400, "BadParams", "Campaign 1 is not a triggered campaign"),
        "unsure": _error(200, "QueueEmailError", "The email could not be queued"),
    },
    new_id=lambda digits: digits[:32],
)
