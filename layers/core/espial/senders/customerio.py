"""Customer.io: `POST /v1/send/email`, a transactional message; its own by id, or ours as it is.

Source: Customer.io's App API reference, its Python client, its reporting webhooks. There is no idempotency key. Reports
of messages sent carry a header with the send key back, if the webhook includes the body content. What is sent is
Liquid to Customer.io.
"""

from __future__ import annotations

from html import escape
from typing import Any, Literal

from espial.answers import Answer
from espial.messages import KEY_HEADER, Message
from espial.senders import EVERYTHING, Kind
from espial.senders._by_http import JSON, HttpSender, Request, as_json, inside
from espial.senders._campaigns import CampaignSettings, campaign_of, liquid, merged

_HOSTS = {"us": "https://api.customer.io", "eu": "https://api-eu.customer.io"}


class CustomerioSettings(CampaignSettings):
    """`campaign` is the transactional message's id or trigger name."""

    region: Literal["us", "eu"] = "us"
    send_to_unsubscribed: bool | None = None


class Customerio(HttpSender):
    """One workspace."""

    features = EVERYTHING - {"also_to"}
    settings_model = CustomerioSettings

    def address(self) -> str:
        """By the region."""
        return super().address() or _HOSTS[self.settings.region]

    def request(self, message: Message) -> Request:
        """A profile is found or made by the external id, else by the address."""
        said: dict[str, Any] = {
            "to": message.to,
            "identifiers": {"id": message.external_id} if message.external_id else {"email": message.to},
            "headers": {**message.headers, KEY_HEADER: message.send_key},
            "reply_to": message.reply_to,
            "send_to_unsubscribed": self.settings.send_to_unsubscribed,
            "message_data": merged(message),
        }
        if self.settings.mode == "campaign":
            said["transactional_message_id"] = campaign_of(self.settings, message)
        else:
            said |= {
                "from": message.from_,
                "subject": liquid(message.subject),
                "body": liquid(message.html or escape(message.text).replace("\n", "<br>\n")),
                "body_plain": liquid(message.text),
                "message_data": {**message.tags, "send_key": message.send_key},
            }
        return Request(
            "/v1/send/email", {**JSON, "Authorization": f"Bearer {self.secret('app_api_key')}"}, as_json(said)
        )

    def taken(self, answer: Answer) -> str | None:
        """The delivery's id, which every report of it carries."""
        known = inside(answer, "delivery_id")
        return known if isinstance(known, str) and known else None


SENDER = Kind(title="Customer.io", open=Customerio, secrets=("app_api_key",), settings=CustomerioSettings)
