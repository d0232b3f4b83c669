"""Whether a feed's files are as their manifests say, whole, without gaps and with every parent: before a CDP looks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, cast

import msgspec

from espial.feeds.definition import Column, LayoutDefinition, extension_of
from espial.feeds.files import MANIFEST, FeedFile
from espial.feeds.formats import Format, decode

DELIMITERS = (",", "|", "\t", ";")
SYSTEM, PARENT = "sor_name", "client_campaign_event_id"
_RANKS = {"campaign_event": 0, "response_event": 2}

FED_ONCE = ("campaign_event", "response_event")
"""A row of these is an event, which is fed once. Others are states, which may come again with their key."""

Layouts = Mapping[str, LayoutDefinition]


class Finding(NamedTuple):
    """What is wrong with a file or a series: a snake_case code, whose, and what exactly."""

    code: str
    about: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.code}: {self.about}" + (f": {self.detail}" if self.detail else "")


class Present(NamedTuple):
    """A file by its manifest, and how to read it. `content` raises KeyError where it is missing."""

    file: FeedFile
    content: Callable[[], bytes]


@dataclass(slots=True)
class Folder:
    """What lies in a folder: files with a manifest, in the order to load them, and what is wrong already."""

    present: list[Present] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def folder(root: Path, layouts: Layouts) -> Folder:
    """Read a folder and those in it. Hidden files are somebody's work in progress. Raises NotADirectoryError."""
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is no folder")
    found = Folder()
    paths = sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
    named = {path for path in paths if path.name.endswith(MANIFEST)}
    for path in named:
        try:
            file = msgspec.json.decode(path.read_bytes(), type=FeedFile)
        except msgspec.DecodeError as exc:
            found.findings.append(Finding("bad_manifest", path.name, str(exc)))
            continue
        if path.name != file.name + MANIFEST:
            found.findings.append(Finding("bad_manifest", path.name, f"it is that of {file.name}"))
            continue
        found.present.append(Present(file, _reader(path.with_name(file.name))))
    loose = [path for path in paths if path not in named and path.with_name(path.name + MANIFEST) not in named]
    found.findings += [Finding("no_manifest", path.name, "not finished, or not of a feed") for path in loose]
    found.present.sort(key=lambda one: order(one.file, layouts))
    return found


def order(file: FeedFile, layouts: Layouts) -> tuple[object, ...]:
    """Sorts files as they were committed, parents before their children."""
    layout = layouts.get(file.layout)
    return (
        file.created_at,
        file.feed,
        file.batch,
        _RANKS.get(layout.of if layout else "", 1),
        file.series,
        file.sequence,
    )


def check(present: Iterable[Present], layouts: Layouts, *, parents: bool = True) -> Iterator[Finding]:
    """Everything that is wrong with files that are loaded in this order.

    `parents`: also responses whose campaign event is in none of the files before theirs.
    """
    known, files = _Known(), []
    for file, content in present:
        files.append(file)
        try:
            rows = list(rows_of(file, content(), layouts))
        except BadFile as exc:
            yield exc.finding
            continue
        except KeyError:
            yield Finding("missing", file.name, "there is a manifest, and no file")
            continue
        kind = record_of(file, layouts)
        if kind in FED_ONCE:
            yield from known.doubled(file, rows)
        if kind == "campaign_event":
            known.take_parents(file, rows)
        elif kind == "response_event" and parents:
            yield from known.orphans(file, rows)
    yield from gaps(files)


class _Known:
    """The campaign events and responses of the files so far. Ids are those of a system."""

    def __init__(self) -> None:
        self._keys: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._parents: defaultdict[str, set[str]] = defaultdict(set)

    def doubled(self, file: FeedFile, rows: Iterable[Sequence[str]]) -> Iterator[Finding]:
        """Rows whose key a file of this feed and layout had before."""
        seen, again = self._keys[file.feed, file.layout], []
        for key in map("\x1f".join, _cells(file, (SYSTEM, *file.key), rows)):
            if key in seen:
                again.append(key)
            seen.add(key)
        if again:
            example = again[0].replace("\x1f", " ").strip()
            yield Finding("doubled", file.name, f"{len(again)} rows that came before, such as {example}")

    def take_parents(self, file: FeedFile, rows: Iterable[Sequence[str]]) -> None:
        """What later responses may belong to."""
        for system, parent in _cells(file, (SYSTEM, PARENT), rows):
            self._parents[system].add(parent)

    def orphans(self, file: FeedFile, rows: Iterable[Sequence[str]]) -> Iterator[Finding]:
        """Responses without campaign event before them."""
        if PARENT not in file.columns:
            return
        alone = [parent for system, parent in _cells(file, (SYSTEM, PARENT), rows) if not self._has(system, parent)]
        if alone:
            told = f"{len(alone)} responses without their campaign event before them, such as {alone[0]}"
            yield Finding("orphans", file.name, told)

    def _has(self, system: str, parent: str) -> bool:
        """A layout of one's own may not say of which system its rows are: then any will do."""
        systems = (system, "") if system else self._parents
        return any(parent in self._parents[one] for one in systems)


