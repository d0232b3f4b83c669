"""Catalogues: the table and its fake keep the same rules, and a load makes them what its file says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from espial.catalogue import Product
from espial.errors import Refused, TryAgain
from espial.services.load_catalogue import LEASE, Loaded, load
from espial.stores.catalogue_table import CatalogueTable
from tests.contract.test_ports import events_table
from tests.fakes import FakeCatalogues

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


CLOUDS = [pytest.param(name, marks=pytest.mark.cloud) for name in ("cloud", "moto_process")]


@pytest.fixture(params=["fake", *CLOUDS])
def store(request: pytest.FixtureRequest) -> Any:
    if request.param == "fake":
        return FakeCatalogues()
    found = request.getfixturevalue(request.param)
    found.reset()
    events_table(found, "catalogues")
    return CatalogueTable(found.client("dynamodb"), "catalogues")


def loaded(rows: list[dict[str, Any]], store: Any, at: datetime) -> Loaded:
    return load("shop", rows, store, as_of=at, now=at)


def row(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"p-{number}", "name": f"Plant {number}", "price": "9.90", "currency": "EUR", "stock": "5",
        "url": f"https://shop.example.com/p/{number}", "category": f"c-{number % 3}", "sold": str(number), **fields,
    }  # fmt: skip


def test_what_was_loaded_is_there(store):
    """More than one call takes; each product once, best sellers first, and nothing of another catalogue."""
    rows = [row(number) for number in range(130)]
    done = loaded(rows, store, NOW)
    assert (130, 130, []) == (done.products, len(done.changes), done.bad)
    found = store.products("shop", [f"p-{number}" for number in range(260)])
    assert {f"p-{number}" for number in range(130)} == found.keys()
    assert Product(
        id="p-7", name="Plant 7", price=9.9, url="https://shop.example.com/p/7", currency="EUR", stock=5,
        category="c-1", sold=7.0,
    ) == found["p-7"]  # fmt: skip
    best = store.best("shop", ["", "c-1", "c-9"])
    assert {"", "c-1"} == best.keys()
    assert ["p-129", "p-128"] == best[""][:2]
    assert ["p-127", "p-124"] == best["c-1"][:2]
    assert NOW == store.loaded_at("shop")
    assert ({}, {}, None) == (store.products("other", ["p-1"]), store.best("other", [""]), store.loaded_at("other"))


def test_a_load_replaces_what_was_there(store):
    """What the file does not name is no longer sold, a category that is empty has no best sellers."""
    loaded([row(number) for number in range(6)], store, NOW)
    done = loaded([row(0, price="8.00"), row(3)], store, NOW + timedelta(hours=1))
    assert ["price_dropped", "removed", "removed", "removed", "removed"] == [one.what for one in done.changes]
    assert {"p-0": 8.0, "p-3": 9.9} == {id_: one.price for id_, one in store.everything("shop").items()}
    assert {"": ["p-3", "p-0"], "c-0": ["p-3", "p-0"]} == store.best("shop", ["", "c-0", "c-1"])
    assert NOW + timedelta(hours=1) == store.loaded_at("shop")


def test_loading_again_changes_nothing(store):
    """But the time."""
    rows = [row(number) for number in range(3)]
    loaded(rows, store, NOW)
    assert [] == loaded(rows, store, NOW).changes


def test_a_file_that_is_not_to_be_believed_changes_nothing(store):
    """Cut off, empty or of something else: the catalogue stays."""
    loaded([row(number) for number in range(3)], store, NOW)
    for rows, reason in (([], "catalogue_empty"), ([row(1), {"a": "b"}], "catalogue_unreadable")):
        with pytest.raises(Refused) as refused:
            loaded(rows, store, NOW + timedelta(hours=1))
        assert reason == refused.value.reason
    assert (3, NOW) == (len(store.everything("shop")), store.loaded_at("shop"))


def test_an_older_file_never_replaces_a_newer(store):
    """Files may be read in any order."""
    loaded([row(1, price="5")], store, NOW)
    with pytest.raises(Refused) as refused:
        load("shop", [row(1, price="9")], store, as_of=NOW - timedelta(seconds=1), now=NOW + timedelta(hours=1))
    assert "catalogue_superseded" == refused.value.reason
    assert 5.0 == store.everything("shop")["p-1"].price
    loaded([row(1, price="4")], store, NOW + timedelta(hours=1))
    assert 4.0 == store.everything("shop")["p-1"].price


def test_one_file_at_a_time(store):
    """The second waits, until the first is done or its lease is over; other catalogues do not."""
    assert store.take("shop", now=NOW, until=NOW + LEASE)
    with pytest.raises(TryAgain):
        loaded([row(1)], store, NOW + LEASE / 2)
    assert store.take("other", now=NOW, until=NOW + LEASE)
    assert 1 == loaded([row(1)], store, NOW + LEASE).products
    assert 2 == loaded([row(1), row(2)], store, NOW + LEASE).products
