"""SendGrid: `POST /v3/mail/send` (Twilio's API reference, Mail Send and its errors)."""

from __future__ import annotations

from typing import Any

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Plug, Told, bearer, is_address

MOST_RECIPIENTS, MOST_CATEGORIES, LONGEST_CATEGORY, LARGEST_ARGUMENTS = 1000, 10, 255, 10_000

_RESERVED = frozenset(
    {
        *("x-sg-id", "x-sg-eid", "received", "dkim-signature", "content-type", "content-transfer-encoding"),
        *("to", "from", "subject", "reply-to", "cc", "bcc"),
    }
)


def _error(status: int, message: str, name: str | None = None) -> Reply:
    return Reply(status, {"errors": [{"message": message, "field": name, "help": None}]})


def _people(told: Told) -> list[Any]:
    return [one for block in told.said["personalizations"] for one in block["to"]]


def _is_content(told: Told) -> bool:
    """The text comes first, and nothing is empty."""
    content = told.said["content"]
    kinds = [one["type"] for one in content]
    return kinds in (["text/plain"], ["text/html"], ["text/plain", "text/html"]) and all(
        one["value"] for one in content
    )


def _are_headers(told: Told) -> bool:
    headers = told.said.get("headers", {"X": ""})
    return headers and all(one.lower() not in _RESERVED and isinstance(headers[one], str) for one in headers)


def _are_arguments(told: Told) -> bool:
    arguments = told.said.get("custom_args", {})
    return all(isinstance(one, str) for one in arguments.values()) and len(str(arguments)) < LARGEST_ARGUMENTS


def _are_categories(told: Told) -> bool:
    categories = told.said.get("categories", [])
    return len(categories) <= MOST_CATEGORIES and all(len(one) <= LONGEST_CATEGORY for one in categories)


RULES = (
    (_people, _error(400, "The personalizations field is required and must have at least one personalization.")),
    (lambda told: len(_people(told)) <= MOST_RECIPIENTS, _error(400, "There is a limit of 1000 total recipients.")),
    (
        lambda told: all(is_address(one["email"]) for one in _people(told)),
        _error(400, "Does not contain a valid address.", "personalizations.0.to.0.email"),
    ),
    (
        lambda told: len({one["email"].lower() for one in _people(told)}) == len(_people(told)),
        _error(400, "Each email address in the personalization block should be unique.", "personalizations"),
    ),
    (lambda told: is_address(told.said["from"]["email"]), _error(400, "Not a valid address.", "from.email")),
    (lambda told: told.said["subject"], _error(400, "The subject is required.", "subject")),
    (_is_content, _error(400, "The content must be text/plain, then text/html, and not empty.", "content.0.value")),
    (_are_headers, _error(400, "A header is reserved, or no text.", "headers")),
    (_are_categories, _error(400, "There are too many categories, or one is too long.", "categories")),
    (_are_arguments, _error(400, "Bad Request")),
)


def _event(told: Told, known: str) -> dict[str, Any]:
    """Custom arguments are merged into the event."""
    said = told.said
    return {
        **said.get("custom_args", {}),
        "email": said["personalizations"][0]["to"][0]["email"],
        "timestamp": 1767225601,
        "event": "delivered",
        "category": said.get("categories", []),
        "sg_event_id": f"ev-{known}",
        "sg_message_id": f"{known}.recvd-5b7-1-65A-3.0",
        "response": "250 OK",
    }


PLUG = Plug(
    path="/v3/mail/send",
    proven=bearer("api_key"),
    rules=RULES,
    took=lambda _told, known: Reply(202, None, {"X-Message-Id": known}),
    to=lambda told: [one["email"] for one in _people(told)],
    event=_event,
    answers={
        "unauthorised": _error(401, "The provided authorization grant is invalid, expired, or revoked"),
        "throttle": Reply(429, {"errors": [{"message": "too many requests"}]}, {"Retry-After": "7"}),
        "error": _error(500, "Internal Server Error"),
        "unavailable": _error(503, "The SendGrid v3 Web API is not available."),
        "bad_recipient": _error(400, "Does not contain a valid address.", "personalizations.0.to.0.email"),
        "bad_content": _error(400, "The content value must be a string at least one character in length.", "content"),
        "unverified": _error(403, "The from address does not match a verified Sender Identity.", "from"),
        "forbidden": _error(403, "access forbidden"),
        "too_large": _error(413, "The JSON payload you have included in your request is too large."),
    },
)
