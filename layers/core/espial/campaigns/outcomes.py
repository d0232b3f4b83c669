"""What a campaign awards (C10): points, offers, tags, promo codes and events of its own; pure.

What is awarded follows from the campaign, the person and what they did alone, so that a repeat after a crash, and a
message that is to carry it, find the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, model_validator

from espial.campaigns import placeholders
from espial.events import Event
from espial.triggers.fields import Duration
from espial.vocabulary import EventType

DEPTH = "campaign_depth"
"""The property of an event that a campaign made: how many campaigns stand behind it."""
DEEPEST = 3


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Dynamic(_Part):
    """So many points for each unit of the currency that was paid."""

    rate: Annotated[float, Field(gt=0)] = 1.0
    max: Annotated[StrictInt, Field(ge=1)] | None = None
    round: Literal["down", "nearest", "up"] = "down"

    def points(self, paid: float) -> int:
        """Of what was paid; nothing for what was paid back."""
        exact = round(max(0.0, paid) * self.rate, 6)
        whole = math.ceil(exact) if self.round == "up" else math.floor(exact + (self.round == "nearest") * 0.5)
        return whole if self.max is None else min(whole, self.max)


class Points(_Part):
    """Points to an account: a fixed number, or by what was paid."""

    kind: Literal["points"]
    account: Annotated[str, Field(min_length=1, max_length=100)] = "default"
    amount: Annotated[StrictInt, Field(ge=1)] | None = None
    dynamic: Dynamic | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.amount is None) == (self.dynamic is None):
            raise ValueError("amount: one of `amount` and `dynamic` is needed")
        return self


class Offer(_Part):
    """An offer in the person's wallet."""

    kind: Literal["offer"]
    offer_id: Annotated[str, Field(min_length=1, max_length=100)]
    name: str = ""
    description: str = ""
    terms: str = ""
    quantity: Annotated[StrictInt, Field(ge=1)] = 1
    expires_in: Duration | None = None


def _tag(value: str) -> str:
    name, marked, life = value.partition(";;")
    if not name or (marked and not (life.isascii() and life.isdigit() and 0 < len(life) < 10)):
        raise ValueError("must be a name, or a name and its life in seconds, such as `vip;;3600`")
    return value


class Tag(_Part):
    """A tag with a life (`vip;;3600`, or `ttl`), or without one, counted."""

    kind: Literal["tag"]
    tag: Annotated[str, AfterValidator(_tag), Field(max_length=200)]
    ttl: Duration | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if ";;" in self.tag and self.ttl is not None:
            raise ValueError("ttl: stands in the tag already")
        return self

    @property
    def said(self) -> dict[str, Any]:
        """Name and life in seconds."""
        name, _, life = self.tag.partition(";;")
        seconds = int(life) if life else int(self.ttl.total_seconds()) if self.ttl else None
        return {"tag": name, **({"ttl_seconds": seconds} if seconds else {})}


class PromoCode(_Part):
    """A code of the person's own: made, and the same for one behaviour whenever it is looked at."""

    kind: Literal["promo_code"]
    list_id: Annotated[str, Field(min_length=1, max_length=100)]
    prefix: Annotated[str, Field(pattern=r"^[A-Z0-9-]{0,20}$")] = ""


def _payload(value: Any) -> Any:
    if wrong := placeholders.problem(value):
        raise ValueError(wrong)
    return value


class OwnEvent(_Part):
    """An event that other campaigns and triggers may listen for, at most three of them behind each other."""

    kind: Literal["event"]
    name: Annotated[str, Field(min_length=1, max_length=100)]
    payload: Annotated[Mapping[str, Any], AfterValidator(_payload)] = Field(default_factory=dict)


Outcome = Annotated[Points | Offer | Tag | PromoCode | OwnEvent, Field(discriminator="kind")]

ORDER = ("points", "offer", "tag", "promo_code", "event")
"""In which they are awarded; the message comes last."""


class Award(NamedTuple):
    """One thing that is awarded. `kind` and `number` tell those of one occasion apart."""

    kind: str
    number: int
    type: EventType
    name: str
    said: Mapping[str, Any]


def awards(outcomes: Sequence[Outcome], event: Event, occasion: str) -> list[Award]:
    """What the person is awarded for the event, in order, without events of the campaign's own.

    `occasion` names campaign, behaviour, person and event. Points that come to nothing are none.
    """
    ordered = sorted(enumerate(outcomes), key=lambda pair: ORDER.index(pair[1].kind))
    return [award for number, outcome in ordered for award in _awarded(number, outcome, event, occasion)]


def _awarded(number: int, outcome: Outcome, event: Event, occasion: str) -> Iterator[Award]:
    match outcome:
        case Points(account=account, amount=amount, dynamic=dynamic):
            points = amount if dynamic is None else dynamic.points(_paid(event))
            if points:
                said: dict[str, Any] = {"account": account, "amount": points}
                yield Award("points", number, EventType.POINTS_AWARDED, "points", said)
        case Offer():
            said = {"offer_id": outcome.offer_id, "user_offer_id": _short(f"{occasion}\x1f{number}", 16)}
            said |= {"quantity": outcome.quantity}
            said |= {name: value for name in ("name", "description", "terms") if (value := getattr(outcome, name))}
            if outcome.expires_in:
                said["expires_in_seconds"] = int(outcome.expires_in.total_seconds())
            yield Award("offer", number, EventType.OFFER_ISSUED, "offer", said)
        case Tag():
            yield Award("tag", number, EventType.TAG_ADDED, "tag", outcome.said)
        case PromoCode(list_id=list_id, prefix=prefix):
            said = {"list_id": list_id, "code": prefix + _short(f"{occasion}\x1f{number}", 10)}
            yield Award("promo_code", number, EventType.OFFER_ISSUED, "promo_code", said)


def _paid(event: Event) -> float:
    order = event.commerce.order if event.commerce else None
    return order.total or 0.0 if order else 0.0


_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def _short(seed: str, length: int) -> str:
    return "".join(_LETTERS[byte & 31] for byte in blake2b(seed.encode(), digest_size=length).digest())


def depth(event: Event, ours: str) -> int:
    """How many campaigns stand behind an event; what others say of that is not believed."""
    said = event.properties.get(DEPTH, 0) if event.platform == ours else 0
    return said if isinstance(said, int) else DEEPEST


def tags_of(events: Sequence[Event], now: datetime) -> list[str]:
    """The person's tags as they are now, each once, in alphabetical order; one whose life is over is gone."""
    found = set()
    for event in events:
        tag, life = event.properties.get("tag"), event.properties.get("ttl_seconds")
        if event.type is not EventType.TAG_ADDED or not isinstance(tag, str) or event.occurred_at > now:
            continue
        if not isinstance(life, int) or now < event.occurred_at + timedelta(seconds=life):
            found.add(tag)
    return sorted(found)
