"""The canonical event: one shape for every report of every platform (DESIGN 3).

The structures here are msgspec's, because every event is checked and serialised on the hot path
(`build`: about a microsecond). `espial.schema` holds the same contract as a pydantic model, which is the
published one (JSON Schema, docs, APIs); a test proves that the two agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from espial.vocabulary import OWN, EventType

Channel = Literal["email", "sms", "push", "web", "app", "whatsapp", "inapp", "webhook", "pos", "none"]
Transport = Literal["webhook", "export", "tracking", "internal"]
Mode = Literal["live", "backfill", "replay"]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Common settings: immutable, defaults left out of the JSON, a misspelt field is an error.

    Nothing in an event refers back to it, so the cycle collector need not look at events.
    """


class Person(_Part, frozen=True):
    """Who it is about; `email` trimmed and lower-cased, `phone` E.164 where derivable."""

    external_id: str | None = None
    email: str | None = None
    phone: str | None = None
    source_contact_id: str | None = None
    session_id: str | None = None


class Campaign(_Part, frozen=True):
    """Which campaign, journey (canvas, flow) and message variation it belongs to, in the platform's ids."""

    id: str | None = None
    name: str | None = None
    variation_id: str | None = None
    variation_name: str | None = None
    journey_id: str | None = None
    journey_name: str | None = None
    step_id: str | None = None
    step_name: str | None = None
    send_id: str | None = None
    dispatch_id: str | None = None
    template_id: str | None = None
    tags: tuple[str, ...] = ()


class Link(_Part, frozen=True):
    """The link of a click."""

    url: str | None = None
    id: str | None = None
    alias: str | None = None


class Client(_Part, frozen=True):
    """Where an open, click or visit came from; `machine` None means unknown, never "no"."""

    ip: str | None = None
    user_agent: str | None = None
    machine: bool | None = None
    machine_reason: str | None = None


class Failure(_Part, frozen=True):
    """Why a message was not delivered, as the platform classes, codes and words it."""

    class_: str | None = msgspec.field(name="class", default=None)
    code: str | None = None
    reason: str | None = None


class Product(_Part, frozen=True):
    """One product or cart line; `price` per unit in the currency's major unit."""

    id: str | None = None
    sku: str | None = None
    name: str | None = None
    variant: str | None = None
    category: str | None = None
    price: float | None = None
    quantity: int | None = None
    url: str | None = None
    image_url: str | None = None


class Cart(_Part, frozen=True):
    """A cart's whole contents at this event; an empty `items` is an emptied cart."""

    id: str | None = None
    currency: str | None = None
    total: float | None = None
    url: str | None = None
    items: tuple[Product, ...] = ()


class Order(_Part, frozen=True):
    """A completed order; `cart_id` when the shop reports which cart it came from."""

    id: str | None = None
    cart_id: str | None = None
    currency: str | None = None
    total: float | None = None
    items: tuple[Product, ...] = ()


class Commerce(_Part, frozen=True):
    """What was looked at, put in the cart or bought."""

    cart: Cart | None = None
    order: Order | None = None
    product: Product | None = None


class Event(_Part, frozen=True):
    """One thing that happened, whoever reported it and over whichever transport."""

    event_id: str
    type: EventType
    platform_type: str
    channel: Channel
    platform: str
    connection: str
    occurred_at: Instant
    received_at: Instant
    person: Person = Person()
    campaign: Campaign | None = None
    message_id: str | None = None
    send_key: str | None = None
    link: Link | None = None
    client: Client | None = None
    failure: Failure | None = None
    commerce: Commerce | None = None
    properties: dict[str, Any] = {}
    time_uncertain: bool = False
    mode: Mode = "live"
    raw: str | None = None

    @property
    def products(self) -> tuple[Product, ...]:
        """What was looked at, lies in the cart or was ordered."""
        about = self.commerce or Commerce()
        lines = [*(about.cart.items if about.cart else ()), *(about.order.items if about.order else ())]
        return (about.product, *lines) if about.product else tuple(lines)


VOLATILE = frozenset({"received_at", "raw", "mode", "connection", "occurred_at", "time_uncertain"})
"""What may differ between two reports of one event; everything else is its content.

Of `occurred_at` the id holds the second; below that one channel may be more precise than another, and a corrected
client clock is corrected a little differently at every retry. What lies ahead of one report's receipt need not lie
ahead of another's.
"""

BY_RULE = "rule:"
"""How a `machine_reason` begins that is Espial's own verdict: rules get better, what was reported stays."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)


def encode(event: Event) -> bytes:
    """The event's canonical JSON (UTF-8, defaults left out, instants as RFC 3339)."""
    return _encoder.encode(event)


def decode(data: bytes | str) -> Event:
    """Read canonical JSON back. Raises msgspec.ValidationError if it breaks the contract."""
    return _decoder.decode(data)


_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CHARACTERS = (_CROCKFORD * 8).encode()
"""Any byte -> the character of its low five bits."""


@lru_cache(maxsize=4096)
def time_part(instant: datetime) -> str:
    """The first ten characters of the id of whatever happened in that second; ids from then on sort after it."""
    milliseconds = max(0, int(instant.timestamp())) * 1000
    return "".join(_CROCKFORD[(milliseconds >> shift) & 31] for shift in range(45, -1, -5))


