"""Rows come together as files: by layout, system and day of correction, in an order that only their events decide."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from operator import itemgetter
from typing import NamedTuple

from msgspec.structs import replace

from espial.events import Event
from espial.feeds.definition import Column, FeedDefinition, LayoutDefinition, Record, extension_of
from espial.feeds.files import FeedFile
from espial.feeds.formats import encode
from espial.feeds.paths import Facts, Reading, readers
from espial.feeds.rows import RowMaker, Values

DATA, REJECTS, UNMATCHED = "data", "rejects", "unmatched"

_RANKS: tuple[Record, ...] = ("offer_history", "offer_history_meta", "campaign_event", "response_event")
"""Parents before children; whatever is neither comes in between."""

_REASONS = (Column(name="reject_code", required=True), Column(name="reject_text"))


_Row = tuple[str, datetime, tuple[str, ...]]
"""The event's id, which begins with its second and by which rows are sorted, and when it happened."""


_ID, _AT = itemgetter(0), itemgetter(1)


class _Group(NamedTuple):
    rank: int
    layout: str
    system: str
    kind: str
    day: str
    """That a correction file or an event log belongs to."""


class Assembly:
    """The rows of one batch. `open_day` is the first whose event log is not finished."""

    def __init__(
        self,
        feed: FeedDefinition,
        layouts: Mapping[str, LayoutDefinition],
        batch: int,
        closed_at: datetime,
        open_day: str = "",
    ) -> None:
        self._feed = feed
        self._batch = batch
        self._closed_at = closed_at
        self._open_day = open_day
        self._late_before = closed_at - feed.late_after
        chosen = [layouts[name] for name in feed.layouts]
        truncate = feed.over_length == "truncate"
        self._makers = {layout.of: RowMaker(layout, feed.profile, truncate=truncate) for layout in chosen}
        extended = [layout for layout in chosen if layout.of in ("campaign_event", "response_event")]
        self._extensions = (
            {layout.of: RowMaker(extension_of(layout), "", truncate=True) for layout in extended}
            if feed.extensions
            else {}
        )
        self._extra = readers(Reading((path,)) for path in feed.extension_fields)
        self._rows: defaultdict[tuple[str, str, str, str], list[_Row]] = defaultdict(list)

    @property
    def makers(self) -> Iterable[RowMaker]:
        """One a layout, with what each cut and left blank."""
        return self._makers.values()

    @property
    def is_log(self) -> bool:
        """Whether the feed has each event as it is; no other layout stands beside that."""
        return "event" in self._makers

    def add(self, record: Record, event: Event, facts: Facts) -> bool | None:
        """Make the event's row of this kind: False if it was refused, None if the feed has no such layout."""
        maker = self._makers.get(record)
        if maker is None:
            return None
        values, refusal = maker.row(event, facts)
        if refusal:
            self._refused(REJECTS, maker, event, facts, [*values, *refusal])
            return False
        self._put(maker, event, facts, values)
        if extension := self._extensions.get(record):
            for name, value in self._more(maker, event, facts):
                line = replace(facts, field_name=name, field_value=value)
                said, wrong = extension.row(event, line)
                if wrong:
                    self._refused(REJECTS, extension, event, line, [*said, *wrong])
                else:
                    self._put(extension, event, line, said)
        return True

    def unmatched(self, event: Event, facts: Facts, reason: str, text: str) -> None:
        """A response that has no send."""
        if maker := self._makers.get("response_event"):
            values, _ = maker.row(event, facts)
            self._refused(UNMATCHED, maker, event, facts, [*values, reason, text])

    def reject(self, record: Record, event: Event, facts: Facts, reason: str, text: str) -> None:
        """A row that is refused for what is not in it."""
        if maker := self._makers.get(record):
            values, _ = maker.row(event, facts)
            self._refused(REJECTS, maker, event, facts, [*values, reason, text])

    def _more(self, maker: RowMaker, event: Event, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from maker.left_out(event, facts)
        for path, value in zip(self._feed.extension_fields, self._extra(event, facts)[0], strict=True):
            if value:
                yield path, value

    def _put(self, maker: RowMaker, event: Event, facts: Facts, values: Values) -> None:
        at = event.occurred_at
        if maker.layout.of == "event":
            # A finished day's log may be gone already: what comes later is in the next one.
            day = min(max(_day(event.received_at), self._open_day), _day(self._closed_at))
        else:
            day = _day(at) if at < self._late_before else ""
        self._rows[maker.layout.name, facts.system, DATA, day].append((event.event_id, at, tuple(values)))

    def _refused(self, kind: str, maker: RowMaker, event: Event, facts: Facts, values: Values) -> None:
        self._rows[maker.layout.name, facts.system, kind, ""].append((event.event_id, event.occurred_at, tuple(values)))

    def files(self, series: dict[str, int]) -> Iterator[tuple[FeedFile, bytes]]:
        """The files in the order in which they may be delivered; counts `series` on."""
        makers = {maker.layout.name: maker for maker in (*self._makers.values(), *self._extensions.values())}
        groups = {_Group(_rank(makers[key[0]].layout), *key): rows for key, rows in self._rows.items()}
        size = self._feed.rotate.rows
        for group, rows in sorted(groups.items()):
            rows.sort(key=_ID)  # the lines of one event keep their order
            for start in range(0, len(rows), size):
                yield self._file(makers[group.layout], group, rows[start : start + size], series)

    def _file(self, maker: RowMaker, group: _Group, rows: list[_Row], series: dict[str, int]) -> tuple[FeedFile, bytes]:
        layout, is_data = maker.layout, group.kind == DATA
        columns = maker.columns if is_data else (*maker.columns, *_REASONS)
        form = self._feed.format if is_data else "csv"
        content = encode(columns, [values for _, _, values in rows], form, self._feed.delimiter)
        system = _slug(group.system)
        name = f"{layout.name}/{system}" + ("" if is_data else f"/{group.kind}")
        sequence = series[name] = series.get(name, 0) + 1
        day, at, is_log = group.day.replace("-", ""), f"{self._closed_at:%Y%m%d%H%M%S}", layout.of == "event"
        parts = [layout.name, system, *(["correction", day] * bool(day))]
        if is_log:
            parts, at = [system, "events"], day or at[:8]
        stem = "_".join([*parts, at, f"{sequence:04}"])
        file = FeedFile(
            feed=self._feed.name,
            batch=self._batch,
            name=f"{stem}.{form}" if is_data else f"{stem}.{group.kind}.csv",
            kind=group.kind,
            layout=layout.name,
            version=layout.version,
            profile=self._feed.profile,
            system=group.system,
            series=name,
            sequence=sequence,
            format=form,
            columns=tuple(column.name for column in columns),
            key=layout.key,
            rows=len(rows),
            size=len(content),
            sha256=sha256(content).hexdigest(),
            first=min(map(_AT, rows)),
            last=max(map(_AT, rows)),
            created_at=self._closed_at,
            corrects="" if is_log else group.day,
            day=group.day if is_log else "",
        )
        return file, content


def _rank(layout: LayoutDefinition) -> int:
    return _RANKS.index(layout.of) if layout.of in _RANKS else len(_RANKS) - 1


def _day(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d}"


def _slug(system: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", system.lower()).strip("_") or "_"
