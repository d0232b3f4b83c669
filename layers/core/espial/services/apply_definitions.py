"""Checked definitions put in force, or only what that would change."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from espial.definitions import publish
from espial.definitions.load import Definitions
from espial.definitions.publish import Bucket


class Applied(NamedTuple):
    """The definitions' version, what it changes line by line, and whether it was put in force just now."""

    version: str
    changes: list[str]
    applied: bool


def apply(checked: Definitions, bucket: Bucket, now: datetime, *, dry_run: bool) -> Applied:
    """All or nothing. Raises TryAgain, with nothing changed, when somebody else applied meanwhile."""
    new = publish.bundle(checked)
    before = bucket.active()
    changes = publish.changes(before, new, bucket)
    is_due = bool(changes) and not dry_run
    if is_due:
        publish.publish(new, bucket, now, replaces=before)
    return Applied(new.version, changes, is_due)
