"""The condition language: checked when defined, explained when it cannot be evaluated, and true to a slow reference."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.events import Cart, Commerce, Event, Order, Product
from espial.triggers import cel
from espial.vocabulary import EventType
from tests.builders import NOON, an_event
from tests.simulation import cart

EVERYTHING = ("event", "person", "run", "now")
EXPRESSIONS = (
    "event.commerce.cart.items.exists(item, item.price > 2.0)",
    "event.commerce.cart.items.all(item, has(item.sku) || item.name == 'shoe')",
    "event.commerce.cart.items.map(item, item.name + item.id)",
    "event.commerce.cart.items.map(item, item)",
    "event.commerce.cart.items.map(item, item['price'])",
    "event.commerce.cart.items.filter(item, item.price > 1.0).map(item, item.name)",
    "event.commerce.cart.items.exists_one(a, event.commerce.cart.items.exists(b, a.id == b.id && b.price > 0.0))",
    "event.commerce.cart.items.exists(i, i.price > 1.0) && event.commerce.cart.items[0].name == 'shoe'",
    "!has(event.commerce.order.cart_id) || event.commerce.order.cart_id == event.commerce.cart.id",
    "event.person.email == 'ada@example.com' && event.type.startsWith('cart')",
    "event['person'].email == event.person.email",
    "size(event.commerce.cart) == 2 && event.commerce.cart.id == '77'",
    "event.properties.missing == 1",
    "event.occurred_at < event.received_at",
)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("1 +", "not a CEL expression"),
        ('event.type == "opened" && persn.email == ""', "unknown variable persn; known here: event, now, person, run"),
        ("event.commerce.cart.idd", "unknown field event.commerce.cart.idd"),
        ("event.commerse.cart.id", "unknown field event.commerse"),
        ("person.tier", "unknown field person.tier; known: attributes, consent, email, external_id, phone"),
        ("run.id", "unknown field run.id"),
        ('counted("opened", "30d")', "unknown function counted"),
        ('count("openedd", "30d")', "unknown event type 'openedd'"),
        ("within('clicked', '1 month')", "a duration such as 30m, 1h, 7d or PT1H is expected, not '1 month'"),
        ("now()", "unknown function now"),
    ],
)
def test_a_wrong_expression_is_refused_with_the_reason(source, complaint):
    """What a person who writes a trigger is told."""
    with pytest.raises(ValueError, match="^" + complaint.replace("(", r"\(")[:60].replace("[", r"\[")):
        cel.check(source, EVERYTHING)


@pytest.mark.parametrize(
    "source",
    [
        "event.commerce.cart.items.exists(item, item.price > 20.0 && item.name.startsWith('shoe'))",
        'event.failure.class == "hard"',
        'person.attributes.plan.tier in ["gold", "silver"]',
        'since("opened") < days(30) && count("page_viewed", "P7D") >= 3',
        "event.properties.anything.at.all == 'person.nothing'",
        "event.occurred_at < now - duration('1h')",
        'event.link.url.matches("^https://shop[.]example[.]com/")',
        "size(event.commerce.order.items.map(line, line.sku)) > 0",
        'last("order_completed") > timestamp("2026-01-01T00:00:00Z")',
        'event.type.startsWith("product")',
    ],
)
def test_what_the_language_offers_is_accepted(source):
    """Macros, functions, fields of any depth, names in texts."""
    cel.check(source, EVERYTHING)


def test_the_timeline_needs_a_person():
    """A trigger's key and exits see the event alone: functions over the timeline are refused there, not at run time."""
    with pytest.raises(ValueError, match="count needs the person's timeline"):
        cel.check('count("opened", "30d") > 0', ("event", "run"))


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("event.properties.colour == 'red'", "no such field: colour"),
        ("event.commerce.cart.total > 10.0", "no such field: total"),
        ("event.commerce.cart.id > 3", "No such overload: the operation is not defined for the given operand types"),
        ("event.commerce.cart.items[7].name == ''", ""),
        ("1 / 0 == 1", ""),
        ("event.commerce.cart.id", "gave str, not true or false"),
        ("duration('soon') > duration('1h')", ""),
    ],
)
def test_what_cannot_be_evaluated_is_false_with_the_reason(source, error):
    """Never an exception: a rule that cannot be judged does not let a message go."""
    result = cel.Scope([source], {"event": cel.plain(cart(NOON, "shoe"))}).holds(source)
    assert False is result.value
    assert result.error
    assert error in result.error


