"""Maps inside SOAP, in both forms that clients of PureResponse send and read.

*map* is Apache SOAP's: `item` elements, each with a `key` and a typed `value`. *literal* is PureResponse's own:
`pairs`, each with a `key` and a `value`, which holds a `str` or an `arr`. Elements are told by their local names.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from espial.errors import EspialError

Form = Literal["map", "literal"]
Value: TypeAlias = "str | int | Mapping[str, Value] | Sequence[Value] | None"
"""What is read is text, None, a dict or, where all keys are numbers, a list; numbers are written only."""

_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_PAIR: Mapping[str, Form] = {"item": "map", "pairs": "literal"}
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped."""


class BadField(EspialError):
    """What was asked is wrong: `problems` is field -> what is wrong with it."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {what}" for field, what in problems.items()))
        self.problems = problems


def local(element: Element) -> str:
    """The element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def child(element: Element, name: str) -> Element | None:
    """The first child of that local name."""
    return next((one for one in element if local(one) == name), None)


def form_of(element: Element) -> Form | None:
    """The form of the first pair below an element; None if there is none."""
    names = (local(one) for one in element.iter())
    return next((_PAIR[name] for name in names if name in _PAIR), None)


def read(element: Element | None) -> Value:
    """What an element says, whichever form it is in. Raises BadField for a key `…_base64` that is none."""
    if element is None or element.get(_NIL) in ("true", "1"):
        return None
    children = list(element)
    if len(children) == 1 and local(children[0]) in ("Struct", "arr"):  # some clients wrap pairs once more
        return read(children[0])
    if (text := child(element, "str")) is not None:
        return text.text or ""
    pairs = [one for one in children if local(one) in _PAIR]
    if pairs or children:
        return _listed(dict(_read(number, pair) for number, pair in enumerate(pairs)))
    return element.text or ""


def _read(number: int, pair: Element) -> tuple[str, Value]:
    """A pair's key and value; an `item` without a key is an array's, whose keys are numbers."""
    named = child(pair, "key")
    if named is None:
        return str(number), read(pair)
    key, value = str(read(named) or "").strip(), read(child(pair, "value"))
    if not key.endswith("_base64") or not isinstance(value, str):
        return key, value
    key = key.removesuffix("_base64")
    try:
        return key, b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        raise BadField({key: "is not base64 of UTF-8"}) from None


def _listed(pairs: dict[str, Value]) -> Value:
    if pairs and all(key.isascii() and key.isdigit() and len(key) < 10 for key in pairs):
        return [pairs[key] for key in sorted(pairs, key=int)]
    return pairs


def write(name: str, value: Value, form: Form) -> str:
    """An element that says it, in a namespace-aware place where `xsi`, `xsd`, `m` and `t` are declared."""
    return "".join(_as_map(name, value) if form == "map" else _as_array(name, value))


def _as_map(name: str, value: Value) -> Iterator[str]:
    match value:
        case None:
            yield f'<{name} xsi:nil="true"/>'
        case int():
            yield f'<{name} xsi:type="xsd:int">{value}</{name}>'
        case str():
            yield f'<{name} xsi:type="xsd:string">{text(value)}</{name}>'
        case _:
            yield f'<{name} xsi:type="m:Map">'
            for key, inner in _pairs(value):
                yield f'<item><key xsi:type="xsd:string">{text(key)}</key>'
                yield from _as_map("value", inner)
                yield "</item>"
            yield f"</{name}>"


def _as_array(name: str, value: Value) -> Iterator[str]:
    """The pairs of a map under `name`; what is none is an empty one."""
    yield f"<{name}>"
    for key, inner in _pairs(value) if isinstance(value, Mapping | list | tuple) else ():
        yield f"<t:pairs><t:key>{text(key)}</t:key><t:value>"
        if isinstance(inner, str | int):
            yield f"<t:str>{text(str(inner))}</t:str>"
        elif inner is not None:
            yield from _as_array("t:arr", inner)
        yield "</t:value></t:pairs>"
    yield f"</{name}>"


def _pairs(value: Mapping[str, Value] | Sequence[Value]) -> Iterator[tuple[str, Value]]:
    if isinstance(value, Mapping):
        yield from value.items()
    else:
        for number, inner in enumerate(value):
            yield str(number), inner


def text(said: str) -> str:
    """As XML holds it; what it cannot hold becomes U+FFFD."""
    return escape(_UNWRITABLE.sub("\ufffd", said), {"\r": "&#13;"})
