"""Recommendations: in stock, in the catalogue, at its price, and the best for the person first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import events, recommend
from espial.catalogue import Product, best_sellers
from espial.errors import Refused
from espial.events import Cart, Commerce, Event, Order, Person, PersonKey
from espial.people import PersonView
from espial.services.load_catalogue import load
from espial.services.recommend_products import Recommender
from espial.templates.render import render
from espial.triggers.run import Run
from espial.vocabulary import EventType
from tests.fakes import FakeCatalogues

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
IDS = [f"p-{number}" for number in range(12)]


def an_event(kind: EventType, ids: list[str], ago: timedelta = timedelta(hours=1), nonce: str = "") -> Event:
    lines = tuple(events.Product(id=id_, name="As it was called", price=99.0) for id_ in ids)
    match kind:
        case EventType.CART_UPDATED:
            commerce = Commerce(cart=Cart(id="c", items=lines))
        case EventType.ORDER_COMPLETED:
            commerce = Commerce(order=Order(id="o", items=lines))
        case _:
            commerce = Commerce(product=lines[0] if lines else None)
    return Event(
        event_id=events.event_id(NOW - ago, f"{kind}{ids}{nonce}"),
        type=kind,
        platform_type=kind.value,
        channel="web",
        platform="segment",
        connection="shop",
        occurred_at=NOW - ago,
        received_at=NOW - ago,
        person=Person(external_id="c-1"),
        commerce=commerce,
    )


ABOUT = an_event(EventType.CART_UPDATED, ["p-0"])


def a_product(number: int, **fields: Any) -> Product:
    given: dict[str, Any] = {
        "id": f"p-{number}", "name": f"Plant {number}", "price": 10.0 + number, "currency": "EUR", "stock": 3,
        "url": f"https://shop.example.com/{number}", "category": f"c-{number % 3}", "sold": float(number), **fields,
    }  # fmt: skip
    return Product(**given)


def catalogue(**changed: dict[str, Any]) -> dict[str, Product]:
    return {id_: a_product(number, **changed.get(f"p{number}", {})) for number, id_ in enumerate(IDS)}


KINDS = (EventType.PRODUCT_VIEWED, EventType.CART_UPDATED, EventType.ORDER_COMPLETED, EventType.PAGE_VIEWED)
HISTORIES = st.lists(
    st.builds(
        an_event,
        st.sampled_from(KINDS),
        st.lists(st.sampled_from(IDS), max_size=3),
        st.integers(-5, 60).map(lambda days: timedelta(days=days)),
        st.text("ab", max_size=2),
    ),
    max_size=12,
)
STOCKS = st.lists(st.sampled_from([None, 0, 1, 9]), min_size=len(IDS), max_size=len(IDS))


def chosen(
    known: dict[str, Product], history: list[Event], count: int = 3, fallback: tuple[str, ...] = ()
) -> list[Any]:
    cares = recommend.interests(history, ABOUT, NOW)
    seen = {id_: known[id_] for id_ in cares.weights if id_ in known}
    offered = recommend.candidates(cares, recommend.categories(cares, seen), best_sellers(known), fallback)
    return recommend.choose(offered, known, count)


@given(HISTORIES, STOCKS, st.integers(1, 12))
def test_whatever_happened_only_what_can_be_bought_is_recommended(history, stocks, count):
    """From the catalogue as it is, each once, nothing bought or shown anyway; in any order of events."""
    known = catalogue(**{f"p{number}": {"stock": stock} for number, stock in enumerate(stocks)})
    found = chosen(known, history, count)
    ids = [one.id for one in found]
    bought = {line.id for one in history if one.commerce and one.commerce.order for line in one.commerce.order.items}
    assert all(one.available and one == known[one.id] for one in found)
    assert len(ids) == len(set(ids)) <= count
    assert not {*ids} & {*bought, "p-0"}
    assert found == chosen(known, history[::-1], count)
    # and no slot stays empty while something could fill it
    free = {id_ for id_, one in known.items() if one.available} - bought - {"p-0"}
    assert len(found) == min(count, len(free))


@given(HISTORIES, st.sets(st.sampled_from(IDS)), st.integers(1, 6))
def test_what_sold_out_since_the_last_lists_makes_room_for_the_next(history, gone, count):
    """The others stay in their order and move up."""
    cares = recommend.interests(history, ABOUT, NOW)
    offered = recommend.candidates(cares, recommend.categories(cares, catalogue()), best_sellers(catalogue()), ())
    sold_out = catalogue() | {id_: msgspec.structs.replace(catalogue()[id_], stock=0) for id_ in gone}
    everything = recommend.choose(offered, catalogue(), len(IDS))
    assert [one for one in everything if one.id not in gone][:count] == recommend.choose(offered, sold_out, count)


def test_what_was_looked_at_last_comes_first():
    """A view of today before one of last month, and both before what others buy."""
    views = [
        an_event(EventType.PRODUCT_VIEWED, ["p-1"], timedelta(days=30)),
        an_event(EventType.PRODUCT_VIEWED, ["p-2"], timedelta(hours=2)),
    ]
    assert ["p-2", "p-11"] == [one.id for one in chosen(catalogue(), views, 2)]
    assert "p-1" in [one.id for one in chosen(catalogue(), views, 12)]


def test_categories_lead_to_their_best_sellers():
    """Who looks at a category gets what sells best there before what sells best at all."""
    view = an_event(EventType.PRODUCT_VIEWED, ["p-1"])  # of c-1
    assert ["p-1", "p-10", "p-7"] == [one.id for one in chosen(catalogue(), [view], 3)]


SPEC = {"catalogue": "shop", "count": 3, "fallback": ["p-4"], "max_age": "2d", "required": False}
TEMPLATE = {
    "name": "t", "category": "marketing", "subject": "s", "from_name": "", "text": "-", "variables": {}, "sha": "rec-1",
    "html": "{% for one in recommendations %}{{ one.name }} {{ one.price | money: one.currency }};"
    "{% else %}See the shop{% endfor %}",
}  # fmt: skip


@pytest.fixture
def shop() -> Recommender:
    store = FakeCatalogues()
    rows = [msgspec.to_builtins(one) for one in catalogue(p11={"stock": 0}).values()]
    load("shop", rows, store, as_of=NOW - timedelta(hours=1), now=NOW)
    return Recommender(store)


def printed(shop: Recommender, history: list[Event], now: datetime = NOW, **spec: Any) -> str:
    run = Run(
        trigger="t", person="id:c-1", key="c", version=ABOUT.event_id, started_at=NOW, due_at=NOW, event=ABOUT,
    )  # fmt: skip
    view = PersonView(key=PersonKey("id", "c-1"), events=tuple(history))
    return render(TEMPLATE, {"recommendations": shop.products({**SPEC, **spec}, run, view, now)}).html


def test_a_mail_shows_the_catalogues_price_and_never_the_events(shop):
    """The event said 99 and another name; the sold-out best seller is replaced by the next."""
    html = printed(shop, [an_event(EventType.PRODUCT_VIEWED, ["p-2"])])
    assert "99" not in html
    assert "As it was called" not in html
    assert "Plant 11" not in html
    assert "Plant 2" in html.partition(";")[0]
    assert 3 == html.count(";")


def test_a_catalogue_that_is_too_old_shows_no_price(shop):
    """The template's own block instead."""
    assert "See the shop" == printed(shop, [], NOW + timedelta(days=3))
    assert "See the shop" == printed(shop, [], catalogue="unknown")


def test_a_mail_that_is_nothing_without_them_is_skipped(shop):
    """With the reason."""
    with pytest.raises(Refused) as refused:
        printed(shop, [], catalogue="unknown", required=True)
    assert "no_recommendations" == refused.value.reason


def test_what_the_template_names_fills_up():
    """Where nothing is known of anybody and nothing was sold, in the template's order."""
    store = FakeCatalogues()
    store.write("shop", catalogue().values(), ())
    store.finish("shop", {}, NOW)
    html = printed(Recommender(store), [], fallback=["p-0", "p-9", "p-4"])
    assert ["Plant 9", "Plant 4"] == [line.rpartition(" ")[0] for line in html.split(";")[:-1]]