def test_any_event_may_be_asked_for_any_part():
    """`has` on a part that is missing is false, and an absent cart has no items."""
    scope = cel.Scope(["event"], {"event": cel.plain(an_event())})
    for part in (
        "commerce.cart.id",
        "commerce.order.cart_id",
        "campaign.id",
        "link.url",
        "failure.reason",
        "client.ip",
    ):
        assert cel.Result(value=False) == scope.holds(f"has(event.{part})")
    assert cel.Result(0) == scope.evaluate("size(event.commerce.cart.items)")


@pytest.mark.parametrize(
    ("source", "read"),
    [
        (
            "event.commerce.cart.id == event.properties.id",
            {"event": {"commerce": {"cart": {"id": {}}}, "properties": {"id": {}}}},
        ),
        (
            "event.commerce.cart.items.exists(i, i.price > 1.0 && i.name.startsWith('a'))",
            {"event": {"commerce": {"cart": {"items": {"price": {}, "name": {}}}}}},
        ),
        ("event.commerce.cart.items.map(i, i) == []", {"event": {"commerce": {"cart": {"items": {}}}}}),
        ("event.commerce.cart.items.map(i, i['name']) == []", {"event": {"commerce": {"cart": {"items": {}}}}}),
        ("event.commerce.cart.items.all(i, true)", {"event": {"commerce": {"cart": {"items": {}}}}}),
        (
            "event.commerce.cart.items.filter(i, i.price > 1.0)[0].name == ''",
            {"event": {"commerce": {"cart": {"items": {}}}}},
        ),
        (
            "event.commerce.cart.items.exists(i, i.price > 1.0) && size(event.commerce.cart.items) > 1",
            {"event": {"commerce": {"cart": {"items": {}}}}},
        ),
        (
            "event.commerce.cart.items.exists(i, event.commerce.order.items.all(i, i.id != ''))",
            {"event": {"commerce": {"cart": {"items": {}}, "order": {"items": {}}}}},
        ),
        ("event.commerce.cart.id == '' || size(event.commerce.cart) > 1", {"event": {"commerce": {"cart": {}}}}),
        (
            "person.email == 'event.link' && now > run.due_at",
            {"person": {"email": {}}, "now": {}, "run": {"due_at": {}}},
        ),
        ("event['type'] == 'opened' && event.link.url != ''", {"event": {}}),
        ("[event].exists(e, e.type == 'opened')", {"event": {}}),
        ("true", {}),
    ],
)
def test_only_what_is_read_is_converted(source, read):
    """Never less: an event taken as a whole is whole, and so is each part of it."""
    assert read == cel.reads(source)


@pytest.mark.parametrize("source", EXPRESSIONS)
def test_what_is_left_out_was_not_looked_at(source):
    """The whole event and what the expression reads of it give the same answer."""
    for event in (cart(NOON, "shoe"), an_event()):
        variables = {"event": cel.plain(event)}
        cut, whole = cel.Scope([source], variables), cel.Scope([source, "event"], variables)
        assert whole.evaluate(source) == cut.evaluate(source)


def test_never_is_long_ago():
    """Recency of what never happened: NEVER, 1970, no count."""
    scope = cel.Scope([], {}, cel.timeline(lambda _kind: [], lambda _kind: [], NOON))
    assert cel.Result(cel.NEVER) == scope.evaluate('since("opened")')
    assert cel.Result(cel.LONG_AGO) == scope.evaluate('last("opened")')
    assert cel.Result(value=False) == scope.evaluate('within("opened", "60d")')


