"""A person's journal from the store: their events as a table, responses tied to their sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from espial.events import PersonKey
from espial.journal.table import Journal, rows
from espial.ports import EventStore
from espial.services.timeline import timeline

MOST_EVENTS = 10_000
"""The newest this many events of a person are looked at, so that what is shown finds its send."""


def journal(
    store: EventStore,
    keys: Sequence[PersonKey],
    bundle: Mapping[str, Any] | None,
    *,
    limit: int,
    messages_only: bool = False,
) -> Journal:
    """The newest `limit` rows of the person that `keys` name, the first one asked for.

    `bundle` is what `espial apply` published, None before the first time: it has each connection's account.
    """
    found = timeline(store, lambda _: keys, keys[0], limit=MOST_EVENTS)
    made = rows(found, _accounts(bundle or {}), messages_only=messages_only)
    return Journal(keys[0], tuple(keys), made[-limit:], max(0, len(made) - limit))


def _accounts(bundle: Mapping[str, Any]) -> dict[str, str]:
    """Connection name -> its account, where it is given one."""
    return {name: said["account"] for name, said in bundle.get("connections", {}).items() if said.get("account")}
