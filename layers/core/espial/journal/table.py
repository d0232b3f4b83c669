"""A person's events as a table: what happened, where it is logged, what is made of it, and which send it answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, Protocol

from espial.events import BY_RULE, Event, PersonKey
from espial.feeds.correlation import Match, correlate
from espial.feeds.dispositions import DISPOSITIONS
from espial.journal import words
from espial.machine import Verdict, rescore
from espial.own_events import PLATFORM
from espial.ports import Stored
from espial.vocabulary import EventType

Kind = Literal["onboarding", "send", "response", "ours", "activity"]
"""What a row is: recipient data handed over, a message sent, what came of one, a decision of Espial, anything else."""

Origin = Literal["cdp", "espial", "platform", "site"]
"""Where a row's events come from: the customer data platform, Espial itself, an email platform, a site, app or shop."""

VISIT = timedelta(minutes=30)
"""Looking around with pauses no longer than this is one row."""

_LOOKING = frozenset({EventType.PAGE_VIEWED, EventType.PRODUCT_VIEWED, EventType.CART_UPDATED, EventType.CUSTOM})
_ONBOARDING = frozenset({EventType.RECIPIENT_SELECTED, EventType.RECIPIENT_ONBOARDED, EventType.RECIPIENT_REJECTED})
_ORDER = {kind: rank for rank, kind in enumerate(sorted(EventType, key=lambda kind: kind not in _ONBOARDING))}
"""Of what happened in one instant: recipient data is handed over, a message is sent, delivered, opened, clicked."""


class Connections(Protocol):
    """What ties responses to sends and is configured with their connections (`espial.feeds.published.Feeds`)."""

    def account(self, event: Event) -> str:
        """The scope of the ids that the event's connection reports."""
        ...

    def reported(self, event: Event) -> EventType | None:
        """What the event's platform reports a send by; None if it reports none."""
        ...


class Journal(NamedTuple):
    """What is known of a person: the key that was asked for, every key that is theirs, and the newest rows.

    `earlier` counts the rows before these.
    """

    person: PersonKey
    keys: tuple[PersonKey, ...]
    rows: Sequence[Row]
    earlier: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    number       in order of time, from 1.
    at, until    of its first and its last event.
    activity     in words; `detail` has the particulars, the empty text if there are none.
    logged       where it lies besides Espial.
    automation   what is made of it for the CDP, and by whom.
    correlation  of a response: how it was tied to its send, in words; `method` and `confidence` (0 to 1) for programs.
    send         of a response: the number of its send's row, None if that is not among the rows.
    events       the ids of its events; of an onboarding that of the outcome, then that of the selection.
    type         of its events; the first one's where there are several.
    origin       where its events come from; `platform` is who reports them, as people call it, or whom recipient data
                 or a message is handed to.
    system       of an onboarding: where the data comes from.
    """

    number: int = 0
    kind: Kind
    origin: Origin
    type: str
    at: datetime
    until: datetime
    activity: str
    detail: str = ""
    logged: str
    automation: str
    events: tuple[str, ...]
    campaign_event_id: str = ""
    response_event_id: str = ""
    method: str = ""
    confidence: float | None = None
    correlation: str = ""
    send: int | None = None
    platform: str = ""
    system: str = ""

    @property
    def unmatched(self) -> bool:
        """A response whose send is not known."""
        return self.kind == "response" and not self.method

    def plain(self) -> dict[str, Any]:
        """As JSON has it; what does not apply is null."""
        return {
            "sequence": self.number,
            "kind": self.kind,
            "origin": self.origin,
            "type": self.type,
            "at": self.at.isoformat(),
            "until": self.until.isoformat(),
            "activity": self.activity,
            "detail": self.detail or None,
            "logged": self.logged,
            "automation": self.automation,
            "event_ids": list(self.events),
            "campaign_event_id": self.campaign_event_id or None,
            "response_event_id": self.response_event_id or None,
            "correlation": self.correlation or None,
            "method": self.method or None,
            "confidence": self.confidence,
            "send": self.send,
            "platform": self.platform or None,
            "system": self.system or None,
        }


def rows(recorded: Iterable[Stored], connections: Connections, *, messages_only: bool = False) -> list[Row]:
    """The table of a person's events, whatever order they come in, each taken once.

    `messages_only` leaves out what is about no message and no onboarding.
    """
    once = {stored.event.event_id: stored for stored in recorded}
    history = sorted(once.values(), key=_moment)
    events = [stored.event for stored in history]
    tied = correlate(
        ((event, connections.account(event)) for event in events if event.platform != PLATFORM),
        connections.reported,
    )
    selections = _selections(events)
    maker, told_with_outcome = _Maker(tied, rescore(events), selections), {*selections.values()}
    made = [(one.event, maker.row(one)) for one in history if one.event.event_id not in told_with_outcome]
    if messages_only:
        made = [one for one in made if one[1].kind != "activity"]
    return _numbered([_visit(visit) for visit in _visits(made)])


def _moment(stored: Stored) -> tuple[datetime, int, str]:
    event = stored.event
    return event.occurred_at, _ORDER[event.type], event.event_id


def _selections(events: Iterable[Event]) -> dict[str, str]:
    """Event id of what became of a recipient -> that of the recipient's selection, which it is told with."""
    handed_over = [event for event in events if event.type in _ONBOARDING]
    selected = {
        _recipient(event): event.event_id for event in handed_over if event.type is EventType.RECIPIENT_SELECTED
    }
    return {
        event.event_id: selected[_recipient(event)]
        for event in handed_over
        if event.type is not EventType.RECIPIENT_SELECTED and _recipient(event) in selected
    }