def _cells(file: FeedFile, columns: Iterable[str], rows: Iterable[Sequence[str]]) -> Iterator[list[str]]:
    """Some columns of each row; empty where the file lacks one."""
    places = [file.columns.index(column) if column in file.columns else None for column in columns]
    for row in rows:
        yield ["" if place is None else row[place] for place in places]


def gaps(files: Iterable[FeedFile]) -> Iterator[Finding]:
    """Numbers that are missing from a series between its first and last, or that two files bear."""
    by_series: defaultdict[tuple[str, str], defaultdict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for file in files:
        for number in file.pieces or (file.sequence,):
            by_series[file.feed, file.series][number].add(file.name)
    for (feed, series), numbers in sorted(by_series.items()):
        for start, end in _missing(sorted(numbers)):
            which = f"number {start}" if start == end else f"numbers {start} to {end}"
            yield Finding("gap", f"{feed} {series}", f"{which} missing")
        for number, names in sorted(numbers.items()):
            if len(names) > 1:
                yield Finding("twice", f"{feed} {series}", f"number {number}: {', '.join(sorted(names))}")


class BadFile(Exception):
    """A file that cannot be taken; `finding` says why."""

    def __init__(self, code: str, file: FeedFile, detail: str) -> None:
        self.finding = Finding(code, file.name, detail)
        super().__init__(str(self.finding))


def rows_of(file: FeedFile, content: bytes, layouts: Layouts) -> Iterator[list[str]]:
    """The rows of a file that is as its manifest says; raises BadFile at the first thing that is not."""
    if len(content) != file.size or sha256(content).hexdigest() != file.sha256:
        raise BadFile("damaged", file, f"{len(content)} bytes with another hash than its manifest's, of {file.size}")
    columns = columns_of(file, layouts)
    if columns is None:
        raise BadFile("unknown_layout", file, file.layout)
    form, count = cast("Format", file.format), 0
    try:
        for row in decode(columns, content, form, _delimiter(file, content)):
            count += 1
            yield row
    except ValueError as exc:
        raise BadFile("unreadable", file, str(exc)) from exc
    if count != file.rows:
        raise BadFile("wrong_count", file, f"{count} rows, {file.rows} by its manifest")


def columns_of(file: FeedFile, layouts: Layouts) -> list[Column] | None:
    """A file's columns with their types; None for a layout that is not known. What was refused is text throughout."""
    layout = layout_of(file, layouts)
    if layout is None:
        return None
    known = {column.name: column for column in layout.columns} if file.kind == "data" else {}
    return [known.get(name) or Column(name=name) for name in file.columns]


def layout_of(file: FeedFile, layouts: Layouts) -> LayoutDefinition | None:
    """The layout of a file, also of an extension file."""
    base = layouts.get(file.layout.removesuffix("_ext"))
    return layouts.get(file.layout) or (extension_of(base) if base else None)


def record_of(file: FeedFile, layouts: Layouts) -> str:
    """What a file's rows are about; nothing for rows that were refused."""
    layout = layout_of(file, layouts)
    return layout.of if layout and file.kind == "data" else ""


def _delimiter(file: FeedFile, content: bytes) -> str:
    """The one that the header has between the names of the columns, which need no quotes."""
    header = content.partition(b"\n")[0]
    return next((one for one in DELIMITERS if one.join(file.columns).encode() == header), ",")


def _reader(path: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError as exc:
            raise KeyError(path.name) from exc

    return read


def _missing(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    for before, after in pairwise(numbers):
        if after > before + 1:
            yield before + 1, after - 1
