"""Mailchimp Transactional (Mandrill): `POST /api/1.0/messages/send.json` (its API reference)."""

from __future__ import annotations

from hmac import compare_digest
from typing import Any

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Plug, Told, is_address

LONGEST_TAG = 50


def _error(code: int, name: str, message: str, status: int = 500) -> Reply:
    return Reply(status, {"status": "error", "code": code, "name": name, "message": message})


def _verdict(status: str, reason: str | None = None) -> Reply:
    return Reply(200, [{"email": "ada@example.com", "status": status, "reject_reason": reason, "_id": "0" * 32}])


def _people(told: Told) -> list[str]:
    return [one["email"] for one in told.said["message"]["to"]]


def _are_tags(told: Told) -> bool:
    return all(len(one) <= LONGEST_TAG and one[:1] != "_" for one in told.said["message"].get("tags", []))


def _is_finished(told: Told) -> bool:
    message = told.said["message"]
    return message.get("merge") is False or "*|" not in message.get("html", "") + message.get("text", "")


def _event(told: Told, known: str) -> dict[str, Any]:
    message = told.said["message"]
    return {
        "event": "delivered",
        "ts": 1768471201,
        "_id": known,
        "msg": {
            "ts": 1768471200,
            "_id": known,
            "email": _people(told)[0],
            "sender": message["from_email"],
            "subject": message["subject"],
            "tags": message.get("tags", []),
            "metadata": message.get("metadata", {}),
            "state": "sent",
        },
    }


_INVALID = _error(-2, "ValidationError", 'You must specify a valid "message" value')

PLUG = Plug(
    path=r"/api/1\.0/messages/send(\.json)?",
    proven=lambda told, secrets: compare_digest(
        str((told.said or {}).get("key")).encode(), secrets["api_key"].encode()
    ),
    rules=(
        (lambda told: _people(told) and all(map(is_address, _people(told))), _INVALID),
        (lambda told: is_address(told.said["message"]["from_email"]), _INVALID),
        (lambda told: told.said["message"].get("text") or told.said["message"].get("html"), _INVALID),
        (lambda told: all(one.isprintable() for one in told.said["message"].get("headers", {}).values()), _INVALID),
        (_are_tags, _INVALID),
        (_is_finished, _error(-1, "GeneralError", "a merge tag is not known")),
    ),
    took=lambda told, known: Reply(
        200, [{"email": one, "status": "queued", "reject_reason": None, "_id": known} for one in _people(told)]
    ),
    to=_people,
    event=_event,
    answers={
        "unauthorised": _error(-1, "Invalid_Key", "Invalid API key"),
        "throttle": Reply(429, {"message": "Too many requests"}, {"Retry-After": "7"}),
        "error": _error(-99, "GeneralError", "An unexpected error occurred processing the request."),
        "unpaid": _error(-4, "PaymentRequired", "The requested feature requires payment."),
        "unknown_subaccount": _error(12, "Unknown_Subaccount", "No subaccount exists with the id"),
        "bad_request": _INVALID,
        "suppressed": _verdict("rejected", "hard-bounce"),
        "unsubscribed": _verdict("rejected", "unsub"),
        "unsigned": _verdict("rejected", "unsigned"),
        "rule": _verdict("rejected", "rule"),
        "bad_recipient": _verdict("invalid"),
        "new_reason": _verdict("rejected", "something-new"),
    },
    new_id=lambda digits: digits[:32],
)
