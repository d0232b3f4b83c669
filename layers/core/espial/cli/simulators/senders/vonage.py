"""Vonage: `POST /sms/json` (its SMS API reference and error codes)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Plug, Told

LONGEST_REFERENCE = 100


def _error(status: int, message: str) -> Reply:
    """Errors are answered 200 as well."""
    return Reply(200, {"message-count": "1", "messages": [{"status": str(status), "error-text": message}]})


def _proven(told: Told, secrets: Mapping[str, str]) -> bool:
    said = told.said or {}
    return bool(said.get("api_key")) and said.get("api_secret") == [secrets["api_secret"]]


def _is_plain(told: Told) -> bool:
    """Whether no letter would be lost: other than `unicode` holds Western European letters only."""
    return told.said["type"] == ["unicode"] or not re.search(r"[^\x00-\u024f\u0370-\u03ff€]", told.said["text"][0])


def _event(told: Told, known: str) -> dict[str, Any]:
    return {
        "msisdn": told.said["to"][0],
        "to": told.said["from"][0],
        "network-code": "00101",
        "messageId": known,
        "price": "0.03330000",
        "status": "delivered",
        "scts": "2601151000",
        "err-code": "0",
        "api-key": told.said["api_key"][0],
        "message-timestamp": "2026-01-15 10:00:02",
        **({"client-ref": told.said["client-ref"][0]} if "client-ref" in told.said else {}),
    }


PLUG = Plug(
    path="/sms/json",
    form=True,
    proven=_proven,
    rules=(
        (lambda told: told.said["text"][0] and told.said["from"][0], _error(2, "Missing parameters")),
        (
            lambda told: len(told.said["to"]) == 1 and re.fullmatch(r"[1-9][0-9]{6,14}", told.said["to"][0]),
            _error(3, "to address is not numeric"),
        ),
        (
            lambda told: re.fullmatch(r"[1-9][0-9]{2,14}|[A-Za-z0-9 ]{1,11}", told.said["from"][0]),
            _error(15, "Illegal Sender Address - rejected"),
        ),
        (_is_plain, _error(3, "the text needs the type unicode")),
        (
            lambda told: len(told.said.get("client-ref", [""])[0]) <= LONGEST_REFERENCE,
            _error(3, "client-ref is too long"),
        ),
    ),
    took=lambda told, known: Reply(
        200,
        {
            "message-count": "1",
            "messages": [
                {
                    "to": told.said["to"][0],
                    "message-id": known,
                    "status": "0",
                    "remaining-balance": "15.53590000",
                    "message-price": "0.03330000",
                    "network": "00101",
                    "client-ref": told.said.get("client-ref", [""])[0],
                }
            ],
        },
    ),
    to=lambda told: told.said["to"],
    event=_event,
    answers={
        "unauthorised": _error(4, "Bad Credentials"),
        "throttle": _error(1, "Throughput Rate Exceeded - please wait [ 250 ] and retry"),
        "error": _error(5, "Internal Error"),
        "unavailable": Reply(502, {}),
        "missing": _error(2, "Missing from param"),
        "bad_recipient": _error(6, "Unroutable message - rejected"),
        "barred": _error(7, "Number barred"),
        "suspended": _error(8, "Account is barred"),
        "no_credit": _error(9, "Quota Exceeded - rejected"),
        "bad_sender": _error(15, "Illegal Sender Address - rejected"),
        "trial": _error(29, "Non White-listed Destination - rejected"),
    },
    new_id=lambda digits: digits[:16].upper(),
)
