"""Mailjet: `POST /v3.1/send` (its Send API v3.1 guide)."""

from __future__ import annotations

from typing import Any

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Plug, Told, basic, is_address

_RESERVED = frozenset({"from", "sender", "subject", "to", "cc", "bcc", "return-path", "reply-to", "dkim-signature"})


def _error(status: int, message: str, about: str) -> Reply:
    error = {
        "ErrorIdentifier": "f987008f-0000-4000-8000-40f1583ad7bc",
        "ErrorCode": "mj-0013",
        "StatusCode": status,
        "ErrorMessage": message,
        "ErrorRelatedTo": [about],
    }
    return Reply(status, {"Messages": [{"Status": "error", "Errors": [error]}]})


def _mail(told: Told) -> dict[str, Any]:
    [mail] = told.said["Messages"]
    return dict(mail)


def _people(told: Told) -> list[str]:
    return [one["Email"] for one in _mail(told)["To"]]


def _are_headers(told: Told) -> bool:
    headers = _mail(told).get("Headers", {})
    return all(name.lower() not in _RESERVED and headers[name].isprintable() for name in headers)


def _event(told: Told, known: str) -> dict[str, Any]:
    return {
        "event": "sent",
        "time": 1768471202,
        "MessageID": int(known),
        "Message_GUID": "1ab23cd4-0000-4000-8000-40f1583ad7bc",
        "email": _people(told)[0],
        "mj_campaign_id": 7257,
        "mj_contact_id": 4,
        "customcampaign": "",
        "mj_message_id": known,
        "smtp_reply": "250 OK",
        "CustomID": _mail(told).get("CustomID", ""),
        "Payload": _mail(told).get("EventPayload", ""),
    }


def _took(told: Told, known: str) -> Reply:
    people = [{"Email": one, "MessageUUID": "1ab23cd4", "MessageID": int(known)} for one in _people(told)]
    return Reply(200, {"Messages": [{"Status": "success", "CustomID": _mail(told).get("CustomID", ""), "To": people}]})


PLUG = Plug(
    path=r"/v3\.1/send",
    proven=lambda told, secrets: basic(told, secrets["api_key"], secrets["secret_key"]),
    rules=(
        (_mail, _error(400, "Messages is missing", "Messages")),
        (lambda told: _people(told) and all(map(is_address, _people(told))), _error(400, "invalid", "To[0].Email")),
        (lambda told: is_address(_mail(told)["From"]["Email"]), _error(400, "invalid", "From.Email")),
        (lambda told: _mail(told).get("TextPart") or _mail(told).get("HTMLPart"), _error(400, "needed", "TextPart")),
        (_are_headers, _error(400, "Header cannot be customized using the Headers collection.", "Headers")),
    ),
    took=_took,
    to=_people,
    event=_event,
    answers={
        "unauthorised": Reply(
            401, {"ErrorIdentifier": "f9", "StatusCode": 401, "ErrorMessage": "authentication failed"}
        ),
        "throttle": Reply(429, {"StatusCode": 429, "ErrorMessage": "Too many requests"}, {"Retry-After": "7"}),
        "error": Reply(500, {"StatusCode": 500, "ErrorMessage": "Internal Server Error"}),
        "bad_recipient": _error(400, '"ada@example.com" is an invalid email address.', "To[0].Email"),
        "bad_header": _error(400, "Header cannot be customized using the Headers collection.", "Headers"),
        "unverified": _error(403, "not an authorized sender email address for your account.", "From"),
        "bad_request": _error(400, "something else", "Globals"),
        "forbidden": Reply(403, {"StatusCode": 403, "ErrorMessage": "Operation not allowed"}),
    },
    new_id=lambda digits: str(int(digits[:14], 16) | 1 << 56),
)
