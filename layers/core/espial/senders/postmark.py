"""Postmark: `POST /email`.

Source: Postmark's API reference (Email API, error codes); django-anymail for the wording of error 300. There is no
idempotency key. Events of the message carry its metadata back, among them the send key.
"""

from __future__ import annotations

import re

from espial.answers import Answer
from espial.messages import Message
from espial.senders import ApiSettings, Kind
from espial.senders._by_http import JSON, HttpSender, Request, as_json, inside

LONGEST_VALUE, LONGEST_TAG = 80, 1000
_BLAMED = re.compile(r"(?:Invalid|Error parsing) '(To|From)'", re.IGNORECASE)


class PostmarkSettings(ApiSettings):
    """`broadcast` streams are for marketing mail."""

    message_stream: str = "outbound"


class Postmark(HttpSender):
    """One server."""

    host = "https://api.postmarkapp.com"
    settings_model = PostmarkSettings
    codes = {  # noqa: RUF012 - a constant
        "10": "unauthorised",
        "100": 60.0,  # maintenance
        "300 to": "recipient_invalid",
        "300 from": "from_invalid",
        "400": "from_not_verified",
        "401": "from_not_verified",
        "405": "account_suspended",
        "406": "recipient_suppressed",
        "412": "account_suspended",
        "413": "account_suspended",
    }

    def request(self, message: Message) -> Request:
        """Values of metadata may have 80 characters."""
        tags = {name: value[:LONGEST_VALUE] for name, value in message.tags.items()}
        said = {
            "From": message.from_,
            "To": ", ".join((message.to, *message.also_to)),
            "ReplyTo": message.reply_to,
            "Subject": message.subject,
            "HtmlBody": message.html,
            "TextBody": message.text,
            "Headers": [{"Name": name, "Value": value} for name, value in message.headers.items()],
            "Tag": next(iter(message.tags.values()), "")[:LONGEST_TAG],
            "Metadata": {**tags, "send_key": message.send_key},
            "MessageStream": self.settings.message_stream,
        }
        return Request("/email", {**JSON, "X-Postmark-Server-Token": self.secret("server_token")}, as_json(said))

    def taken(self, answer: Answer) -> str | None:
        """A success has the error code 0."""
        known = inside(answer, "MessageID")
        return known if isinstance(known, str) and inside(answer, "ErrorCode") == 0 else None

    def code(self, answer: Answer) -> str:
        """The error code; of 300, an invalid request, with the field that is to blame."""
        code, blamed = str(inside(answer, "ErrorCode") or ""), _BLAMED.match(str(inside(answer, "Message") or ""))
        return f"{code} {blamed[1].lower()}" if code == "300" and blamed else code


SENDER = Kind(title="Postmark", open=Postmark, secrets=("server_token",), settings=PostmarkSettings)
