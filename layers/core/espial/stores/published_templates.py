"""Published triggers, providers, templates and onboardings, as the functions read them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache, lru_cache
from typing import Any, Protocol

from pydantic import ValidationError

from espial.campaigns.compiled import read
from espial.errors import Refused, TryAgain
from espial.notifications.definition import DestinationDefinition, readable
from espial.triggers.definition import Trigger

MAX_AGE = timedelta(seconds=30)
"""How old a copy may be before it is looked after: what `espial apply` changes is in force within this."""

MISS_AGE = timedelta(seconds=1)
"""How old it may be to call a name unknown: a trigger applied a moment ago may have runs that are due already."""

VERSIONS_KEPT = 20
"""Earlier bundles held in memory."""

log = logging.getLogger(__name__)


class _NothingApplied(TryAgain):
    """The stack is new."""


class Bundles(Protocol):
    """Where they lie (`espial.stores.definitions_bucket.DefinitionsBucket`)."""

    def active(self) -> dict[str, Any] | None: ...
    def version(self, version: str) -> dict[str, Any] | None: ...
    def template(self, digest: str) -> dict[str, Any] | None: ...


class PublishedTemplates:
    """`ports.Published` over the active bundle. `monotonic` tells the seconds of some clock that never goes back."""

    def __init__(self, bundles: Bundles, monotonic: Callable[[], float]) -> None:
        self._bundles = bundles
        self._monotonic = monotonic
        self._active: dict[str, Any] = {}
        self._read_at = float("-inf")
        self._templates: dict[str, Mapping[str, Any]] = {}
        self._trigger = cache(self._parse)
        self._past = lru_cache(VERSIONS_KEPT)(self._read_past)
        self._past_trigger = lru_cache(VERSIONS_KEPT * 10)(self._parse_past)
        self._readable: list[Trigger] | None = None
        self._destinations: list[DestinationDefinition] | None = None

    @property
    def version(self) -> str:
        """See `ports.Published.version`."""
        return str(self._active.get("version", ""))

    def trigger(self, name: str, version: str = "") -> Trigger | None:
        """See `ports.Published.trigger`. Raises pydantic.ValidationError for one that this version cannot read."""
        active = self._fresh(("triggers", name))
        if name not in active["triggers"]:
            return None
        current = self._trigger(active["version"], name)
        past = self._past_trigger(version, name) if version not in ("", active["version"]) else None
        return past.model_copy(update={"status": current.status}) if past else current

    def triggers(self) -> list[Trigger]:
        """See `ports.Published.triggers`. One that this version cannot read must not take the others away."""
        active = self._fresh()
        if self._readable is None:
            self._readable = []
            for name in active["triggers"]:
                try:
                    self._readable.append(self._trigger(active["version"], name))
                except ValidationError as exc:
                    log.error("trigger.unreadable: %s: %d problems", name, exc.error_count())  # noqa: TRY400  no values
        return self._readable

    def walking(self) -> list[Trigger]:
        """Those that all people are walked over for; none before anything was applied."""
        try:
            return [trigger for trigger in self.triggers() if trigger.entry or trigger.fallback]
        except _NothingApplied:
            return []

    def provider(self, name: str) -> Mapping[str, Any]:
        """See `ports.Published.provider`."""
        settings: Mapping[str, Any] | None = self._fresh(("providers", name))["providers"].get(name)
        if settings is None:
            raise Refused("unknown_provider", name)
        return settings

    def onboarding(self, name: str) -> Mapping[str, Any] | None:
        """An onboarding's settings (definitions/onboardings/); None when there is no such onboarding (any more)."""
        settings: Mapping[str, Any] | None = self._fresh(("onboardings", name)).get("onboardings", {}).get(name)
        return settings

    def destinations(self) -> list[DestinationDefinition]:
        """The destinations in force; one that this version cannot read must not take the others away."""
        try:
            active = self._fresh()
        except _NothingApplied:
            return []
        if self._destinations is None:
            self._destinations, unreadable = readable(active.get("destinations", {}))
            for name in unreadable:
                log.error("destination.unreadable: %s", name)
        return self._destinations

    def template(self, name: str, version: str = "") -> Mapping[str, Any]:
        """See `ports.Published.template`. A template's name in the store is its hash, so a copy never ages."""
        active = self._fresh(("templates", name))
        past = self._past(version)["templates"] if version not in ("", active["version"]) else {}
        digest = past.get(name) or active["templates"].get(name)
        if digest is None:
            raise Refused("unknown_template", name)
        if digest not in self._templates:
            compiled = self._bundles.template(digest)
            if compiled is None:
                raise Refused("unknown_template", name)
            self._templates[digest] = compiled
        return self._templates[digest]

    def _read_past(self, version: str) -> Mapping[str, Any]:
        """An earlier bundle, which never changes. Raises TryAgain when the store is away: none is judged by another."""
        try:
            return self._bundles.version(version) or {"triggers": {}, "templates": {}}
        except Exception as exc:
            raise TryAgain(f"definitions {version[:12]} cannot be read: {type(exc).__name__}") from exc

    def _parse_past(self, version: str, name: str) -> Trigger | None:
        published = self._past(version)["triggers"].get(name)
        try:
            return read(published) if published else None
        except ValidationError as exc:
            log.error("trigger.unreadable: %s of %s: %d problems", name, version[:12], exc.error_count())  # noqa: TRY400
            return None

    def _parse(self, _version: str, name: str) -> Trigger:
        return read(self._active["triggers"][name])

    def _fresh(self, wanted: tuple[str, str] | None = None) -> dict[str, Any]:
        """The active bundle; read again at once where it lacks what is `wanted` (kind, name), as new as it may be."""
        now = self._monotonic()
        lacking = wanted is not None and self._active and wanted[1] not in self._active.get(wanted[0], {})
        if now - self._read_at >= (MISS_AGE if lacking else MAX_AGE).total_seconds():
            try:
                active = self._bundles.active()
            except Exception as exc:
                if not self._active:
                    raise TryAgain(f"definitions cannot be read: {type(exc).__name__}") from exc
                active = self._active  # a stale copy is better than none
            if active is None:
                raise _NothingApplied("no definitions were applied yet", after=30)
            if active["version"] != self._active.get("version"):
                self._trigger.cache_clear()
                self._readable = self._destinations = None
            self._active, self._read_at = active, now
        return self._active