def event_id(occurred_at: datetime, identity: str) -> str:
    """A ULID that says the same for every report of the same event (DESIGN 3, goal 18).

    Time part: `occurred_at` to the second, the coarsest precision any channel reports. Random part: 80 bits
    of BLAKE2b over `identity`, five from each byte. So it sorts by time and equals its copy's over any channel,
    any day.
    """
    digest = blake2b(identity.encode(), digest_size=16).digest()
    return time_part(occurred_at) + digest.translate(_CHARACTERS).decode()


def said(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What an event's canonical JSON (read) says, without what may differ between two reports of it (`VOLATILE`).

    A cart without items says that it is empty.
    """
    content = {name: value for name, value in plain.items() if name not in VOLATILE}
    client, commerce = content.get("client"), content.get("commerce")
    if client and client.get("machine_reason", "").startswith(BY_RULE):
        content["client"] = {name: value for name, value in client.items() if not name.startswith("machine")}
    if commerce and "cart" in commerce:
        content["commerce"] = {**commerce, "cart": {"items": [], **commerce["cart"]}}
    return content


def disagree(one: Any, other: Any) -> bool:
    """Whether two reports say something else: a field that both have differs, at any depth; lists count as wholes.

    Null is nothing said, and a number says what its text says, as delimited files have no types. Of several reports
    some two disagree exactly if one of them does with what those before it say together (`joined`), whatever their
    order: so which comes first does not matter (goal 19).
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return any(disagree(value, other[name]) for name, value in one.items() if name in other)
    return one is not None and other is not None and _as_text(one) != _as_text(other)


def _as_text(value: Any) -> Any:
    """A value as a file without types has it."""
    if isinstance(value, list):
        return [_as_text(one) for one in value]
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float):
        return str(value).lower()
    return value


def joined(one: Any, other: Any) -> Any:
    """What two reports that do not disagree say together; equal to `one` if the other adds nothing."""
    if isinstance(one, dict) and isinstance(other, dict):
        more = {name: joined(one.get(name), value) for name, value in other.items() if value is not None}
        return {**one, **more}
    return other if one is None else one


def content_hash(event: Event) -> str:
    """Hash of what the event says: the name of a report that disagrees with the recorded one (goal 19)."""
    return fingerprint(said(msgspec.json.decode(encode(event))))


def fingerprint(value: Any) -> str:
    """Hash of a JSON value, whatever the order of its fields."""
    return blake2b(msgspec.json.encode(value, order="deterministic"), digest_size=12).hexdigest()


class PersonKey(NamedTuple):
    """One way to name a person: a kind (`email`, `id`, `phone`, `contact`, `session`) and its value."""

    kind: str
    value: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}"

    @classmethod
    def parse(cls, text: str) -> PersonKey:
        """Read `email:ada@example.com`; a bare address or id is recognised. Raises ValueError on an unknown kind."""
        kind, colon, value = text.partition(":")
        if not colon:
            return cls("email", text.strip().lower()) if "@" in text else cls("id", text.strip())
        if kind not in KEY_KINDS.values() or not value:
            raise ValueError(f"person must be one of {', '.join(KEY_KINDS.values())} then a value, not {text!r}")
        return cls(kind, value.strip().lower() if kind == "email" else value)


KEY_KINDS: Mapping[str, str] = {
    "external_id": "id",
    "email": "email",
    "phone": "phone",
    "source_contact_id": "contact",
    "session_id": "session",
}
"""Person field -> key kind."""

_HOMES = {field: f"P#{kind}:" for field, kind in KEY_KINDS.items()}

MESSAGE_KEYS = ("email", "phone", "external_id", "source_contact_id", "session_id")
"""Default order for message and recipient events: the address is what every report of a message carries."""

BEHAVIOUR_KEYS = ("external_id", "email", "phone", "source_contact_id", "session_id")
"""Default order for behaviour and contact events: the id is what a site, app or shop knows."""


def _contact(event: Event, value: str) -> str:
    """A contact id is the platform's own, so it carries its name; one in an event of ours carries it already."""
    return value if event.platform == OWN else f"{event.platform}/{value}"


def person_keys(event: Event) -> list[PersonKey]:
    """Every key the event names its person by."""
    found = []
    for field, kind in KEY_KINDS.items():
        value = getattr(event.person, field)
        if value:
            found.append(PersonKey(kind, _contact(event, value) if kind == "contact" else value))
    return found


def home_key(event: Event, order: tuple[str, ...]) -> str:
    """The partition the event is stored under: its first key in `order`, else its campaign.

    Part of the event's identity in the table, so `order` may only name fields that every transport's report
    of the event carries (DESIGN 3); each source declares its own.
    """
    person = event.person
    for field in order:
        value = getattr(person, field)
        if value:
            return _HOMES[field] + (_contact(event, value) if field == "source_contact_id" else value)
    campaign = event.campaign
    scope = (campaign.id or campaign.journey_id) if campaign else None
    if scope:
        return f"C#{event.platform}/{scope}"
    return f"C#{event.platform}/none/{event.event_id[-1]}"  # of a hash: 32 partitions, so that none of them is hot
