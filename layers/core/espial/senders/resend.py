"""Resend: `POST /emails`.

Source: Resend's API reference (Send Email, Errors, Idempotency Keys); django-anymail for names that are refused. A key
is taken once in 24 hours. Events of the message carry its tags back, among them the send key.
"""

from __future__ import annotations

import re

from espial.answers import LONGEST_WAIT, Answer
from espial.messages import Message
from espial.senders import ApiSettings, Kind, named
from espial.senders._by_http import JSON, HttpSender, Request, as_json, inside, unquoted

LONGEST_TAG = 256
_UNSAFE_IN_TAG = re.compile(r"[^A-Za-z0-9_-]")


class Resend(HttpSender):
    """One account. A key that came with another body belongs to a message that was taken: ours, rendered earlier."""

    host = "https://api.resend.com"
    key_header = "Idempotency-Key"
    idempotent = True
    taken_before = frozenset({"invalid_idempotent_request"})
    codes = {  # noqa: RUF012 - a constant
        "concurrent_idempotent_requests": 5.0,
        "daily_quota_exceeded": LONGEST_WAIT,
        "monthly_quota_exceeded": LONGEST_WAIT,
        "invalid_api_key": "unauthorised",
        "missing_api_key": "unauthorised",
        "restricted_api_key": "unauthorised",
        "invalid_from_address": "from_invalid",
        "security_error": "content_refused",
    }

    def request(self, message: Message) -> Request:
        """Names stand as they are read, without what would need quotes; tags have letters, digits, `_` and `-`."""
        name, sender = named(message.from_)
        name = unquoted(name)
        tags = {**message.tags, "send_key": message.send_key}
        said = {
            "from": f"{name} <{sender}>" if name else sender,
            "to": [message.to, *message.also_to],
            "reply_to": message.reply_to,
            "subject": message.subject,
            "html": message.html,
            "text": message.text,
            "headers": dict(message.headers),
            "tags": [
                {"name": name, "value": _UNSAFE_IN_TAG.sub("_", value)[:LONGEST_TAG]} for name, value in tags.items()
            ],
        }
        return Request("/emails", {**JSON, "Authorization": f"Bearer {self.secret('api_key')}"}, as_json(said))

    def taken(self, answer: Answer) -> str | None:
        """200, with the id."""
        known = inside(answer, "id")
        return known if isinstance(known, str) else None

    def code(self, answer: Answer) -> str:
        """The error's name."""
        return str(inside(answer, "name") or "")


SENDER = Kind(title="Resend", open=Resend, secrets=("api_key",), settings=ApiSettings)
