"""HubSpot: `POST /marketing/v4/email/single-send` (its API reference, single send)."""

from __future__ import annotations

from typing import Any

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Plug, Told, bearer, is_address, is_mailbox


def _error(status: int, category: str, message: str) -> Reply:
    return Reply(status, {"status": "error", "category": category, "message": message, "correlationId": "a43683b0"})


def _decided(result: str) -> Reply:
    return Reply(
        200, {"requestedAt": "2026-01-15T10:00:00Z", "statusId": "s", "status": "COMPLETE", "sendResult": result}
    )


def _event(told: Told, known: str) -> dict[str, Any]:
    """Webhooks tell of contacts alone: the one that the e-mail made."""
    return {
        "eventId": 100,
        "subscriptionId": 1234,
        "portalId": 12345678,
        "occurredAt": 1768471202000,
        "subscriptionType": "contact.propertyChange",
        "objectId": 123,
        "propertyName": "email",
        "propertyValue": told.said["message"]["to"],
        "sourceId": known,
    }


PLUG = Plug(
    path="/marketing/v4/email/single-send",
    proven=bearer("access_token"),
    rules=(
        (lambda told: type(told.said["emailId"]) is int, _error(400, "VALIDATION_ERROR", "emailId must be a number")),
        (lambda told: is_address(told.said["message"]["to"]), _error(400, "VALIDATION_ERROR", "to is not valid")),
        (
            lambda told: is_mailbox(told.said["message"].get("from", "a@example.com")),
            _error(400, "VALIDATION_ERROR", "from is not valid"),
        ),
        (
            lambda told: all(map(is_address, told.said["message"].get("replyTo", []))),
            _error(400, "VALIDATION_ERROR", "replyTo must be a list of addresses"),
        ),
        (
            lambda told: isinstance(told.said.get("customProperties", {}), dict),
            _error(400, "VALIDATION_ERROR", "customProperties must be a map"),
        ),
    ),
    took=lambda _told, known: Reply(
        200, {"requestedAt": "2026-01-15T10:00:00Z", "statusId": known, "status": "PENDING"}
    ),
    to=lambda told: [told.said["message"]["to"]],
    event=_event,
    repeated=lambda told: str(told.said["message"].get("sendId", "")),
    answers={
        "unauthorised": _error(401, "INVALID_AUTHENTICATION", "Authentication credentials not found."),
        "throttle": Reply(429, {"status": "error", "category": "RATE_LIMITS"}, {"Retry-After": "7"}),
        "error": _error(500, "INTERNAL_ERROR", "internal error"),
        "scope": _error(403, "MISSING_SCOPES", "This app hasn't been granted all required scopes"),
        "bad_request": _error(400, "VALIDATION_ERROR", "Email 1 cannot be sent to ada@example.com"),
        "bad_recipient": _decided("INVALID_TO_ADDRESS"),
        "bounced_before": _decided("PREVIOUSLY_BOUNCED"),
        "suspended": _decided("PORTAL_SUSPENDED"),
    },
)
