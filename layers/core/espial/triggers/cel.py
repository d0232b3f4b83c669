"""CEL, the language of a trigger's expressions (https://cel.dev): checked when defined, never crashing when run.

Variables
    event    the event, its parts as plain maps. A missing part is an empty map and `commerce.cart.items` an empty
             list, so `has(event.commerce.order.cart_id)` may be asked of any event. Instants are timestamps.
    person   `email`, `phone`, `external_id` (each left out when unknown), `attributes` and `consent`, two maps
    run      `key`, `version`, `started_at`, `due_at`
    now      the instant of the decision
Functions
    count(type, "30d")    how many events of the type the person had in that time; at most 60 days are known
    within(type, "30d")   whether there was one
    since(type)           the time since the last one, as a duration; NEVER (36,500 days) when there was none
    last(type)            when the last one was; 1970-01-01T00:00:00Z when there was none
    views(id, "7d")       how often the person looked at this product in that time
    abandoned(id, "90d")  in how many of their carts of that time it lies still, and was not ordered
    days(30)              a duration in days (CEL's own `duration("1h")` knows no days)
and CEL's own. A type is one of `espial.vocabulary.EventType`.

What cannot be evaluated (a field that is not there, types that do not compare) is false, with the reason in
words, never an exception.
"""

from __future__ import annotations

import logging
import re
import sys
import types
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec

from espial.events import Event
from espial.triggers import durations
from espial.vocabulary import EventType

# The package's __init__ imports its command line, which needs typer and rich: 350 ms, and not in our layer.
# An empty module in its place leaves the evaluator alone: 17 ms.
sys.modules.setdefault("cel.cli", types.ModuleType("cel.cli"))
import cel  # noqa: E402  after the stand-in

logging.getLogger("cel").setLevel(logging.ERROR)  # a function's failure is in the explanation; a log may not quote it

NEVER = timedelta(days=36_500)
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

_RUN = frozenset({"key", "version", "started_at", "due_at"})
_PERSON = frozenset({"email", "phone", "external_id", "attributes", "consent"})
_OWN = frozenset({"count", "within", "since", "last", "views", "abandoned", "days"})
_STANDARD = frozenset(
    {
        *("bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"),
        *("size", "contains", "startsWith", "endsWith", "matches"),
        *("getFullYear", "getMonth", "getDayOfYear", "getDayOfMonth", "getDate", "getDayOfWeek"),
        *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
    }
)
"""What the evaluator knows; it leaves unknown names to the run time, `check` does not."""
_string = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")
_EACH = frozenset({"all", "exists", "exists_one", "map"})
"""What asks something of each of a list, and gives none of them back, as `filter` does."""
_binding = re.compile(r"\s*([A-Za-z_]\w*)\s*,")
_bound = re.compile(r"\.(?:all|exists|exists_one|map|filter)\(\s*([A-Za-z_]\w*)\s*,")
_path = re.compile(r"(?<![\w.])(event|person|run)((?:\.[A-Za-z_]\w*)+)(\s*\()?")
_variable = re.compile(r"(?<![\w.])(event|person|run|now)\b")
_event_call = re.compile(r"\b(?:count|within|since|last)\(\s*(?:\"([^\"]*)\"|'([^']*)')")
_window = re.compile(
    r"\b(?:(?:count|within)\(\s*(?:\"[^\"]*\"|'[^']*')|(?:views|abandoned)\([^,()]*)\s*,\s*(?:\"([^\"]*)\"|'([^']*)')"
)


class Result(NamedTuple):
    """A value, or why there is none."""

    value: Any
    error: str = ""


@lru_cache(maxsize=4096)
def _program(source: str) -> Any:
    return cel.compile(source)


