"""A person's journal from the store: their events as a table, responses tied to their sends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from espial.events import PersonKey, person_keys
from espial.feeds.published import Feeds
from espial.journal.table import Journal, rows
from espial.ports import EventStore, Stored

MOST_EVENTS = 10_000
"""The newest this many events of a key are looked at, so that what is shown finds its send."""
MOST_KEYS = 25


def journal(
    store: EventStore,
    keys: Sequence[PersonKey],
    bundle: Mapping[str, Any] | None,
    *,
    limit: int,
    messages_only: bool = False,
) -> Journal:
    """The newest `limit` rows of the person that `keys` name, the first one asked for.

    `bundle` is what `espial apply` published, None before the first time.
    """
    found = _of_person(store, keys)
    recorded = (stored for under in found.values() for stored in under)
    made = rows(recorded, Feeds(bundle or {}), messages_only=messages_only)
    return Journal(keys[0], tuple(found), made[-limit:], max(0, len(made) - limit))


def _of_person(store: EventStore, keys: Sequence[PersonKey]) -> dict[PersonKey, list[Stored]]:
    """Every key of the person -> the events under it: `keys`, and those that the events themselves name.

    Who only gets mails is joined nowhere else: recipient data is kept under an id, a mail's events under the address.
    A key whose events are of several external ids, such as a family's address, joins nobody.
    """
    found = {key: store.history(key, limit=MOST_EVENTS) for key in keys}
    ids = _ids(found) | _ids(_named(found.values()))
    waiting, seen = _named(found.values()), {*found}
    while waiting and len(found) < MOST_KEYS:
        key = waiting.pop(0)
        if key in seen:
            continue
        seen.add(key)
        under = store.history(key, limit=MOST_EVENTS)
        named = _named([under])
        if len(ids | _ids([key, *named])) <= 1:
            found[key] = under
            ids |= _ids([key, *named])
            waiting += named
    return found


def _named(several: Iterable[Sequence[Stored]]) -> list[PersonKey]:
    """Every key that the events name their person by, in order, each once."""
    keys = (key for under in several for stored in under for key in person_keys(stored.event))
    return list(dict.fromkeys(keys))


def _ids(keys: Iterable[PersonKey]) -> set[PersonKey]:
    return {key for key in keys if key.kind == "id"}
