"""A person's events, whichever of their keys each was recorded under."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from espial.events import PersonKey
from espial.ports import EventStore, Stored

KeysOf = Callable[[PersonKey], Iterable[PersonKey]]
"""A key -> every key known to name the same person."""

CLOCKS_DIFFER = timedelta(days=1)
"""An event's place in the store is by the time its own client gave; `occurred_at` may be a corrected one."""


def timeline(
    store: EventStore, keys_of: KeysOf, key: PersonKey, *, since: datetime | None = None, limit: int = 1000
) -> list[Stored]:
    """The newest `limit` events of the person that `key` names, oldest first, each with its lineage."""
    keys = dict.fromkeys((key, *keys_of(key)))
    earliest = since - CLOCKS_DIFFER if since else None
    found = [stored for one in keys for stored in store.history(one, since=earliest, limit=limit)]
    found = [stored for stored in found if since is None or stored.event.occurred_at >= since]
    found.sort(key=lambda stored: (stored.event.occurred_at, stored.event.event_id))
    return found[-limit:]
