"""Postmark: `POST /email` (its API reference, Email API and error codes)."""

from __future__ import annotations

from typing import Any

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Plug, Told, bearer, is_address, is_mailbox

MOST_RECIPIENTS, LONGEST_TAG, MOST_METADATA, LONGEST_NAME, LONGEST_VALUE = 50, 1000, 10, 20, 80


def _error(status: int, code: int, message: str) -> Reply:
    return Reply(status, {"ErrorCode": code, "Message": message})


def _people(told: Told) -> list[str]:
    return [one.strip() for one in told.said["To"].split(",")]


def _is_metadata(told: Told) -> bool:
    found = told.said.get("Metadata", {})
    return len(found) <= MOST_METADATA and all(
        len(name) <= LONGEST_NAME and len(value) <= LONGEST_VALUE for name, value in found.items()
    )


def _event(told: Told, known: str) -> dict[str, Any]:
    return {
        "RecordType": "Delivery",
        "MessageStream": told.said["MessageStream"],
        "ServerID": 23,
        "MessageID": known,
        "Recipient": _people(told)[0],
        "Tag": told.said.get("Tag", ""),
        "DeliveredAt": "2026-01-15T10:00:02Z",
        "Details": "smtp;250 OK",
        "Metadata": told.said.get("Metadata", {}),
    }


PLUG = Plug(
    path="/email",
    proven=bearer("server_token", "x-postmark-server-token", ""),
    rules=(
        (lambda told: is_mailbox(told.said["From"]), _error(422, 300, "Invalid 'From' address.")),
        (lambda told: all(map(is_address, _people(told))), _error(422, 300, "Invalid 'To' address.")),
        (lambda told: len(_people(told)) <= MOST_RECIPIENTS, _error(422, 300, "Error parsing 'To': too many.")),
        (lambda told: told.said.get("HtmlBody") or told.said.get("TextBody"), _error(422, 300, "Provide a body.")),
        (
            lambda told: all(one["Name"] and one["Value"].isprintable() for one in told.said.get("Headers", [])),
            _error(422, 300, "Invalid headers."),
        ),
        (lambda told: len(told.said.get("Tag", "")) <= LONGEST_TAG, _error(422, 300, "Invalid tag.")),
        (_is_metadata, _error(422, 300, "Invalid metadata content.")),
    ),
    took=lambda told, known: Reply(
        200,
        {
            "To": told.said["To"],
            "SubmittedAt": "2026-01-15T10:00:00.0000000Z",
            "MessageID": known,
            "ErrorCode": 0,
            "Message": "OK",
        },
    ),
    to=_people,
    event=_event,
    answers={
        "unauthorised": _error(401, 10, "The Server Token you provided was invalid."),
        "throttle": Reply(429, {}, {"Retry-After": "7"}),
        "error": _error(500, 0, "Internal Server Error"),
        "maintenance": _error(503, 100, "Maintenance"),
        "suppressed": _error(
            422, 406, "You tried to send to a recipient that has been marked as inactive: ada@example.com"
        ),
        "bad_recipient": _error(422, 300, "Invalid 'To' address: 'ada@example.com'."),
        "bad_sender": _error(422, 300, "Invalid 'From' address: 'hello@shop.example.com'."),
        "bad_request": _error(422, 300, "Provide either email TextBody or HtmlBody or both."),
        "unverified": _error(422, 400, "The 'From' address you supplied is not a Sender Signature on your account."),
        "no_credits": _error(422, 405, "Not allowed to send"),
        "pending": _error(422, 412, "While your account is pending approval you may send to your own domain only."),
    },
    new_id=lambda digits: f"{digits[:8]}-{digits[8:12]}-4000-8000-{digits[12:24]}",
)
