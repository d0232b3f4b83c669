"""Airship: `POST /api/create-and-send` (its API; its Python library for the limits of campaigns)."""

from __future__ import annotations

from typing import Any

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Plug, Told, is_address
from espial.cli.simulators.senders._shared import by_anybody

MOST_CATEGORIES, LONGEST_CATEGORY = 10, 64


def _error(status: int, code: int, message: str) -> Reply:
    return Reply(status, {"ok": False, "error": message, "error_code": code})


def _people(told: Told) -> list[Any]:
    return list(told.said["audience"]["create_and_send"])


def _email(told: Told) -> Any:
    return told.said["notification"]["email"]


def _is_email(told: Told) -> bool:
    email = _email(told)
    content = email.get("template", {}).get("template_id") or (email["subject"] and email["plaintext_body"])
    return all(
        (
            content,
            email["message_type"] in ("commercial", "transactional"),
            is_address(email["sender_address"]),
            is_address(email["reply_to"]),
            "headers" not in email,
        )
    )


def _may_be_sent(told: Told) -> bool:
    """A commercial e-mail needs a recipient who has opted in."""
    return _email(told)["message_type"] == "transactional" or all("ua_commercial_opted_in" in x for x in _people(told))


def _are_categories(told: Told) -> bool:
    found = told.said.get("campaigns", {"categories": ["x"]})["categories"]
    return 0 < len(found) <= MOST_CATEGORIES and all(0 < len(one) <= LONGEST_CATEGORY for one in found)


def _event(told: Told, known: str) -> dict[str, Any]:
    address = _people(told)[0]["ua_address"]
    return {
        "id": f"aaaa0000-{known}",
        "type": "SEND",
        "offset": "2000000000010",
        "occurred": "2026-01-15T10:00:02.794Z",
        "processed": "2026-01-15T10:00:03.270Z",
        "device": {"channel": "cccc0001", "device_type": "EMAIL", "delivery_address": address},
        "body": {"push_id": known, "campaigns": told.said.get("campaigns", {})},
    }


PLUG = Plug(
    path="/api/create-and-send",
    proven=by_anybody("master_secret"),
    rules=(
        (
            lambda told: told.headers["accept"] == "application/vnd.urbanairship+json; version=3",
            _error(406, 40600, "The version is missing"),
        ),
        (lambda told: told.said["device_types"] == ["email"], _error(400, 40001, "One device type")),
        (
            lambda told: _people(told) and all(is_address(one["ua_address"]) for one in _people(told)),
            _error(400, 40001, "Invalid ua_address"),
        ),
        (_is_email, _error(400, 40001, "Could not parse the email override")),
        (_may_be_sent, _error(400, 40001, "ua_commercial_opted_in is missing")),
        (_are_categories, _error(400, 40001, "Invalid campaigns")),
    ),
    took=lambda _told, known: Reply(202, {"ok": True, "operation_id": "df6a6b50", "push_ids": [known]}),
    to=lambda told: [one["ua_address"] for one in _people(told)],
    event=_event,
    answers={
        "unauthorised": _error(401, 40101, "Unauthorized"),
        "throttle": Reply(429, {"ok": False}, {"Retry-After": "7"}),
        "error": _error(500, 50000, "Internal error"),
        "forbidden": _error(403, 40301, "Create and send is not enabled"),
        "bad_request": _error(400, 40001, "Could not parse request body"),
        "too_large": _error(413, 41301, "Too large"),
    },
    new_id=lambda digits: f"{digits[:8]}-{digits[8:12]}-4000-8000-{digits[12:24]}",
)
