"""The ports that triggers need, in memory. One thread; nothing is ever away.

Simpler than production in one way: keys that would join two people (an address two customers share) are not followed,
and what was said under such a key alone is not known.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from espial import own_events, people
from espial.errors import Refused, TryAgain
from espial.events import Event, PersonKey
from espial.messages import Message, Receipt
from espial.normalise import Recordable
from espial.people import NOTHING, PersonView, Profile
from espial.ports import AlreadyRefused, AlreadySent, Claim, Decided, InProgress, Recorded, Standing, Unsettled, Verdict
from espial.triggers.decision import Decision
from espial.triggers.definition import Trigger
from espial.triggers.run import Run, State


@dataclass(slots=True)
class _Person:
    keys: list[PersonKey] = field(default_factory=list)
    events: list[tuple[datetime, str, Event]] = field(default_factory=list)
    profile: Profile = NOTHING
    runs: dict[tuple[str, str, str], Run] = field(default_factory=dict)


class MemoryPeople:
    """`ports.People`, `Runs` and `EventStore.add`: one record a person, joined as soon as two keys are known as one."""

    def __init__(self) -> None:
        self._people: dict[PersonKey, _Person] = {}
        self._known: set[str] = set()
        self.own: list[Event] = []
        """Every event of ours, as it was recorded."""
        self.entered: Counter[tuple[str, int, str]] = Counter()
        """(trigger, stage, variant) -> how often a run came to that stage, in whichever version."""
        self.replaced: Counter[tuple[str, int, str]] = Counter()
        """As `entered`: how often a newer version took the place of one that waited there."""

    # EventStore

    def add(self, records: Sequence[Recordable], *, transport: str, expires_days: int) -> list[Verdict]:
        """See `ports.EventStore.add`; nothing expires and the transport is of no matter here."""
        del transport, expires_days
        return [self.record(record.event) for record in records]

    def of_trigger(self, name: str) -> Iterator[Event]:
        """See `ports.EventStore.of_trigger`."""
        return (event for event in self.own if event.properties["trigger"] == name)

    def record(self, event: Event) -> Recorded:
        """One event, once."""
        if event.event_id in self._known:
            return Recorded.DUPLICATE
        self._known.add(event.event_id)
        keys = people.keys_of(event)
        if not keys:
            return Recorded.NEW
        person = self._joined(keys)
        insort(person.events, (event.occurred_at, event.event_id, event))
        person.profile = people.merge_profile(person.profile, event)
        if event.platform == own_events.PLATFORM:
            self.own.append(event)
        return Recorded.NEW

    def _joined(self, keys: Sequence[PersonKey]) -> _Person:
        person = self._of(keys[0])
        for key in keys[1:]:
            other = self._people.get(key)
            if other is person:
                continue
            if other is None:
                person.keys.append(key)
                self._people[key] = person
            elif not (_named(person) and _named(other)):
                self._join(person, other)
        return person

    def _of(self, key: PersonKey) -> _Person:
        return self._people.setdefault(key, _Person([key]))

    def _join(self, person: _Person, other: _Person) -> None:
        person.keys += other.keys
        person.events = sorted((*person.events, *other.events), key=lambda entry: entry[:2])
        person.profile = people.join(person.profile, other.profile)
        person.runs |= other.runs
        self._people |= dict.fromkeys(other.keys, person)

    # People

    def load(self, key: PersonKey) -> PersonView:
        """See `ports.People.load`."""
        person = self._of(key)
        return PersonView(
            key=key,
            keys=(key, *(other for other in person.keys if other != key)),
            profile=person.profile,
            events=tuple(entry[2] for entry in person.events),
            runs=tuple(person.runs.values()),
        )

    def merge(self, event: Event) -> None:
        """Recording took over what it says."""

    def meet(self, event: Event, key: PersonKey) -> PersonView:
        """See `ports.People.meet`."""
        del event
        return self.load(key)

    # Runs

    def get(self, person: str, trigger: str, key: str) -> Run | None:
        """See `ports.Runs.get`."""
        return self._of(PersonKey.parse(person)).runs.get((person, trigger, key))

    def put(self, run: Run, previous: Run | None) -> bool:
        """See `ports.Runs.put`."""
        if self.get(run.person, run.trigger, run.key) != previous:
            return False
        if previous is None or (run.version, run.stage) != (previous.version, previous.stage):
            self.entered[run.trigger, run.stage, run.variant] += 1
            if previous is not None and previous.state == "waiting" and run.version != previous.version:
                self.replaced[previous.trigger, previous.stage, previous.variant] += 1
        self._of(PersonKey.parse(run.person)).runs[run.person, run.trigger, run.key] = run
        return True

    def finish(self, run: Run, state: State, *, closed_at: datetime, reason: str = "", ended_by: str = "") -> bool:
        """See `ports.Runs.finish`."""
        stored = self.get(run.person, run.trigger, run.key)
        ended = replace(run, state=state, closed_at=closed_at, reason=reason, ended_by=ended_by)
        if stored is None or (stored.version, stored.stage, stored.state) != (run.version, run.stage, "waiting"):
            return stored == ended
        return self.put(ended, stored)

    # what came of everybody

    def waiting(self) -> Iterator[Run]:
        """The runs that have not ended."""
        return (run for person in self._everybody() for run in person.runs.values() if run.state == "waiting")

    def histories(self) -> Iterator[list[Event]]:
        """The events of each person, oldest first."""
        return ([entry[2] for entry in person.events] for person in self._everybody())

    def _everybody(self) -> Iterator[_Person]:
        return iter({id(person): person for person in self._people.values()}.values())


def _named(person: _Person) -> bool:
    return any(key.kind == "id" for key in person.keys)


class MemoryDecisions:
    """`ports.Decisions`."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, Decided]] = {}

    def record(self, person: str, decision: Decision, run: Run, *, now: datetime) -> str:
        """See `ports.Decisions.record`."""
        identity = own_events.identifier(run, f"{decision.outcome}/{decision.reason}")
        told = Decided(identity, now, run.trigger, run.key, run.version, decision)
        self._kept.setdefault(person, {}).setdefault(identity, told)
        return identity

    def of_person(self, person: str, *, trigger: str | None = None, limit: int = 100) -> list[Decided]:
        """See `ports.Decisions.of_person`."""
        found = [told for told in self._kept.get(person, {}).values() if trigger in (None, told.trigger)]
        return sorted(found, key=lambda told: (told.decided_at, told.id), reverse=True)[:limit]


