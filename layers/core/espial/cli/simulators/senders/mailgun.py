"""Mailgun: `POST /v3/{domain}/messages` (its API reference, Messages)."""

from __future__ import annotations

from typing import Any

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Plug, Told, basic, is_address, is_mailbox

MOST_RECIPIENTS, MOST_TAGS, LONGEST_TAG = 1000, 10, 128


def _error(status: int, message: str) -> Reply:
    return Reply(status, {"message": message})


def _are_tags(told: Told) -> bool:
    tags = told.said.get("o:tag", [])
    return len(tags) <= MOST_TAGS and all(one.isascii() and len(one) <= LONGEST_TAG for one in tags)


def _are_headers(told: Told) -> bool:
    return all("".join(values).isprintable() for name, values in told.said.items() if name.startswith("h:"))


def _event(told: Told, known: str) -> dict[str, Any]:
    said = told.said
    return {
        "event": "delivered",
        "id": f"ev-{known}",
        "timestamp": 1768471201.52,
        "recipient": said["to"][0],
        "tags": said.get("o:tag", []),
        "campaigns": [],
        "user-variables": {name[2:]: values[0] for name, values in said.items() if name.startswith("v:")},
        "message": {"headers": {"message-id": known, "to": said["to"][0], "subject": said["subject"][0]}},
        "delivery-status": {"code": 250, "message": "OK", "attempt-no": 1},
    }


PLUG = Plug(
    path=r"/v3/[a-z0-9.-]+/messages",
    form=True,
    proven=lambda told, secrets: basic(told, "api", secrets["api_key"]),
    rules=(
        (lambda told: is_mailbox(told.said["from"][0]), _error(400, "from parameter is not a valid address.")),
        (lambda told: all(map(is_address, told.said["to"])), _error(400, "to parameter is not a valid address.")),
        (lambda told: len(told.said["to"]) <= MOST_RECIPIENTS, _error(400, "to parameter has too many recipients.")),
        (lambda told: told.said["subject"][0], _error(400, "subject parameter is missing")),
        (lambda told: told.said["text"][0] or told.said["html"][0], _error(400, "Need at least one of text or html")),
        (_are_tags, _error(400, "too many tags, or one too long")),
        (_are_headers, _error(400, "a header is not on one line")),
    ),
    took=lambda _told, known: Reply(200, {"id": f"<{known}>", "message": "Queued. Thank you."}),
    to=lambda told: told.said["to"],
    event=_event,
    answers={
        "unauthorised": Reply(401, "Forbidden"),
        "throttle": Reply(429, {"message": "Too many requests"}, {"Retry-After": "7"}),
        "error": _error(500, "Internal Server Error"),
        "bad_recipient": _error(400, "to parameter is not a valid address. please check documentation"),
        "bad_sender": _error(400, "from parameter is not a valid address. please check documentation"),
        "not_allowed": _error(403, "Domain shop.example.com is not allowed to send: ask support"),
        "unknown_domain": _error(404, "Domain not found: shop.example.com"),
        "too_large": _error(413, "Request entity too large"),
    },
    new_id=lambda digits: f"20260115100000.1.{digits[:16].upper()}@shop.example.com",
)
