"""What is known of a person: attributes, consent and suppression, as state that merges in any order.

A profile is a join of what each event says (`of_event`), and `join` is associative, commutative and idempotent, so
neither order, nor duplicates, nor the transport an event came over can matter (guarantee 3, goal 22):

- attributes, consent and choices: the latest (occurred_at, event_id) wins, field by field;
- blocks: a complaint outranks a hard bounce, and neither is ever lifted by a later event. A newer opt-in lifts an
  opt-out, never a complaint or a hard bounce: those say something about the address and our standing with its
  provider that the person's wish cannot undo.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import msgspec

from espial import events
from espial.events import Event, PersonKey
from espial.triggers.run import Run
from espial.vocabulary import EventType


class Stamped(NamedTuple):
    """A value and what said so; the later (at, event_id) wins."""

    at: datetime
    event_id: str
    value: Any


class Choice(NamedTuple):
    """Whether the person agreed to a channel or topic; `by` is the event type that said so."""

    at: datetime
    event_id: str
    by: str
    granted: bool


class Membership(NamedTuple):
    """Whether a person is in a segment, since when; `told` once the change is recorded as an event."""

    inside: bool
    since: datetime
    told: bool


class Block(NamedTuple):
    """Why nothing may be sent: `complained` (the whole channel) or `bounced` (one address); the graver `rank` wins."""

    rank: int
    at: datetime
    event_id: str
    reason: str


_Value = TypeVar("_Value", Stamped, Choice, Block)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One person's merged state. `choices` and `blocks` are keyed `channel/topic` and `channel/address`."""

    attributes: Mapping[str, Stamped] = field(default_factory=dict)
    choices: Mapping[str, Choice] = field(default_factory=dict)
    blocks: Mapping[str, Block] = field(default_factory=dict)


NOTHING = Profile()

_RANK = {EventType.BOUNCED: 1, EventType.COMPLAINED: 2}
_PRESENTING = frozenset(
    {
        EventType.PAGE_VIEWED,
        EventType.PRODUCT_VIEWED,
        EventType.CART_UPDATED,
        EventType.CHECKOUT_STARTED,
        EventType.ORDER_COMPLETED,
        EventType.TRANSACTION,
        EventType.CUSTOM,
        EventType.PROFILE_UPDATED,
        EventType.SUBSCRIBED,
    }
)
"""Events in which people present themselves: the address is theirs now. A message event only says where it went."""

TELLING = _PRESENTING | _RANK.keys() | {EventType.UNSUBSCRIBED}
"""Every type of event that changes what is known of a person (`of_event`)."""

_NOT_ATTRIBUTES = frozenset({"consent", "known_consent", "email", "phone"})
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_CHANNELS = frozenset({"email", "sms", "push", "whatsapp", "inapp"})


def _latest(mine: Mapping[str, _Value], theirs: Mapping[str, _Value]) -> dict[str, _Value]:
    merged = dict(mine)
    for name, value in theirs.items():
        if name not in merged or _order(merged[name]) < _order(value):
            merged[name] = value
    return merged


def _order(value: Stamped | Choice | Block) -> tuple[Any, ...]:
    """The fields before the value itself decide; its JSON does between two reports under one event id."""
    return (*value[:-1], msgspec.json.encode(value[-1], order="deterministic"))


def join(mine: Profile, theirs: Profile) -> Profile:
    """The least state that holds both: associative, commutative, idempotent."""
    if theirs == NOTHING:
        return mine
    return Profile(
        attributes=_latest(mine.attributes, theirs.attributes),
        choices=_latest(mine.choices, theirs.choices),
        blocks=_latest(mine.blocks, theirs.blocks),
    )


def merge_profile(profile: Profile, event: Event) -> Profile:
    """The profile after the event, whatever came before and in whatever order."""
    return join(profile, of_event(event))


