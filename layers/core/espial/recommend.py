"""What to recommend to a person: pure ranking over their recent events, a catalogue and its best sellers.

What they looked at and did not buy comes first, the newest and the strongest interest before older and weaker ones;
then what sells best in the categories they look at; then what sells best at all; then the list that the template names.
Whatever is not in the catalogue now, or cannot be bought now, is passed over, so that the next one takes its place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from espial import events
from espial.catalogue import Product
from espial.events import Event
from espial.vocabulary import EventType

HALF_LIFE = timedelta(days=7)
"""After this an interest counts half."""
STRENGTH = {EventType.PRODUCT_VIEWED: 1.0, EventType.CART_UPDATED: 2.0, EventType.CHECKOUT_STARTED: 2.0}
MOST_SEEN = 40
MOST_CATEGORIES = 5
SHARE = 0.5
"""What a category's best seller counts of the interest in the category; each further one counts a tenth less."""


class Interests(NamedTuple):
    """Product id -> how much the person cares for it, the most first; `excluded` are bought or shown anyway."""

    weights: Mapping[str, float]
    excluded: frozenset[str]


def interests(known: Iterable[Event], about: Event, now: datetime) -> Interests:
    """What the person's events say; the order of `known` does not matter, nor does what is said of the future.

    `about` is what the mail is about: its products are shown already.
    """
    weights: defaultdict[str, float] = defaultdict(float)
    excluded = set(_products(about))
    for event in sorted(known, key=lambda one: one.event_id):
        if event.type is EventType.ORDER_COMPLETED:
            excluded.update(_products(event))
        elif strength := STRENGTH.get(event.type):
            age = max(timedelta(0), now - event.occurred_at)
            for product in _products(event):
                weights[product] += strength * 0.5 ** (age / HALF_LIFE)
    kept = sorted(((id_, one) for id_, one in weights.items() if id_ not in excluded), key=_most)[:MOST_SEEN]
    return Interests(dict(kept), frozenset(excluded))


def _products(event: Event) -> list[str]:
    commerce = event.commerce
    if commerce is None:
        return []
    lines: list[events.Product] = [commerce.product] if commerce.product else []
    for part in (commerce.cart, commerce.order):
        lines += part.items if part else ()
    return list(dict.fromkeys(id_ for line in lines if (id_ := line.id or line.sku)))


def _most(entry: tuple[str, float]) -> tuple[float, str]:
    return -entry[1], entry[0]


def categories(found: Interests, known: Mapping[str, Product]) -> dict[str, float]:
    """Category -> how much the person cares for it, the most first, by the catalogue's own categories."""
    weights: defaultdict[str, float] = defaultdict(float)
    for id_, weight in found.weights.items():
        product = known.get(id_)
        if product is not None and product.category:
            weights[product.category] += weight
    return dict(sorted(weights.items(), key=_most)[:MOST_CATEGORIES])


def candidates(
    found: Interests, cared_for: Mapping[str, float], best: Mapping[str, Sequence[str]], fallback: Sequence[str]
) -> list[str]:
    """Ids in the order in which they are offered, each once, none that is excluded. `best[""]` is the whole shop's."""
    scores: dict[str, float] = dict(found.weights)
    for category, weight in cared_for.items():
        for place, id_ in enumerate(best.get(category, ())):
            scores[id_] = max(scores.get(id_, 0.0), weight * SHARE * 0.9**place)
    ordered = [id_ for id_, _ in sorted(scores.items(), key=_most)]
    return [id_ for id_ in dict.fromkeys([*ordered, *best.get("", ()), *fallback]) if id_ not in found.excluded]


def choose(offered: Sequence[str], known: Mapping[str, Product], count: int) -> list[Product]:
    """The first `count` of those offered that are in the catalogue and can be bought."""
    return [product for id_ in offered if (product := known.get(id_)) and product.available][:count]
