"""mParticle: `POST /v2/events`; a custom event, for whatever is connected there to act upon.

Source: mParticle's HTTP API reference, its OpenAPI file and default service limits. There is no idempotency key. Events
that mParticle forwards carry their attributes back, among them the send key, but say nothing of the message.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from espial.answers import Answer
from espial.errors import Refused
from espial.messages import Message
from espial.senders import EVERYTHING, Kind
from espial.senders._by_http import JSON, HttpSender, Request, as_json, basic
from espial.senders._campaigns import OnlyCampaigns, campaign_of, flat

LONGEST_ATTRIBUTE = 4096


class MparticleSettings(OnlyCampaigns):
    """`campaign` is the event's name; `content` says whether HTML and text go along, which have to be short then."""

    pod: Literal["us1", "us2", "eu1", "au1"] = "us1"
    api_key: Annotated[str, Field(min_length=1)]
    environment: Literal["production", "development"] = "production"
    content: bool = False


class Mparticle(HttpSender):
    """One workspace's server feed."""

    features = EVERYTHING - {"also_to"}
    not_taken = frozenset({503})
    settings_model = MparticleSettings

    def address(self) -> str:
        """By the pod."""
        return super().address() or f"https://s2s.{self.settings.pod}.mparticle.com"

    def request(self, message: Message) -> Request:
        """Attributes are texts of a limited length. Raises Refused("message_too_large")."""
        attributes = flat(message)
        if not self.settings.content:
            attributes = {name: value for name, value in attributes.items() if name not in ("html", "text")}
        if long := [name for name, value in attributes.items() if len(value) > LONGEST_ATTRIBUTE]:
            raise Refused("message_too_large", f"{long[0]} has more than {LONGEST_ATTRIBUTE} characters")
        data = {
            "event_name": campaign_of(self.settings, message),
            "custom_event_type": "other",
            "source_message_id": message.send_key,
            "timestamp_unixtime_ms": int(self._ways.clock().timestamp() * 1000),
            "custom_attributes": attributes,
        }
        known = {"customer_id": message.external_id} if message.external_id else {}
        said = {
            "environment": self.settings.environment,
            "user_identities": {"email": message.to, **known},
            "events": [{"event_type": "custom_event", "data": data}],
        }
        proof = basic(self.settings.api_key, self.secret("api_secret"))
        return Request("/v2/events", {**JSON, "Authorization": proof}, as_json(said))

    def taken(self, answer: Answer) -> str | None:
        """202; mParticle names the event later."""
        return "" if answer.status == 202 else None

    def explained(self, answer: Answer, key: str) -> Exception:
        """A wrong key is forbidden here, a missing one unauthorised."""
        if answer.status == 403:
            return Refused("unauthorised", "HTTP 403")
        return super().explained(answer, key)


SENDER = Kind(title="mParticle", open=Mparticle, secrets=("api_secret",), settings=MparticleSettings)
