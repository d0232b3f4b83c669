"""How a feed's file looks: rows to the bytes of a closed file, and back (A.c.8).

A row is a list of texts in the order of the columns, "" where there is no value. Instants are `YYYY-MM-DD HH:MM:SS` in
UTC, dates `YYYY-MM-DD`, integers fit 64 bits. The same rows give the same bytes.

    csv      RFC 4180 with LF line ends: header row, UTF-8 without BOM, quoted only where needed, empty for no value
    jsonl    one object a line with every column in order; integers and numbers as such, null for no value
    log      PureResponse's event log: `"key:value"` pairs for what has a value, `_` of a name a blank, Unix seconds
    parquet  typed columns that may all be null; the schema depends on the columns only
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from importlib import import_module
from itertools import chain, islice
from math import isfinite
from typing import Any, Literal

import orjson

from espial.feeds import log_lines
from espial.feeds.definition import Column

Format = Literal["csv", "jsonl", "parquet", "log"]
Row = Sequence[str]

_LINES_AT_ONCE = 1_000
_ROW_GROUP = 50_000
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def encode(columns: Sequence[Column], rows: Iterable[Row], format: Format, delimiter: str = ",") -> bytes:
    """The bytes of a closed file, in little more memory than they take. `delimiter` is for CSV.

    Raises ValueError naming row and column where a value does not fit its type; CSV takes any text that UTF-8 can say.
    """
    if format == "csv":
        return _csv(columns, rows, delimiter)
    if format == "jsonl":
        return _jsonl(columns, rows)
    if format == "log":
        return _log(columns, rows)
    batches = (_converted(columns, batch, first, _VALUES) for first, batch in _batches(rows, _ROW_GROUP))
    content: bytes = _parquet().encode(columns, batches)
    return content


def decode(columns: Sequence[Column], content: bytes, format: Format, delimiter: str = ",") -> Iterator[list[str]]:
    """The rows of a file of these columns, integers and numbers as Python writes them.

    Raises ValueError naming what is wrong and where.
    """
    if format == "csv":
        rows = _csv_rows(columns, content, delimiter)
    elif format == "jsonl":
        rows = _jsonl_rows(columns, content)
    elif format == "log":
        rows = _log_rows(columns, content)
    else:
        rows = _parquet().decode(columns, content)
    typed = [(place, column, _READ[column.type]) for place, column in enumerate(columns) if column.type in _READ]
    for number, row in enumerate(rows, 1):
        if len(row) != len(columns):
            raise ValueError(f"row {number}: {len(row)} values for {len(columns)} columns")
        for place, column, read in typed:
            if row[place]:
                try:
                    row[place] = read(row[place])
                except ValueError as exc:
                    raise _misfit(number, column, exc) from exc
        yield row


class _Lines(list[str]):
    """Takes lines from csv.writer, which quotes a CR in a value only where CR is part of its own line end."""

    def write(self, line: str) -> None:
        self.append(line[:-2])


def _csv(columns: Sequence[Column], rows: Iterable[Row], delimiter: str) -> bytes:
    out = io.BytesIO()
    lines = _Lines()
    writer = csv.writer(lines, delimiter=delimiter, lineterminator="\r\n")
    header = [column.name for column in columns]
    for first, batch in _batches(chain([header], rows), _LINES_AT_ONCE):
        writer.writerows(batch)
        try:
            out.write("\n".join([*lines, ""]).encode())
        except UnicodeEncodeError as exc:
            raise _not_unicode(columns, batch, first - 1) from exc
        lines.clear()
    return out.getvalue()


def _csv_rows(columns: Sequence[Column], content: bytes, delimiter: str) -> Iterator[list[str]]:
    csv.field_size_limit(sys.maxsize)  # a column may say that its length is not limited
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(content), "utf-8", newline=""), delimiter=delimiter, strict=True)
    try:
        _expect(columns, next(reader, []))
        yield from reader
    except csv.Error as exc:
        raise ValueError(f"line {reader.line_num}: {exc}") from exc


def _jsonl(columns: Sequence[Column], rows: Iterable[Row]) -> bytes:
    out = io.BytesIO()
    names = [column.name for column in columns]
    for first, batch in _batches(rows, _LINES_AT_ONCE):
        for values in zip(*_converted(columns, batch, first, _NUMBERS), strict=True):
            out.write(orjson.dumps(dict(zip(names, values, strict=True)), option=orjson.OPT_APPEND_NEWLINE))
    return out.getvalue()


def _jsonl_rows(columns: Sequence[Column], content: bytes) -> Iterator[list[str]]:
    for number, line in enumerate(io.BytesIO(content), 1):
        try:
            record = orjson.loads(line)
            _expect(columns, list(record))
        except (ValueError, TypeError) as exc:
            raise ValueError(f"line {number}: {exc}") from exc
        yield ["" if value is None else str(value) for value in record.values()]


def _log(columns: Sequence[Column], rows: Iterable[Row]) -> bytes:
    out = io.BytesIO()
    keys = _keys(columns)
    for first, batch in _batches(rows, _LINES_AT_ONCE):
        for values in zip(*_converted(columns, batch, first, _SECONDS), strict=True):
            said = ((key, value) for key, value in zip(keys, values, strict=True) if value is not None)
            out.write(f"{log_lines.written(said)}\n".encode())
    return out.getvalue()


def _log_rows(columns: Sequence[Column], content: bytes) -> Iterator[list[str]]:
    keys = _keys(columns)
    dated = [place for place, column in enumerate(columns) if column.type == "datetime"]
    for number, line in enumerate(io.BytesIO(content), 1):
        try:
            row = _in_order(keys, dict(log_lines.read(line.decode())))
            for place in dated:
                row[place] = row[place] and datetime.fromtimestamp(int(row[place]), UTC).isoformat(" ")[:19]
        except (ValueError, OverflowError, OSError) as exc:
            raise ValueError(f"line {number}: {exc}") from exc
        yield row


def _in_order(keys: Sequence[str], said: Mapping[str, str]) -> list[str]:
    if unknown := sorted(said.keys() - {*keys}):
        raise ValueError(f"no column {unknown[0]!r}")
    return [said.get(key, "") for key in keys]


def _keys(columns: Sequence[Column]) -> list[str]:
    return [column.name.lower().replace("_", " ") for column in columns]


def _expect(columns: Sequence[Column], found: Sequence[str]) -> None:
    names = [column.name for column in columns]
    if names != found:
        place = next((at for at, name in enumerate(found) if names[at : at + 1] != [name]), len(found))
        raise ValueError(f"column {place + 1} is not as its layout has it: {found[place : place + 1]}, of {len(found)}")


def _batches(rows: Iterable[Row], size: int) -> Iterator[tuple[int, list[Row]]]:
    """So many rows at once, with the number of the first of them."""
    taken = iter(rows)
    first = 1
    while batch := list(islice(taken, size)):
        yield first, batch
        first += len(batch)


def _converted(
    columns: Sequence[Column], rows: Sequence[Row], first: int, converters: Mapping[str, Callable[[str], Any]]
) -> list[list[Any]]:
    """Rows as columns of values, None for no value."""
    found: list[list[Any]] = []
    for column, texts in zip(columns, zip(*rows, strict=True), strict=True):
        values: list[Any] = []
        try:
            if convert := converters.get(column.type):
                values.extend(convert(text) if text else None for text in texts)
            else:
                "".join(texts).encode()
                values.extend(text or None for text in texts)
        except UnicodeEncodeError as exc:
            raise _not_unicode(columns, rows, first) from exc
        except ValueError as exc:
            raise _misfit(first + len(values), column, exc) from exc
        found.append(values)
    return found


def _not_unicode(columns: Sequence[Column], rows: Sequence[Row], first: int) -> ValueError:
    """Names the first of the values that is not Unicode."""
    for number, row in enumerate(rows, first):
        for column, text in zip(columns, row, strict=True):
            try:
                text.encode()
            except UnicodeEncodeError:
                return _misfit(number, column, ValueError("half of a surrogate pair"))
    raise AssertionError("all of it is Unicode")


def _misfit(number: int, column: Column, why: ValueError) -> ValueError:
    return ValueError(f"row {number}, column {column.name}: {why}")


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text) or not -(1 << 63) <= int(text) < 1 << 63:
        raise ValueError("not an integer of 64 bits")
    return int(text)


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text) or not isfinite(float(text)):
        raise ValueError("not a number")
    return float(text)


def _instant(text: str) -> datetime:
    if not _INSTANT.fullmatch(text):
        raise ValueError("not an instant such as 2026-01-15 10:00:05")
    return datetime.fromisoformat(text)


def _date(text: str) -> date:
    if not _DATE.fullmatch(text):
        raise ValueError("not a date such as 2026-01-15")
    return date.fromisoformat(text)


def _seconds(text: str) -> str:
    return str(int(_instant(text).replace(tzinfo=UTC).timestamp()))


_SECONDS: Mapping[str, Callable[[str], Any]] = {"datetime": _seconds}
_NUMBERS: Mapping[str, Callable[[str], Any]] = {"integer": _integer, "number": _number}
_VALUES: Mapping[str, Callable[[str], Any]] = {**_NUMBERS, "datetime": _instant, "date": _date}
_READ: Mapping[str, Callable[[str], str]] = {
    "integer": lambda text: str(_integer(text)),
    "number": lambda text: repr(_number(text)),
    "datetime": lambda text: str(_instant(text)),
    "date": lambda text: str(_date(text)),
}


def _parquet() -> Any:
    """Loaded by the first Parquet file: pyarrow takes time, and has a layer of its own."""
    return import_module("espial.feeds.parquet")
