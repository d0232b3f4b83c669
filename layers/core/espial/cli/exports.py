"""`espial exports`: which export files were read, how far, what became of their rows, and how to go on."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice
from typing import Annotated, Any

import typer

from espial.cli import stores
from espial.cli.output import dump, say, table
from espial.cli.stack import Stack
from espial.services.export_files import ROOT
from espial.stores.batches import batches

app = typer.Typer(help="Export files: how far they were read, and reading on.", no_args_is_help=True)

_LABELS = {
    "chunks_done": "chunks done",
    "bytes_read": "bytes read",
    "rows_a_second": "rows/s",
    "seconds_left": "time left",
}

Key = Annotated[str, typer.Argument(metavar="KEY")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("list")
def list_(
    ctx: typer.Context,
    prefix: Annotated[str, typer.Argument(metavar="[PREFIX]", help="`braze/braze-main/`, for example.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 200,
    as_json: Json = False,
) -> None:
    """The objects in the exports bucket, in key order, and how far each was read."""
    stack: Stack = ctx.obj
    files = stores.export_files(stack)
    start = ROOT + prefix.removeprefix(ROOT)
    found = islice(files.objects.listing(files.bucket, start, ""), limit)
    rows = [facts for some in batches(found, count=100) for facts in files.facts(some)]
    if as_json:
        dump(rows)
    elif not rows:
        say(f"nothing lies under {start}")
    else:
        table(("state", "read", "rows", "events", "left", "key"), map(_line, rows))


@app.command()
def show(ctx: typer.Context, key: Key, as_json: Json = False) -> None:
    """One file: its state, its chunks and what became of its rows."""
    facts = stores.export_files(ctx.obj).show(key)
    if as_json:
        dump(facts)
        return
    for name, value in facts.items():
        if value is not None:
            say(f"{_LABELS.get(name, name):<13}{_text(name, value)}")


@app.command()
def resume(ctx: typer.Context, key: Key) -> None:
    """Have the unfinished chunks of a file read now: one that failed for a reason mended since, or stands still."""
    entry = stores.export_files(ctx.obj).resume(key)
    count = len(entry.unfinished())
    say(f"{entry.file.key}: {f'chunks back on the queue: {count:,}' if count else 'to be planned anew'}")


@app.command()
def redo(ctx: typer.Context, key: Key) -> None:
    """Have a file that has ended read again from its start: what was recorded is recognised as a duplicate."""
    entry = stores.export_files(ctx.obj).redo(key)
    say(f"{entry.file.key}: read again from the start")


def _line(facts: dict[str, Any]) -> tuple[str, ...]:
    state = f"{facts['state']}: {facts['reason']}" if facts["reason"] else facts["state"]
    share = facts["bytes_read"] / facts["bytes"] if facts["bytes"] else 0
    left = facts.get("seconds_left")
    rows, events = (f"{facts[name]:,}" if name in facts else "" for name in ("rows", "events"))
    return state, f"{share:.0%}", rows, events, _duration(left), facts["key"].removeprefix(ROOT)


def _text(name: str, value: Any) -> str:
    if name == "reasons":
        return ", ".join(f"{reason} {count:,}" for reason, count in value.items()) or "none"
    if name == "seconds_left":
        return _duration(value)
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _duration(seconds: int | None) -> str:
    return "" if seconds is None else str(timedelta(seconds=seconds))
