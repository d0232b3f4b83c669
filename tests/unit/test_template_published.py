"""Published definitions as the sending side reads them: cached, switched, stale rather than away."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from espial.errors import Refused, TryAgain
from espial.stores.published_templates import PublishedTemplates

TRIGGER = {
    "name": "cart",
    "status": "live",
    "on": ["cart_updated"],
    "key": "event.commerce.cart.id",
    "send": {"provider": "ses", "template": "reminder"},
}


class Store:
    """The bucket: `away` makes it fail, `reads` counts."""

    def __init__(self) -> None:
        self.bundle: dict[str, Any] | None = {
            "version": "1",
            "triggers": {"cart": TRIGGER},
            "providers": {"ses": {"name": "ses", "from": "a@example.com"}},
            "templates": {"reminder": "d1", "lost": "d9"},
        }
        self.past: dict[str, dict[str, Any]] = {}
        self.away = False
        self.reads: list[str] = []

    def active(self) -> dict[str, Any] | None:
        self.reads.append("active")
        if self.away:
            raise ConnectionError
        return self.bundle

    def version(self, version: str) -> dict[str, Any] | None:
        self.reads.append(f"version {version}")
        if self.away:
            raise ConnectionError
        return self.past.get(version)

    def template(self, digest: str) -> dict[str, Any] | None:
        self.reads.append(digest)
        return {"name": digest} if digest != "d9" else None


@pytest.fixture
def world():
    now = [0.0]
    store = Store()
    return store, PublishedTemplates(store, lambda: now[0]), now


def test_what_is_published_is_found_and_read_once(world):
    """One read serves every mail of half a minute; a template, being named by its hash, is read once for ever."""
    store, published, _ = world
    for _round in range(2):
        assert "cart" == published.trigger("cart").name
        assert "a@example.com" == published.provider("ses")["from"]
        assert {"name": "d1"} == published.template("reminder")
    assert ["active", "d1"] == store.reads


def test_what_is_not_there_is_told_by_name(world):
    """No trigger of that name; a missing provider or template skips the mail with the reason."""
    _, published, _ = world
    assert published.trigger("gone") is None
    for name, reason in (("provider", "unknown_provider"), ("template", "unknown_template")):
        with pytest.raises(Refused, match=reason):
            getattr(published, name)("gone")
    with pytest.raises(Refused, match="unknown_template"):
        published.template("lost")


def test_a_switch_is_seen_after_half_a_minute(world):
    """`espial apply` is in force soon, with triggers parsed anew."""
    store, published, now = world
    assert "draft" != published.trigger("cart").status
    store.bundle = {**store.bundle, "version": "2", "triggers": {"cart": {**TRIGGER, "status": "paused"}}}
    assert "live" == published.trigger("cart").status
    now[0] = 30.0
    assert "paused" == published.trigger("cart").status


def test_what_was_applied_a_moment_ago_is_not_called_unknown(world):
    """A run may be due before this copy is: the mail must not be dropped because the copy is older than its trigger."""
    store, published, now = world
    assert published.trigger("new") is None
    store.bundle = {
        **store.bundle,
        "version": "2",
        "triggers": {"cart": TRIGGER, "new": {**TRIGGER, "name": "new"}},
        "providers": {**store.bundle["providers"], "other": {"name": "other"}},
    }
    now[0] = 1.0
    assert "new" == published.trigger("new").name
    assert "other" == published.provider("other")["name"]
    assert 2 == store.reads.count("active")


def test_an_unreadable_trigger_leaves_the_others(world, caplog):
    """Written by a newer version than runs here: the rest goes on, and somebody is told, without its contents."""
    store, published, _ = world
    store.bundle["triggers"]["newer"] = {**TRIGGER, "name": "newer", "field_of_tomorrow": "x@example.com"}
    assert [["cart"], ["cart"]] == [[trigger.name for trigger in published.triggers()] for _round in range(2)]
    assert ["trigger.unreadable: newer: 1 problems"] == [record.getMessage() for record in caplog.records]
    with pytest.raises(ValidationError):
        published.trigger("newer")


def test_a_stale_copy_serves_while_the_store_is_away(world):
    """An outage of the store stops no mail; before the first read it makes the queue wait."""
    store, published, now = world
    store.away = True
    with pytest.raises(TryAgain):
        published.provider("ses")
    store.away = False
    assert published.provider("ses")
    store.away, now[0] = True, 60.0
    assert published.provider("ses")


def test_nothing_applied_yet_is_a_matter_of_time(world):
    """A stack that was just deployed keeps its messages until the first `espial apply`."""
    store, published, _ = world
    store.bundle = None
    with pytest.raises(TryAgain, match="no definitions were applied yet"):
        published.template("reminder")


def test_who_is_in_flight_reads_what_was_published_then(world):
    """Goal 47: trigger and template of the version the run began under, read once; its status is today's."""
    store, published, _ = world
    store.past["0"] = {
        "version": "0",
        "triggers": {"cart": {**TRIGGER, "wait": "2h"}},
        "templates": {"reminder": "d0"},
    }
    store.bundle = {**store.bundle, "triggers": {"cart": {**TRIGGER, "status": "paused"}}}
    for _round in range(2):
        assert ("paused", 7200) == (
            published.trigger("cart", "0").status,
            published.trigger("cart", "0").plan[0].after.total_seconds(),
        )
        assert {"name": "d0"} == published.template("reminder", "0")
    assert ["active", "version 0", "d0"] == store.reads
    assert ("1", 0) == (published.version, published.trigger("cart", "1").plan[0].after.total_seconds())


def test_what_was_published_and_is_not_to_be_found_is_as_it_is_now(world):
    """A version that was swept away, one that cannot be read any more, one without this template or trigger."""
    store, published, _ = world
    store.past["0"] = {"version": "0", "triggers": {"cart": {"on": "nonsense"}}, "templates": {}}
    store.past["00"] = {"version": "00", "triggers": {}, "templates": {}}
    for version in ("0", "00", "gone"):
        assert published.trigger("cart") == published.trigger("cart", version)
        assert {"name": "d1"} == published.template("reminder", version)


def test_a_version_that_cannot_be_read_now_is_waited_for(world):
    """Nobody in flight is judged by other rules because S3 was away."""
    store, published, _ = world
    published.trigger("cart")
    store.away = True
    with pytest.raises(TryAgain, match="definitions 0 cannot be read"):
        published.trigger("cart", "0")


def test_a_trigger_that_was_removed_is_gone_for_those_in_flight_too(world):
    """Removing it is the way to stop it."""
    store, published, _ = world
    store.past["0"] = {"version": "0", "triggers": {"old": {**TRIGGER, "name": "old"}}, "templates": {}}
    assert None is published.trigger("old", "0")
