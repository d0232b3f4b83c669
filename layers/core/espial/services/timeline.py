"""A person's events, whichever of their keys each was recorded under."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from espial.events import PersonKey
from espial.ports import EventStore, Stored

KeysOf = Callable[[PersonKey], Iterable[PersonKey]]
"""A key -> every key known to name the same person."""


def timeline(
    store: EventStore, keys_of: KeysOf, key: PersonKey, *, since: datetime | None = None, limit: int = 1000
) -> list[Stored]:
    """The newest `limit` events of the person that `key` names, oldest first, each with its lineage."""
    keys = dict.fromkeys((key, *keys_of(key)))
    found = [stored for one in keys for stored in store.history(one, since=since, limit=limit)]
    found.sort(key=lambda stored: (stored.event.occurred_at, stored.event.event_id))
    return found[-limit:]
