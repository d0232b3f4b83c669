"""What became of the people a trigger sent to, and of those it held out: conversions, revenue, and the difference.

An entry is a message that was sent, or that only the holdout kept back; of a series the first counts. What the person
does later, within the goal's time, is put down to the newest entry before it, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from math import exp, log, sqrt
from typing import NamedTuple

from espial.events import Event
from espial.triggers import cel
from espial.triggers.arms import HELD_OUT
from espial.triggers.definition import Goal, Trigger
from espial.vocabulary import EventType

Z95 = 1.959964
"""Standard deviations on each side that hold 95 % of a normal distribution."""


class Entry(NamedTuple):
    """One entry: the arm it was in, and what it came to; `revenue` in whatever the goal's `value` is in."""

    arm: str
    at: datetime
    converted_at: datetime | None = None
    revenue: float = 0.0


class Arm(NamedTuple):
    """All entries of one arm."""

    name: str
    entered: int = 0
    converted: int = 0
    revenue: float = 0.0

    @property
    def rate(self) -> float:
        """The share that converted."""
        return self.converted / self.entered if self.entered else 0.0


class Lift(NamedTuple):
    """How much more often an arm converts than another, as a share of the other's rate, and its 95 % interval."""

    value: float
    low: float
    high: float


def entries(trigger: Trigger, history: Sequence[Event]) -> list[Entry]:
    """The entries of one person, by their events, oldest first. None where the trigger has no goal."""
    goal = trigger.goal
    if goal is None:
        return []
    found: list[Entry] = []
    begun: set[tuple[str, str]] = set()
    for event in history:
        if _enters(trigger, event):
            occasion = (event.properties["key"], event.properties["version"])
            if occasion not in begun:
                begun.add(occasion)
                found.append(Entry(event.properties.get("variant", ""), event.occurred_at))
        elif found and event.type is goal.event and found[-1].at < event.occurred_at <= found[-1].at + goal.within:
            found[-1] = _converted(goal, found[-1], event)
    return found


def _enters(trigger: Trigger, event: Event) -> bool:
    said = event.properties
    if said.get("trigger") != trigger.name:
        return False
    held_out = event.type is EventType.MESSAGE_SKIPPED and said.get("reason") == HELD_OUT
    return held_out or event.type is EventType.MESSAGE_REQUESTED


def _converted(goal: Goal, entry: Entry, event: Event) -> Entry:
    scope = cel.Scope((goal.where, goal.value), {"event": cel.plain(event)})
    if not scope.holds(goal.where).value:
        return entry
    value = scope.evaluate(goal.value).value
    revenue = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
    return entry._replace(converted_at=entry.converted_at or event.occurred_at, revenue=entry.revenue + revenue)


def arms(found: Iterable[Entry]) -> dict[str, Arm]:
    """Name -> its sum; those held out last, the others by name."""
    sums: dict[str, Arm] = {}
    for entry in found:
        arm = sums.get(entry.arm, Arm(entry.arm))
        sums[entry.arm] = Arm(
            entry.arm, arm.entered + 1, arm.converted + (entry.converted_at is not None), arm.revenue + entry.revenue
        )
    return dict(sorted(sums.items(), key=lambda named: (named[0] == HELD_OUT, named[0])))


def lift(arm: Arm, control: Arm) -> Lift | None:
    """The arm against the control; None as long as one of them has nobody who converted.

    The interval is that of Katz and others for a ratio of two shares, on its logarithm (Biometrics 34, 1978).
    """
    if not arm.converted or not control.converted:
        return None
    ratio = arm.rate / control.rate
    deviation = sqrt((1 - arm.rate) / arm.converted + (1 - control.rate) / control.converted)
    low, high = (exp(log(ratio) + side * Z95 * deviation) - 1 for side in (-1, 1))
    return Lift(ratio - 1, low, high)
