"""What a simulation came to: everybody who entered a stage, and every message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from espial.events import Event
from espial.services.trigger_report import Place, Report, counted, measured
from espial.simulation.world import World


def report(world: World) -> Report:
    """By trigger, stage and variant what became of everybody, and what each goal came to."""
    triggers = world.published.triggers()
    found = counted(world.people.own, triggers)
    for place, count in world.people.entered.items():
        found[Place(*place)].entered = count
    for place, count in world.people.replaced.items():
        found[Place(*place)].replaced = count
    for run in world.people.waiting():
        found[Place(run.trigger, run.stage, run.variant)].waiting += 1
    goals = [one for trigger in triggers if trigger.goal for one in measured(trigger, world.people.histories())]
    return Report(dict(sorted(found.items())), goals)


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
