"""What a CDP makes of a feed's files, in SQLite: tables by layout, loaded by upsert, and what follows from them.

Loading is idempotent: a file that was loaded is known by its hash, and a row by its key.

    campaign_event, response_event, …     the rows of each kind of layout; `<kind>_ext` those of its extension files
    event_disposition_lookup              the disposition codes that are known
    loaded_file                           every file that was loaded

`_file` of a row is the file that it came with first, as loaded_file's rowid. Every table has the columns of the layout
that ships, empty where a layout of one's own lacks them.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from espial.feeds.checking import (
    FED_ONCE,
    BadFile,
    Finding,
    Layouts,
    Present,
    columns_of,
    folder,
    gaps,
    layout_of,
    rows_of,
)
from espial.feeds.definition import Column, LayoutDefinition, built_in
from espial.feeds.dispositions import DISPOSITIONS
from espial.feeds.files import FeedFile

SENT, OPENED, CLICKED = "sent", "opened", "click_through"

_TYPES = {"integer": "INTEGER", "number": "REAL"}
_SENT_AND_SAID = """
FROM campaign_event AS sent LEFT JOIN (
    SELECT client_campaign_event_id AS id, sor_name AS system, event_disposition_code AS code,
        response_event_datetime AS at
    FROM response_event
) ON id = sent.client_campaign_event_id AND coalesce(system = sent.sor_name, 1)
"""
"""A layout of one's own may not say of which system its rows are: then any will do."""

_CAMPAIGNS = f"""
SELECT sent.campaign_code,
    max(sent.campaign_name),
    count(DISTINCT sent.rowid),
    count(DISTINCT CASE code WHEN 'delivered' THEN sent.rowid END),
    count(DISTINCT CASE code WHEN 'opened' THEN sent.rowid END),
    count(CASE code WHEN 'opened' THEN id END),
    count(DISTINCT CASE code WHEN 'click_through' THEN sent.rowid END),
    count(CASE code WHEN 'click_through' THEN id END),
    count(DISTINCT CASE WHEN code IN ('hard_bounce', 'soft_bounce') THEN sent.rowid END),
    count(DISTINCT CASE code WHEN 'unsubscribed' THEN sent.rowid END)
{_SENT_AND_SAID}
GROUP BY sent.campaign_code ORDER BY sent.campaign_code
"""
_PEOPLE = f"""
SELECT coalesce(sent.client_contact_id, sent.email_address, sent.phone_number) AS person,
    max(sent.campaign_event_datetime),
    max(CASE code WHEN 'opened' THEN at END),
    max(CASE code WHEN 'click_through' THEN at END)
{_SENT_AND_SAID}
WHERE person IS NOT NULL
GROUP BY person ORDER BY max(sent.campaign_event_datetime) DESC, person
"""
_ORPHANS = """
SELECT said.client_campaign_event_id FROM response_event AS said LEFT JOIN campaign_event AS sent
    ON sent.client_campaign_event_id = said.client_campaign_event_id
    AND coalesce(sent.sor_name = said.sor_name, 1)
    AND (coalesce(sent._file, 0) <= said._file OR coalesce(said._file, 0) <= ?)
WHERE sent.rowid IS NULL AND said.client_campaign_event_id IS NOT NULL
ORDER BY 1
"""
"""Responses that have no campaign event or, of the files behind the one that is given, came before theirs."""


class Campaign(NamedTuple):
    """What became of one campaign. Opens and clicks are counted once a message (`…_unique`) and all of them."""

    code: str
    name: str
    sends: int
    delivered: int
    opens_unique: int
    opens: int
    clicks_unique: int
    clicks: int
    bounces: int
    unsubscribes: int


class Person(NamedTuple):
    """When somebody was last sent something, and last opened and clicked it; UTC, "" for never."""

    person: str
    last_sent: str
    last_open: str
    last_click: str


@dataclass(slots=True)
class Loaded:
    """What one loading did: files and rows by kind, and all that is wrong."""

    files: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    corrections: int = 0
    findings: list[Finding] = field(default_factory=list)


