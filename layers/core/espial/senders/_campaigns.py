"""Platforms that start a campaign of theirs, or fill a template of theirs, with what a message says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from espial.errors import Refused
from espial.messages import Message
from espial.senders import ApiSettings


class OnlyCampaigns(ApiSettings):
    """Of platforms that take no finished message. `campaign` is the platform's id of what is started or filled."""

    mode: Literal["campaign"] = "campaign"
    campaign: str = ""
    campaigns: Mapping[str, Annotated[str, Field(min_length=1)]] = Field(
        default_factory=dict, description="Another `campaign` for a template of ours, by the template's name."
    )

    @model_validator(mode="after")
    def _has_a_campaign(self) -> Self:
        if self.mode == "campaign" and not self.campaign and not self.campaigns:
            raise ValueError("campaign is missing: the platform's own id of what is started")
        return self


class NumberedCampaigns(OnlyCampaigns):
    """Of platforms that number their campaigns."""

    campaign: Annotated[str, Field(pattern=r"^[0-9]*$")] = ""
    campaigns: Mapping[str, Annotated[str, Field(pattern=r"^[0-9]+$")]] = Field(
        default_factory=dict, description="Another `campaign` for a template of ours, by the template's name."
    )


class CampaignSettings(OnlyCampaigns):
    """Of platforms that take either."""

    mode: Literal["message", "campaign"] = "message"  # type: ignore[assignment]


def campaign_of(settings: OnlyCampaigns, message: Message) -> str:
    """The platform's campaign for the template that the message was made of. Raises Refused("no_campaign")."""
    template = message.tags.get("template", "")
    found = settings.campaigns.get(template, settings.campaign)
    if not found:
        raise Refused("no_campaign", template)
    return found


def merged(message: Message) -> dict[str, Any]:
    """What the campaign may print, and has to: `unsubscribe_url` and `headers` are for it to use."""
    said = {
        "subject": message.subject,
        "html": message.html,
        "text": message.text,
        "from": message.from_,
        "reply_to": message.reply_to,
        "send_key": message.send_key,
        "unsubscribe_url": message.headers.get("List-Unsubscribe", "").strip("<>"),
        "tags": dict(message.tags),
        "headers": dict(message.headers),
    }
    return {name: fact for name, fact in said.items() if fact}


def flat(message: Message) -> dict[str, str]:
    """The same as texts alone: `tag_template`, `header_list_unsubscribe`."""
    said = merged(message)
    tags, headers = said.pop("tags", {}), said.pop("headers", {})
    return {
        **said,
        **{f"tag_{_plain(name)}": value for name, value in tags.items()},
        **{f"header_{_plain(name)}": value for name, value in headers.items()},
    }


def _plain(name: str) -> str:
    return re.sub(r"\W", "_", name.lower())


def liquid(text: str) -> str:
    """Text that a platform which reads Liquid in it prints as it is: no data of anybody become instructions."""
    return re.sub(r"\{(?=[{%])", "{{ '{' }}", text)