def of_event(event: Event) -> Profile:
    """What one event says of its person.

    Traits are `properties.traits` or, for `profile_updated`, the properties themselves; a trait `consent` is a
    map such as `{"email": true, "email/offers": false}`. `properties.known_consent` is such a map that the sender had
    on file: a refusal counts as if said with the event, an agreement only where nothing else was ever said, since a
    copy from before the person opted out must not opt them in again. A subscription is about `properties.topic` (or the
    group that a platform's group event names) on the event's own channel, or where that is none of messages, such as
    `web`, on `properties.channel`, else on email.
    """
    said = _presented(event) if event.type in _PRESENTING else NOTHING
    if event.type in (EventType.SUBSCRIBED, EventType.UNSUBSCRIBED):
        granted = event.type is EventType.SUBSCRIBED
        choice = Choice(event.occurred_at, event.event_id, event.type.value, granted)
        said = replace(said, choices={**said.choices, choice_key(_channel(event), _topic(event)): choice})
    rank = _RANK.get(event.type)
    address = "" if event.type is EventType.COMPLAINED else address_in(event, event.channel)
    if rank and address is not None:
        block = Block(rank, event.occurred_at, event.event_id, event.type.value)
        said = replace(said, blocks={f"{event.channel}/{address}": block})
    return said


def _presented(event: Event) -> Profile:
    traits = _traits(event)
    values = {name: value for name, value in traits.items() if name not in _NOT_ATTRIBUTES}
    values |= {name: value for name in ("email", "phone") if (value := getattr(event.person, name))}
    known = _choices(event, event.properties.get("known_consent"), _LONG_AGO)
    choices = _latest(known, _choices(event, traits.get("consent"), event.occurred_at))
    stamped = {name: Stamped(event.occurred_at, event.event_id, value) for name, value in values.items()}
    return Profile(attributes=stamped, choices=choices)


def _choices(event: Event, given: Any, granted_at: datetime) -> dict[str, Choice]:
    """What a map of consent says; anything but true and false in it is no answer."""
    return {
        scope if "/" in scope else choice_key(scope, ""): Choice(
            granted_at if granted else event.occurred_at, event.event_id, event.type.value, granted
        )
        for scope, granted in (given.items() if isinstance(given, dict) else ())
        if isinstance(granted, bool)
    }


def _traits(event: Event) -> Mapping[str, Any]:
    traits = event.properties.get("traits")
    if isinstance(traits, dict):
        return traits
    # what a group call or an alias says is about the group or the other id, not about the person
    about_another = "group_id" in event.properties or "previous_id" in event.properties
    return event.properties if event.type is EventType.PROFILE_UPDATED and not about_another else {}


def _channel(event: Event) -> str:
    """The event's own; of what came over none, such as a form on a site, the one it names. Metadata is not asked."""
    named = event.channel if event.channel in _CHANNELS else event.properties.get("channel")
    return named if named in _CHANNELS else "email"


def _topic(event: Event) -> str:
    named = event.properties.get("topic")
    if named is None and "group" in event.platform_type:
        named = event.properties.get("asm_group_id") or event.properties.get("subscription_group_id")
    return "" if named is None else str(named)


def keys_of(event: Event) -> list[PersonKey]:
    """Every key the event names its person by, strongest first; an alias names an earlier session too."""
    found = sorted(events.person_keys(event), key=lambda key: STRENGTH[key.kind])
    previous = event.properties.get("previous_id")
    if event.type is EventType.PROFILE_UPDATED and isinstance(previous, str) and previous:
        found.append(PersonKey("session", previous))
    return found


STRENGTH = {events.KEY_KINDS[name]: rank for rank, name in enumerate(events.BEHAVIOUR_KEYS)}
"""Key kind -> its rank, the strongest 0."""


def filed_under(event: Event) -> PersonKey | None:
    """The key whose profile takes what the event says: the address for what is about the address, else the person."""
    about_address = event.type in _RANK or event.type is EventType.UNSUBSCRIBED
    order = events.MESSAGE_KEYS if about_address else events.BEHAVIOUR_KEYS
    home = events.home_key(event, order)
    return PersonKey.parse(home[2:]) if home.startswith("P#") else None


def choice_key(channel: str, topic: str) -> str:
    """How a choice is filed; an empty topic is the whole channel."""
    return f"{channel}/{topic}"


def address_in(event: Event, channel: str) -> str | None:
    """The address an event names for a channel, if it does."""
    return event.person.email if channel == "email" else event.person.phone if channel in ("sms", "whatsapp") else None


