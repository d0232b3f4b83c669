"""Time travel: a month of a shop in memory, by the code that runs triggers in production (goals 49, 51)."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from espial.cli.app import app
from espial.errors import InvalidDefinition
from espial.events import BEHAVIOUR_KEYS, Cart, Commerce, Event, Product, encode, home_key
from espial.normalise import Recordable
from espial.services import trigger_report
from espial.services.trigger_report import Place
from espial.simulation import report
from espial.simulation.shoppers import Model, made_up, read_events, read_people
from espial.simulation.world import World
from espial.stores.people_table import DecisionsTable, PeopleTable, RunsTable
from espial.vocabulary import EventType
from local.cloud import ROOT
from tests.simulation import MemoryEvents, MemoryTable, a_trigger, agrees, at, cart, order
from tests.travel import PROVIDER, a_template

START = datetime(2026, 3, 20, tzinfo=UTC)  # clocks are set in these weeks
CONSENTS = ["email/marketing"]
SERIES = a_trigger(
    name="series",
    wait="0s",
    stages=[{"after": "1h"}, {"after": "24h"}, {"after": "72h"}],
    limits=[{"name": "cap", "count": 2, "per": "week", "scope": "person"}],
    quiet_hours={"from": "21:00", "to": "08:00"},
    variants=[{"name": "plain"}, {"name": "bold"}],
    holdout="20%",
    goal={"event": "order_completed", "value": "event.commerce.order.total"},
)
SINGLE = a_trigger(
    name="single",
    hold="10m",
    reentry={"every": "3d"},
    limits=[{"name": "cap", "count": 1, "within": "24h", "scope": "channel"}],
)
ONCE = a_trigger(
    name="once", on=["product_viewed"], key='"first"', reentry="never", restart=False, wait="30s", priority=3
)


def a_month(seed="0", shoppers=60, triggers=(SERIES, SINGLE, ONCE), days=30) -> World:
    model = Model(made_up(shoppers, seed, CONSENTS), seed)
    templates = {"cart-reminder": a_template("cart-reminder")}
    world = World(triggers, providers={"ses": PROVIDER}, templates=templates, now=START, reacts=model.reacts)
    world.live(model.life(START, days), START + timedelta(days=days))
    return world


def told(world: World) -> str:
    return json.dumps([report.report(world).plain(), list(report.messages(world))])


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_sends_and_skips_are_the_entries(seed):
    """Goal 51: of everybody who entered a stage, what became of them is known, once, and every message is one row's."""
    world = a_month(str(seed), shoppers=25)
    rows = report.report(world).rows
    assert all(row.balanced for row in rows.values()), rows
    assert len(world.outbox.taken) == sum(row.sent for row in rows.values()) == len(list(report.messages(world)))
    assert {"series", "single", "once"} == {place.trigger for place in rows}


def test_the_same_seed_gives_the_same_month():
    """To the letter; another seed another one."""
    assert told(a_month("7")) == told(a_month("7"))
    assert told(a_month("7")) != told(a_month("8"))


def test_who_is_held_out_gets_nothing_and_counts_in_the_goal():
    """Of the same month, one arm only skips."""
    world = a_month()
    rows = report.report(world).rows
    held_out = [row for place, row in rows.items() if place.variant == "held_out"]
    assert held_out
    assert 0 == sum(row.sent for row in held_out)
    assert sum(row.skipped["held_out"] for row in held_out)
    arms = [one.arm for one in report.report(world).goals]
    assert ["bold", "plain", "held_out"] == [arm.name for arm in arms]
    assert all(arm.entered >= arm.converted > 0 for arm in arms[:2])
    assert all((arm.revenue > 0) == (arm.converted > 0) for arm in arms)


def test_nobody_s_days_depend_on_who_else_is_there():
    """A person more changes nothing for the others."""
    few, more = made_up(5, "0", CONSENTS), made_up(6, "0", CONSENTS)
    assert few == more[:5]
    one = [event for event in Model(few, "0").life(START, 30) if event.person == few[2].person]
    assert one == [event for event in Model(more, "0").life(START, 30) if event.person == few[2].person]
    assert len({event.event_id for event in one}) == len(one)


