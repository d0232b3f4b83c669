"""MailerSend: `POST /v1/email` (its API reference, Email)."""

from __future__ import annotations

from typing import Any

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Plug, Told, bearer, is_address

MOST_RECIPIENTS, MOST_TAGS = 50, 5


def _error(name: str, message: str) -> Reply:
    return Reply(422, {"message": "The given data was invalid.", "errors": {name: [message]}})


def _people(told: Told) -> list[str]:
    return [one["email"] for one in told.said["to"]]


def _event(told: Told, known: str) -> dict[str, Any]:
    at = "2026-01-15T10:00:02.101000Z"
    message = {"object": "message", "id": known, "created_at": at}
    recipient = {"object": "recipient", "id": "65920000aa11bb22cc660002", "email": _people(told)[0], "created_at": at}
    mail = {
        "object": "email",
        "id": "65920000aa11bb22cc440002",
        "created_at": at,
        "from": told.said["from"]["email"],
        "subject": told.said["subject"],
        "status": "sent",
        "tags": told.said.get("tags"),
        "headers": None,
        "message": message,
        "recipient": recipient,
    }
    data = {"object": "activity", "id": f"ev{known}", "type": "delivered", "created_at": at, "email": mail}
    return {"type": "activity.delivered", "domain_id": "d", "created_at": at, "webhook_id": "w", "data": data}


PLUG = Plug(
    path="/v1/email",
    proven=bearer("api_token"),
    rules=(
        (lambda told: is_address(told.said["from"]["email"]), _error("from.email", "must be a valid email address.")),
        (lambda told: all(map(is_address, _people(told))), _error("to.0.email", "must be a valid email address.")),
        (lambda told: 0 < len(_people(told)) <= MOST_RECIPIENTS, _error("to", "must contain at least 1 item.")),
        (lambda told: told.said["subject"], _error("subject", "is required.")),
        (lambda told: told.said.get("text") or told.said.get("html"), _error("text", "is required without html.")),
        (
            lambda told: all(one["name"] and one["value"].isprintable() for one in told.said.get("headers", [])),
            _error("headers", "are not valid."),
        ),
        (lambda told: len(told.said.get("tags", [])) <= MOST_TAGS, _error("tags", "may not be more than 5.")),
    ),
    took=lambda _told, known: Reply(202, None, {"X-Message-Id": known}),
    to=_people,
    event=_event,
    answers={
        "unauthorised": Reply(401, {"message": "Unauthenticated."}),
        "throttle": Reply(429, {"message": "Too Many Attempts."}, {"Retry-After": "7"}),
        "error": Reply(500, {"message": "Server Error"}),
        "suppressed": Reply(
            202,
            {
                "message": "There are some warnings for your request.",
                "warnings": [
                    {
                        "type": "ALL_SUPPRESSED",
                        "recipients": [{"email": "ada@example.com", "reasons": ["hard_bounced"]}],
                    }
                ],
            },
        ),
        "bad_recipient": _error("to.0.email", "The to.0.email ada@example.com must be a valid email address."),
        "unverified": _error("from.email", "The from.email domain must be verified in your account. #MS42207"),
        "bad_request": _error("precedence_bulk", "must be true or false."),
    },
    new_id=lambda digits: digits[:24],
)
