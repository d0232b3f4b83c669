"""Events from the bus -> what waits for each destination. Putting is conditional, so an event may come again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from espial import events
from espial.events import Event
from espial.messages import is_notification
from espial.notifications.definition import DestinationDefinition
from espial.notifications.outbox import SETTLE, Firsts, Notification, Outbox
from espial.notifications.triggers import fired
from espial.triggers import cel
from espial.vocabulary import EventType

Tally = Counter[tuple[str, str]]
"""(destination, trigger) -> notifications."""

_OPEN = "OPEN"


@dataclass(slots=True)
class Routed:
    """What became of a batch of messages, by their ids."""

    happened: dict[str, Event] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)
    tally: Tally = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """The ports of this use-case. `poke` tells who posts, after some seconds, that something waits for these."""

    outbox: Outbox
    firsts: Firsts
    poke: Callable[[Iterable[str], float], None] = lambda _, __: None

    def route_messages(
        self, bodies: Mapping[str, str], destinations: Iterable[DestinationDefinition], now: datetime
    ) -> Routed:
        """As `route`, for messages of the queue by id; each that fails comes again by itself or with the rest."""
        done = Routed()
        for message, body in bodies.items():
            try:
                done.happened[message] = msgspec.convert(json.loads(body)["detail"], Event)
            except (ValueError, KeyError, TypeError) as exc:
                done.failures[message] = exc
        try:
            done.tally = self.route(list(done.happened.values()), destinations, now)
        except Exception as exc:  # noqa: BLE001  what is put already is put once all the same
            done.failures |= dict.fromkeys(done.happened, exc)
            done.happened.clear()
        return done

    def route(self, happened: Sequence[Event], destinations: Iterable[DestinationDefinition], now: datetime) -> Tally:
        """Have each event wait for whom it concerns. Raises TryAgain when the store is away.

        What is reported about a notification mail concerns nobody: it would make another such mail, for ever.
        """
        destinations = list(destinations)
        told = [one for one in destinations if one.at_once]
        live = [event for event in happened if event.mode != "backfill" and not is_notification(event.send_key)]
        found: list[Notification] = []
        for destination in destinations:
            mine = [event for event in live if destination.hears(event.connection)]
            firing = [(event, name) for event in mine for name in fired(event, destination.on)]
            firing += [(event, _OPEN) for event in self._implied(destination, mine, now)]
            found += [
                Notification(
                    destination=destination.name,
                    event=event,
                    trigger=name,
                    put_at=now,
                    due=min(event.occurred_at, now) if destination.in_order else now,
                )
                for event, name in firing
                if _holds(destination, event)
            ]
        self.outbox.put(found)
        reached = {put.destination for put in found}
        for in_order, after in ((False, 0.0), (True, (SETTLE + timedelta(seconds=1)).total_seconds())):
            self.poke([one.name for one in told if one.name in reached and one.in_order == in_order], after)
        return Counter((one.destination, one.trigger) for one in found)

    def _implied(self, destination: DestinationDefinition, mine: Sequence[Event], now: datetime) -> list[Event]:
        """The open behind each click that comes before any open of its message (B9), with an id of its own."""
        if _OPEN not in destination.on:
            return []
        seen = [event for event in mine if event.type in (EventType.OPENED, EventType.CLICKED)]
        by_message: dict[str, Event] = {}
        for event in sorted(seen, key=lambda event: event.type is EventType.CLICKED):
            by_message.setdefault(f"{destination.name}#{_message(event)}", event)
        first = self.firsts.first({key: event.event_id for key, event in by_message.items()}, now=now)
        clicks = [by_message[key] for key in sorted(first) if by_message[key].type is EventType.CLICKED]
        return [_open_of(click) for click in clicks]


def _open_of(click: Event) -> Event:
    return msgspec.structs.replace(
        click,
        event_id=events.event_id(click.occurred_at, f"open behind/{click.event_id}"),
        type=EventType.OPENED,
        link=None,
        properties={**click.properties, "derived": True},
    )


def _message(event: Event) -> str:
    """Which message it is about, as far as events tell; each by itself where they do not."""
    person, campaign = event.person, event.campaign
    who = person.email or person.phone or person.external_id or person.source_contact_id
    what = campaign and (campaign.dispatch_id or campaign.id or campaign.journey_id)
    if who and what:
        return events.fingerprint([event.connection, what, who])
    return event.message_id or event.event_id


def _holds(destination: DestinationDefinition, event: Event) -> bool:
    if destination.when == "true":
        return True
    return bool(cel.Scope((destination.when,), {"event": cel.plain(event)}).holds(destination.when).value)
