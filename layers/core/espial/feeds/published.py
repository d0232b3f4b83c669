"""The feeds in force, and what they need to know of connections, read from what `espial apply` published."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from pydantic import ValidationError

from espial import sources
from espial.deliveries import Connection
from espial.errors import UnknownConnection
from espial.events import Event
from espial.feeds.correlation import send_type
from espial.feeds.definition import FeedDefinition, LayoutDefinition
from espial.vocabulary import EventType

log = logging.getLogger(__name__)


class Feeds:
    """The feeds and layouts of an active bundle."""

    def __init__(self, active: Mapping[str, Any]) -> None:
        self._connections: Mapping[str, Mapping[str, Any]] = active.get("connections", {})
        self._feeds: Mapping[str, Any] = active.get("feeds", {})
        self._layouts: Mapping[str, Any] = active.get("layouts", {})
        self._sends: dict[tuple[str, str, str], EventType | None] = {}

    def feeds(self) -> Iterator[tuple[FeedDefinition, Mapping[str, LayoutDefinition]]]:
        """Each feed with its layouts. One that this version cannot read must not take the others away."""
        for name, content in self._feeds.items():
            try:
                feed = FeedDefinition.model_validate(content)
                layouts = {used: LayoutDefinition.model_validate(self._layouts[used]) for used in feed.layouts}
            except (ValidationError, KeyError) as exc:
                log.error("feed.unreadable: %s: %s", name, type(exc).__name__)  # noqa: TRY400  no values in a log
            else:
                yield feed, layouts

    def account(self, event: Event) -> str:
        """The scope of the ids that the event's connection reports."""
        return str(self._connections.get(event.connection, {}).get("account") or event.connection)

    def send_of(self, feed: FeedDefinition) -> Callable[[Event], EventType | None]:
        """What an event's connection reports a send by, as the feed says or else its platform; None for nothing."""
        return partial(self._send, feed)

    def _send(self, feed: FeedDefinition, event: Event) -> EventType | None:
        said = feed.sends.get(event.connection)
        if said is not None:
            return None if said == "none" else EventType(said)
        return self.reported(event)

    def reported(self, event: Event) -> EventType | None:
        """What the event's platform reports a send by, as its connection's settings shape it; None for nothing."""
        key = event.platform, event.connection, event.channel
        if key not in self._sends:
            self._sends[key] = self._reported(*key)
        return self._sends[key]

    def _reported(self, platform: str, name: str, channel: str) -> EventType | None:
        known = self._connections.get(name, {})
        connection = Connection(name=name, platform=platform, settings=known.get("settings", {}))
        try:
            return send_type(sources.of(connection), channel)
        except (UnknownConnection, ValueError):  # a platform of another version, or our own events
            return None
