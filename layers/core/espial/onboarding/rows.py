"""Rows of an onboarding's file as recipients: what a file must be like, and what a row must hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Any, NamedTuple

from espial import events
from espial.errors import Malformed, MalformedItem
from espial.exports import Container, Damage, Row, folded
from espial.onboarding import Recipient, Value
from espial.onboarding.definition import OnboardingDefinition
from espial.sources._shared import email, phone, text

CONTACTS_PER_EXECUTION = 10_000_000
"""Contact ids are the execution's number times this, plus the row's."""

MAX_ROWS = 1_000_000
"""Of a file: their keys are held in memory, so that a row that comes twice is noticed."""

MAX_KEY_BYTES = 997
MAX_FIELDS = 1000
ROW_DAMAGES = frozenset({"ragged_row", "not_json", "line_too_long"})
"""What is wrong with one row only. Any other damage means that the file is not what was to be sent."""

_ADDRESS = re.compile(r"[^\s@,;<>\"]{1,64}@[^\s@,;<>\"]+\.[^\s@,;<>\"]+")
_PHONE = re.compile(r"\+?[0-9 ()./-]+")


class Numbered(NamedTuple):
    """A row of the file, counted from 1 without its header: whom it names, or why it cannot be read."""

    number: int
    found: Recipient | MalformedItem


def check(of: OnboardingDefinition, container: Container, size: int) -> int:
    """How many rows the file has. Reads all of it, before anything is sent of it. Raises Malformed for a file as such.

    The reasons: `unsupported_container`, `no_key_column`, `missing_column`, `unknown_column`, `too_many_rows`, and the
    container's own, such as `not_utf_8` or `truncated_gzip`.
    """
    if container.kind not in ("csv", "ndjson") or container.record_name:
        raise Malformed("unsupported_container", "recipients are read from CSV and NDJSON, plain or in gzip")
    names = dict(container.columns)
    _check_columns(of, names, is_whole=bool(names))
    count = 0
    for step in _steps(container, size):
        count += 1
        if count > MAX_ROWS:
            raise Malformed("too_many_rows", f"over {MAX_ROWS:,}: cut the file into several")
        if isinstance(step, Damage) and step.reason not in ROW_DAMAGES:
            raise Malformed(step.reason, f"row {count}: {step.detail}")
        if isinstance(step, Row) and not container.columns and isinstance(step.data, dict) and len(names) < MAX_FIELDS:
            names |= {folded(name): name for name in step.data if folded(name) not in names}
    if count and not container.columns:
        _check_columns(of, names, is_whole=False)
    return count


def read(of: OnboardingDefinition, container: Container, size: int, execution: int) -> Iterator[Numbered]:
    """Every row of a file that was checked, in order. Of rows with one key the first that can be read counts."""
    seen: set[int] = set()
    for number, step in enumerate(_steps(container, size), 1):
        if isinstance(step, Damage):
            yield Numbered(number, MalformedItem(step.reason, f"row {number}: {step.detail}"))
            continue
        try:
            found = recipient(of, step.data, contact=execution * CONTACTS_PER_EXECUTION + number)
        except MalformedItem as exc:
            yield Numbered(number, MalformedItem(exc.reason, f"row {number}, {exc.path}: {exc.detail}", exc.path))
            continue
        key = hash(found.external_id)  # 64 bits of a million: no two are the same by chance
        if key in seen:
            detail = f"row {number}, {of.key}: the file names this recipient in a row above"
            yield Numbered(number, MalformedItem("duplicate_row", detail, of.key))
            continue
        seen.add(key)
        yield Numbered(number, found)


def recipient(of: OnboardingDefinition, row: Mapping[str, Any], *, contact: int) -> Recipient:
    """Whom a row names. An empty field says nothing. Raises MalformedItem whose path is the column."""
    if not isinstance(row, Mapping):
        raise MalformedItem("not_an_object", f"a {type(row).__name__}", "row")
    fields = {folded(name): value for name, value in row.items()}
    said: dict[str, Value] = {}
    for column, attribute in of.attributes.items():
        name = of.named[column]
        if (known := _value(fields.get(column), name)) is not None:
            said[attribute] = _CHECKS.get(attribute, _any)(known, name)
    if "external_id" not in said:
        raise MalformedItem("missing_key", "holds nothing", of.key)
    texts = {name: text(fields.get(column)) for name, column in of.meta_columns.items()}
    meta = of.meta_texts | {name: value for name, value in texts.items() if value}
    return Recipient(
        contact=contact,
        external_id=str(said.pop("external_id")),
        email=_text(said.pop("email", None)),
        phone=_text(said.pop("phone", None)),
        attributes=said,
        meta=meta,
    )


def content(of: OnboardingDefinition, found: Recipient) -> str:
    """Hash of all that the platform is told of a recipient, but for the numbers of this time: tells changes (A3)."""
    told = (of.platform, of.mode, of.output, of.offer_code, of.offer_name, of.interaction)
    return events.fingerprint([told, found._replace(contact=0)])


def _steps(container: Container, size: int) -> Iterator[Row | Damage]:
    for start, end in container.plan(max(size, 1)):
        yield from (step for step in container.rows(start, end) if isinstance(step, Row | Damage))


def _check_columns(of: OnboardingDefinition, names: Mapping[str, str], *, is_whole: bool) -> None:
    """`names`: column as rows have it -> as the file has it; `is_whole`: the file is a table, each row has them all."""
    if not names:
        return
    if folded(of.key) not in names:
        raise Malformed("no_key_column", f"no column {of.key!r} among {_listed(names.values())}")
    if is_whole and (missing := of.named.keys() - names.keys()):
        raise Malformed("missing_column", f"no column {_listed(of.named[name] for name in missing)}")
    if of.unknown_columns == "refuse" and (unknown := names.keys() - of.named.keys()):
        raise Malformed("unknown_column", f"{_listed(names[name] for name in unknown)}: not in the definition")


def _listed(names: Iterable[str]) -> str:
    shown = sorted(map(repr, names))
    return ", ".join(shown[:20]) + (" …" if len(shown) > 20 else "")


def _value(value: Any, name: str) -> Value | None:
    """A field that says something: text without blanks around it, a number or a truth value."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value.strip() or None
    raise MalformedItem("bad_value", "neither text nor a number", name)


