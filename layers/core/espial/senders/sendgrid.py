"""SendGrid: `POST /v3/mail/send`.

Source: Twilio's SendGrid API reference (Mail Send, its errors, EU data residency). There is no idempotency key. Events
of the message carry its custom arguments back, among them the send key.
"""

from __future__ import annotations

import re
from typing import Literal

from espial.answers import Answer
from espial.messages import Message
from espial.senders import ApiSettings, Kind, named
from espial.senders._by_http import JSON, HttpSender, Request, as_json, inside

_HOSTS = {"us": "https://api.sendgrid.com", "eu": "https://api.eu.sendgrid.com"}
_FIELD = re.compile(r"\.\d+")


class SendGridSettings(ApiSettings):
    """A subuser of the EU has its own API."""

    region: Literal["us", "eu"] = "us"
    ip_pool: str = ""


class SendGrid(HttpSender):
    """One account or subuser."""

    settings_model = SendGridSettings
    not_taken = frozenset({503})
    codes = {  # noqa: RUF012 - a constant
        "personalizations.to.email": "recipient_invalid",
        "personalizations.to": "recipient_invalid",
        "from.email": "from_invalid",
        "from": "from_not_verified",
        "content": "content_invalid",
        "content.value": "content_invalid",
        "subject": "content_invalid",
        "headers": "header_invalid",
    }

    def address(self) -> str:
        """By the region."""
        return super().address() or _HOSTS[self.settings.region]

    def request(self, message: Message) -> Request:
        """Plain text first, as SendGrid demands. Custom arguments are text; headers and content may not be empty."""
        name, sender = named(message.from_)
        content = (("text/plain", message.text), ("text/html", message.html))
        said = {
            "personalizations": [{"to": [{"email": one} for one in (message.to, *message.also_to)]}],
            "from": {"email": sender, **({"name": name} if name else {})},
            "reply_to": {"email": named(message.reply_to)[1]} if message.reply_to else None,
            "subject": message.subject,
            "content": [{"type": kind, "value": value} for kind, value in content if value],
            "headers": dict(message.headers),
            "categories": [value[:255] for value in message.tags.values()],
            "custom_args": {**message.tags, "send_key": message.send_key},
            "ip_pool_name": self.settings.ip_pool,
        }
        headers = {**JSON, "Authorization": f"Bearer {self.secret('api_key')}"}
        return Request("/v3/mail/send", headers, as_json(said))

    def taken(self, answer: Answer) -> str | None:
        """202 without a body."""
        return answer.headers.get("x-message-id", "") if answer.status == 202 else None

    def code(self, answer: Answer) -> str:
        """The field that is to blame, without the numbers in it."""
        return _FIELD.sub("", str(inside(answer, "errors", 0, "field") or ""))


SENDER = Kind(title="SendGrid", open=SendGrid, secrets=("api_key",), settings=SendGridSettings)
