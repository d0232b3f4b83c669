"""What each platform posts, in bulk: deliveries made of its samples (`events/`), for the benchmarks.

Of the samples that report one and the same type of event the largest counts: it has the fields that the platform
documents, while others are cut down to what they are samples of. So every type is measured as often as any other.
Every copy of a sample is about another person and message: what names them is replaced by something alike wherever it
stands in the body. Where a platform posts arrays, as most of its samples are, a delivery holds up to `BATCH` of their
elements, else it is one sample.
"""

from __future__ import annotations

import random
import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from email import message_from_bytes
from functools import partial
from itertools import cycle, islice
from string import ascii_lowercase
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, quote_plus, urlsplit
from xml.etree import ElementTree as ET

import orjson
from msgspec.structs import astuple

from espial.deliveries import Arrival, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem
from espial.normalise import Recordable, normalise
from espial.sources import Source
from tests.samples import Case, cases

EVENTS = 400
BATCH = 100
T = TypeVar("T")
_CHARACTERS = {"123456789": r"[1-9]", "abcdef": r"[a-f]", "ABCDEF": r"[A-F]"}
_NAMES = re.compile(r"@|\d.{4}|.{4}\d")  # of a person, message or event: an address, or a digit and four more
_TIME = re.compile(r"\d{10}|\d{13}|\d{10}\.\d+|20\d\d-.*")


class Posted(NamedTuple):
    """A delivery, who reads it, how it arrives, and how many events it reports."""

    source: Source
    delivery: RawDelivery
    arrival: Arrival
    events: int


def posted(
    platform: str, events: int = EVENTS, *, fit: Callable[[RawDelivery], bool] = bool, batch: int = BATCH
) -> list[Posted]:
    """Deliveries with that many events of a platform, or a few more; none if it has no good sample that is `fit`.

    `batch` is how many elements an array holds, where the platform posts arrays.
    """
    chance = random.Random(platform)
    good = good_cases(platform)
    arrays = [(case, key) for case in good if (key := array_key(case)) is not None]
    alone = [case for case in good if fit(case.delivery)]
    found: list[Posted] = []
    in_arrays = 2 * len(arrays) > len(good)
    for one in _of_arrays(arrays, fit, batch, chance) if in_arrays else _one_by_one(_fullest_cases(alone), chance):
        if events <= 0:
            break
        found.append(one)
        events -= one.events
    return found


def good_cases(platform: str) -> list[Case]:
    """The samples that report something, none of it unreadable: what is unreadable is cheap, and rare."""
    return [case for case in cases(platform) if recordables(case.source, case.delivery, case.arrival)]


def recordables(source: Source, delivery: RawDelivery, arrival: Arrival) -> list[Recordable]:
    """What a delivery reports; nothing if any of it is unreadable."""
    try:
        return [normalise(source, item, arrival, "raw/1#0") for item in source.split(delivery)]
    except (MalformedDelivery, MalformedItem):
        return []


def _fullest_cases(good: list[Case]) -> list[Case]:
    """By bytes an event."""
    found = ((case, recordables(case.source, case.delivery, case.arrival)) for case in good)
    return _fullest((case, events, len(case.body) / len(events)) for case, events in found)


def _fullest(samples: Iterable[tuple[T, list[Recordable], float]]) -> list[T]:
    """The largest of those that report the same types of event, in the order of the samples."""
    found: dict[frozenset[str], tuple[float, T]] = {}
    for sample, events, size in samples:
        types = frozenset(one.event.platform_type for one in events)
        if types not in found or found[types][0] < size:
            found[types] = (size, sample)
    return [sample for _, sample in found.values()]


def _one_by_one(good: list[Case], chance: random.Random) -> Iterator[Posted]:
    for case in cycle(good):
        yield _posted(case, _other(case, case.delivery, chance))


def _posted(case: Case, body: bytes) -> Posted:
    delivery = replace(case.delivery, body=body)
    return Posted(case.source, delivery, case.arrival, len(recordables(case.source, delivery, case.arrival)))


def _of_arrays(
    arrays: list[tuple[Case, str]], fit: Callable[[RawDelivery], bool], batch: int, chance: random.Random
) -> Iterator[Posted]:
    """Arrays of the elements of all arrays, in the envelope of the first."""
    first, key = arrays[0]
    document = orjson.loads(first.body)

    def body(rows: list[Any]) -> bytes:
        return orjson.dumps({**document, key: rows} if key else rows)

    alike = [(case, key) for case, key in arrays if case.connection == first.connection]
    rows = [row for case, key in alike for row in _rows(case.body, key)]
    lone = [(row, replace(first.delivery, body=body([row]))) for row in rows]
    read = [(row, recordables(first.source, one, first.arrival)) for row, one in lone if fit(one)]
    rows = _fullest((row, events, len(orjson.dumps(row))) for row, events in read if events)
    endless = cycle(rows)
    while rows:
        ones = (replace(first.delivery, body=body([row])) for row in islice(endless, batch))
        yield _posted(first, body([row for one in ones for row in _rows(_other(first, one, chance), key)]))


