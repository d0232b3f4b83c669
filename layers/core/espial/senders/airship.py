"""Airship: `POST /api/create-and-send`; one e-mail for an address that need not be known.

Source: Airship's API (create and send, campaigns object) and its Python library. There is no idempotency key. Events of
the message carry its categories back, among them the send key. There are no headers of one's own: Airship makes those
for unsubscribing from commercial messages itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from espial.answers import Answer
from espial.messages import Message
from espial.senders import EVERYTHING, Kind, Ways, named
from espial.senders._by_http import JSON, HttpSender, Request, as_json, basic, inside
from espial.senders._campaigns import CampaignSettings, campaign_of, flat

LONGEST_CATEGORY = 64
_HOSTS = {"us": "https://go.urbanairship.com", "eu": "https://go.airship.eu"}


class AirshipSettings(CampaignSettings):
    """`campaign` is a template's id. A commercial message tells Airship that its recipient has opted in."""

    region: Literal["us", "eu"] = "us"
    app_key: Annotated[str, Field(pattern=r"^[\w-]{10,40}$")]
    message_type: Literal["transactional", "commercial"] = "transactional"


class Airship(HttpSender):
    """One project."""

    settings_model = AirshipSettings

    def __init__(self, name: str, provider: Mapping[str, Any], ways: Ways) -> None:
        super().__init__(name, provider, ways)
        without = {"also_to"} if self.settings.mode == "campaign" else {"also_to", "headers"}
        self.features = EVERYTHING - without

    def address(self) -> str:
        """By the region."""
        return super().address() or _HOSTS[self.settings.region]

    def request(self, message: Message) -> Request:
        """What a template prints stands beside the address."""
        settings = self.settings
        name, sender = named(message.from_)
        recipient: dict[str, Any] = {"ua_address": message.to}
        if settings.message_type == "commercial":
            recipient["ua_commercial_opted_in"] = self._ways.clock().strftime("%Y-%m-%dT%H:%M:%SZ")
        email: dict[str, Any] = {
            "message_type": settings.message_type,
            "sender_name": name or sender,
            "sender_address": sender,
            "reply_to": named(message.reply_to)[1] if message.reply_to else sender,
        }
        if settings.mode == "campaign":
            recipient |= flat(message)
            email["template"] = {"template_id": campaign_of(settings, message)}
        else:
            email |= {"subject": message.subject, "plaintext_body": message.text}
            email |= {"html_body": message.html} if message.html else {}
        said = {
            "audience": {"create_and_send": [recipient]},
            "device_types": ["email"],
            "notification": {"email": email},
            "campaigns": {"categories": [message.send_key, *_categories(message)]},
        }
        proof = basic(settings.app_key, self.secret("master_secret"))
        accept = "application/vnd.urbanairship+json; version=3"
        headers = {**JSON, "Accept": accept, "Authorization": proof}
        return Request("/api/create-and-send", headers, as_json(said))

    def taken(self, answer: Answer) -> str | None:
        """The push's id."""
        known = inside(answer, "push_ids", 0)
        return known if isinstance(known, str) and inside(answer, "ok") is True else None


def _categories(message: Message) -> list[str]:
    return [value[:LONGEST_CATEGORY] for value in message.tags.values() if value][:9]


SENDER = Kind(title="Airship", open=Airship, secrets=("master_secret",), settings=AirshipSettings)
