"""People for a simulation, and a model of how they shop.

For each person the model draws from a generator of their own (seed and key): nobody's days depend on who else is there.

visits      the days between two are exponential; their mean is drawn per person, between 1 and 9 days
a visit     between 08:00 and 23:00 of the person's clock, one page, then one to four products a minute or so apart
a cart      in 3 of 10 visits: one to three edits within minutes; it is kept until it is ordered or emptied
an order    3 of 10 carts within the hour, after a checkout; 1 of 10 later, by themselves, within three days
emptied     1 of 20 carts
a mail      is delivered, but 1 in 100 bounces for good; 4 of 10 are opened within a day; of these 1 in 5 is clicked,
            and of the clicks 1 in 3 orders the cart. Of 200 mails one unsubscribes, of 5,000 one complains
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, time, timedelta
from typing import Any

import msgspec

from espial.errors import InvalidDefinition
from espial.events import Cart, Channel, Commerce, Event, Order, Person, PersonKey, Product, event_id
from espial.triggers import clock
from espial.vocabulary import EventType

PLATFORM = "simulation"
ZONES = (
    "Europe/London",
    "Europe/Berlin",
    "America/New_York",
    "America/Los_Angeles",
    "Asia/Kolkata",
    "Australia/Sydney",
)
PRODUCTS = tuple(
    Product(
        id=f"p-{number}",
        name=f"Article {number}",
        price=float(4 + 7 * number % 90),
        quantity=1,
        url=f"https://shop.example.com/p/{number}",
        image_url=f"https://shop.example.com/p/{number}.png",
    )
    for number in range(1, 31)
)


class Shopper(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One person of a people file. `consent` is a map such as `{"email/marketing": true}`."""

    external_id: str | None = None
    email: str | None = None
    phone: str | None = None
    attributes: dict[str, Any] = {}
    consent: dict[str, bool] = {}

    @property
    def person(self) -> Person:
        """As events name them."""
        return Person(external_id=self.external_id, email=self.email, phone=self.phone)

    @property
    def key(self) -> str:
        """The strongest of their names; empty where there is none."""
        return self.external_id or self.email or self.phone or ""


def read_people(lines: Iterable[bytes], name: str) -> list[Shopper]:
    """A file of people, a JSON object a line. Raises InvalidDefinition with every line that is not one."""
    found, problems = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            shopper = msgspec.json.decode(line, type=Shopper)
        except msgspec.MsgspecError as exc:
            problems.append(f"{name}:{number}: {exc}")
            continue
        if shopper.key:
            found.append(shopper)
        else:
            problems.append(f"{name}:{number}: needs external_id, email or phone")
    if problems:
        raise InvalidDefinition(problems)
    return found


def read_events(lines: Iterable[bytes], name: str) -> list[Event]:
    """A file of canonical events as `espial events --json` prints them. Raises InvalidDefinition like `read_people`."""
    found, problems = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            content = msgspec.json.decode(line)
            known = {field: content[field] for field in Event.__struct_fields__ if field in content}
            found.append(msgspec.convert(known, Event))
        except (msgspec.MsgspecError, TypeError) as exc:
            problems.append(f"{name}:{number}: {exc}")
    if problems:
        raise InvalidDefinition(problems)
    return found


def made_up(count: int, seed: str, consents: Sequence[str]) -> list[Shopper]:
    """People who do not exist: nine of ten customers, the others guests with an address; three of four agree."""
    draw = random.Random(f"{seed}/people")  # noqa: S311  no secret
    found = []
    for number in range(1, count + 1):
        agrees = draw.random() < 0.75
        guest = draw.random() < 0.1
        found.append(
            Shopper(
                external_id=None if guest else f"shopper-{number}",
                email=f"shopper-{number}@example.com",
                attributes={"first_name": f"Shopper {number}", "timezone": draw.choice(ZONES)},
                consent=dict.fromkeys(consents, agrees),
            )
        )
    return found


