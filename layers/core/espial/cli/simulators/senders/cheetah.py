"""Marigold (Cheetah Digital): a POST of JSON, with the names that the sender guesses at. Nothing of it is confirmed."""

from __future__ import annotations

from typing import Any

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Plug, Told, bearer, is_address


def _error(status: int, message: str) -> Reply:
    return Reply(status, {"error": message})


def _event(told: Told, known: str) -> dict[str, Any]:
    """With what it was told to remember."""
    return {
        "eventType": "DELIVERED",
        "eventId": f"e-{known}",
        "messageId": known,
        "recipient": told.said["recipient"],
        "timestamp": "2026-01-15T10:00:02Z",
        "metadata": told.said["metadata"],
    }


PLUG = Plug(
    path="/.*",
    proven=bearer("token"),
    rules=(
        (lambda told: is_address(told.said["recipient"]), _error(400, "recipient is not valid")),
        (
            lambda told: told.said.get("campaignId") or (told.said["subject"] and told.said["text"]),
            _error(400, "campaignId, or subject and text, is missing"),
        ),
    ),
    took=lambda _told, known: Reply(200, {"id": known}),
    to=lambda told: [told.said["recipient"]],
    event=_event,
    answers={
        "unauthorised": _error(401, "Unauthorized"),
        "throttle": Reply(429, {"error": "Too many requests"}, {"Retry-After": "7"}),
        "error": _error(500, "Internal Server Error"),
        "bad_request": _error(400, "ada@example.com cannot be written to"),
    },
)
