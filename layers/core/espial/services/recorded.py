"""What is recorded of a person or a campaign, with what other reports of the same events say and a fresh verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from espial import events
from espial.events import PersonKey
from espial.machine import Verdict, rescore
from espial.message_state import MessageState
from espial.ports import Decided, EventStore, Others, Stored
from espial.services.timeline import timeline

Reported = Mapping[str, Others]
"""Event id -> what its other reports say."""


class Store(EventStore, Protocol):
    """Events, also by the campaign they name."""

    def of_campaign(self, campaign: str) -> Iterator[Stored]: ...


class Conflicts(Protocol):
    """What other reports say (`espial.stores.conflicts`)."""

    def of_person(self, key: PersonKey) -> Reported: ...

    def of_campaign(self, campaign: str) -> Reported: ...


class Recorded(NamedTuple):
    """Events, oldest first; `verdicts` (human or machine) only of a person's."""

    stored: list[Stored]
    reported: Reported
    verdicts: Mapping[str, Verdict]

    def plain(self) -> list[dict[str, Any]]:
        """As JSON has them."""
        return [self._plain(one) for one in self.stored]

    def _plain(self, one: Stored) -> dict[str, Any]:
        event: dict[str, Any] = msgspec.json.decode(events.encode(one.event))
        others = self.reported.get(one.event.event_id, Others([], None))
        event |= {"via": list(one.via), **others._asdict()}
        if verdict := self.verdicts.get(one.event.event_id):
            event["verdict"] = verdict._asdict()
        return event


def of_person(store: EventStore, conflicts: Conflicts, keys: tuple[PersonKey, ...], *, limit: int) -> Recorded:
    """The newest events under all keys of a person."""
    found = timeline(store, lambda _: keys, keys[0], limit=limit)
    reported = _merged(conflicts.of_person(key) for key in keys)
    return Recorded(found, reported, rescore(stored.event for stored in found))


def of_campaign(store: Store, conflicts: Conflicts, campaign: str, *, limit: int) -> Recorded:
    """The newest events that name a campaign or journey. Reads the whole table."""
    newest = sorted(store.of_campaign(campaign), key=lambda stored: stored.event.event_id)
    return Recorded(newest[-limit:], conflicts.of_campaign(campaign), {})


def _merged(found: Iterable[Reported]) -> Reported:
    return {event_id: others for one in found for event_id, others in one.items()}


def state(message: str, found: MessageState) -> dict[str, Any]:
    """What became of a message, as JSON has it."""
    status = found.status
    return {
        "send_key": message,
        "status": status.type.value if status else None,
        "since": status.at.isoformat() if status else None,
        "engagement": {type_.value: mark.at.isoformat() for type_, mark in found.engagement.items()},
    }


def decision(decided: Decided) -> dict[str, Any]:
    """A decision with each of its rules, as JSON has it."""
    found = decided.decision
    return {
        "id": decided.id,
        "decided_at": decided.decided_at.isoformat(),
        "trigger": decided.trigger,
        "key": decided.key,
        "version": decided.version,
        "outcome": found.outcome,
        "reason": found.reason,
        "until": found.until.isoformat() if found.until else None,
        "rules": [
            {"name": rule.name, "value": rule.value, "verdict": rule.verdict, "detail": rule.detail}
            for rule in found.rules
        ],
    }
