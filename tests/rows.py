"""Rows of sample files by the standard library (and pyarrow) alone: a reader that shares nothing with `espial.exports`.

Only the shape of what it yields is Espial's: see `espial.exports.Container` for kinds, columns and record names.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from espial import sources
from espial.deliveries import Arrival, Connection, Item
from espial.errors import MalformedItem
from espial.exports import folded
from espial.normalise import Recordable, normalise
from espial.sources import Export, Layout
from tests import samples


class Found(NamedTuple):
    """A row and what has to be known of its file."""

    kind: str
    data: Any
    record_name: str
    columns: Mapping[str, str]


def rows(path: Path, layout: Layout) -> Iterator[Found]:
    """Of a file, whatever holds it."""
    yield from _rows(path.read_bytes(), "", layout)


def _rows(content: bytes, name: str, layout: Layout) -> Iterator[Found]:
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                yield from _rows(archive.read(member), member, layout)
    elif content.startswith(b"\x1f\x8b"):
        yield from _rows(gzip.decompress(content), name, layout)
    elif content.startswith(b"PAR1"):
        import pyarrow.parquet

        for row in pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist():
            yield Found("parquet", _as_json(row), name, {})
    elif content.lstrip().startswith((b"{", b"[")):
        for line in content.splitlines():
            if line.strip():
                yield Found("ndjson", json.loads(line), name, {})
    else:
        yield from _csv(content, name, layout)


def _as_json(value: Any) -> Any:
    """Typed values as `espial.exports.parquet` has them: instants as text, maps as objects."""
    if isinstance(value, dict):
        return {name: _as_json(one) for name, one in value.items()}
    if isinstance(value, list):
        pairs = bool(value) and all(isinstance(one, tuple) for one in value)
        return {name: _as_json(one) for name, one in value} if pairs else [_as_json(one) for one in value]
    return value.isoformat() if isinstance(value, datetime) else value


def _csv(content: bytes, name: str, layout: Layout) -> Iterator[Found]:
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else layout.encoding or "utf-8-sig"
    text = io.StringIO(content.decode(encoding), newline="")
    delimiter = layout.delimiter or max(",;\t|", key=text.getvalue().partition("\n")[0].count)
    quoting: Any = csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE
    reader = csv.reader(text, delimiter=delimiter, quoting=quoting)
    names = list(layout.columns) or next(reader)
    for record in reader:
        if record:
            yield Found(
                "csv",
                dict(zip(map(folded, names), record, strict=False)),
                name,
                dict(zip(map(folded, names), names, strict=True)),
            )


def connection(platform: str, settings: Mapping[str, Any]) -> Connection:
    """The sample connection with settings of its own."""
    name = f"{platform}-sample"
    return Connection(name=name, platform=platform, account=name, settings=settings)


Reader = Callable[[Path, Layout], Iterable[Found]]


def items(path: Path, settings: Mapping[str, Any] | None = None, read: Reader = rows) -> list[Item]:
    """What the platform makes of a sample's rows, without its bad ones; nothing of a file that it leaves alone."""
    settings, key = settings or {}, samples.export_key(path)
    source = sources.of(connection(path.relative_to(samples.EVENTS / "exports").parts[0], settings))
    layout = source.layout(key, settings)
    found: list[Item] = []
    for row in () if layout.skip else read(path, layout):
        export = Export(
            bucket="exports", key=key, etag="e", record_name=row.record_name, columns=row.columns, settings=settings
        )
        try:
            given = source.exports[row.kind](row.data, export)
        except MalformedItem:
            continue
        found += given if isinstance(given, list) else [given] if given else []
    return found


def events(path: Path, settings: Mapping[str, Any] | None = None, read: Reader = rows) -> list[Recordable]:
    """The events in a sample, without its bad rows."""
    platform = path.relative_to(samples.EVENTS / "exports").parts[0]
    its = connection(platform, settings or {})
    case = samples.cases(platform)[0]
    arrival = Arrival(connection=its, transport="export", received_at=case.received_at)
    found = []
    for item in items(path, settings, read):
        try:
            found.append(normalise(sources.of(its), item, arrival))
        except MalformedItem:
            continue
    return found
