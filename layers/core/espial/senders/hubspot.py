"""HubSpot: `POST /marketing/v4/email/single-send`, an e-mail of HubSpot's own for one address.

Source: HubSpot's API reference (single send). `sendId` is the idempotency key: of an id one e-mail is sent. HubSpot's
webhooks say nothing of e-mails. The e-mail's template prints the custom properties (`custom.html`).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from espial.answers import Answer
from espial.errors import Refused
from espial.messages import Message
from espial.senders import EVERYTHING, Kind
from espial.senders._by_http import JSON, HttpSender, Request, as_json, inside
from espial.senders._campaigns import NumberedCampaigns, campaign_of, flat

_REFUSALS = {
    "INVALID_TO_ADDRESS": "recipient_invalid",
    "BLOCKED_ADDRESS": "recipient_suppressed",
    "BLOCKED_DOMAIN": "recipient_suppressed",
    "PREVIOUSLY_BOUNCED": "recipient_suppressed",
    "PREVIOUS_SPAM": "recipient_suppressed",
    "PREVIOUSLY_UNSUBSCRIBED_MESSAGE": "recipient_suppressed",
    "PREVIOUSLY_UNSUBSCRIBED_PORTAL": "recipient_suppressed",
    "ADDRESS_LIST_BOMBED": "recipient_suppressed",
    "INVALID_FROM_ADDRESS": "from_invalid",
    "MISSING_CONTENT": "content_invalid",
    "MISSING_TEMPLATE_PROPERTIES": "content_invalid",
    "PORTAL_SUSPENDED": "account_suspended",
    "PORTAL_EXPIRED": "account_suspended",
    "PORTAL_OVER_LIMIT": "account_suspended",
}


class HubSpotSettings(NumberedCampaigns):
    """`campaign` is the e-mail's content id; `path` that of a later version of the API."""

    path: Annotated[str, Field(pattern=r"^/[a-z0-9/-]+$")] = "/marketing/v4/email/single-send"


class HubSpot(HttpSender):
    """One account."""

    features = EVERYTHING - {"also_to"}
    idempotent = True
    host = "https://api.hubapi.com"
    settings_model = HubSpotSettings

    def request(self, message: Message) -> Request:
        """Custom properties are of the e-mail; the contact keeps none of them."""
        said = {
            "emailId": int(campaign_of(self.settings, message)),
            "message": {
                "to": message.to,
                "from": message.from_,
                "sendId": message.send_key,
                **({"replyTo": [message.reply_to]} if message.reply_to else {}),
            },
            "customProperties": flat(message),
        }
        return Request(
            self.settings.path, {**JSON, "Authorization": f"Bearer {self.secret('access_token')}"}, as_json(said)
        )

    def taken(self, answer: Answer) -> str | None:
        """The id to ask for the status by. Where HubSpot has decided already, it may have been against sending."""
        known, result = inside(answer, "statusId"), inside(answer, "sendResult")
        if reason := _REFUSALS.get(result) if isinstance(result, str) else None:
            raise Refused(reason, f"HTTP {answer.status} {result}")
        return known if isinstance(known, str) and known else None


SENDER = Kind(title="HubSpot", open=HubSpot, secrets=("access_token",), settings=HubSpotSettings)
