"""What a campaign does, as canonical events; made deterministically, so that a repeat says the same (DESIGN 3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from espial import events, own_events
from espial.campaigns.compiled import CampaignTrigger
from espial.campaigns.facts import awarded, occasion
from espial.campaigns.outcomes import DEEPEST, DEPTH, Award, OwnEvent, depth
from espial.campaigns.placeholders import Facts, guids
from espial.events import MESSAGE_KEYS, Campaign, Channel, Event, Failure, Person, PersonKey, home_key
from espial.messages import Message
from espial.normalise import Recordable
from espial.own_events import PLATFORM, Occasion
from espial.triggers import entries
from espial.triggers.decision import Decision, Rule
from espial.triggers.run import Run
from espial.vocabulary import EventType

TOO_DEEP = "campaigns_too_deep"
"""Why an event of a campaign's own is left out: three campaigns stand behind it already."""

_FIELDS = {kind: field for field, kind in events.KEY_KINDS.items()}


def outcomes(trigger: CampaignTrigger, run: Run, known: Mapping[str, Any]) -> Iterator[Recordable]:
    """Everything that the run's person is awarded, in order, and then the campaign's own events.

    `known` are the facts for their payloads (`espial.campaigns.facts`).
    """
    about = {**_campaign(trigger), "version": run.version}
    for award in awarded(trigger, run):
        yield _of(trigger, run, Award(*award[:4], {**about, **award.said}))
    behind = depth(run.event, PLATFORM)
    for number, outcome in enumerate(trigger.campaign.outcomes):
        if not isinstance(outcome, OwnEvent):
            continue
        if behind >= DEEPEST:
            yield own_events.message_skipped(run, Decision("skip", TOO_DEEP), at=run.due_at)
            continue
        filled = Facts(known, guid=guids(f"{occasion(trigger, run)}\x1f{number}"), missing="empty")
        said = {**filled.rendered(outcome.payload), **about, DEPTH: behind + 1}
        yield _of(trigger, run, Award("event", number, EventType.CUSTOM, outcome.name, said))


def reached(trigger: CampaignTrigger, run: Run, timeline: Sequence[Event], now: datetime) -> Decision | None:
    """Of a campaign without messages, which others count: the first of its limits that no further award fits into."""
    for limit in trigger.limits:
        earlier = {
            event.properties.get("version")
            for event in timeline
            if event.platform == PLATFORM
            and event.properties.items() >= _campaign(trigger).items()
            and now - (limit.within or timedelta(0)) < event.occurred_at <= now
        } - {run.version}
        if len(earlier) >= limit.count:
            name = f"limit:{limit.name}"
            return Decision("skip", name, None, (Rule(name, len(earlier), verdict=False),))
    return None


def _campaign(trigger: CampaignTrigger) -> dict[str, str]:
    """Not the trigger: whatever names one is taken for a message of its, or for why there was none."""
    return {"campaign": trigger.campaign.name, "behaviour": trigger.campaign.behaviour}


def _of(trigger: CampaignTrigger, run: Run, award: Award) -> Recordable:
    kind, value = PersonKey.parse(run.person)
    identity = f"{PLATFORM}\x1f{occasion(trigger, run)}\x1f{award.kind}/{award.number}"
    event = Event(
        event_id=events.event_id(own_events.instant(run.version), identity),
        type=award.type,
        platform_type=award.name,
        channel="none",
        platform=PLATFORM,
        connection=PLATFORM,
        occurred_at=run.due_at,
        received_at=run.due_at,
        person=Person(**{_FIELDS[kind]: value}),
        campaign=Campaign(id=trigger.campaign.name, name=trigger.campaign.name),
        properties=dict(award.said),
    )
    return Recordable(event, events.encode(event), f"P#{run.person}")


def suppressed(asked: Occasion, message: Message, reason: str, *, channel: Channel, at: datetime) -> Recordable:
    """The platform wants nothing sent to this recipient any more: a hard bounce of the address or number.

    Where a channel has neither, they opted out of the channel. Without the send key: it is no evidence that the message
    was taken.
    """
    kind, value = PersonKey.parse(asked.person)
    person = {_FIELDS[kind]: value}
    addressed = {"email": "email", "sms": "phone", "whatsapp": "phone"}.get(channel)
    if addressed:
        person[addressed] = message.to
    event = Event(
        event_id=own_events.identifier(asked, f"suppressed/{reason}"),
        type=EventType.BOUNCED if addressed else EventType.UNSUBSCRIBED,
        platform_type="suppressed",
        channel=channel,
        platform=PLATFORM,
        connection=PLATFORM,
        occurred_at=at,
        received_at=at,
        person=Person(**person),
        failure=Failure(class_="suppressed", code=reason),
    )
    return Recordable(event, events.encode(event), home_key(event, MESSAGE_KEYS))


def delivery(trigger: CampaignTrigger, occasion: entries.Occasion, type_: EventType, at: datetime) -> Recordable:
    """A scheduled campaign's time has come, or everybody in its audience has entered: once each an occasion."""
    name = trigger.campaign.name
    event = Event(
        event_id=events.event_id(occasion.at, f"{PLATFORM}\x1f{name}\x1f{occasion.name}\x1f{type_}"),
        type=type_,
        platform_type=type_.value,
        channel=trigger.campaign.channel,
        platform=PLATFORM,
        connection=PLATFORM,
        occurred_at=at,
        received_at=at,
        campaign=Campaign(id=name, name=name, dispatch_id=f"{name}/{occasion.name}"),
        properties={"occasion": occasion.name},
    )
    return Recordable(event, events.encode(event), home_key(event, MESSAGE_KEYS))