def _recipient(event: Event) -> tuple[str, str, str]:
    """One recipient of one execution of an onboarding."""
    return event.connection, str(event.properties.get("execution")), str(event.properties.get("contact"))


class _Maker:
    """Makes a row of one event at a time, oldest first: the first onboarding inserts, those after it update."""

    def __init__(
        self, tied: Mapping[str, Match], verdicts: Mapping[str, Verdict], selections: Mapping[str, str]
    ) -> None:
        self._tied = tied
        self._verdicts = verdicts
        self._selections = selections
        self._onboarded: set[tuple[str, str]] = set()

    def row(self, stored: Stored) -> Row:
        event = stored.event
        if event.type in _ONBOARDING:
            return self._onboarding(event)
        if event.platform == PLATFORM:
            return _ours(event)
        match = self._tied.get(event.event_id)
        if match and match.method == "own":
            return self._send(stored, match)
        if event.type in words.ABOUT_MESSAGES and (event.campaign or event.send_key or event.message_id):
            return self._response(stored, match)
        return _row(
            event,
            "activity",
            "site" if stored.via == ("tracking",) else "platform",
            activity=words.behaviour(event),
            detail="; ".join(words.particulars(event)),
            logged=words.logged(event, stored.via),
            automation="neither a campaign event nor a response event",
        )

    def _send(self, stored: Stored, match: Match) -> Row:
        event = stored.event
        return _row(
            event,
            "send",
            "platform",
            activity=words.message(event),
            detail="; ".join(words.particulars(event)),
            logged=words.logged(event, stored.via),
            automation=f"a campaign event is generated from {_of(words.platform(event))} data",
            campaign_event_id=match.id,
        )

    def _response(self, stored: Stored, match: Match | None) -> Row:
        event = stored.event
        who = words.platform(event)
        counts = event.type.value in DISPOSITIONS
        automation = f"a response event is generated from {_of(who)} data"
        if not counts:
            automation = "no response event by default: not a disposition"
        elif not match:
            automation = "not yet: a response event needs its campaign event's id"
        return _row(
            event,
            "response",
            "platform",
            activity=words.message(event),
            detail="; ".join((*words.particulars(event), *self._by_whom(event))),
            logged=words.logged(event, stored.via),
            automation=automation,
            campaign_event_id=match.id if match else "",
            response_event_id=event.event_id if counts else "",
            method=match.method if match else "",
            confidence=match.confidence if match else None,
            correlation=words.correlation(match.method, match.confidence, who) if match else words.UNMATCHED,
        )

    def _by_whom(self, event: Event) -> Iterator[str]:
        verdict = self._verdicts.get(event.event_id)
        if verdict and verdict.machine:
            yield f"by a machine ({(verdict.reason or 'unknown why').removeprefix(BY_RULE)})"

    def _onboarding(self, event: Event) -> Row:
        said = {name: str(value) for name, value in event.properties.items() if isinstance(value, str | int)}
        system = said.get("system") or "CDP"
        whom = words.called(said.get("destination") or "a platform", event.connection)
        identifier = "-".join((system.lower(), said.get("execution", ""), said.get("contact", "")))
        if event.type is EventType.RECIPIENT_SELECTED:
            activity = f"Recipient data of {system} identified to send or update in {whom}"
        elif event.type is EventType.RECIPIENT_REJECTED:
            activity = f"Recipient data from {system} refused by {whom}"
        else:
            again = (system, whom) in self._onboarded
            self._onboarded.add((system, whom))
            activity = f"Recipient data onboarded to {whom} from {system} ({'updated' if again else 'inserted'})"
        done = event.type is EventType.RECIPIENT_ONBOARDED
        row = _row(
            event,
            "onboarding",
            "cdp",
            activity=activity,
            detail=": ".join(said[name] for name in ("reason", "detail") if said.get(name)),
            logged="offer history and campaign event" if done else "offer history",
            automation="fully automated: by Espial's onboarding",
            campaign_event_id=identifier if done else "",
            platform=whom,
            system=system,
        )
        selection = self._selections.get(event.event_id)
        return replace(row, events=(*row.events, selection)) if selection else row