def _any(value: Value, name: str) -> Value:
    if isinstance(value, str) and not _is_plain(value):
        raise MalformedItem("bad_value", "holds control characters", name)
    return value


def _is_plain(value: str) -> bool:
    return value.isprintable() or "".join(value.split()).isprintable()


def _key(value: Value, name: str) -> Value:
    found = str(value)
    if isinstance(value, bool) or not found.isprintable():
        raise MalformedItem("bad_key", "no id", name)
    if len(found.encode()) > MAX_KEY_BYTES:
        raise MalformedItem("key_too_long", f"over {MAX_KEY_BYTES} bytes", name)
    return found


def _email(value: Value, name: str) -> Value:
    found = email(value)
    if found is None or len(found) > 254 or not found.isprintable() or not _ADDRESS.fullmatch(found):
        raise MalformedItem("bad_email", "no e-mail address", name)
    return found


def _phone(value: Value, name: str) -> Value:
    given = phone(value)
    if given is None or not _PHONE.fullmatch(given) or not 5 <= sum(map(str.isdigit, given)) <= 15:
        raise MalformedItem("bad_phone", "no telephone number", name)
    return given


def _date(value: Value, name: str) -> Value:
    try:
        if len(str(value)) == 10:
            return date.fromisoformat(str(value)).isoformat()
    except ValueError:
        pass
    raise MalformedItem("bad_date", "not a day as yyyy-MM-dd", name)


def _text(value: Value | None) -> str | None:
    return None if value is None else str(value)


_CHECKS = {"external_id": _key, "email": _email, "phone": _phone, "dob": _date}