def check(source: str, variables: Iterable[str]) -> None:
    """Compile an expression and resolve every name in it. Raises ValueError saying what is wrong."""
    try:
        references = _program(source).references()
    except ValueError as exc:
        first = str(exc).splitlines()[0]
        raise ValueError(f"not a CEL expression: {first.partition('ERROR: ')[2] or first}") from None
    bare = _string.sub('""', source)
    known = {*variables, *_bound.findall(bare)}
    if unknown := sorted(set(references["variables"]) - known):
        raise ValueError(f"unknown variable {', '.join(unknown)}; known here: {', '.join(sorted(variables))}")
    called = {name for name in references["functions"] if name[0].isalpha()}
    if unknown := sorted(called - _STANDARD - _OWN):
        raise ValueError(f"unknown function {', '.join(unknown)}")
    if "person" not in known and (unknown := sorted(called & _OWN - {"days"})):
        raise ValueError(f"{', '.join(unknown)} needs the person's timeline, which is not known here")
    for root, path, call in _path.findall(bare):
        fields = path.split(".")[1:]
        _check_path(root, fields[:-1] if call else fields)
    for match in _event_call.finditer(source):
        name = match[1] or match[2] or ""
        if name not in set(EventType):
            raise ValueError(f"unknown event type {name!r}")
    for match in _window.finditer(source):
        durations.parse(match[1] or match[2] or "")


def _check_path(root: str, fields: list[str]) -> None:
    """Follow the dotted names through the canonical event, as far as it is fixed."""
    if not fields:
        return
    if root != "event":
        if fields[0] not in (names := _RUN if root == "run" else _PERSON):
            raise ValueError(f"unknown field {root}.{fields[0]}; known: {', '.join(sorted(names))}")
        return
    struct: type | None = Event
    path = root
    for name in fields:
        if struct is None:
            return
        path = f"{path}.{name}"
        known = _fields(struct)
        if name not in known:
            raise ValueError(f"unknown field {path}")
        struct = known[name]


@cache
def _fields(struct: type) -> dict[str, type | None]:
    """Field name -> the structure inside it, None where it is a plain value."""
    hints = get_type_hints(struct)
    found: dict[str, type | None] = {}
    for field in msgspec.structs.fields(struct):
        inner = (hints[field.name], *get_args(hints[field.name]))
        found[field.encode_name] = next(
            (kind for kind in inner if isinstance(kind, type) and issubclass(kind, msgspec.Struct)), None
        )
    return found


_Tree = dict[str, Any]
"""Name -> the tree of what is read inside it; empty where all of it is."""


@lru_cache(maxsize=1024)
def reads(*sources: str) -> _Tree:
    """Which variables the expressions read, and which fields of them."""
    tree: _Tree = {}
    whole: list[_Tree] = []
    for source in sources:
        bare = _string.sub('""', source)
        found = list(_path.finditer(bare))
        paths = [path for match in found for path in _paths(match, bare)]
        taken_whole = Counter(_variable.findall(bare)) - Counter(match[1] for match in found)
        for path in (*paths, *([root] for root in taken_whole)):
            node = tree
            for name in path:
                node = node.setdefault(name, {})
            whole.append(node)
    for node in whole:  # what is read as a whole is not cut down by what else is read of it
        node.clear()
    return tree


def _paths(match: re.Match[str], bare: str) -> list[list[str]]:
    """What a dotted path reads; where it is asked of each of a list, only the fields that the question is about."""
    names = [match[1], *match[2].split(".")[1:]]
    if not match[3]:
        return [names]
    *names, called = names
    bound = _binding.match(bare, match.end()) if called in _EACH else None
    if bound is None or _bound.findall(bare).count(bound[1]) > 1:
        return [names]
    uses = re.findall(rf"(?<![\w.]){bound[1]}\b((?:\.[A-Za-z_]\w*)*)(\s*\()?", bare[bound.end() - 1 :])
    fields = [path.split(".")[1 : -1 if call else None] for path, call in uses]
    return [[*names, *each] for each in fields] or [names]


def _cut(value: Any, tree: _Tree) -> Any:
    if tree and isinstance(value, list | tuple):
        return [_cut(each, tree) for each in value]
    if not tree or not isinstance(value, dict):
        return value
    return {name: _cut(value[name], inside) for name, inside in tree.items() if name in value}


