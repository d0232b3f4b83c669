"""Sources: one file per platform, each exporting `SOURCE`, a value made of data and pure functions.

Adding a platform adds `sources/<platform>.py` and its samples under `events/`; nothing else.
The functions take everything they need as arguments, raise only what `espial.errors` lists for them, and
never import an AWS SDK. The acknowledging path imports a source for `verify` and `handshake` alone, so a
source module imports nothing heavy at its top.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from typing import Any

from espial.deliveries import Arrival, Connection, Item, RawDelivery, Reply
from espial.errors import UnknownConnection
from espial.verify import Scheme
from espial.vocabulary import EventType

NAMES = tuple(
    sorted(
        name.removesuffix(".py")
        for name in os.listdir(__path__[0])  # noqa: PTH208 - the receivers import this, and have not loaded pathlib
        if name.endswith(".py") and not name.startswith("_")
    )
)
"""Every platform: the modules here that begin with no underscore; also the segment of its webhook URL
and of its export prefix."""

EventFields = dict[str, Any]
"""What `normalise` returns: the canonical fields it knows (`espial.events.Event`), nested as plain dicts.

Never event_id, platform, connection, received_at, mode or raw: those are the core's to fill in.
`topic`, optional, is what of a channel a subscription or its end is about (a list, a group), as the platform says; it
becomes `properties.topic`. Without it that is the whole channel: what the sender's metadata calls a topic is none.
`identified_at`, optional, is the instant that goes into the event id where `occurred_at` is computed from
something that a retry changes (a clock correction); it is not kept. Without it an event that is `time_uncertain`, dated
by its receipt, is identified by the day of that: a retry after midnight UTC would be recorded again.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Docs:
    """What the platform's generated page says.

    setup      the steps in the vendor's console, in order.
    secret     what it is and in which form it is stored.
    settings   those that its connection must have, as an example.
    keyless    whether it does without a secret.
    answers    what makes the platform deliver again, stop or switch the webhook off, and how long it waits.
    notes      what a user must know of its events, one sentence each; what is not confirmed says so.
    """

    title: str
    url: str
    setup: tuple[str, ...] = ()
    secret: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    keyless: bool = False
    answers: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A platform: how to prove, split, read and identify what it reports.

    name          equals the module name.
    verify        a scheme of `espial.verify`: called with (delivery, secrets, now, settings=...) it returns None or
                  raises SignatureError, whatever the bytes; it also signs as the platform does.
    split         the delivery's exact bytes -> items, cheap and total: one item an event (a report about several
                  recipients is several), none for pings; raises MalformedDelivery if the envelope is unreadable.
    event_types   the platform's vocabulary -> ours; docs, matrix and tests read it. Unlisted becomes `unknown`.
    normalise     (item, arrival) -> canonical fields; raises MalformedItem(reason, path=...) if it must.
    identity      item -> the parts that make two reports the same event, whatever the transport or retry.
    person_order  the person fields, in order, that every transport's report of an event carries, for messages and
                  for behaviour: the event is stored under the first one present.
    send_key      item -> what ties a response to its send, or None; equal for both.
    exports       row kind -> function (row, export) -> item, list of items, or None for a row that is no report:
                  bucket rows become the webhook's item shape, so that there is one normaliser. The key is the row
                  kind of `espial.exports`: `avro`, `csv`, `ndjson` or `parquet`.
    layout        (key, the connection's settings) -> what cannot be seen from a file itself, see `Layout`. Asked
                  for each member of an archive too, with the key `<archive>/<member>`.
    handshake     the platform's probe (HEAD, GET challenge …) -> a reply, or None if this is not one. Asked before
                  anything is proven: it may repeat what the probe says, and keep or promise nothing.
    methods       how the platform posts, when not by POST alone. What a GET reports stands in `RawDelivery.url`.
    confirm       a proven delivery and the connection's settings -> the address that has to be fetched to complete
                  a subscription, checked to be the vendor's own; None for all others. It is not recorded then.
    unsent        channels of whose messages it reports responses, but not that they were sent.
    accepted      a proven delivery that is durable now -> the answer, where the platform expects a certain one.
    unproven      the status that a delivery without proof is answered with: not 401 where that loses events.
    busy          the status for "later": not 503 where that loses events.
    configured    the connection's settings -> the source to use instead, for platforms whose shape is the user's
                  own; raises ValueError for settings that do not do.
    """

    name: str
    verify: Scheme
    split: Callable[[RawDelivery], list[Item]]
    event_types: Mapping[str, EventType]
    normalise: Callable[[Item, Arrival], EventFields]
    identity: Callable[[Item], Iterable[str]]
    docs: Docs
    person_order: Callable[[Item], tuple[str, ...]]
    send_key: Callable[[Item], str | None] = lambda _item: None
    exports: Mapping[str, Callable[[Mapping[str, Any], Export], Item | list[Item] | None]] = field(default_factory=dict)
    layout: Callable[[str, Mapping[str, Any]], Layout] = lambda _key, _settings: Layout()
    handshake: Callable[[RawDelivery, Sequence[bytes]], Reply | None] | None = None
    methods: frozenset[str] = frozenset({"POST"})
    confirm: Callable[[RawDelivery, Mapping[str, Any]], str | None] | None = None
    accepted: Callable[[RawDelivery], Reply] | None = None
    unsent: frozenset[str] = frozenset()
    unproven: int = 401
    busy: int = 503
    configured: Callable[[Mapping[str, Any]], Source] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What has to be known of a file and does not show; everything left out is recognised by its content.

    skip       the file holds no reports (a manifest, a name list) and is left alone.
    encoding   of text, as Python names it; default: by byte order mark, else UTF-8.
    delimiter  of delimited text, one character; default: the one of `,` `;` tab `|` that fits its first lines.
    columns    names for a file without a header line.
    quoted     False: a quotation mark is a character like any other.
    members    of an archive: a member's name -> what has to be known of that; default: what is known of the archive.
    """

    skip: bool = False
    encoding: str = ""
    delimiter: str = ""
    columns: tuple[str, ...] = ()
    quoted: bool = True
    members: Callable[[str], Layout] | None = None


def layout_of(source: Source, key: str, settings: Mapping[str, Any]) -> Layout:
    """What the platform knows of a file and, if it is an archive, of its members: these as files in a folder."""
    return replace(source.layout(key, settings), members=lambda name: source.layout(f"{key}/{name}", settings))


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """The file a row comes from: its key in the bucket and what its container says of itself.

    record_name   an Avro record's name, or the name of the member of an archive; else "".
    columns       of delimited text: column name as rows have it (`folded`) -> as the file has it.
    settings      the connection's.
    """

    bucket: str
    key: str
    etag: str
    record_name: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@cache
def load(name: str) -> Source:
    """The platform's source, imported on first use. Raises UnknownConnection for a name not in NAMES."""
    if name not in NAMES:
        raise UnknownConnection(f"no platform named {name!r}")
    source: Source = import_module(f"espial.sources.{name}").SOURCE
    return source


def of(connection: Connection) -> Source:
    """The source of a connection's platform, as its settings shape it. Raises UnknownConnection as `load` does."""
    source = load(connection.platform)
    return source.configured(connection.settings) if source.configured else source
