"""What became of a message: one state per send key, which merges the same way in whatever order reports come.

`join` is associative, commutative and idempotent (guarantee 3, goal 22). The status only ever moves up `RANKS`: a
complaint is over a bounce, a bounce over a delivery, a delivery over a deferral; between reports of one rank the
earliest counts, for a repeat says nothing new. Engagement stands beside it: a bounced message may have been opened by
somebody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from espial.events import Event
from espial.vocabulary import EventType

RANKS: Mapping[EventType, int] = {
    type_: rank
    for rank, types in enumerate(
        (
            (EventType.MESSAGE_REQUESTED,),
            (EventType.QUEUED,),
            (EventType.PROCESSED,),
            (EventType.SENT,),
            (EventType.DEFERRED,),
            (EventType.AUTORESPONDED,),
            (EventType.DELIVERED,),
            (EventType.SOFT_BOUNCED,),
            (EventType.FAILED, EventType.MESSAGE_SKIPPED),
            (EventType.DROPPED, EventType.REJECTED),
            (EventType.BLOCKED,),
            (EventType.BOUNCED,),
            (EventType.COMPLAINED,),
        ),
        1,
    )
    for type_ in types
}
"""How far a report moves a message. A bounce after a delivery is a late one, and counts."""

ENGAGEMENT = frozenset({EventType.OPENED, EventType.CLICKED, EventType.UNSUBSCRIBED, EventType.REPLIED})


class Mark(NamedTuple):
    """A report of the state: when, and by which event."""

    at: datetime
    event_id: str


class Status(NamedTuple):
    """The report that counts. Among those of one rank the earliest does."""

    type: EventType
    at: datetime
    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageState:
    """`status` is None before any report of delivery; `engagement` holds the first report of each kind."""

    status: Status | None = None
    engagement: Mapping[EventType, Mark] = field(default_factory=dict)


NOTHING = MessageState()


def of_event(event: Event) -> MessageState:
    """What one report says of its message."""
    if event.type in RANKS:
        return MessageState(status=Status(event.type, event.occurred_at, event.event_id))
    if event.type in ENGAGEMENT:
        return MessageState(engagement={event.type: Mark(event.occurred_at, event.event_id)})
    return NOTHING


def join(mine: MessageState, theirs: MessageState) -> MessageState:
    """The least state that holds both."""
    statuses = [status for status in (mine.status, theirs.status) if status]
    engagement = dict(mine.engagement)
    for type_, mark in theirs.engagement.items():
        engagement[type_] = min(mark, engagement.get(type_, mark))
    return MessageState(status=min(statuses, key=_first, default=None), engagement=engagement)


def _first(status: Status) -> tuple[int, datetime, str]:
    return -RANKS[status.type], status.at, status.event_id


def message_states(events: Iterable[Event]) -> dict[str, MessageState]:
    """Send key -> state, of every message that the events report on."""
    found: dict[str, MessageState] = {}
    for event in events:
        if event.send_key and (event.type in RANKS or event.type in ENGAGEMENT):
            found[event.send_key] = join(found.get(event.send_key, NOTHING), of_event(event))
    return found
