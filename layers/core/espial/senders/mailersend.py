"""MailerSend: `POST /v1/email`.

Source: MailerSend's API reference (Email); django-anymail for its warnings and for what plans allow: headers of one's
own are for Enterprise accounts. There is no idempotency key, nor metadata: events carry the message's tags back, and
the send key is one of them.
"""

from __future__ import annotations

import re

from espial.answers import Answer
from espial.errors import Refused
from espial.messages import Message
from espial.senders import ApiSettings, Kind, named
from espial.senders._by_http import JSON, HttpSender, Request, as_json, document, inside

MOST_TAGS = 5
_NUMBER = re.compile(r"\.\d+")


class MailerSend(HttpSender):
    """One domain."""

    host = "https://api.mailersend.com"
    codes = {  # noqa: RUF012 - a constant
        "to.email": "recipient_invalid",
        "from.email": "from_not_verified",
        "subject": "content_invalid",
        "text": "content_invalid",
        "html": "content_invalid",
        "headers": "header_invalid",
        "tags": "request_invalid",
    }

    def request(self, message: Message) -> Request:
        """The send key is the first tag, lest it be one too many."""
        name, sender = named(message.from_)
        said = {
            "from": {"email": sender, **({"name": name} if name else {})},
            "to": [{"email": one} for one in (message.to, *message.also_to)],
            "reply_to": {"email": named(message.reply_to)[1]} if message.reply_to else None,
            "subject": message.subject,
            "text": message.text,
            "html": message.html,
            "headers": [{"name": name, "value": value} for name, value in message.headers.items()],
            "tags": [message.send_key, *message.tags.values()][:MOST_TAGS],
        }
        return Request("/v1/email", {**JSON, "Authorization": f"Bearer {self.secret('api_token')}"}, as_json(said))

    def taken(self, answer: Answer) -> str | None:
        """202 with an id; without one, and with a warning, if every recipient is suppressed."""
        known = answer.headers.get("x-message-id")
        if not known and inside(answer, "warnings", 0, "type") == "ALL_SUPPRESSED":
            raise Refused("recipient_suppressed")
        return known or None

    def code(self, answer: Answer) -> str:
        """The first field that is to blame, without numbers."""
        said = document(answer)
        errors = said.get("errors") if isinstance(said, dict) else None
        return _NUMBER.sub("", str(next(iter(errors), ""))) if isinstance(errors, dict) else ""


SENDER = Kind(title="MailerSend", open=MailerSend, secrets=("api_token",), settings=ApiSettings)