def test_every_function_the_check_lets_through_exists():
    """A name that is accepted when defined is never "undefined" when it decides."""
    scope = cel.Scope(["now"], {"now": NOON}, cel.timeline(lambda _kind: [], lambda _kind: [], NOON))
    calls = {name: f"{name}(1)" for name in cel._STANDARD}
    calls |= {name: f'"a".{name}("a")' for name in ("contains", "startsWith", "endsWith", "matches")}
    calls |= {name: f"now.{name}()" for name in cel._STANDARD if name.startswith("get")}
    calls |= {"size": 'size("a")', "bytes": 'bytes("a")', "duration": 'duration("1h")'}
    calls |= {"timestamp": 'timestamp("2026-01-01T00:00:00Z")'}
    assert {} == {name: error for name, call in calls.items() if (error := scope.evaluate(call).error)}


def test_the_library_loads_without_its_command_line():
    """typer and rich are not in the layer."""
    code = "import sys, espial.triggers.cel; print({'typer', 'rich', 'click'} & set(sys.modules) or 'free')"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "free" == answer.stdout.strip()


# A slow, obvious evaluator of rules as nested tuples, against CEL's of the same rule as text.

ages = st.lists(st.integers(0, 40 * 86_400), max_size=6)
histories = st.fixed_dictionaries({"opened": ages, "clicked": ages, "order_completed": ages})
attributes = st.fixed_dictionaries(
    {}, optional={"tier": st.sampled_from(["gold", "silver"]), "age": st.integers(0, 99)}
)
kinds = st.sampled_from(["opened", "clicked", "order_completed"])
leaves = st.one_of(
    st.tuples(st.just("count"), kinds, st.integers(1, 60), st.integers(0, 4)),
    st.tuples(st.just("since"), kinds, st.integers(0, 60)),
    st.tuples(st.just("tier"), st.sampled_from(["gold", "silver"])),
    st.tuples(st.just("age"), st.integers(0, 99)),
    st.tuples(st.just("total"), st.integers(0, 50)),
)
rules = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(st.just("and"), inner, inner),
        st.tuples(st.just("or"), inner, inner),
        st.tuples(st.just("not"), inner),
    ),
    max_leaves=6,
)


def written(rule: Any) -> str:
    kind, *given = rule
    match kind:
        case "not":
            return f"!({written(given[0])})"
        case "and" | "or":
            return f"({written(given[0])}) {'&&' if kind == 'and' else '||'} ({written(given[1])})"
    return {
        "count": 'count("{0}", "{1}d") >= {2}',
        "since": 'since("{0}") > days({1})',
        "tier": 'has(person.attributes.tier) && person.attributes.tier == "{0}"',
        "age": "has(person.attributes.age) && person.attributes.age < {0}",
        "total": "has(event.commerce.cart.total) && event.commerce.cart.total > {0}.0",
    }[kind].format(*given)


def reference(rule: Any, history: Any, known: Any, total: float | None) -> bool:
    def holds(inner: Any) -> bool:
        return reference(inner, history, known, total)

    kind, *given = rule
    verdicts: dict[str, Callable[[], bool]] = {
        "count": lambda: sum(age < given[1] * 86_400 for age in history[given[0]]) >= given[2],
        "since": lambda: min(history[given[0]], default=10**9) > given[1] * 86_400,
        "tier": lambda: known.get("tier") == given[0],
        "age": lambda: "age" in known and known["age"] < given[0],
        "total": lambda: total is not None and total > given[0],
        "not": lambda: not holds(given[0]),
        "and": lambda: holds(given[0]) and holds(given[1]),
        "or": lambda: holds(given[0]) or holds(given[1]),
    }
    return verdicts[kind]()


