"""The way back for events that were recorded and never reached the bus (guarantee 4).

What is published twice changes nothing: who takes events from the bus knows them by their id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple

import msgspec

from espial.errors import MalformedDelivery
from espial.events import Event
from espial.ports import EventBus
from espial.services.publish_events import stays_off

AT_ONCE = 500
"""Events on their way to the bus at a time."""

BEFORE_RECORDED = timedelta(hours=1)
"""How long an event may have lain in queues between its receipt, which it tells, and its recording."""


class Gap(NamedTuple):
    """A stretch of the table's stream that was given up: where it is, and when its records were written.

    `first` and `last` are sequence numbers; both are part of it, and so are `since` and `until`.
    """

    stream: str
    shard: str
    first: str
    last: str
    since: datetime
    until: datetime

    def may_hold(self, event: Event) -> bool:
        """Whether an event that was received then can have been recorded in the gap."""
        return self.since - BEFORE_RECORDED <= event.received_at <= self.until


class _Info(msgspec.Struct, rename="camel"):
    stream_arn: str
    shard_id: str
    start_sequence_number: str
    end_sequence_number: str
    approximate_arrival_of_first_record: datetime
    approximate_arrival_of_last_record: datetime


class _Message(msgspec.Struct):
    info: _Info = msgspec.field(name="DDBStreamBatchInfo")


def read_gap(message: str) -> Gap:
    """What Lambda tells the on-failure destination of a DynamoDB stream: metadata, no events.

    Raises MalformedDelivery (AWS Lambda, "Retain discarded records for a DynamoDB event source").
    """
    try:
        info = msgspec.json.decode(message, type=_Message).info
    except msgspec.MsgspecError as exc:
        raise MalformedDelivery("not_a_gap", str(exc)) from exc
    until = info.approximate_arrival_of_last_record + timedelta(seconds=1)  # it is told in whole seconds
    return Gap(
        stream=info.stream_arn,
        shard=info.shard_id,
        first=info.start_sequence_number,
        last=info.end_sequence_number,
        since=info.approximate_arrival_of_first_record,
        until=until,
    )


def received(events: Iterable[Event], first: datetime | None, last: datetime | None) -> Iterator[Event]:
    """Those received from one time to another, both included; None: without end."""
    for event in events:
        if (first is None or first <= event.received_at) and (last is None or event.received_at <= last):
            yield event


def republish(events: Iterable[Event], *, bus: EventBus, wanted: frozenset[str] | None) -> Counter[str]:
    """Put on the bus what belongs there; verdict -> events: published, unwanted, backfill or failed."""
    tally: Counter[str] = Counter()
    left = iter(events)
    while some := list(islice(left, AT_ONCE)):
        verdicts = [stays_off(event, wanted) for event in some]
        chosen = [event for event, verdict in zip(some, verdicts, strict=True) if verdict is None]
        failed = len(bus.put(chosen))
        tally.update(verdict for verdict in verdicts if verdict)
        tally += Counter(published=len(chosen) - failed, failed=failed)
    return tally
