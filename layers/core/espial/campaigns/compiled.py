"""A campaign's trigger: what any trigger is, and what the campaign adds to it when it comes to the message."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any

from pydantic import BaseModel, ConfigDict

from espial.campaigns.outcomes import Outcome
from espial.events import Channel
from espial.people import PersonView
from espial.triggers.definition import Trigger


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Share(_Part):
    """A variant and how many of those who get it.

    provider, template   what is published of it: a webhook variant is a provider of its own name and has no template
    """

    variant: str
    provider: str
    template: str | None = None
    weight: int = 1
    locale: str = ""


class Part(_Part):
    """What belongs to the campaign: its facts for payloads, what it awards, and the variants of this message.

    awards   whether this trigger awards the outcomes: of a behaviour's messages the first one does
    shares   empty where there is no message
    """

    name: str
    behaviour: str = ""
    facts: Mapping[str, Any]
    outcomes: tuple[Outcome, ...] = ()
    awards: bool = False
    channel: Channel = "none"
    shares: tuple[Share, ...] = ()


class CampaignTrigger(Trigger):
    """One message of a campaign, or its outcomes where it has none."""

    campaign: Part

    @property
    def channel(self) -> Any:
        """That of its message."""
        return self.campaign.channel

    @property
    def labels(self) -> dict[str, str | int]:
        """With the campaign, whose messages they are."""
        return {**super().labels, "campaign": self.campaign.name}

    def is_valid(self, at: datetime) -> bool:
        """Whether an instant is in its time frame."""
        return (self.valid_from is None or self.valid_from <= at) and (self.valid_to is None or at < self.valid_to)

    def share(self, person: PersonView, key: str) -> Share | None:
        """The variant that the person gets, the same one for ever: those of their language first, then by weight."""
        language = str(person.attributes.get("locale") or "").lower()
        spoken = [one for one in self.campaign.shares if one.locale and language.startswith(one.locale.lower())]
        shares = spoken or [one for one in self.campaign.shares if not one.locale] or self.campaign.shares
        total = sum(one.weight for one in shares)
        digest = blake2b(f"{self.name}\x1f{person.external_id or key}".encode(), digest_size=8).digest()
        left = int.from_bytes(digest) % max(1, total)
        for one in shares:
            left -= one.weight
            if left < 0:
                return one
        return None


def read(published: Mapping[str, Any]) -> Trigger:
    """A published trigger, whoever wrote it. Raises pydantic.ValidationError."""
    return (CampaignTrigger if "campaign" in published else Trigger).model_validate(published)