def test_people_shop_as_the_model_says():
    """Within a few points of what its description says, over a thousand people."""
    events = list(Model(made_up(1_000, "0", CONSENTS), "0").life(START, 30))
    kinds = {kind: sum(event.type is kind for event in events) for kind in EventType}
    edits = [event.commerce.cart for event in events if event.type is EventType.CART_UPDATED]
    carts = {cart.id for cart in edits if cart.items}
    visits = kinds[EventType.PAGE_VIEWED]
    assert 1_000 == kinds[EventType.PROFILE_UPDATED]
    assert 5_000 < visits < 15_000
    assert 0.28 < len(carts) / visits < 0.32
    assert 0.36 < kinds[EventType.ORDER_COMPLETED] / len(carts) < 0.43
    assert 0.03 < sum(not cart.items for cart in edits) / len(carts) < 0.07


def test_a_stack_is_reported_as_a_simulation_is():
    """From our own events and the people they are about: what was sent and skipped, and the goal, are the same."""
    world = a_month()
    store: Any = world.people
    simulated, found = report.report(world), trigger_report.report(SERIES, store, store)
    of_series = {place: row for place, row in simulated.rows.items() if place.trigger == "series"}
    assert {place: (row.sent, row.skipped, row.exited) for place, row in of_series.items()} == {
        place: (row.sent, row.skipped, row.exited) for place, row in found.rows.items()
    }
    assert all(row.balanced for row in found.rows.values())
    assert simulated.goals == found.goals
    assert [] == trigger_report.report(SINGLE, store, store).goals


