"""EventsTable's stream to the bus: what was inserted is published from here, and nothing else is (DESIGN 1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from espial import events
from espial.events import Event
from espial.notifications import triggers as notifications
from espial.people import TELLING
from espial.ports import EventBus

StreamRecord = Mapping[str, Any]
"""A record of the table's stream as Lambda hands it over, with the new image."""


@dataclass(slots=True)
class Published:
    """What became of a batch of stream records.

    `counts` by (verdict, event type), the verdict one of published, unwanted, backfill, failed, unreadable.
    `failed` and `unreadable` hold sequence numbers, in the stream's order. `said` is for the ledger: what became of
    each event that is done with.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    said: list[tuple[Event, str]] = field(default_factory=list)

    def totals(self) -> dict[str, int]:
        """Verdict -> events, for the log."""
        found: Counter[str] = Counter()
        for (verdict, _), count in self.counts.items():
            found[verdict] += count
        return dict(found)


REFRESH_SECONDS = 30.0


def wanted_by(definitions: Mapping[str, Any]) -> frozenset[str]:
    """What something behind the bus wants: starts and ends of runs, what tells of a person, what is notified of."""
    triggers = definitions.get("triggers", {}).values()
    starts = {kind for trigger in triggers for kind in trigger["on"]}
    ends = {ending["event"] for trigger in triggers for ending in trigger.get("exit_on", ())}
    return frozenset(TELLING | starts | ends) | notifications.wanted(definitions)


class Wanted:
    """`wanted_by` of the definitions in force, read twice a minute; the last ones serve while the store is away."""

    def __init__(self, active: Callable[[], Mapping[str, Any] | None], clock: Callable[[], float]) -> None:
        self._active = active
        self._clock = clock
        self._types: frozenset[str] | None = None
        self._due = 0.0

    def current(self) -> frozenset[str]:
        """Raises what reading the definitions raises when none were ever read."""
        if self._types is None or self._clock() >= self._due:
            try:
                self._types = wanted_by(self._active() or {})
            except Exception:
                if self._types is None:
                    raise
            self._due = self._clock() + REFRESH_SECONDS
        return self._types


def stays_off(event: Event, wanted: frozenset[str] | None) -> str | None:
    """Why an event stays off the bus: `backfill` or `unwanted`; None if it goes there."""
    if event.mode == "backfill":
        return "backfill"
    return "unwanted" if wanted is not None and event.type.value not in wanted else None


def publish(records: Iterable[StreamRecord], *, bus: EventBus, wanted: frozenset[str] | None) -> Published:
    """Put the newly recorded events on the bus that something there wants (None: all of them).

    Backfilled events are recorded but fire nothing (goal 14). An image that breaks the contract cannot be mended by
    a retry, so it is reported as unreadable and does not hold up what follows it in its shard.
    """
    outcome = Published()
    sequences: dict[int, str] = {}
    chosen: list[Event] = []
    for record in records:
        change = record["dynamodb"]
        if record["eventName"] != "INSERT" or not change["Keys"]["sk"]["S"].startswith("E#"):
            continue
        try:
            event = events.decode(change["NewImage"]["body"]["S"])
        except (msgspec.MsgspecError, KeyError):
            outcome.unreadable.append(change["SequenceNumber"])
            outcome.counts["unreadable", ""] += 1
            continue
        if verdict := stays_off(event, wanted):
            outcome.counts[verdict, event.type.value] += 1
            outcome.said.append((event, verdict))
        else:
            sequences[id(event)] = change["SequenceNumber"]
            chosen.append(event)
    failed = {id(event) for event in bus.put(chosen)}
    for event in chosen:
        refused = id(event) in failed
        outcome.counts["failed" if refused else "published", event.type.value] += 1
        if refused:
            outcome.failed.append(sequences[id(event)])
        else:
            outcome.said.append((event, "published"))
    return outcome