_State = Literal["calling", "sent", "refused", "free", "unknown"]


@dataclass(slots=True)
class _Held:
    state: _State
    attempt: int
    at: datetime
    until: datetime
    receipt: Receipt | None = None
    reason: str = ""


class MemoryClaims:
    """`ports.Claims`, by the rules of the table's."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], _Held] = {}

    def look(self, person: str, send_key: str, *, now: datetime) -> Standing | None:
        """See `ports.Claims.look`."""
        held = self._held.get((person, send_key))
        if held is None:
            return None
        if held.state == "sent" and held.receipt is not None:
            return AlreadySent(held.receipt.provider, held.receipt.provider_message_id, held.receipt.at)
        if held.state == "refused":
            return AlreadyRefused(held.reason)
        if held.state == "calling" and now < held.until:
            return InProgress(held.until)
        claim = Claim(person, send_key, held.attempt)
        return claim if held.state == "free" else Unsettled(claim, held.at)

    def claim(self, person: str, send_key: str, *, now: datetime, lease: timedelta) -> Standing:
        """See `ports.Claims.claim`."""
        standing = self.look(person, send_key, now=now)
        if standing is not None and not isinstance(standing, Claim):
            return standing
        attempt = standing.attempt + 1 if standing else 1
        self._held[person, send_key] = _Held("calling", attempt, now, now + lease)
        return Claim(person, send_key, attempt)

    def sent(self, claim: Claim, receipt: Receipt) -> None:
        """See `ports.Claims.sent`."""
        self._move(claim, "sent", ("calling", "unknown")).receipt = receipt

    def refused(self, claim: Claim, reason: str) -> None:
        """See `ports.Claims.refused`."""
        self._move(claim, "refused", ("calling", "unknown")).reason = reason

    def unknown(self, claim: Claim) -> None:
        """See `ports.Claims.unknown`."""
        self._move(claim, "unknown", ("calling",))

    def release(self, claim: Claim) -> None:
        """See `ports.Claims.release`."""
        with suppress(TryAgain):
            self._move(claim, "free", ("calling", "unknown"))

    def _move(self, claim: Claim, state: _State, before: tuple[_State, ...]) -> _Held:
        held = self._held[claim.person, claim.send_key]
        if held.attempt != claim.attempt or held.state not in (*before, state):
            raise TryAgain(f"the claim is no longer ours to make {state}")
        held.state = state
        return held


class _Edition(NamedTuple):
    triggers: Mapping[str, Trigger]
    providers: Mapping[str, Mapping[str, Any]]
    templates: Mapping[str, Mapping[str, Any]]


class MemoryPublished:
    """`ports.Published` over checked definitions; `apply` puts others in force, and what was stays readable."""

    def __init__(
        self,
        triggers: Sequence[Trigger],
        providers: Mapping[str, Mapping[str, Any]],
        templates: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._editions: list[_Edition] = []
        self.apply(triggers, providers, templates)

    def apply(
        self,
        triggers: Sequence[Trigger],
        providers: Mapping[str, Mapping[str, Any]],
        templates: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """As `espial apply`."""
        self._editions.append(_Edition({trigger.name: trigger for trigger in triggers}, providers, templates))

    @property
    def version(self) -> str:
        """See `ports.Published.version`."""
        return str(len(self._editions) - 1)

    def trigger(self, name: str, version: str = "") -> Trigger | None:
        """See `ports.Published.trigger`."""
        current = self._editions[-1].triggers.get(name)
        past = self._edition(version).triggers.get(name)
        if current is None or past is None or past is current:
            return current
        return past.model_copy(update={"status": current.status})

    def triggers(self) -> Sequence[Trigger]:
        """See `ports.Published.triggers`."""
        return tuple(self._editions[-1].triggers.values())

    def provider(self, name: str) -> Mapping[str, Any]:
        """See `ports.Published.provider`."""
        if name not in self._editions[-1].providers:
            raise Refused("unknown_provider", name)
        return self._editions[-1].providers[name]

    def template(self, name: str, version: str = "") -> Mapping[str, Any]:
        """See `ports.Published.template`."""
        found = self._edition(version).templates.get(name) or self._editions[-1].templates.get(name)
        if found is None:
            raise Refused("unknown_template", name)
        return found

    def _edition(self, version: str) -> _Edition:
        return self._editions[int(version) if version else -1]


class Outbox:
    """A provider that takes every message and keeps it."""

    name = "outbox"
    features = frozenset({"headers", "tags", "reply_to", "also_to"})
    idempotent = True

    def __init__(
        self, clock: Callable[[], datetime], channel: str = "email", taken: list[tuple[datetime, Message]] | None = None
    ) -> None:
        self.channel = channel
        self.taken = [] if taken is None else taken
        self._clock = clock

    def over(self, channel: str) -> Outbox:
        """The same, for messages over this channel."""
        return Outbox(self._clock, channel, self.taken)

    def send(self, message: Message, *, idempotency_key: str) -> Receipt:
        """See `ports.Sender.send`."""
        self.taken.append((self._clock(), message))
        return Receipt(provider=self.name, provider_message_id=idempotency_key, at=self._clock())
