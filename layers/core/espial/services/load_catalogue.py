"""A catalogue's newest file into the store: what changed is written, what is gone is removed."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

from espial.catalogue import BadRow, Change, Product, best_sellers, changes, read, rows
from espial.errors import Refused, TryAgain
from espial.exports.files import ExportObjects
from espial.exports.notices import Notice, parse

PREFIX = "catalogue/"
"""Where files are dropped in the exports bucket: `catalogue/<name>/<file>`."""
LARGEST = 200_000_000
"""Bytes of a file."""
LEASE = timedelta(minutes=6)
"""How long a load may take: longer than its function may run."""


class Loading(Protocol):
    """The store as a load sees it. Each raises TryAgain when it is away."""

    def take(self, name: str, *, now: datetime, until: datetime) -> bool: ...
    def release(self, name: str) -> None: ...
    def loaded_at(self, name: str) -> datetime | None: ...
    def everything(self, name: str) -> dict[str, Product]: ...
    def write(self, name: str, products: Iterable[Product], gone: Iterable[str]) -> None: ...
    def finish(self, name: str, best: Mapping[str, list[str]], loaded_at: datetime) -> None: ...


class Loaded(NamedTuple):
    """What came of a file. `changes` tells old and new of each product that is not as it was."""

    products: int
    changes: list[Change]
    bad: list[BadRow]


def load(name: str, found: Iterable[Mapping[str, Any]], store: Loading, *, as_of: datetime, now: datetime) -> Loaded:
    """Make the catalogue what the rows say, which were true `as_of`. Loading them again changes nothing.

    One file at a time, and never an older one over a newer. A crash leaves some products new and the rest old, under
    the old time; loading again goes on from there. Raises Refused, with nothing written, for a file that is not to be
    believed or was overtaken (`catalogue_superseded`); TryAgain while another is loaded, or when the store is away.
    """
    new, bad = read(found)
    if not store.take(name, now=now, until=now + LEASE):
        raise TryAgain("another file of this catalogue is being loaded", after=60)
    try:
        newest = store.loaded_at(name)
        if newest is not None and newest > as_of:
            raise Refused("catalogue_superseded", f"one of {newest:%Y-%m-%d %H:%M:%S} is loaded")
        old = store.everything(name)
        store.write(name, (one for id_, one in new.items() if old.get(id_) != one), sorted(old.keys() - new.keys()))
        store.finish(name, best_sellers(new), as_of)
    finally:
        store.release(name)
    return Loaded(len(new), changes(old, new), bad)


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads files that were dropped in the exports bucket."""

    objects: ExportObjects
    store: Loading

    def load_message(self, message: str, now: datetime) -> Iterator[tuple[str, Loaded]]:
        """Each file that an S3 event tells of, by its catalogue's name. Raises as `load` does, and Unavailable."""
        for notice in parse(message):
            name = _name(notice)
            file = self.objects.head(notice)
            if file.size > LARGEST:
                raise Refused("catalogue_too_large", f"over {LARGEST:,} bytes")
            lines = io.TextIOWrapper(io.BytesIO(self.objects.read(file, 0, file.size)), "utf-8-sig", newline="")
            yield name, load(name, rows(notice.key, lines), self.store, as_of=file.modified_at, now=now)


def _name(notice: Notice) -> str:
    name, slash, file = notice.key.removeprefix(PREFIX).partition("/")
    if not slash or not name or not file:
        raise Refused("catalogue_unnamed", f"a file lies under {PREFIX}<name>/")
    return name
