"""Finds export files whose notification was lost, or whose chunks were, and has them split (again)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple

from espial.errors import TryAgain
from espial.exports.files import ExportLedger, ExportObjects, FileState, Listed
from espial.exports.notices import Notice, ignored
from espial.services.split_export import LOST, PREFIX, Splitter

GRACE = timedelta(minutes=30)
"""How long a notification may take to come before its object is looked after."""

DAYS = 7
"""How far back a sweep looks, unless it is told otherwise."""

MARGIN_MS = 30_000
LOOKED_UP_TOGETHER = 100


class Sweep(NamedTuple):
    """What a sweep found: objects listed, outcomes of the files it had split, and whether it reached the end."""

    listed: int
    outcomes: Counter[str]
    complete: bool


def sweep(
    bucket: str,
    *,
    splitter: Splitter,
    objects: ExportObjects,
    ledger: ExportLedger,
    now: datetime,
    time_left: Callable[[], float],
    days: int,
    retry_failed: bool = False,
) -> Sweep:
    """Go through the objects of the last `days` days; a sweep that runs out of time goes on where it stopped.

    `retry_failed` also has failed files split again, for when what they failed for is mended. One file that
    cannot be split now (`retry` in the outcomes) does not stop the others: the next sweep finds it again.
    """
    listing = objects.listing(bucket, f"{PREFIX}/", ledger.sweep_position(bucket))
    listed = 0
    outcomes: Counter[str] = Counter()
    while page := list(islice(listing, LOOKED_UP_TOGETHER)):
        listed += len(page)
        for found in _neglected(bucket, page, ledger, now, timedelta(days=days), retry_failed=retry_failed):
            notice = Notice(bucket=bucket, key=found.key, size=found.size, etag=found.etag)
            try:
                outcomes[splitter.split(notice).outcome] += 1
            except TryAgain:
                outcomes["retry"] += 1
        if time_left() < MARGIN_MS:
            ledger.keep_sweep_position(bucket, page[-1].key)
            return Sweep(listed, outcomes, complete=False)
    ledger.keep_sweep_position(bucket, "")
    return Sweep(listed, outcomes, complete=True)


def _neglected(
    bucket: str, page: list[Listed], ledger: ExportLedger, now: datetime, window: timedelta, *, retry_failed: bool
) -> Iterator[Listed]:
    recent = [
        found for found in page if GRACE <= now - found.modified_at <= window and not ignored(found.key, found.size)
    ]
    entries = ledger.entries(bucket, recent)
    return (found for found in recent if _stands_still(entries.get(found.key), now, retry_failed=retry_failed))


def _stands_still(entry: FileState | None, now: datetime, *, retry_failed: bool) -> bool:
    """Whether a file is not at its end and nobody works on it; of a queued one the splitter asks the chunks too."""
    if entry is None:
        return True
    if entry.state in ("planned", "queued"):
        return now - entry.updated_at >= LOST
    return entry.state == "failed" and retry_failed