class Model:
    """Behaviour from a seed: `life` is what people do by themselves, `reacts` what they do about a mail."""

    def __init__(self, people: Iterable[Shopper], seed: str) -> None:
        self._seed = seed
        self._people = list(people)
        self._carts: dict[tuple[Person, str], Cart] = {}
        self._ordered: set[str] = set()
        self._who = {f"{kind}:{value}": one.person for one in self._people for kind, value in _names(one)}

    def life(self, start: datetime, days: int) -> Iterator[Event]:
        """Everything everybody does in that time, in no order, beginning with who they are."""
        for shopper in self._people:
            yield introduced(shopper, start)
            yield from self._days(shopper, start, start + timedelta(days=days))

    def _days(self, shopper: Shopper, start: datetime, end: datetime) -> Iterator[Event]:
        draw = random.Random(f"{self._seed}/{shopper.key}")  # noqa: S311  no secret
        mean = draw.uniform(1, 9)
        where = clock.first_zone(map(shopper.attributes.get, clock.ZONE_ATTRIBUTES))
        moment = start + timedelta(days=draw.expovariate(1 / mean))
        number = 0
        while moment < end:
            day = moment.astimezone(where).date()
            at = datetime.combine(day, time(8), where).astimezone(start.tzinfo) + timedelta(hours=draw.uniform(0, 15))
            if start < at < end:
                number += 1
                yield from (event for event in self._visit(shopper, at, number, draw) if event.occurred_at < end)
            moment += timedelta(days=max(0.1, draw.expovariate(1 / mean)))

    def _visit(self, shopper: Shopper, at: datetime, number: int, draw: random.Random) -> Iterator[Event]:
        yield _event(shopper.person, EventType.PAGE_VIEWED, at)
        seen = draw.sample(PRODUCTS, draw.randint(1, 4))
        for product in seen:
            at += timedelta(seconds=draw.uniform(20, 120))
            yield _event(shopper.person, EventType.PRODUCT_VIEWED, at, Commerce(product=product))
        if draw.random() >= 0.3:
            return
        cart = Cart(id=f"{shopper.key}/{number}", currency="USD", url="https://shop.example.com/cart")
        for product in seen[: draw.randint(1, 3)]:
            at += timedelta(seconds=draw.uniform(20, 300))
            items = (*cart.items, product)
            cart = msgspec.structs.replace(cart, items=items, total=_total(items))
            yield _event(shopper.person, EventType.CART_UPDATED, at, Commerce(cart=cart))
        fate = draw.random()
        if fate < 0.3:
            yield _event(shopper.person, EventType.CHECKOUT_STARTED, at + timedelta(minutes=1), Commerce(cart=cart))
            yield self._order(shopper.person, cart, at + timedelta(minutes=draw.uniform(2, 50)))
        elif fate < 0.4:
            yield self._order(shopper.person, cart, at + timedelta(hours=draw.uniform(2, 72)))
        elif fate < 0.45:
            empty = msgspec.structs.replace(cart, items=(), total=0.0)
            yield _event(shopper.person, EventType.CART_UPDATED, at + timedelta(minutes=5), Commerce(cart=empty))
        else:
            self._carts[shopper.person, str(cart.id)] = cart

    @staticmethod
    def _order(person: Person, cart: Cart, at: datetime) -> Event:
        order = Order(id=f"o/{cart.id}", cart_id=cart.id, currency=cart.currency, total=cart.total, items=cart.items)
        return _event(person, EventType.ORDER_COMPLETED, at, Commerce(order=order))

    def reacts(self, sent: Event) -> Iterator[Event]:
        """What comes of a mail, by our own event of it."""
        said = sent.properties
        key = PersonKey(*_one(sent.person))
        person = self._who.get(f"{key.kind}:{key.value}", sent.person)
        draw = random.Random(f"{self._seed}/{sent.send_key}")  # noqa: S311  no secret

        def about(type_: EventType, hours: float) -> Event:
            return _event(person, type_, sent.occurred_at + timedelta(hours=hours), channel=sent.channel, sent=sent)

        if draw.random() < 0.01:
            yield about(EventType.BOUNCED, 0.01)
            return
        yield about(EventType.DELIVERED, 0.01)
        wish = draw.random()
        if wish < 0.005:
            yield about(EventType.UNSUBSCRIBED, 2)
        elif wish < 0.0052:
            yield about(EventType.COMPLAINED, 2)
        if draw.random() >= 0.4:
            return
        opened = 0.02 + draw.expovariate(1 / 4)
        yield about(EventType.OPENED, opened)
        if draw.random() >= 0.2:
            return
        yield about(EventType.CLICKED, opened + 0.01)
        cart = self._carts.get((person, str(said["key"])))
        if cart is not None and cart.id not in self._ordered and draw.random() < 1 / 3:
            self._ordered.add(str(cart.id))
            yield self._order(person, cart, sent.occurred_at + timedelta(hours=opened + 0.2))


def introduced(shopper: Shopper, at: datetime) -> Event:
    """Who the person is and what they agreed to, as the first event that tells."""
    traits = {**shopper.attributes, "consent": shopper.consent}
    return _event(shopper.person, EventType.PROFILE_UPDATED, at, properties={"traits": traits})


def _event(
    person: Person,
    type_: EventType,
    at: datetime,
    commerce: Commerce | None = None,
    *,
    properties: dict[str, Any] | None = None,
    channel: Channel = "web",
    sent: Event | None = None,
) -> Event:
    at = at.replace(microsecond=0)
    about = sent.send_key if sent is not None else commerce and (commerce.product and commerce.product.id)
    identity = f"{person.external_id}/{person.email}/{person.phone}/{type_}/{at.isoformat()}/{about}"
    return Event(
        event_id=event_id(at, identity),
        type=type_,
        platform_type=type_.value,
        channel=channel,
        platform=PLATFORM,
        connection=PLATFORM,
        occurred_at=at,
        received_at=at,
        person=person,
        commerce=commerce,
        send_key=sent.send_key if sent is not None else None,
        properties=properties or {},
    )


def _total(items: Iterable[Product]) -> float:
    return round(sum(item.price or 0.0 for item in items), 2)


def _names(shopper: Shopper) -> Iterator[tuple[str, str]]:
    for kind, value in (("id", shopper.external_id), ("email", shopper.email), ("phone", shopper.phone)):
        if value:
            yield kind, value


def _one(person: Person) -> tuple[str, str]:
    """The name that our own events give of a person: the key their run lives under."""
    named = (
        ("id", person.external_id),
        ("email", person.email),
        ("phone", person.phone),
        ("session", person.session_id),
    )
    return next(((kind, value) for kind, value in named if value), ("session", ""))