_PARTS: tuple[str, ...] = ("person", "campaign", "link", "client", "failure", "properties")


def plain(event: Event) -> dict[str, Any]:
    """The event as expressions see it."""
    # instants stay datetimes, which CEL knows as timestamps
    found: dict[str, Any] = msgspec.to_builtins(event, builtin_types=(datetime,))
    for part in _PARTS:
        found.setdefault(part, {})
    commerce = found.setdefault("commerce", {})
    for part in ("cart", "order", "product"):
        commerce.setdefault(part, {})
    commerce["cart"].setdefault("items", [])
    commerce["order"].setdefault("items", [])
    return found


def timeline(
    times: Callable[[str], Sequence[datetime]], of_type: Callable[[str], Sequence[Event]], now: datetime
) -> dict[str, Any]:
    """The functions over a person's timeline: `times` and `of_type` give the instants and the events, oldest first."""

    def during(kind: str, window: str) -> Sequence[Event]:
        instants = times(kind)
        return of_type(kind)[bisect_right(instants, now - durations.parse(window)) : bisect_right(instants, now)]

    def views(product: str, window: str) -> int:
        return sum(product in _products(event) for event in during(EventType.PRODUCT_VIEWED, window))

    def abandoned(product: str, window: str) -> int:
        carts = {_cart(event): event for event in during(EventType.CART_UPDATED, window)}
        left = {cart: event.occurred_at for cart, event in carts.items() if product in _products(event)}
        for event in during(EventType.ORDER_COMPLETED, window):
            order = event.commerce.order if event.commerce else None
            left.pop(order.cart_id if order else None, None)
            if product in _products(event):
                left = {cart: at for cart, at in left.items() if at > event.occurred_at}
        return len(left)

    def count(kind: str, window: str) -> int:
        instants = times(kind)
        return bisect_right(instants, now) - bisect_right(instants, now - durations.parse(window))

    def latest(kind: str) -> datetime | None:
        instants = times(kind)
        until = bisect_right(instants, now)
        return instants[until - 1] if until else None

    def since(kind: str) -> timedelta:
        instant = latest(kind)
        return NEVER if instant is None else now - instant

    return {
        "count": count,
        "within": lambda kind, window: count(kind, window) > 0,
        "since": since,
        "last": lambda kind: latest(kind) or LONG_AGO,
        "views": views,
        "abandoned": abandoned,
        "days": lambda number: timedelta(days=number),
    }


def _cart(event: Event) -> str | None:
    return event.commerce.cart.id if event.commerce and event.commerce.cart else None


def _products(event: Event) -> set[str]:
    """The ids of what an event is about, in a cart or an order."""
    return {one.id for one in event.products if one.id}


_NO_TIMELINE = {"days": lambda number: timedelta(days=number)}


class Scope:
    """Variables and functions for the expressions `sources`, converted once.

    Only what the expressions read is converted: converting the rest would be most of the work.
    """

    def __init__(
        self, sources: Sequence[str], variables: Mapping[str, Any], functions: Mapping[str, Any] = _NO_TIMELINE
    ) -> None:
        tree = reads(*sources)
        cut = {name: _cut(value, tree[name]) for name, value in variables.items() if name in tree}
        self._context = cel.Context(cut, dict(functions))

    def evaluate(self, source: str) -> Result:
        """The expression's value, or the reason why it has none."""
        try:
            return Result(_program(source).execute(self._context))
        except KeyError as exc:
            return Result(None, f"no such field: {exc.args[0]}")
        except Exception as exc:  # noqa: BLE001  the evaluator raises whatever fits: ZeroDivisionError, RuntimeError …
            return Result(None, str(exc).splitlines()[0].partition(". ")[0])

    def holds(self, source: str) -> Result:
        """Whether the expression is true; anything else than true or false is an error, and false."""
        if source == "true":
            return Result(value=True)
        value, error = self.evaluate(source)
        if not error and not isinstance(value, bool):
            error = f"gave {type(value).__name__}, not true or false"
        return Result(value is True, error)
