"""A catalogue's rows and what one state changed in another."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.catalogue import BEST, BadRow, Product, best_sellers, changes, read

ROW = {"id": "p-1", "name": "Pine", "price": "9.90", "url": "https://shop.example.com/p-1"}


def products() -> st.SearchStrategy[dict[str, Product]]:
    one = st.builds(
        Product,
        id=st.sampled_from("abcdefgh"),
        name=st.sampled_from(["x", "y"]),
        price=st.sampled_from([1.0, 2.0, 3.0]),
        url=st.just("https://shop.example.com/"),
        currency=st.sampled_from(["EUR", "USD"]),
        stock=st.sampled_from([None, 0, 1, 5]),
        category=st.sampled_from(["", "c", "d"]),
        sold=st.sampled_from([0.0, 1.0, 2.0]),
    )
    return st.lists(one, max_size=12).map(lambda found: {product.id: product for product in found})


@given(products(), products())
def test_changes_lead_from_the_old_to_the_new(old, new):
    """Applied in order they give the new state; nothing changed is nothing told."""
    state = dict(old)
    for change in changes(old, new):
        if change.new is None:
            del state[change.id]
        else:
            state[change.id] = change.new
        assert (change.old, change.new) == (old.get(change.id), new.get(change.id))
    assert new == state
    assert [] == changes(new, new)


@given(products(), products())
def test_a_price_drops_one_way_and_rises_the_other(old, new):
    """And what is back in stock was out of it."""
    there = {(one.what, one.id) for one in changes(old, new)}
    back = {(one.what, one.id) for one in changes(new, old)}
    opposite = {"price_dropped": "price_raised", "back_in_stock": "out_of_stock", "added": "removed"}
    opposite |= {after: before for before, after in opposite.items()} | {"changed": "changed"}
    assert {(opposite[what], id_) for what, id_ in there} == back


def test_a_product_may_change_twice_at_once():
    """Cheaper, and back again."""
    old = Product(id="p", name="x", price=2.0, url="https://shop.example.com/", stock=0)
    new = msgspec.structs.replace(old, price=1.0, stock=3)
    assert ["price_dropped", "back_in_stock"] == [one.what for one in changes({"p": old}, {"p": new})]


def test_prices_in_two_currencies_are_not_compared():
    """They are another price."""
    old = Product(id="p", name="x", price=2.0, url="https://shop.example.com/", currency="EUR")
    assert ["changed"] == [
        one.what for one in changes({"p": old}, {"p": msgspec.structs.replace(old, price=1.0, currency="USD")})
    ]


@given(products())
def test_best_sellers_can_be_bought_and_are_in_order(found):
    """Each list: of its category, available, the most sold first, not longer than is kept."""
    for category, ids in best_sellers(found).items():
        assert all(found[id_].available and category in ("", found[id_].category) for id_ in ids)
        assert sorted(ids, key=lambda id_: (-found[id_].sold, id_)) == ids
        assert len(ids) == len(set(ids)) <= BEST


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"id": ""}, "missing_id"),
        ({"name": None}, "missing_name"),
        ({"price": "free"}, "bad_price"),
        ({"price": "-1"}, "bad_price"),
        ({"price": "1,90"}, "bad_price"),
        ({"price": "nan"}, "bad_price"),
        ({"price": {"amount": 1}}, "missing_price"),
        ({"url": "javascript:alert(1)"}, "not_https"),
        ({"url": "http://shop.example.com/"}, "not_https"),
        ({"image_url": "https://shop.example.com/\n"}, None),
        ({"image_url": "https://shop.example.com/\nx"}, "not_https"),
        ({"stock": "many"}, "bad_stock"),
        ({"sold": "well"}, "bad_sold"),
        ({"id": "x" * 101}, "too_long"),
    ],
)
def test_a_row_that_is_no_product_is_named(fields: dict[str, Any], reason: str | None):
    """Row, reason and column."""
    good = [ROW | {"id": f"g-{number}"} for number in range(20)]
    _, bad = read([*good, ROW | fields])
    assert ([(21, reason)] if reason else []) == [(one.row, one.reason) for one in bad]


def test_columns_may_have_the_names_of_product_feeds():
    """As shops write them for others: words for stock, a currency behind the price."""
    row = {"sku": "7", "title": "Pine", "price": "1234.50 EUR", "availability": "out_of_stock",
           "link": "https://shop.example.com/7",
           "image_link": "https://shop.example.com/7.png", "product_type": "Trees"}  # fmt: skip
    found, bad = read([row])
    assert [] == bad
    assert Product(
        id="7", name="Pine", price=1234.5, url="https://shop.example.com/7", currency="EUR", stock=0,
        image_url="https://shop.example.com/7.png", category="Trees",
    ) == found["7"]  # fmt: skip


VALUES = st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.booleans(), st.lists(st.text()))


@given(st.dictionaries(st.sampled_from(["id", "name", "price", "url", "stock", "sold", "currency"]), VALUES))
def test_whatever_a_row_holds_it_is_a_product_or_named(row):
    """Never an exception."""
    good = [ROW | {"id": f"g-{number}"} for number in range(20)]
    found, bad = read([*good, row])
    assert len(bad) <= 1
    assert all(isinstance(one, BadRow) for one in bad)
    assert all(0 <= one.price < 1e13 for one in found.values())