def array_key(case: Case) -> str | None:
    """Where the body's array of reports is: under a key, or "" if it is the body; None if there is none.

    Twice the array must make twice the items.
    """
    try:
        document = orjson.loads(case.body)
    except orjson.JSONDecodeError:
        return None
    tries: dict[str, Any] = {}
    if isinstance(document, list):
        tries = {"": document * 2}
    elif isinstance(document, dict):
        tries = {key: {**document, key: rows * 2} for key, rows in document.items() if isinstance(rows, list) and rows}
    once = len(case.items)
    for key, doubled in tries.items():
        delivery = replace(case.delivery, body=orjson.dumps(doubled))
        if 2 * once == len(recordables(case.source, delivery, case.arrival)):
            return key
    return None


def _rows(body: bytes, key: str) -> list[Any]:
    document = orjson.loads(body)
    rows: list[Any] = document[key] if key else document
    return rows


def _other(case: Case, delivery: RawDelivery, chance: random.Random) -> bytes:
    """A body alike, as compact as platforms write it, about another person and message."""
    source, arrival = case.source, case.arrival
    found = recordables(source, delivery, arrival)
    names = {part for item in source.split(delivery) for part in source.identity(item)}
    for event in (one.event for one in found):
        names |= {event.message_id or "", *(value or "" for value in astuple(event.person))}
    names -= {one.event.platform_type for one in found}
    others = {name: _alike(name, chance) for name in names if _NAMES.search(name) and not _TIME.fullmatch(name)}
    others |= {quote_plus(name): quote_plus(other) for name, other in others.items()}
    try:
        text = orjson.dumps(orjson.loads(delivery.body)).decode()
    except orjson.JSONDecodeError:
        text = delivery.body.decode()
    if others:
        either = "|".join(map(re.escape, sorted(others, key=len, reverse=True)))
        lowered = {name.lower(): other for name, other in others.items()}
        text = re.sub(rf"(?<!\w)(?:{either})(?!\w)", lambda hit: lowered[hit[0].lower()], text, flags=re.IGNORECASE)
    body = text.encode()
    again = recordables(source, replace(delivery, body=body), arrival)
    return body if len(found) == len(again) else delivery.body


def _alike(name: str, chance: random.Random) -> str:
    """Other digits for its digits, other hexadecimal letters for such; of an address, other letters before the @."""
    if "@" in name:
        local, at, domain = name.partition("@")
        return re.sub(r"[a-z]", partial(_one_of, ascii_lowercase, chance), local) + at + domain
    for characters, pattern in _CHARACTERS.items():
        name = re.sub(pattern, partial(_one_of, characters, chance), name)
    return name


def _one_of(characters: str, chance: random.Random, _hit: re.Match[str]) -> str:
    return chance.choice(characters)


class Floor(NamedTuple):
    """The least that reading deliveries takes: each parser called with each text, and the formats' name."""

    name: str
    calls: list[tuple[Callable[[Any], object], Any]]

    def run(self) -> None:
        for parse, text in self.calls:
            parse(text)


def floor(deliveries: list[RawDelivery]) -> Floor:
    """`orjson.loads` for JSON, in fields and records as well; for other bodies the standard library's parsers."""
    names: dict[str, None] = {}
    calls: list[tuple[Callable[[Any], object], Any]] = []
    for delivery in deliveries:
        name, parse, texts = _format(delivery)
        names[name] = None
        calls += [(parse, text) for text in texts]
        documents = [parse(text) for text in texts]
        inner: list[tuple[Callable[[Any], object], Any]]
        inner = [(orjson.loads, one) for document in documents for one in _json_texts(document)]
        inner += [(_record, one) for document in documents for one in _records(document)]
        names |= dict.fromkeys(["json"] if inner else [])
        calls += inner
    return Floor("+".join(names), calls)


def _form(text: bytes) -> list[tuple[bytes, bytes]] | list[tuple[str, str]]:
    return parse_qsl(text.decode(), keep_blank_values=True)


def _format(delivery: RawDelivery) -> tuple[str, Callable[[Any], object], list[Any]]:
    body = delivery.body
    if not body:
        return "query", _form, [urlsplit(delivery.url).query.encode()]
    if body.startswith(b"<"):
        return "xml", ET.fromstring, [body]
    if body.startswith(b"--"):
        kind = delivery.headers.get("content-type", "").encode()
        return "multipart", message_from_bytes, [b"Content-Type: " + kind + b"\r\n\r\n" + body]
    for name, texts in (("json", [body]), ("ndjson", body.splitlines())):
        try:
            for text in texts:
                orjson.loads(text)
        except orjson.JSONDecodeError:
            continue
        return name, orjson.loads, texts
    return "form", _form, [body]


def _records(document: object) -> list[str]:
    """The records of a Firehose delivery, base64 of lines of JSON."""
    records = document.get("records") if isinstance(document, dict) else None
    return [one["data"] for one in records] if isinstance(records, list) else []


def _record(data: str) -> list[Any]:
    return [orjson.loads(line) for line in b64decode(data).splitlines()]


def _json_texts(document: object) -> list[str]:
    """The values at the top of a document that are JSON objects or arrays themselves, as text."""
    if isinstance(document, dict):
        values = list(document.values())
    else:
        values = [pair[1] for pair in document if isinstance(pair, tuple)] if isinstance(document, list) else []
    found = []
    for value in values:
        if isinstance(value, str) and value[:1] in {"{", "["}:
            try:
                orjson.loads(value)
            except orjson.JSONDecodeError:
                continue
            found.append(value)
    return found
