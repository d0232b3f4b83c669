"""The systems that learn of events: how each is, switching it on and off, what was tried, and sending again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from espial.errors import Refused
from espial.notifications.definition import DestinationDefinition
from espial.notifications.outbox import Attempt, Conditions, Evidence, Health, Outbox
from espial.services.send_notifications import off


class Destinations(NamedTuple):
    """Those that were applied last, by name, with their stores; `poke` has a worker look at some of them now."""

    known: Mapping[str, DestinationDefinition]
    outbox: Outbox
    conditions: Conditions
    evidence: Evidence
    poke: Callable[[Iterable[str]], None]

    def definition(self, name: str) -> DestinationDefinition:
        """Raises Refused (`unknown_destination`)."""
        if name not in self.known:
            known = ", ".join(self.known) or "none"
            raise Refused("unknown_destination", f"no destination named {name!r} was applied (known: {known})")
        return self.known[name]

    def facts(self, one: DestinationDefinition) -> dict[str, Any]:
        """What waits for it, and how it is."""
        health = self.conditions.health(one.name)
        return {
            "destination": one.name,
            "process": one.process,
            "on": list(one.on),
            "waiting": self.outbox.waiting(one.name),
            "state": health.state if one.enabled else "disabled",
            "failures": health.failures,
            "failing_since": health.failing_since,
            "probe_at": health.probe_at,
            "why": health.why,
        }

    def switch(self, name: str, *, on: bool) -> None:
        """Have it served again at once, or post nothing to it. Raises Refused (`unknown_destination`, `collected`)."""
        if not self.definition(name).is_pushed:
            how = "set `enabled: false` in its definition and apply it"
            raise Refused("collected", f"{name} is collected from, not posted to: {how}")
        after = Health(destination=name)
        after = after if on else off(after, "switched off by hand")
        while not self.conditions.change(self.conditions.health(name), after):
            pass
        if on:
            self.poke([name])

    def tried(self, name: str, limit: int, notification: str = "") -> list[Attempt]:
        """The newest attempts, of one notification or of all."""
        return list(islice(self.evidence.of(self.definition(name).name, notification=notification), limit))

    def put_in(self, name: str, since: datetime, until: datetime, trigger: str = "") -> Iterator[str]:
        """The ids of what was put between the two, or what a trigger fired of it, by when their events happened."""
        found = self.outbox.of(name, since=since, until=until)
        return (one.id for one in found if trigger in ("", one.trigger))

    def replay(self, name: str, ids: Sequence[str], now: datetime) -> int:
        """Have some, at most 100, sent again, whatever became of them; how many there were."""
        pushed = self.definition(name).is_pushed
        count = self.outbox.replay(name, ids, now=now)
        if pushed:
            self.poke([name])
        return count
