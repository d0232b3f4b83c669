"""Where a column's value comes from: `person.email` of an event, `properties.a.b`, or `feed.system`.

Reading some thirty of them is what making a row costs, so all of a layout's are compiled into one function, as the
standard library does for the fields of a dataclass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from types import NoneType, UnionType
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from espial.events import Event


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What Espial adds to an event when it becomes a row; empty where it does not apply.

    system              the connection's name in the CDP (`sor_name`).
    origin              of a campaign event: `esp_send`, `onboarding` or `synthesised`.
    campaign_event_id   of the send; a response's is that of its send.
    response_event_id   the event's own id.
    disposition         the response's code.
    method, confidence  how a response was tied to its send.
    onboarded_contact   the contact id of an onboarding, where the sender's custom data carries it.
    campaign_code, creative   by the feed's `campaign_code_from`.
    machine             `Y` for an open or click by a machine.
    contact_level, contact_value, authorization   of an opt-in or opt-out.
    state               of an onboarded recipient: `sent` or `failed`.
    trigger             PureResponse's name for what an event is, else its type.
    delivery_status     of a delivery: `PROCESSING` when it begins, `COMPLETED` at its end.
    lists               the names of the lists that an event tells of, joined by commas.
    field_name, field_value   of one line of an extension or meta file.
    """

    system: str = ""
    origin: str = ""
    campaign_event_id: str = ""
    response_event_id: str = ""
    disposition: str = ""
    method: str = ""
    confidence: str = ""
    onboarded_contact: str = ""
    business_unit: str = ""
    campaign_code: str = ""
    creative: str = ""
    machine: str = ""
    contact_level: str = ""
    contact_value: str = ""
    authorization: str = ""
    state: str = ""
    trigger: str = ""
    delivery_status: str = ""
    lists: str = ""
    field_name: str = ""
    field_value: str = ""


class Reading(NamedTuple):
    """A column's text: the first of the paths that leads to one, else `default`, written by `as_type`.

    It is odd if it has more than `longest` characters, or is `needed` and empty.
    """

    paths: Iterable[str]
    default: str = ""
    as_type: Callable[[str], str] | None = None
    longest: int | None = None
    needed: bool = False


Readers = Callable[[Event, Facts], tuple[list[str], bool]]
"""The texts of several columns, "" for no value; and whether one of them is odd."""


def check(path: str) -> str:
    """The path, if it leads anywhere. Raises ValueError."""
    root, _, rest = path.partition(".")
    if (root == "feed" and rest in Facts.__struct_fields__) or (root == "properties" and rest) or path in _LEAVES:
        return path
    raise ValueError(f"no field {path!r}: an event's field such as person.email, properties.<name>, or feed.<fact>")


def is_instant(path: str) -> bool:
    """Whether the path's text is always that of an instant, or empty."""
    return _LEAVES.get(path) is datetime


def readers(columns: Iterable[Reading]) -> Readers:
    """One function for all of the columns."""
    names: dict[str, Any] = {"text": text, "instant": instant, "nothing": {}}
    names |= {f"no_{name}": kind() for name, kind in _EMPTY.items()}
    body = _Body()
    texts: list[str] = []
    odd: list[str] = []
    for number, column in enumerate(columns):
        found = " or ".join([*(body.text_of(check(path)) for path in column.paths), repr(column.default)])
        if column.as_type:
            names[f"as_type_{number}"] = column.as_type
            found = f"(as_type_{number}(typed) if (typed := {found}) else '')"
        texts.append(f"    text_{number} = {found}")
        odd += [f"len(text_{number}) > {column.longest}"] if column.longest else []
        odd += [f"not text_{number}"] if column.needed else []
    values = ", ".join(f"text_{number}" for number in range(len(texts)))
    last = f"    return [{values}], {' or '.join(odd) or False}"
    lines = ["def read(event, facts):", *body.lines, *texts, last]
    exec("\n".join(lines), names)  # noqa: S102  of checked paths only; a property's name stands in it as a literal
    read: Readers = names["read"]
    return read


class _Body:
    """The lines of a reader: each part of an event that several paths lead through is looked up once."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._known: dict[str, str] = {}

    def text_of(self, path: str) -> str:
        """Python for the text that a path leads to."""
        root, _, rest = path.partition(".")
        if root == "feed":
            return f"facts.{rest}"
        if root == "properties":
            return self._of_properties(path.split("."))
        *above, name = ["class_" if name == "class" else name for name in path.split(".")]
        owner = "event"
        for depth, part in enumerate(above):
            inner = "_".join(above[: depth + 1])
            owner = self._line(inner, f"{owner}.{part} or no_{inner}")
        kind = _LEAVES[path]
        if kind is datetime:
            return self._line(path, f"instant({owner}.{name})")
        return f"{owner}.{name}" if kind is str else f"text({owner}.{name})"

    def _of_properties(self, names: list[str]) -> str:
        owner = self._line("properties", "event.properties")
        for depth, name in enumerate(names[1:-1], 2):
            found = self._line(f"{names[:depth]}", f"{owner}.get({name!r})")
            owner = self._line(f"{names[:depth]} object", f"{found} if type({found}) is dict else nothing")
        return f"(text(found) if (found := {owner}.get({names[-1]!r})) is not None else '')"

    def _line(self, place: str, value: str) -> str:
        """The variable that holds what is there."""
        if place not in self._known:
            self._known[place] = f"part_{len(self._known)}"
            self.lines.append(f"    {self._known[place]} = {value}")
        return self._known[place]


def text(value: Any) -> str:
    """Any value of an event as text: lists, objects, numbers and truth as JSON has them; "" for None."""
    if type(value) is str:
        return value
    if value is None:
        return ""
    if isinstance(value, str):
        return str(value)
    return instant(value) if isinstance(value, datetime) else msgspec.json.encode(value).decode()


def instant(at: datetime) -> str:
    """`YYYY-MM-DD HH:MM:SS` in UTC."""
    return (at if at.tzinfo is UTC else at.astimezone(UTC)).isoformat(" ", "seconds")[:19]


def _leaves(struct: type, prefix: str = "") -> Iterator[tuple[str, type]]:
    """Every single value of a structure, by its path, with its kind; notes the structures on the way in `_EMPTY`."""
    hints = get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        hint = hints[field.name]
        kinds = [kind for kind in (get_args(hint) if isinstance(hint, UnionType) else [hint]) if kind is not NoneType]
        if any(get_origin(kind) in (dict, tuple) for kind in kinds):
            continue
        parts = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
        if parts:
            _EMPTY[f"{prefix}{field.name}".replace(".", "_")] = parts[0]
            yield from _leaves(parts[0], f"{prefix}{field.name}.")
        else:
            yield prefix + field.encode_name, kinds[0] if kinds[0] in (str, datetime) else object


_EMPTY: dict[str, type] = {}
_LEAVES = dict(_leaves(Event))
