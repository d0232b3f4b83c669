"""Where a column's value comes from: `person.email` of an event, `properties.a.b`, or `feed.system`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from espial.events import Event


class Facts(NamedTuple):
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
    field_name: str = ""
    field_value: str = ""


Getter = Callable[[Event, Facts], Any]


def check(path: str) -> str:
    """The path, if it leads anywhere. Raises ValueError."""
    root, _, rest = path.partition(".")
    if (root == "feed" and rest in Facts._fields) or (root == "properties" and rest) or path in _LEAVES:
        return path
    raise ValueError(f"no field {path!r}: an event's field such as person.email, properties.<name>, or feed.<fact>")


def getter(path: str) -> Getter:
    """Reads the path; None, or an empty text, where it leads to nothing."""
    root, _, rest = path.partition(".")
    if root == "feed":
        number = Facts._fields.index(rest)
        return lambda _event, facts: facts[number]
    if root == "properties":
        return _of_properties(rest.split("."))
    return _of_parts(["class_" if name == "class" else name for name in path.split(".")])  # a word of Python's


def _of_properties(names: list[str]) -> Getter:
    first, *others = names
    if not others:
        return lambda event, _facts: event.properties.get(first)

    def get(event: Event, _facts: Facts) -> Any:
        value = event.properties.get(first)
        for name in others:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    return get


def _of_parts(names: list[str]) -> Getter:
    if len(names) == 1:
        (name,) = names
        return lambda event, _facts: getattr(event, name)
    first, *others = names

    def get(event: Event, _facts: Facts) -> Any:
        value = getattr(event, first)
        for name in others:
            if value is None:
                break
            value = getattr(value, name)
        return value

    return get


def _leaves(struct: type, prefix: str = "") -> Iterator[str]:
    """Every single value of a structure, by its path."""
    hints = get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        hint = hints[field.name]
        kinds = [kind for kind in (get_args(hint) if isinstance(hint, UnionType) else [hint]) if kind is not NoneType]
        if any(get_origin(kind) in (dict, tuple) for kind in kinds):
            continue
        parts = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
        if parts:
            yield from _leaves(parts[0], f"{prefix}{field.name}.")
        else:
            yield prefix + field.encode_name


_LEAVES = frozenset(_leaves(Event))
