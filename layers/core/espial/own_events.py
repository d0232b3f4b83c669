"""Our own events: `message_requested` and `message_skipped`, so that every run ends in one that says why (goal 51).

Made deterministically: the same occasion, outcome and reason give the same event id, whenever and however often the
code that makes it is run again after a crash.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from espial import events
from espial.events import Channel, Event, Person, PersonKey
from espial.messages import Receipt, send_key
from espial.normalise import Recordable
from espial.triggers.decision import Decision
from espial.vocabulary import OWN, EventType

PLATFORM = OWN
_FIELDS = {kind: field for field, kind in events.KEY_KINDS.items()}


class Occasion(Protocol):
    """What a message is for: one stage of one version of one run. A `Run` is one."""

    @property
    def person(self) -> str: ...
    @property
    def trigger(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def stage(self) -> int: ...
    @property
    def variant(self) -> str: ...


def message_requested(occasion: Occasion, receipt: Receipt, *, channel: Channel, **labels: Any) -> Recordable:
    """A provider took the message at `receipt.at`. Limits count these, by their channel and `labels`."""
    said = {"provider": receipt.provider, "provider_message_id": receipt.provider_message_id, **labels}
    return _event(_Said(EventType.MESSAGE_REQUESTED, "sent", receipt.at, said, channel), occasion)


def message_skipped(occasion: Occasion, decision: Decision, *, at: datetime) -> Recordable:
    """Nothing was or will be sent, for `decision.reason`. The values behind it are in the stored decision.

    `at` is when the message was due, or when what ended its run happened: the clock of whoever writes it down would
    make two events of one after a crash.
    """
    return _event(_Said(EventType.MESSAGE_SKIPPED, decision.reason, at, {"reason": decision.reason}), occasion)


def trigger_entered(
    trigger: str, person: PersonKey, occasion: str, at: datetime, said: Mapping[str, Any]
) -> Recordable:
    """The person enters the trigger, once an occasion; `said` is what they enter with.

    `at` belongs to the occasion, so that a repeat says the same.
    """
    identity = "\x1f".join((PLATFORM, str(person), trigger, occasion, EventType.TRIGGER_ENTERED))
    event = Event(
        event_id=events.event_id(at, identity),
        type=EventType.TRIGGER_ENTERED,
        platform_type=EventType.TRIGGER_ENTERED.value,
        channel="none",
        platform=PLATFORM,
        connection=PLATFORM,
        occurred_at=at,
        received_at=at,
        person=Person(**{_FIELDS[person.kind]: person.value}),
        properties={**said, "trigger": trigger, "occasion": occasion},
    )
    return Recordable(event, events.encode(event), f"P#{person}")


def identifier(occasion: Occasion, outcome: str) -> str:
    """The id of what came of an occasion.

    Its time part is that of the version, not of the moment, which a repeat after a crash would not know.
    """
    stage = (f"stage {occasion.stage}",) if occasion.stage else ()
    identity = (PLATFORM, occasion.person, occasion.trigger, occasion.key, occasion.version, *stage, outcome)
    return events.event_id(instant(occasion.version), "\x1f".join(identity))


_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def instant(event_id: str) -> datetime:
    """The second that an event's id begins with."""
    milliseconds = 0
    for character in event_id[:10]:
        milliseconds = milliseconds * 32 + _CROCKFORD.index(character)
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


class _Said(NamedTuple):
    type: EventType
    outcome: str
    at: datetime
    properties: dict[str, Any]
    channel: Channel = "none"


def _event(said: _Said, occasion: Occasion) -> Recordable:
    kind, value = PersonKey.parse(occasion.person)
    about = {"trigger": occasion.trigger, "key": occasion.key, "version": occasion.version}
    arm = {"stage": occasion.stage, "variant": occasion.variant}
    event = Event(
        event_id=identifier(occasion, said.outcome),
        type=said.type,
        platform_type=said.type.value,
        channel=said.channel,
        platform=PLATFORM,
        connection=PLATFORM,
        occurred_at=said.at,
        received_at=said.at,
        person=Person(**{_FIELDS[kind]: value}),
        send_key=send_key(person=occasion.person, stage=occasion.stage, **about),
        properties={**about, **{name: value for name, value in arm.items() if value}, **said.properties},
    )
    return Recordable(event, events.encode(event), f"P#{occasion.person}")