def _ours(event: Event) -> Row:
    said = {name: str(value) for name, value in event.properties.items()}
    trigger = next((f"{kind} {said[kind]}" for kind in ("trigger", "campaign") if said.get(kind)), "Espial")
    whom = words.called(said.get("provider") or "a provider", event.connection)
    activity = words.behaviour(event)
    if event.type is EventType.MESSAGE_REQUESTED:
        activity = f"Message of {trigger} handed to {whom}"
    elif event.type is EventType.MESSAGE_SKIPPED:
        activity = f"Message of {trigger} not sent: {said.get('reason', 'unknown why')}"
    return _row(
        event,
        "ours",
        "espial",
        activity=activity,
        logged="Espial's events",
        automation=f"fully automated: by {trigger}",
        platform=whom if event.type is EventType.MESSAGE_REQUESTED else "",
    )


def _row(event: Event, kind: Kind, origin: Origin, *, platform: str = "", **said: Any) -> Row:
    return Row(
        kind=kind,
        origin=origin,
        type=event.type.value,
        at=event.occurred_at,
        until=event.occurred_at,
        events=(event.event_id,),
        platform=platform or words.platform(event),
        **said,
    )


def _of(name: str) -> str:
    return f"{name}'" if name.endswith("s") else f"{name}'s"


def _visits(made: Iterable[tuple[Event, Row]]) -> list[list[tuple[Event, Row]]]:
    """Looking around is taken together until something else happens; everything else stays alone."""
    found: list[list[tuple[Event, Row]]] = []
    for one in made:
        if found and _looks_on(found[-1][-1], one):
            found[-1].append(one)
        else:
            found.append([one])
    return found


def _looks_on(before: tuple[Event, Row], now: tuple[Event, Row]) -> bool:
    events, made = (before[0], now[0]), (before[1], now[1])
    return (
        all(event.type in _LOOKING for event in events)
        and all(row.kind == "activity" for row in made)
        and made[0].logged == made[1].logged
        and now[0].occurred_at - before[0].occurred_at <= VISIT
    )


def _visit(made: Sequence[tuple[Event, Row]]) -> Row:
    first = made[0][1]
    if len(made) == 1:
        return first
    return replace(
        first,
        until=made[-1][1].at,
        activity=words.together(event for event, _ in made),
        detail="",
        events=tuple(event.event_id for event, _ in made),
    )


def _numbered(made: Sequence[Row]) -> list[Row]:
    sends = {row.campaign_event_id: number for number, row in enumerate(made, start=1) if row.kind == "send"}
    return [
        replace(row, number=number, send=sends.get(row.campaign_event_id) if row.kind == "response" else None)
        for number, row in enumerate(made, start=1)
    ]
