"""Marigold (Cheetah Digital): a POST of JSON whose address, proof and fields the settings say.

Nothing of it is confirmed: the vendor's products differ, and none publishes its API. Every name here is a guess at the
usual one. There is no idempotency key. Events that repeat `metadata` carry the send key back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from espial.answers import Answer
from espial.definitions.fields import https_url
from espial.messages import Message
from espial.senders import EVERYTHING, Kind
from espial.senders._by_http import JSON, HttpSender, Request, as_json, inside
from espial.senders._campaigns import CampaignSettings, campaign_of, merged

NAMES = {
    "to": "recipient",
    "external_id": "customerId",
    "campaign": "campaignId",
    "send_key": "metadata.send_key",
    **{name: name for name in ("from", "subject", "html", "text", "tags", "headers")},
    "reply_to": "replyTo",
    "unsubscribe_url": "unsubscribeUrl",
}
"""What is said -> the field that says it, with dots between the names of nested ones."""


class CheetahSettings(CampaignSettings):
    """`names` replaces those of NAMES; an empty one leaves that out. `id` is the answer's field of the message's id."""

    base_url: Annotated[str, AfterValidator(https_url)] = Field(description="Where your product's API is.")
    path: Annotated[str, Field(pattern=r"^/[\x21-\x7e]*$")] = "/"
    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] = "Authorization"
    scheme: Annotated[str, Field(pattern=r"^[\x20-\x7e]*$")] = "Bearer "
    names: Mapping[str, Annotated[str, Field(pattern=r"^[\w.-]*$")]] = Field(default_factory=dict)
    id: Annotated[str, Field(pattern=r"^[\w.-]+$")] = "id"


class Cheetah(HttpSender):
    """One API of one product."""

    features = EVERYTHING - {"also_to"}
    settings_model = CheetahSettings

    def request(self, message: Message) -> Request:
        """Only a campaign's content is Marigold's own."""
        settings = self.settings
        facts = {**merged(message), "to": message.to, "external_id": message.external_id}
        if settings.mode == "campaign":
            facts["campaign"] = campaign_of(settings, message)
        said: dict[str, Any] = {}
        for ours, theirs in {**NAMES, **settings.names}.items():
            if theirs and facts.get(ours):
                _put(said, theirs, facts[ours])
        headers = {**JSON, settings.header: f"{settings.scheme}{self.secret('token')}"}
        return Request(settings.path, headers, as_json(said))

    def taken(self, answer: Answer) -> str | None:
        """Where the settings say its id is."""
        known = inside(answer, *self.settings.id.split("."))
        return str(known) if isinstance(known, str | int) and known else None


def _put(said: dict[str, Any], path: str, value: Any) -> None:
    *places, last = path.split(".")
    for place in places:
        said = said.setdefault(place, {})
    said[last] = value


SENDER = Kind(title="Marigold (Cheetah Digital)", open=Cheetah, secrets=("token",), settings=CheetahSettings)
