"""SparkPost: `POST /api/v1/transmissions`.

Source: SparkPost's API reference (Transmissions) and its extended error codes. There is no idempotency key. Events of
the message carry its metadata back, among them the send key. What is sent is finished: substitutions are off.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from espial.answers import LONGEST_WAIT, Answer
from espial.errors import Refused
from espial.messages import Message
from espial.senders import ApiSettings, Kind, named
from espial.senders._by_http import JSON, HttpSender, Request, as_json, inside

LONGEST_CAMPAIGN = 64
_HOSTS = {"us": "https://api.sparkpost.com", "eu": "https://api.eu.sparkpost.com"}


class SparkPostSettings(ApiSettings):
    """`subaccount` is the number of one."""

    region: Literal["us", "eu"] = "us"
    subaccount: Annotated[int, Field(ge=1)] | None = None
    ip_pool: str = ""


class SparkPost(HttpSender):
    """One account or subaccount."""

    settings_model = SparkPostSettings
    codes = {  # noqa: RUF012 - a constant
        "1100": "unauthorised",
        "1303": "unauthorised",
        "1304": "unauthorised",
        "1502": 15.0,
        "1601": "account_suspended",
        "1900": 15.0,
        "1901": "content_invalid",
        "1902": "recipient_suppressed",
        "2101": LONGEST_WAIT,  # so many an hour
        "2103": "account_suspended",
        "3000": "content_invalid",
        "3001": "content_invalid",
        "3002": "header_invalid",
        "3010": "content_invalid",
        "5002": "recipient_invalid",
        "7000": "from_not_verified",
        "7001": "from_not_verified",
    }

    def address(self) -> str:
        """By the region."""
        return super().address() or _HOSTS[self.settings.region]

    def request(self, message: Message) -> Request:
        """Everybody is shown in the To header, as on other platforms."""
        name, sender = named(message.from_)
        people = (message.to, *message.also_to)
        content = {
            "from": {"email": sender, **({"name": name} if name else {})},
            "subject": message.subject,
            "text": message.text,
            "html": message.html,
            "reply_to": message.reply_to,
            "headers": dict(message.headers),
        }
        options = {"perform_substitutions": False, "ip_pool": self.settings.ip_pool or None}
        said = {
            "recipients": [{"address": {"email": one, "header_to": ", ".join(people)}} for one in people],
            "content": {name: fact for name, fact in content.items() if fact},
            "campaign_id": next(iter(message.tags.values()), "")[:LONGEST_CAMPAIGN],
            "metadata": {**message.tags, "send_key": message.send_key},
            "options": {name: fact for name, fact in options.items() if fact is not None},
        }
        headers = {**JSON, "Authorization": self.secret("api_key")}
        if self.settings.subaccount:
            headers["X-MSYS-SUBACCOUNT"] = str(self.settings.subaccount)
        return Request("/api/v1/transmissions", headers, as_json(said))

    def taken(self, answer: Answer) -> str | None:
        """The transmission's id. It may have been made without a recipient that was accepted."""
        known = inside(answer, "results", "id")
        if isinstance(known, str) and inside(answer, "results", "total_accepted_recipients") == 0:
            raise Refused("recipient_invalid", "no recipient was accepted")
        return known if isinstance(known, str) else None

    def code(self, answer: Answer) -> str:
        """The first extended error code."""
        return str(inside(answer, "errors", 0, "code") or "")


SENDER = Kind(title="SparkPost", open=SparkPost, secrets=("api_key",), settings=SparkPostSettings)
