"""What a simulation came to: by trigger, stage and variant what was entered, sent, skipped and why; goals by arm."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from espial.events import Event
from espial.simulation.world import World
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


def rows(world: World) -> dict[Place, Row]:
    """Place -> its row, in order."""
    found: defaultdict[Place, Row] = defaultdict(Row)
    for place, count in world.people.entered.items():
        found[Place(*place)].entered = count
    for place, count in world.people.replaced.items():
        found[Place(*place)].replaced = count
    for run in world.people.waiting():
        found[Place(run.trigger, run.stage, run.variant)].waiting += 1
    exits = {trigger.name: {exit_.name for exit_ in trigger.exit_on} for trigger in world.published.triggers()}
    for event in world.people.own:
        row, reason = found[_place(event)], event.properties.get("reason", "")
        if event.type is EventType.MESSAGE_REQUESTED:
            row.sent += 1
        elif reason in exits.get(event.properties["trigger"], ()):
            row.exited[reason] += 1
        else:
            row.skipped[reason] += 1
    return dict(sorted(found.items()))


def _place(event: Event) -> Place:
    said = event.properties
    return Place(said["trigger"], said.get("stage", 0), said.get("variant", ""))


def measured(world: World) -> list[Measured]:
    """Every arm of every trigger that has a goal."""
    return [one for trigger in world.published.triggers() if trigger.goal for one in _measured(world, trigger)]


def _measured(world: World, trigger: Trigger) -> Iterator[Measured]:
    arms = goals.arms(entry for history in world.people.histories() for entry in goals.entries(trigger, history))
    control = arms.get(HELD_OUT)
    for arm in arms.values():
        yield Measured(trigger.name, arm, goals.lift(arm, control) if control and arm is not control else None)


def messages(world: World) -> Iterator[dict[str, Any]]:
    """Every message that went out, in order, with what it says."""
    events: Mapping[str | None, Event] = {event.send_key: event for event in world.people.own}
    for at, mail in world.outbox.taken:
        said = events[mail.send_key].properties
        yield {
            "at": at.isoformat(),
            "trigger": said["trigger"],
            "stage": said.get("stage", 0) + 1,
            "variant": said.get("variant", ""),
            "template": mail.tags["template"],
            "key": said["key"],
            "to": mail.to,
            "subject": mail.subject,
            "text": mail.text,
            "send_key": mail.send_key,
        }


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
