"""What a trigger did, by stage and variant: who was sent, who was not and why; and what its goal came to, by arm.

Counted from our own events, of a stack or of a simulation alike.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from espial.events import BEHAVIOUR_KEYS, Event, PersonKey, home_key
from espial.ports import EventStore, People
from espial.triggers import goals
from espial.triggers.arms import HELD_OUT
from espial.triggers.definition import Trigger
from espial.triggers.goals import Arm, Lift
from espial.vocabulary import EventType


class Place(NamedTuple):
    """A stage (the first 0) of a trigger, for one variant."""

    trigger: str
    stage: int
    variant: str


@dataclass(slots=True)
class Row:
    """What became of everybody who entered a stage. Each is in exactly one of the others (goal 51).

    replaced   a newer event took over before it was due
    waiting    not due yet when time was up
    """

    entered: int = 0
    sent: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    exited: Counter[str] = field(default_factory=Counter)
    replaced: int = 0
    waiting: int = 0

    @property
    def balanced(self) -> bool:
        """Whether nobody was lost or counted twice."""
        others = self.sent + self.skipped.total() + self.exited.total() + self.replaced + self.waiting
        return self.entered == others


class Measured(NamedTuple):
    """One arm of a trigger with a goal, and its lift over those held out."""

    trigger: str
    arm: Arm
    lift: Lift | None


class Report(NamedTuple):
    """Place -> its row, in order, and the arms of every goal."""

    rows: dict[Place, Row]
    goals: list[Measured]

    def plain(self) -> list[dict[str, Any]]:
        """For programs."""
        return plain(self.rows, self.goals)


def counted(own: Iterable[Event], triggers: Iterable[Trigger]) -> defaultdict[Place, Row]:
    """Our own events as rows; who was sent or not is counted, who entered is not known by them."""
    found: defaultdict[Place, Row] = defaultdict(Row)
    exits = {trigger.name: {exit_.name for exit_ in trigger.exit_on} for trigger in triggers}
    for event in own:
        if event.type not in (EventType.MESSAGE_REQUESTED, EventType.MESSAGE_SKIPPED):
            continue  # what a campaign awarded
        said = event.properties
        row = found[Place(said["trigger"], said.get("stage", 0), said.get("variant", ""))]
        reason = said.get("reason", "")
        if event.type is EventType.MESSAGE_REQUESTED:
            row.sent += 1
        elif reason in exits.get(said["trigger"], ()):
            row.exited[reason] += 1
        else:
            row.skipped[reason] += 1
    return found


def measured(trigger: Trigger, histories: Iterable[Sequence[Event]]) -> Iterator[Measured]:
    """Every arm of a trigger with a goal, by what each person did."""
    arms = goals.arms(entry for history in histories for entry in goals.entries(trigger, history))
    control = arms.get(HELD_OUT)
    for arm in arms.values():
        yield Measured(trigger.name, arm, goals.lift(arm, control) if control and arm is not control else None)


def report(trigger: Trigger, events: EventStore, people: People) -> Report:
    """A trigger of a stack. Reads the whole store once, and each person that the trigger was about: for people."""
    own = list(events.of_trigger(trigger.name))
    found = counted(own, [trigger])
    for row in found.values():
        row.entered = row.sent + row.skipped.total() + row.exited.total()
    return Report(dict(sorted(found.items())), list(measured(trigger, _histories(own, people))) if trigger.goal else [])


def _histories(own: Iterable[Event], people: People) -> Iterator[Sequence[Event]]:
    """The timeline of everybody they are about, each person's once, under however many keys."""
    seen: set[PersonKey] = set()
    for home in dict.fromkeys(home_key(event, BEHAVIOUR_KEYS) for event in own):
        key = PersonKey.parse(home.removeprefix("P#"))
        if key not in seen:
            view = people.load(key)
            seen.update(view.keys)
            yield view.events


def plain(found: Mapping[Place, Row], goals_of: Sequence[Measured]) -> list[dict[str, Any]]:
    """For programs."""
    told: list[dict[str, Any]] = [
        {
            "trigger": place.trigger,
            "stage": place.stage + 1,
            "variant": place.variant,
            "entered": row.entered,
            "sent": row.sent,
            "skipped": dict(sorted(row.skipped.items())),
            "exited": dict(sorted(row.exited.items())),
            "replaced": row.replaced,
            "waiting": row.waiting,
        }
        for place, row in found.items()
    ]
    for trigger, arm, lift in goals_of:
        counted = {"entered": arm.entered, "converted": arm.converted, "revenue": round(arm.revenue, 2)}
        told.append({"goal_of": trigger, "arm": arm.name, **counted, "lift": lift and lift._asdict()})
    return told
