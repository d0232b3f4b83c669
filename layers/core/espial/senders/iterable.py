"""Iterable: `POST /api/email/target`, a triggered campaign for one address.

Source: Iterable's API reference (TargetEmailRequest, response codes). There is no idempotency key. System webhooks
carry `metadata` back, which is the send key; where in a report it stands is not confirmed. Iterable takes no finished
e-mail: the campaign's template prints the data fields.
"""

from __future__ import annotations

from typing import Literal

from espial.answers import Answer
from espial.messages import Message
from espial.senders import EVERYTHING, Kind
from espial.senders._by_http import JSON, HttpSender, Request, as_json, inside
from espial.senders._campaigns import NumberedCampaigns, campaign_of, merged

_HOSTS = {"us": "https://api.iterable.com", "eu": "https://api.eu.iterable.com"}


class IterableSettings(NumberedCampaigns):
    """`campaign` is a triggered campaign's number."""

    region: Literal["us", "eu"] = "us"


class Iterable(HttpSender):
    """One project."""

    features = EVERYTHING - {"also_to"}
    settings_model = IterableSettings
    codes = {  # noqa: RUF012 - a constant
        "BadApiKey": "unauthorised",
        "BadAuthorizationHeader": "unauthorised",
        "Forbidden": "forbidden",
        "InvalidEmailAddressError": "recipient_invalid",
        "ForgottenUserError": "recipient_suppressed",
        "RateLimitExceeded": 1.0,
    }

    def address(self) -> str:
        """By the region."""
        return super().address() or _HOSTS[self.settings.region]

    def request(self, message: Message) -> Request:
        """Every occasion is a message of its own, so repeats of a campaign are allowed."""
        said = {
            "campaignId": int(campaign_of(self.settings, message)),
            "recipientEmail": message.to,
            "dataFields": merged(message),
            "metadata": {**message.tags, "send_key": message.send_key},
            "allowRepeatMarketingSends": True,
        }
        return Request("/api/email/target", {**JSON, "Api-Key": self.secret("api_key")}, as_json(said))

    def taken(self, answer: Answer) -> str | None:
        """The code `Success`; Iterable names the message in its reports only."""
        return "" if inside(answer, "code") == "Success" else None

    def code(self, answer: Answer) -> str:
        """Iterable's own."""
        return str(inside(answer, "code") or "")


SENDER = Kind(title="Iterable", open=Iterable, secrets=("api_key",), settings=IterableSettings)