class Cdp:
    """A CDP's database. `codes` are disposition codes that are known besides our own."""

    def __init__(self, database: str, layouts: Layouts, codes: Iterable[str] = ()) -> None:
        self._db = sqlite3.connect(database)
        self._layouts = layouts
        with self._db:
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS loaded_file"
                " (feed TEXT, name TEXT, sha256 TEXT, manifest TEXT, PRIMARY KEY (feed, name)) STRICT"
            )
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS event_disposition_lookup"
                " (event_disposition_code TEXT PRIMARY KEY, event_disposition_desc TEXT) STRICT"
            )
            known = {code: code.replace("_", " ") for code in (*DISPOSITIONS.values(), *codes)}
            self._db.executemany("INSERT OR IGNORE INTO event_disposition_lookup VALUES (?, ?)", known.items())

    def close(self) -> None:
        """What was loaded stays."""
        self._db.close()

    def load(self, root: Path) -> Loaded:
        """Take the finished files of a folder, in the order of their manifests. Raises NotADirectoryError."""
        done = Loaded()
        found = folder(root, self._layouts)
        done.findings += found.findings
        (last,) = self._all("SELECT coalesce(max(rowid), 0) FROM loaded_file")[0]
        for present in found.present:
            self._take(present, done)
        with self._db:
            for layout in (*self._layouts.values(), *built_in().values()):
                self._make_table(layout.of, layout.columns, _key(layout))
        files = {(one.file.feed, one.file.name): one.file for one in found.present}
        for (manifest,) in self._all("SELECT manifest FROM loaded_file"):
            file = msgspec.json.decode(manifest, type=FeedFile)
            files[file.feed, file.name] = file
        done.findings += [*gaps(files.values()), *self._unknown_codes(), *self._orphans(last)]
        return done

    def campaigns(self) -> list[Campaign]:
        """By code."""
        return [Campaign(code or "", name or "", *counts) for code, name, *counts in self._all(_CAMPAIGNS)]

    def people(self, limit: int) -> list[Person]:
        """Those who were sent something last, first."""
        return [Person(*(value or "" for value in row)) for row in self._all(f"{_PEOPLE} LIMIT ?", limit)]

    def counts(self) -> dict[str, int]:
        """Table -> rows."""
        names = [name for (name,) in self._all("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {name: self._all(f"SELECT count(*) FROM {_quoted(name)}")[0][0] for name in names}  # noqa: S608

    def _take(self, present: Present, done: Loaded) -> None:
        file = present.file
        before = self._all("SELECT sha256 FROM loaded_file WHERE feed = ? AND name = ?", file.feed, file.name)
        if before and before[0][0] != file.sha256:
            done.findings.append(Finding("changed", file.name, "another file of this name was loaded before"))
            return
        try:
            content = present.content()
            with self._db:  # the whole file or nothing of it
                rows, doubled = self._load(file, rows_of(file, content, self._layouts), is_known=bool(before))
        except BadFile as exc:
            done.findings.append(exc.finding)
        except KeyError:
            done.findings.append(Finding("missing", file.name, "there is a manifest, and no file"))
        except sqlite3.Error as exc:
            done.findings.append(Finding("refused_by_table", file.name, str(exc)))
        else:
            done.files["known" if before else file.kind] += 1
            done.rows["known" if before else file.kind] += rows
            done.corrections += bool(file.corrects) and not before
            if doubled:
                done.findings.append(Finding("doubled", file.name, f"{doubled} rows that came before"))

    def _load(self, file: FeedFile, rows: Iterable[list[str]], *, is_known: bool) -> tuple[int, int]:
        """Upsert its rows: how many there are, and how many of them an earlier file has.

        Of a file that was loaded before, or of refused rows, only look at them.
        """
        if is_known:
            return sum(1 for _ in rows), 0
        entry = (file.feed, file.name, file.sha256, file.manifest().decode())
        number = self._db.execute("INSERT INTO loaded_file VALUES (?, ?, ?, ?)", entry).lastrowid
        layout, columns = layout_of(file, self._layouts), columns_of(file, self._layouts)
        if file.kind != "data" or layout is None or columns is None:
            return sum(1 for _ in rows), 0
        name = layout.of if layout.of != "extension" else f"{self._layouts[file.layout.removesuffix('_ext')].of}_ext"
        self._make_table(name, (*layout.columns, *columns), _key(layout))
        upsert = _upsert(name, file.columns, _key(layout))
        came_with = Counter(
            self._db.execute(upsert, (*values, number)).fetchone()[0] for values in map(_values(columns), rows)
        )
        return came_with.total(), self._doubled(file, number, came_with) if layout.of in FED_ONCE else 0

    def _doubled(self, file: FeedFile, own: int | None, came_with: Counter[int]) -> int:
        """Rows of a file, whose number is `own`, that came first with another one of its feed and layout."""
        of_layout = "SELECT 1 FROM loaded_file WHERE rowid = ? AND feed = ? AND json_extract(manifest, '$.layout') = ?"
        return sum(
            rows
            for number, rows in came_with.items()
            if number != own and self._all(of_layout, number, file.feed, file.layout)
        )

    def _make_table(self, name: str, columns: Iterable[Column], key: Iterable[str]) -> None:
        """With these columns: more of them come with layouts of one's own, and with later versions."""
        typed = {"_file": "INTEGER"}
        typed |= {column.name: _TYPES.get(column.type, "TEXT") for column in reversed([*columns])}
        keys = ", ".join(f"{_quoted(column)} {typed[column]} NOT NULL" for column in key)
        primary = ", ".join(map(_quoted, key))
        self._db.execute(f"CREATE TABLE IF NOT EXISTS {_quoted(name)} ({keys}, PRIMARY KEY ({primary})) STRICT")
        there = {column for _, column, *_ in self._all(f"PRAGMA table_info({_quoted(name)})")}
        for column, kind in reversed(typed.items()):
            if column not in there:
                self._db.execute(f"ALTER TABLE {_quoted(name)} ADD COLUMN {_quoted(column)} {kind}")

    def _unknown_codes(self) -> Iterator[Finding]:
        for code, count in self._all(
            "SELECT event_disposition_code, count(*) FROM response_event WHERE event_disposition_code NOT IN"
            " (SELECT event_disposition_code FROM event_disposition_lookup) GROUP BY 1 ORDER BY 1"
        ):
            yield Finding("unknown_code", code, f"{count} responses have it")

    def _orphans(self, last: int) -> Iterator[Finding]:
        if orphans := self._all(_ORPHANS, last):
            told = f"{len(orphans)} without campaign event before them, such as {orphans[0][0]}"
            yield Finding("orphans", "response_event", told)

    def _all(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(self._db.execute(statement, values)) as cursor:
            return cursor.fetchall()


def _key(layout: LayoutDefinition) -> tuple[str, ...]:
    """Ids are those of a system."""
    has_system = any(column.name == "sor_name" for column in layout.columns)
    return tuple(dict.fromkeys((*(["sor_name"] * has_system), *layout.key)))


def _upsert(table: str, columns: Iterable[str], key: Iterable[str]) -> str:
    """Takes a row's values and its file's number, and gives that of the file with which the row came first."""
    names = list(map(_quoted, columns))
    keys = set(map(_quoted, key))
    more = ", ".join(f"{name} = excluded.{name}" for name in names if name not in keys)
    first = names[0]
    return (
        f"INSERT INTO {_quoted(table)} ({', '.join(names)}, _file) VALUES ({', '.join('?' * len(names))}, ?)"  # noqa: S608
        f" ON CONFLICT ({', '.join(sorted(keys))}) DO UPDATE SET {more or f'{first} = {first}'} RETURNING _file"
    )


def _values(columns: Iterable[Column]) -> Any:
    """Makes a row's texts values of its table: null for none, numbers where they are."""
    kinds = [{"integer": int, "number": float}.get(column.type, str) for column in columns]

    def values(row: list[str]) -> list[Any]:
        return [kind(text) if text else None for kind, text in zip(kinds, row, strict=True)]

    return values


def _quoted(name: str) -> str:
    return f'"{name}"'  # names of columns and layouts are letters, digits, - and _
