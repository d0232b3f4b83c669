"""Mailjet: `POST /v3.1/send`.

Source: Mailjet's Send API v3.1 guide and its answers. There is no idempotency key. Events of the message carry its
CustomID and EventPayload back; the send key is in both.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Literal

import orjson

from espial.answers import Answer
from espial.messages import Message
from espial.senders import ApiSettings, Kind, named
from espial.senders._by_http import JSON, HttpSender, Request, as_json, inside

_HOSTS = {"eu": "https://api.mailjet.com", "us": "https://api.us.mailjet.com"}
_NUMBER = re.compile(r"\[\d+\]")


class MailjetSettings(ApiSettings):
    """Accounts on the American servers have their own API."""

    region: Literal["eu", "us"] = "eu"


class Mailjet(HttpSender):
    """One API key pair."""

    settings_model = MailjetSettings
    codes = {  # noqa: RUF012 - a constant
        "To": "recipient_invalid",
        "To.Email": "recipient_invalid",
        "From": "from_not_verified",
        "From.Email": "from_invalid",
        "TextPart": "content_invalid",
        "HTMLPart": "content_invalid",
        "Subject": "content_invalid",
        "Headers": "header_invalid",
    }

    def address(self) -> str:
        """By the region."""
        return super().address() or _HOSTS[self.settings.region]

    def request(self, message: Message) -> Request:
        """One message, whose recipients see each other."""
        name, sender = named(message.from_)
        mail = {
            "From": {"Email": sender, **({"Name": name} if name else {})},
            "To": [{"Email": one} for one in (message.to, *message.also_to)],
            "ReplyTo": {"Email": named(message.reply_to)[1]} if message.reply_to else None,
            "Subject": message.subject,
            "TextPart": message.text,
            "HTMLPart": message.html,
            "Headers": dict(message.headers),
            "CustomID": message.send_key,
            "EventPayload": orjson.dumps({**message.tags, "send_key": message.send_key}).decode(),
        }
        proof = b64encode(f"{self.secret('api_key')}:{self.secret('secret_key')}".encode()).decode()
        said = {"Messages": [{name: fact for name, fact in mail.items() if fact}]}
        return Request("/v3.1/send", {**JSON, "Authorization": f"Basic {proof}"}, as_json(said))

    def taken(self, answer: Answer) -> str | None:
        """The id of the first recipient's message."""
        known = inside(answer, "Messages", 0, "To", 0, "MessageID")
        return str(known) if known and inside(answer, "Messages", 0, "Status") == "success" else None

    def code(self, answer: Answer) -> str:
        """What the error is related to, without numbers."""
        return _NUMBER.sub("", str(inside(answer, "Messages", 0, "Errors", 0, "ErrorRelatedTo", 0) or ""))


SENDER = Kind(title="Mailjet", open=Mailjet, secrets=("api_key", "secret_key"), settings=MailjetSettings)
