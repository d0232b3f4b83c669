"""`espial timeline`: what happened to a person, where it is logged and what is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from espial.cli import stores
from espial.cli.output import dump, say, table, width
from espial.cli.stack import Stack
from espial.events import PersonKey
from espial.journal.page import page
from espial.journal.table import Journal, Row
from espial.services.journal import journal

ROOM_FOR_ALL = 150
"""Columns of a terminal on which every column of the table has room."""


def timeline(
    ctx: typer.Context,
    person: Annotated[str, typer.Argument(metavar="PERSON", help="As for `events --person`.")],
    *,
    limit: Annotated[int, typer.Option(min=1, help="The newest this many rows.")] = 200,
    messages_only: Annotated[
        bool, typer.Option("--messages-only", help="Leave out what is about no message and no onboarding.")
    ] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as a page, with a diagram.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs, a row a line.")] = False,
) -> None:
    """Show what happened to a person, and which send each response answers.

    Recipient data handed over, messages sent, what came of them: where each is logged,
    whether it is loaded by itself, and under which record ids.
    """
    stack: Stack = ctx.obj
    try:
        keys = stores.keys_of(stack, PersonKey.parse(person))
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    bundle = stores.definitions(stack).active()
    found = journal(stores.events(stack), keys, bundle, limit=limit, messages_only=messages_only)
    if html is not None:
        html.write_text(page(found), encoding="utf-8")
    if as_json:
        dump([row.plain() for row in found.rows])
    elif html is not None:
        say(f"{html}: {len(found.rows)} rows")
    elif not found.rows:
        say(f"nothing is recorded of {person}")
    else:
        _show(found)


def _show(found: Journal) -> None:
    if width() >= ROOM_FOR_ALL:
        columns = (
            "no.",
            "time (UTC)",
            "activity",
            "logged in",
            "loaded into the CDP",
            "tied to its send",
            "record ids",
        )
        table(columns, map(_wide, found.rows), whole=2)
    else:
        table(("no.", "time (UTC)", "activity", "logged, loaded, ids"), map(_narrow, found.rows), whole=2)
    earlier = f", {found.earlier} earlier ones not shown" if found.earlier else ""
    say(f"{len(found.rows)} rows{earlier}")


def _wide(row: Row) -> tuple[str, ...]:
    return (
        str(row.number),
        f"{row.at:%Y-%m-%d %H:%M:%S}",
        _activity(row),
        row.logged,
        row.automation,
        _tie(row),
        _ids(row),
    )


def _narrow(row: Row) -> tuple[str, ...]:
    activity = "\n".join(part for part in (_activity(row), _tie(row)) if part)
    return str(row.number), f"{row.at:%Y-%m-%d\n%H:%M:%S}", activity, "\n".join((row.logged, row.automation, _ids(row)))


def _activity(row: Row) -> str:
    return f"{row.activity}\n{row.detail}" if row.detail else row.activity


def _tie(row: Row) -> str:
    return f"no. {row.send}: {row.correlation}" if row.send else row.correlation


def _ids(row: Row) -> str:
    """The event's id first; a response event has the same."""
    first, *others = row.events
    said = [f"{first} and {len(others)} more" if others else first]
    if row.campaign_event_id:
        said += ["campaign event", row.campaign_event_id]
    return "\n".join(said)
