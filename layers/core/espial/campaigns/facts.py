"""What the placeholders of a campaign's payloads stand for (C2, C11)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from espial.campaigns.compiled import CampaignTrigger
from espial.campaigns.outcomes import Award, awards, tags_of
from espial.people import PersonView
from espial.triggers.run import Run
from espial.vocabulary import EventType

GROUPS = ("campaign", "user", "user_profile", "event", "transaction", "offer", "points", "promo_code", "tags", "system")
_AWARDED = ("points", "offer", "promo_code")


def occasion(trigger: CampaignTrigger, run: Run) -> str:
    """What somebody is awarded for, once: the behaviour, or the time of a schedule, whichever message says so."""
    entered = run.event.properties.get("occasion") if run.event.type is EventType.TRIGGER_ENTERED else run.version
    return f"{trigger.campaign.name}\x1f{trigger.campaign.behaviour}\x1f{run.person}\x1f{entered}"


def awarded(trigger: CampaignTrigger, run: Run) -> list[Award]:
    """What the run's person is awarded."""
    return awards(trigger.campaign.outcomes, run.event, occasion(trigger, run))


def facts(trigger: CampaignTrigger, run: Run, view: PersonView, *, key: str, now: datetime) -> dict[str, Any]:
    """Group -> what is known. Of several awards of one kind the first; the rest are in `all`."""
    attributes = {_snake(name): value for name, value in view.attributes.items()} | view.attributes
    event = msgspec.to_builtins(run.event)
    order = (event.get("commerce") or {}).get("order") or {}
    properties = run.event.properties
    said = awarded(trigger, run)
    found = {
        "campaign": {**trigger.campaign.facts, "behaviour": trigger.campaign.behaviour},
        "user": {**attributes, "external_id": view.external_id},
        "user_profile": attributes,
        "event": {
            "id": run.event.event_id,
            "name": run.event.platform_type,
            "type": run.event.type.value,
            "timestamp": _instant(run.event.occurred_at),
            "payload": properties,
        },
        "transaction": {**properties, **order} if order else {},
        "tags": tags_of(view.events, now),
        "system": {"now": _instant(run.due_at), "send_key": key},
    }
    return found | {kind: _of_kind(kind, said) for kind in _AWARDED}


def _of_kind(kind: str, said: list[Award]) -> Mapping[str, Any]:
    of_kind = [dict(award.said) for award in said if award.kind == kind]
    return {**of_kind[0], "all": of_kind} if of_kind else {}


def _instant(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