@given(rules, histories, attributes, st.none() | st.floats(0, 50))
def test_rules_agree_with_a_slow_reference(rule, history, known, total):
    """Goal 32: conditions over attributes, recency, frequency and the event, in any combination."""
    source = written(rule)
    cel.check(source, EVERYTHING)
    event = cel.plain(cart(NOON, "shoe"))
    if total is not None:
        event["commerce"]["cart"]["total"] = total
    times = {kind: sorted(NOON - timedelta(seconds=age) for age in found) for kind, found in history.items()}
    scope = cel.Scope(
        [source],
        {"event": event, "person": {"attributes": known}},
        cel.timeline(times.__getitem__, lambda _kind: [], NOON),
    )
    assert cel.Result(reference(rule, history, known, total)) == scope.holds(source)


@given(st.text(max_size=40))
def test_any_text_is_accepted_or_refused_never_a_crash(source):
    """Definitions are written by people: only ValueError comes out."""
    try:
        cel.check(source, EVERYTHING)
    except ValueError as exc:
        assert str(exc)  # noqa: PT017  refused with words
    else:
        cel.Scope([source], {"event": cel.plain(an_event())}).holds(source)


def test_every_field_of_an_event_is_known_to_the_check():
    """A field added to the canonical event can be used at once."""
    for field in msgspec.structs.fields(Event):
        cel.check(f"has(event.{field.encode_name})", ("event",))


# products -----------------------------------------------------------------------------------------------------------

DAY = timedelta(days=1)


def about(kind: EventType, days_ago: float, product: str = "P-1", cart_id: str = "c-1") -> Event:
    line = Product(id=product)
    commerce = {
        EventType.PRODUCT_VIEWED: Commerce(product=line),
        EventType.CART_UPDATED: Commerce(cart=Cart(id=cart_id, items=(line,))),
        EventType.ORDER_COMPLETED: Commerce(order=Order(id="o", cart_id=cart_id or None, items=(line,))),
    }[kind]
    return an_event(f"{kind}{days_ago}{cart_id}", type=kind, occurred_at=NOON - days_ago * DAY, commerce=commerce)


def found(source: str, *happened: Event) -> Any:
    known = sorted(happened, key=lambda event: event.occurred_at)

    def of_type(kind: str) -> list[Event]:
        return [event for event in known if event.type == kind]

    functions = cel.timeline(lambda kind: [event.occurred_at for event in of_type(kind)], of_type, NOON)
    return cel.Scope([source], {}, functions).evaluate(source)


VIEWED, IN_CART, ORDERED = EventType.PRODUCT_VIEWED, EventType.CART_UPDATED, EventType.ORDER_COMPLETED


def test_how_often_this_very_product_was_looked_at():
    views = [about(VIEWED, days) for days in (1, 2, 20)]
    assert found('views("P-1", "7d")', *views, about(VIEWED, 1.5, "P-2")).value == 2
    assert found('views("P-9", "7d")', *views).value == 0
    assert "duration such as" in found('views("P-1", "soon")', *views).error


@pytest.mark.parametrize(
    ("happened", "carts"),
    [
        ([about(IN_CART, 3)], 1),
        ([about(IN_CART, 3), about(IN_CART, 2)], 1),
        ([about(IN_CART, 3, cart_id="a"), about(IN_CART, 2, cart_id="b")], 2),
        ([about(IN_CART, 3), about(IN_CART, 2, "P-2")], 0),  # it was taken out again
        ([about(IN_CART, 3), about(ORDERED, 2, "P-2")], 0),  # the cart was ordered, whatever the order says of it
        ([about(IN_CART, 3), about(ORDERED, 2, cart_id="")], 0),
        ([about(IN_CART, 3), about(ORDERED, 4, cart_id="")], 1),
        ([about(IN_CART, 99)], 0),
    ],
)
def test_in_how_many_carts_it_lies_still(happened, carts):
    assert found('abandoned("P-1", "90d")', *happened).value == carts


def test_the_window_of_a_products_function_is_checked_when_defined():
    cel.check('views(event.commerce.product.id, "7d") > 1', ("event", "person"))
    with pytest.raises(ValueError, match="duration such as"):
        cel.check('views(event.commerce.product.id, "soon") > 1', ("event", "person"))
    with pytest.raises(ValueError, match="needs the person's timeline"):
        cel.check('abandoned(event.commerce.product.id, "7d") > 1', ("event",))
