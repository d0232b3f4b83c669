"""Checked definitions to the bundle the functions read, what changed in plain words, and the one switch to it.

The bundle is `definitions/active.json` in the store bucket; each template is an object of its own, named by the
hash of its contents. Every version stays under `definitions/versions/`, so that what is in flight under an older
one can still be read (goal 47).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

from espial.campaigns.compiling import made
from espial.definitions.load import Definitions
from espial.feeds.definition import LayoutDefinition, built_in

KINDS = (
    *("campaigns", "connections", "destinations", "feeds", "layouts", "onboardings", "payloads", "providers"),
    *("templates", "triggers", "variants", "webhooks"),
)


@dataclass(frozen=True)
class Bundle:
    """What is applied together. `active` is the content of active.json but for `applied_at`; `templates` by hash."""

    active: dict[str, Any]
    templates: dict[str, dict[str, Any]]

    @property
    def version(self) -> str:
        """Hash of everything in it: equal definitions are the same version, whoever applies them and when."""
        return str(self.active["version"])


class Bucket(Protocol):
    """Where bundles live (`espial.stores.definitions_bucket`)."""

    def active(self) -> dict[str, Any] | None: ...
    def template(self, digest: str) -> dict[str, Any] | None: ...
    def put_template(self, digest: str, template: Mapping[str, Any]) -> None: ...
    def keep_version(self, bundle: Mapping[str, Any]) -> None: ...
    def switch(self, bundle: Mapping[str, Any], *, replaces: str | None) -> None: ...


def bundle(definitions: Definitions) -> Bundle:
    """Everything as the functions read it; pure, so equal input gives an equal version."""
    running = made(definitions)
    content: dict[str, Any] = {
        "campaigns": {name: item.published() for name, item in definitions.campaigns.items()},
        "connections": {name: item.published() for name, item in definitions.connections.items()},
        "destinations": {name: item.published() for name, item in definitions.destinations.items()},
        "feeds": {name: item.published() for name, item in definitions.feeds.items()},
        "layouts": {name: item.published() for name, item in _layouts(definitions).items()},
        "onboardings": {name: item.published() for name, item in definitions.onboardings.items()},
        "payloads": {name: item.published() for name, item in definitions.payloads.items()},
        "providers": {name: item.published() for name, item in definitions.providers.items()} | running.providers,
        "templates": {name: compiled["sha"] for name, compiled in definitions.templates.items()},
        "triggers": {
            name: item.model_dump(mode="json") for name, item in {**definitions.triggers, **running.triggers}.items()
        },
        "variants": {name: item.published() for name, item in definitions.variants.items()},
        "webhooks": {name: item.published() for name, item in definitions.webhooks.items()},
    }
    templates = {str(compiled["sha"]): compiled for compiled in definitions.templates.values()}
    return Bundle({"version": sha256(_canonical(content)).hexdigest(), **content}, templates)


def _layouts(definitions: Definitions) -> dict[str, LayoutDefinition]:
    """Those that a feed uses: the functions read no files of their own."""
    known = {**built_in(), **definitions.layouts}
    return {
        name: known[name] for name in sorted({name for feed in definitions.feeds.values() for name in feed.layouts})
    }


def overdue(before: Mapping[str, Any] | None, new: Bundle, now: datetime) -> frozenset[str]:
    """The triggers that are to run at a time that is past, and were not in force as they are."""
    known = (before or {}).get("triggers", {})
    return frozenset(
        name
        for name, trigger in new.active["triggers"].items()
        if trigger["status"] in ("live", "staging")
        and known.get(name) != trigger
        and (schedule := (trigger["entry"] or {}).get("schedule"))
        and schedule["at"]
        and datetime.fromisoformat(schedule["at"]) < now
    )


def changes(before: Mapping[str, Any] | None, new: Bundle, bucket: Bucket) -> list[str]:
    """What applying `new` would change, one plain sentence a line; empty when it is what is active."""
    old = before or {}
    lines: list[str] = []
    for kind in KINDS:
        was, becomes = old.get(kind, {}), new.active[kind]
        noun = kind.removesuffix("s")
        for name in sorted({*was, *becomes}):
            if name not in becomes:
                lines.append(f"- {noun} {name} is removed")
            elif name not in was:
                lines.append(f"+ {noun} {name} is added")
            elif was[name] != becomes[name]:
                parts = (was[name], becomes[name])
                if kind == "templates":
                    parts = (_contents(bucket.template(was[name])), _contents(new.templates[becomes[name]]))
                lines += [f"~ {noun} {name}: {what}" for what in _differences(*parts)]
    return lines


def publish(new: Bundle, bucket: Bucket, applied_at: datetime, *, replaces: Mapping[str, Any] | None) -> None:
    """Write templates, then the version, then switch to it in one write: readers see the old or the new, whole.

    `replaces` is the active bundle that the changes were shown against. Raises TryAgain, with nothing switched,
    when it is no longer the active one.
    """
    for digest, template in new.templates.items():
        bucket.put_template(digest, template)
    dated = {**new.active, "applied_at": applied_at.isoformat()}
    bucket.keep_version(dated)
    bucket.switch(dated, replaces=replaces["version"] if replaces else None)


class Applied(NamedTuple):
    """The definitions' version, what it changes line by line, and whether it was put in force just now."""

    version: str
    changes: list[str]
    applied: bool


class Again(Protocol):
    """The same definitions, checked with what only the time tells."""

    def __call__(self, *, overdue: Collection[str]) -> Definitions: ...


def apply(checked: Definitions, bucket: Bucket, now: datetime, again: Again, *, dry_run: bool) -> Applied:
    """Put definitions in force, all or nothing, or only say what that would change.

    Raises TryAgain as `publish`, and InvalidDefinition, by checking `again`, for a schedule that is past.
    """
    new = bundle(checked)
    before = bucket.active()
    if late := overdue(before, new, now):
        again(overdue=late)
    lines = changes(before, new, bucket)
    is_due = bool(lines) and not dry_run
    if is_due:
        publish(new, bucket, now, replaces=before)
    return Applied(new.version, lines, is_due)


def _contents(template: Mapping[str, Any] | None) -> dict[str, Any]:
    return {field: value for field, value in (template or {}).items() if field != "sha"}


def _differences(was: Any, becomes: Any, at: str = "") -> Iterator[str]:
    if isinstance(was, Mapping) and isinstance(becomes, Mapping):
        for key in sorted({*was, *becomes}):
            yield from _differences(was.get(key), becomes.get(key), f"{at}.{key}" if at else key)
    elif was != becomes:
        if was is None:
            yield f"{at} is set to {_short(becomes)}"
        elif becomes is None:
            yield f"{at} is no longer set (was {_short(was)})"
        else:
            yield f"{at} changes from {_short(was)} to {_short(becomes)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:40]}… ({len(text):,} characters)"


def _canonical(value: Any) -> bytes:
    """JSON whose bytes depend on the content alone."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
