"""Mailgun: `POST /v3/{domain}/messages`, a form.

Source: Mailgun's API reference (Messages, regions); django-anymail for the answers. There is no idempotency key. Events
of the message carry its variables back, among them the send key.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Annotated, Literal
from urllib.parse import urlencode

from pydantic import Field

from espial.answers import Answer
from espial.messages import Message
from espial.senders import ApiSettings, Kind, named
from espial.senders._by_http import HttpSender, Request, inside

LONGEST_TAG = 128
_HOSTS = {"us": "https://api.mailgun.net", "eu": "https://api.eu.mailgun.net"}
_SAID = re.compile(r"'?(to|from)'? parameter|(not allowed to send)|(Domain not found)", re.IGNORECASE)


class MailgunSettings(ApiSettings):
    """`domain` is the sending domain, where it is not that of the sender's address."""

    region: Literal["us", "eu"] = "us"
    domain: Annotated[str, Field(pattern=r"^([A-Za-z0-9-]+\.)+[A-Za-z0-9-]+$|^$")] = ""


class Mailgun(HttpSender):
    """One sending domain."""

    settings_model = MailgunSettings
    codes = {  # noqa: RUF012 - a constant
        "to": "recipient_invalid",
        "from": "from_invalid",
        "not allowed to send": "account_suspended",
        "domain not found": "from_not_verified",
    }

    def address(self) -> str:
        """By the region."""
        return super().address() or _HOSTS[self.settings.region]

    def request(self, message: Message) -> Request:
        """Tags are ASCII."""
        tags = [value.encode("ascii", "ignore").decode()[:LONGEST_TAG] for value in message.tags.values()]
        headers = {**message.headers, **({"Reply-To": message.reply_to} if message.reply_to else {})}
        form = [
            ("from", message.from_),
            *(("to", one) for one in (message.to, *message.also_to)),
            ("subject", message.subject),
            ("text", message.text),
            *((("html", message.html),) if message.html else ()),
            *(("o:tag", tag) for tag in tags if tag),
            *((f"h:{name}", value) for name, value in headers.items()),
            *((f"v:{name}", value) for name, value in {**message.tags, "send_key": message.send_key}.items()),
        ]
        domain = self.settings.domain or named(message.from_)[1].rpartition("@")[2]
        proof = b64encode(f"api:{self.secret('api_key')}".encode()).decode()
        kind = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": f"Basic {proof}"}
        return Request(f"/v3/{domain}/messages", kind, urlencode(form).encode())

    def taken(self, answer: Answer) -> str | None:
        """Events have the id without its brackets. A wrong path is answered 200 as well, without an id."""
        known = inside(answer, "id")
        return known.strip("<>") if isinstance(known, str) else None

    def code(self, answer: Answer) -> str:
        """What the message of a refusal blames."""
        found = _SAID.search(str(inside(answer, "message") or ""))
        return found[found.lastindex or 0].lower() if found else ""


SENDER = Kind(title="Mailgun", open=Mailgun, secrets=("api_key",), settings=MailgunSettings)
