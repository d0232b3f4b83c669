"""A catalogue's newest file into the store: what changed is written, what is gone is removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from espial.catalogue import BadRow, Change, Product, best_sellers, changes, read


class Loading(Protocol):
    """The store as a load sees it."""

    def everything(self, name: str) -> dict[str, Product]: ...
    def write(self, name: str, products: Iterable[Product], gone: Iterable[str]) -> None: ...
    def finish(self, name: str, best: Mapping[str, list[str]], loaded_at: datetime) -> None: ...


class Loaded(NamedTuple):
    """What came of a file. `changes` tells old and new of each product that is not as it was."""

    products: int
    changes: list[Change]
    bad: list[BadRow]


def load(name: str, rows: Iterable[Mapping[str, Any]], store: Loading, now: datetime) -> Loaded:
    """Make the catalogue what the rows say. Loading the same again changes nothing but the time.

    A crash leaves some products new and the rest old, under the old time; loading again goes on from there. Raises
    Refused, with nothing written, for a file that is not to be believed; TryAgain when the store is away.
    """
    new, bad = read(rows)
    old = store.everything(name)
    store.write(name, (one for id_, one in new.items() if old.get(id_) != one), sorted(old.keys() - new.keys()))
    store.finish(name, best_sellers(new), now)
    return Loaded(len(new), changes(old, new), bad)