@dataclass(frozen=True, kw_only=True)
class PersonView:
    """A person as decisions see them: profile, timeline and runs of every key that is theirs, read consistently.

    key        the key that was asked for
    keys       every key joined into this view, `key` first
    events     the newest ones that are kept, oldest first, each event once
    runs       runs under any of the keys, ended ones too
    segments   trigger -> whether the person is in its segment, as last looked at
    conflicts  keys that would join two people (an address two customers share): not followed, only their
               suppressions and choices are taken, since they are about the address itself
    """

    key: PersonKey
    keys: tuple[PersonKey, ...] = ()
    profile: Profile = NOTHING
    events: tuple[Event, ...] = ()
    runs: tuple[Run, ...] = ()
    segments: Mapping[str, Membership] = field(default_factory=dict)
    conflicts: tuple[PersonKey, ...] = ()

    @property
    def main(self) -> PersonKey | None:
        """The strongest key that says who it is on any platform."""
        own = [key for key in self.keys or (self.key,) if key.kind != "contact"]
        return min(own, key=lambda key: (STRENGTH[key.kind], key), default=None)

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Name -> newest value; `email` and `phone` are the normalised addresses, from the key if nowhere else."""
        known = {name: stamped.value for name, stamped in self.profile.attributes.items()}
        for kind, value in self.keys or (self.key,):
            if kind in ("email", "phone"):
                known.setdefault(kind, value)
        return known

    @cached_property
    def external_id(self) -> str | None:
        """The strong id, where one is known."""
        return next((value for kind, value in self.keys or (self.key,) if kind == "id"), None)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The person as expressions see them: names and addresses where known, attributes and consent."""
        known = {"external_id": self.external_id, **{name: self.attributes.get(name) for name in ("email", "phone")}}
        return {
            **{name: value for name, value in known.items() if value},
            "attributes": self.attributes,
            "consent": self.consent,
        }

    @property
    def identity(self) -> str:
        """The strongest key, as text: the same for as long as nothing stronger is known."""
        return str(min(self.keys or (self.key,), key=lambda key: (STRENGTH[key.kind], key)))

    def of_type(self, kind: str) -> list[Event]:
        """The events of a type, oldest first."""
        return self._by_type.get(kind, [])

    @cached_property
    def _by_type(self) -> dict[str, list[Event]]:
        found: dict[str, list[Event]] = defaultdict(list)
        for event in self.events:
            found[event.type].append(event)
        return found

    def times(self, kind: str) -> list[datetime]:
        """When the events of a type happened, oldest first."""
        return [event.occurred_at for event in self.of_type(kind)]

    @cached_property
    def consent(self) -> dict[str, bool]:
        """`channel/topic` -> whether the person agreed; the whole channel is `email/`."""
        return {scope: choice.granted for scope, choice in self.profile.choices.items()}

    def choice(self, channel: str, topic: str) -> Choice | None:
        """What the person last said that covers the topic.

        A refusal of the topic stands until the topic itself is agreed to; an agreement to it yields to a newer
        refusal of the whole channel; without a word on the topic the channel's answer holds.
        """
        whole = self.profile.choices.get(choice_key(channel, ""))
        own = self.profile.choices.get(choice_key(channel, topic)) if topic else None
        if own is None or (own.granted and whole and not whole.granted and whole[:2] > own[:2]):
            return whole
        return own

    def blocks(self, channel: str, address: str) -> list[Block]:
        """What stands against the channel or the address, the gravest first."""
        found = (self.profile.blocks.get(f"{channel}/{scope}") for scope in ("", address))
        return sorted((block for block in found if block), reverse=True)

    def with_event(self, event: Event) -> PersonView:
        """The view with one event more, in its place, and what it says taken over; itself if both are there."""
        if not any(event.event_id == known.event_id for known in self.events):
            return replace(self, events=timeline((*self.events, event)), profile=merge_profile(self.profile, event))
        profile = merge_profile(self.profile, event)
        return self if profile == self.profile else replace(self, profile=profile)


def timeline(recorded: Iterable[Event]) -> tuple[Event, ...]:
    """Oldest first, each event once."""
    once = {event.event_id: event for event in recorded}
    return tuple(sorted(once.values(), key=lambda event: (event.occurred_at, event.event_id)))


_decoder = msgspec.json.Decoder(Profile)


def encode(profile: Profile) -> bytes:
    """The profile as JSON, the same bytes for the same state."""
    return msgspec.json.encode(profile, order="deterministic")


def decode(data: bytes | str) -> Profile:
    """Read a stored profile. Raises msgspec.ValidationError."""
    return _decoder.decode(data)
