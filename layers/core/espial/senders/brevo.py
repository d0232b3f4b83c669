"""Brevo: `POST /v3/smtp/email`.

Source: Brevo's API reference (Send a transactional email, Idempotency, changelog); django-anymail for names that are
lost. Its `idempotencyKey` holds for 15 or 30 minutes, as its pages say differently: too short to repeat until an answer
comes, so it is sent, and not relied on. Events carry `X-Mailin-custom` back, with the send key.
"""

from __future__ import annotations

import orjson

from espial.answers import Answer
from espial.messages import Message
from espial.senders import ApiSettings, Kind, named
from espial.senders._by_http import JSON, HttpSender, Request, as_json, inside, unquoted


class Brevo(HttpSender):
    """One account."""

    host = "https://api.brevo.com"
    codes = {  # noqa: RUF012 - a constant
        "unauthorized": "unauthorised",
        "permission_denied": "forbidden",
        "account_under_validation": "account_suspended",
        "not_enough_credits": "account_suspended",
        "invalid_parameter": "request_invalid",
        "missing_parameter": "request_invalid",
    }

    def request(self, message: Message) -> Request:
        """The key is written as a UUID. A name beyond ASCII that needs quotes is lost: it is made to need none."""
        custom = orjson.dumps({"send_key": message.send_key}).decode()
        digits = message.send_key[-32:]
        key = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
        name, sender = named(message.from_)
        said = {
            "sender": {"email": sender, **({"name": name if name.isascii() else unquoted(name)} if name else {})},
            "to": [{"email": one} for one in (message.to, *message.also_to)],
            "replyTo": {"email": named(message.reply_to)[1]} if message.reply_to else None,
            "subject": message.subject,
            "htmlContent": message.html,
            "textContent": message.text,
            "headers": {**message.headers, "X-Mailin-custom": custom, "idempotencyKey": key},
            "tags": list(message.tags.values()),
        }
        return Request("/v3/smtp/email", {**JSON, "api-key": self.secret("api_key")}, as_json(said))

    def taken(self, answer: Answer) -> str | None:
        """201, with the id in brackets, as in events."""
        known = inside(answer, "messageId")
        return known if isinstance(known, str) else None

    def code(self, answer: Answer) -> str:
        """The error's code."""
        return str(inside(answer, "code") or "")


SENDER = Kind(title="Brevo", open=Brevo, secrets=("api_key",), settings=ApiSettings)
