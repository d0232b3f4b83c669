"""Klaviyo: `POST /api/events`; an event of a profile, which starts a flow that sends the message.

Source: Klaviyo's API reference (Create Event; rate limits, status codes and errors). `unique_id` is the idempotency
key: of a metric's events of one profile Klaviyo records the first of an id. Klaviyo has no call that sends a finished
e-mail to one person.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from espial.answers import Answer
from espial.messages import Message
from espial.senders import EVERYTHING, Kind
from espial.senders._by_http import JSON, HttpSender, Request, as_json, inside
from espial.senders._campaigns import OnlyCampaigns, campaign_of, merged


class KlaviyoSettings(OnlyCampaigns):
    """`campaign` is the metric, by its name, that the flow waits for; `revision` the version of the API."""

    revision: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}(\.[a-z]+)?$")] = "2025-01-15"


class Klaviyo(HttpSender):
    """One account."""

    features = EVERYTHING - {"also_to"}
    idempotent = True
    host = "https://a.klaviyo.com"
    settings_model = KlaviyoSettings
    codes = {  # noqa: RUF012 - a constant
        "authentication_failed": "unauthorised",
        "not_authenticated": "unauthorised",
        "permission_denied": "forbidden",
        "invalid email": "recipient_invalid",
        "throttled": 1.0,
    }

    def request(self, message: Message) -> Request:
        """The profile is found or made by its address."""
        profile = {"email": message.to, **({"external_id": message.external_id} if message.external_id else {})}
        metric = {"name": campaign_of(self.settings, message)}
        attributes = {
            "unique_id": message.send_key,
            "metric": {"data": {"type": "metric", "attributes": metric}},
            "profile": {"data": {"type": "profile", "attributes": profile}},
            "properties": merged(message),
        }
        headers = {
            **JSON,
            "Authorization": f"Klaviyo-API-Key {self.secret('api_key')}",
            "revision": self.settings.revision,
        }
        return Request("/api/events", headers, as_json({"data": {"type": "event", "attributes": attributes}}))

    def taken(self, answer: Answer) -> str | None:
        """202 without a body: Klaviyo names the event by our own key."""
        return "" if answer.status == 202 else None

    def code(self, answer: Answer) -> str:
        """The first error's code; of what is invalid with the field that is to blame."""
        code, at = str(inside(answer, "errors", 0, "code") or ""), inside(answer, "errors", 0, "source", "pointer")
        return f"{code} {at.rpartition('/')[2]}" if code == "invalid" and isinstance(at, str) else code


SENDER = Kind(title="Klaviyo", open=Klaviyo, secrets=("api_key",), settings=KlaviyoSettings)