class Tables(World):
    """The same world over the stores of production, on a table in memory."""

    def __init__(self, *triggers: Any, **about: Any) -> None:
        super().__init__(triggers, **about)
        table = MemoryTable()
        stores: dict[str, Any] = {
            "people": PeopleTable(table, "events"),
            "runs": RunsTable(table, "events"),
            "decisions": DecisionsTable(table, "events"),
            "events": MemoryEvents(table),
        }
        self.stored = stores["events"]
        self.runner = replace(self.runner, **stores)
        self.deliverer = replace(self.deliverer, **stores)

    def _handle(self, event: Event) -> Any:
        self.stored.add([Recordable(event, encode(event), home_key(event, BEHAVIOUR_KEYS))])
        return super()._handle(event)

    def own(self) -> list[Event]:
        return [event for event in self.stored.added if event.platform == "espial"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_memory_and_the_stores_of_production_come_to_the_same(seed):
    """Two people, two weeks, all three triggers: the same mails and the same of our own events, in every detail."""
    model = Model(made_up(2, str(seed), CONSENTS), str(seed))
    events = list(model.life(START, 14))
    about: dict[str, Any] = {
        "providers": {"ses": PROVIDER},
        "templates": {"cart-reminder": a_template("cart-reminder")},
        "now": START,
    }
    memory, tables = World((SERIES, SINGLE, ONCE), **about), Tables(SERIES, SINGLE, ONCE, **about)
    for world in (memory, tables):
        world.live(events, START + timedelta(days=20))
    assert memory.outbox.taken == tables.outbox.taken
    assert memory.people.own == tables.own()
    assert memory.tally == tables.tally


# the command --------------------------------------------------------------------------------------------------------


@pytest.fixture
def espial(tmp_path, monkeypatch):
    """Runs the command in a folder with our own definitions."""
    shutil.copytree(ROOT / "definitions", tmp_path / "definitions")
    monkeypatch.chdir(tmp_path)

    def run(*words):
        result = CliRunner().invoke(app, ["simulate", *words])
        assert 0 == result.exit_code, result.output
        return result.stdout

    return run


def test_a_simulation_needs_nothing_but_definitions(espial):
    """No stack, no account, no people: a table, and the same to the letter again."""
    shown = espial("--shoppers", "40", "--days", "20", "--seed", "a")
    lines = shown.splitlines()
    assert lines[0].split() == ["trigger", "stage", "what", "became", "of", "them", "number", "share"]
    assert lines[1].startswith("cart-abandoned")
    assert "20 days from 2026-01-05 00:00, 40 people" in lines[-1]
    assert shown == espial("--shoppers", "40", "--days", "20", "--seed", "a")


def test_messages_are_written_one_a_line(espial):
    """Every one that was sent, with its words."""
    rows = [json.loads(line) for line in espial("--shoppers", "40", "--json", "--messages", "sent.ndjson").splitlines()]
    sent = [json.loads(line) for line in Path("sent.ndjson").read_text().splitlines()]
    assert sum(row["sent"] for row in rows) == len(sent) > 0
    assert {"cart-abandoned"} == {message["trigger"] for message in sent}
    assert all("your cart" in message["subject"] for message in sent)
    assert sorted(message["at"] for message in sent) == [message["at"] for message in sent]


def test_given_people_live_through_given_events(espial):
    """As `espial events --json` prints them: one cart is reminded of, the other was bought."""
    Path("people.ndjson").write_text(
        json.dumps({"external_id": "P-1001", "email": "ada@example.com", "attributes": {"first_name": "Ada"}}) + "\n"
    )
    commerce = Commerce(
        cart=Cart(id="77", url="https://shop.example.com/cart", items=(Product(name="shoe", price=9.5),))
    )
    given = [
        agrees(at("08:00:00")),
        msgspec.structs.replace(cart(at("10:00:00"), "shoe"), commerce=commerce),
        cart(at("10:00:00", day=22), "hat", id="78"),
        order(at("10:30:00", day=22), cart_id="78"),
    ]
    lines = [json.dumps({**json.loads(encode(event)), "via": ["tracking"], "conflicts": []}) for event in given]
    Path("events.ndjson").write_text("\n".join(lines))
    options = ("--people", "people.ndjson", "--events", "events.ndjson", "--json", "--messages", "sent.ndjson")
    [row] = map(json.loads, espial(*options).splitlines())
    assert (2, 1, {"bought": 1}, {}) == (row["entered"], row["sent"], row["exited"], row["skipped"])
    [mail] = map(json.loads, Path("sent.ndjson").read_text().splitlines())
    assert (at("11:00:00").isoformat(), "ada@example.com", "Ada, your cart is still here") == (
        mail["at"], mail["to"], mail["subject"],
    )  # fmt: skip


@pytest.mark.parametrize(("status", "began"), [("draft", True), ("staging", True), ("live", True), ("paused", False)])
def test_what_is_not_paused_runs_as_if_live(espial, status, began):
    """So a draft can be tried before anybody gets it."""
    path = Path("definitions/triggers/cart-abandoned.yaml")
    path.write_text(path.read_text().replace("status: live", f"status: {status}"))
    rows = [json.loads(line) for line in espial("--shoppers", "40", "--json").splitlines()]
    assert began == bool(rows and rows[0]["sent"])


def test_a_bad_line_is_named():
    """With its file and number, all at once; events likewise."""
    lines = [b'{"email": "ada@example.com"}', b"", b'{"mail": "x"}', b"{}", b"nonsense"]
    with pytest.raises(InvalidDefinition) as caught:
        read_people(lines, "people.ndjson")
    assert ["people.ndjson:3:", "people.ndjson:4:", "people.ndjson:5:"] == [
        problem.split()[0] for problem in caught.value.problems
    ]
    with pytest.raises(InvalidDefinition, match=r"events\.ndjson:1"):
        read_events([b'{"type": "cart_updated"}'], "events.ndjson")


def test_a_row_that_lost_somebody_is_not_balanced():
    """The check itself can fail."""
    row = report.report(a_month(shoppers=10)).rows[Place("once", 0, "")]
    assert row.balanced
    row.sent += 1
    assert not row.balanced
