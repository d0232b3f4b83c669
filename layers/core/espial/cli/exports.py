"""`espial exports`: which export files were read, how far, what became of their rows, and how to go on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Any

import typer

from espial.cli import stores
from espial.cli.output import dump, say, table
from espial.cli.stack import Failed, Stack
from espial.exports.files import DONE, ENDED, FileState, Listed
from espial.exports.notices import Notice, ignored, message
from espial.stores.batches import batches
from espial.stores.export_ledger import DynamoExportLedger

app = typer.Typer(help="Export files: how far they were read, and reading on.", no_args_is_help=True)

ROOT = "exports/"
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
    bucket, ledger = stack.exports_bucket, stores.export_ledger(stack)
    start = ROOT + prefix.removeprefix(ROOT)
    rows: list[dict[str, Any]] = []
    for some in batches(islice(stores.export_objects(stack).listing(bucket, start, ""), limit), count=100):
        entries = ledger.entries(bucket, some)
        for listed in some:
            entry = entries.get(listed.key)
            rows.append(_facts(entry, ledger) if entry else _without_entry(listed))
    if as_json:
        dump(rows)
    elif not rows:
        say(f"nothing lies under {start}")
    else:
        table(("state", "read", "rows", "events", "left", "key"), map(_line, rows))


@app.command()
def show(ctx: typer.Context, key: Key, as_json: Json = False) -> None:
    """One file: its state, its chunks and what became of its rows."""
    stack: Stack = ctx.obj
    ledger = stores.export_ledger(stack)
    facts = _facts(_entry(stack, key), ledger)
    if as_json:
        dump(facts)
        return
    for name, value in facts.items():
        if value is not None:
            say(f"{_LABELS.get(name, name):<13}{_text(name, value)}")


@app.command()
def resume(ctx: typer.Context, key: Key) -> None:
    """Have the unfinished chunks of a file read now: one that failed for a reason mended since, or stands still."""
    stack: Stack = ctx.obj
    entry = _entry(stack, key)
    if not stores.export_ledger(stack).resume(entry.file, datetime.now(UTC)):
        raise Failed(f"{entry.file.key} was read to its end: `espial exports redo` reads it again from the start")
    _notify(stack, entry)
    count = len(entry.unfinished())
    say(f"{entry.file.key}: {f'chunks back on the queue: {count:,}' if count else 'to be planned anew'}")


@app.command()
def redo(ctx: typer.Context, key: Key) -> None:
    """Have a file that has ended read again from its start: what was recorded is recognised as a duplicate."""
    stack: Stack = ctx.obj
    entry = _entry(stack, key)
    if not stores.export_ledger(stack).redo(entry.file, datetime.now(UTC)):
        raise Failed(
            f"{entry.file.key} is still being read ({entry.state}): `espial exports resume` if it stands still"
        )
    _notify(stack, entry)
    say(f"{entry.file.key}: read again from the start")


def _notify(stack: Stack, entry: FileState) -> None:
    """Tell of the file as S3 does. Were it not to come, the sweep finds the file planned and goes on."""
    file = entry.file
    notice = Notice(bucket=file.bucket, key=file.key, etag=file.etag, version_id=file.version_id)
    stores.notify(stack, message(notice))


def _entry(stack: Stack, key: str) -> FileState:
    """The ledger's entry of the object as it lies in the bucket, else of its last version. Raises Failed."""
    bucket, wanted = stack.exports_bucket, ROOT + key.removeprefix(ROOT)
    entries = stores.export_ledger(stack).versions(bucket, wanted)
    lies = next((one for one in stores.export_objects(stack).listing(bucket, wanted, "") if one.key == wanted), None)
    if lies:
        entries = [entry for entry in entries if entry.file.etag == lies.etag]
    if entries:
        return entries[0]
    if not lies:
        raise Failed(f"no object {wanted} in {bucket}")
    if reason := ignored(wanted, lies.size):
        raise Failed(f"{wanted} is no export file ({reason}): it is left alone")
    raise Failed(f"{wanted} was not seen yet: no notification came, and no sweep found it")


def _facts(entry: FileState, ledger: DynamoExportLedger) -> dict[str, Any]:
    """What is known of a file, its unfinished chunks included."""
    unfinished = entry.unfinished()
    moved = ledger.moved(unfinished)
    counts = entry.counts
    for one in moved.values():
        counts = counts.plus(one.progress.counts)
    reached = {number: one.progress.reached for number, one in moved.items()}
    unread = sum(chunk.end - max(chunk.start, reached.get(chunk.number, 0)) for chunk in unfinished)
    is_planned = bool(entry.edges) or entry.state in DONE
    read = entry.file.size - unread if is_planned else 0
    at = max([entry.updated_at, *(one.at for one in moved.values())])
    rate, left = _pace(entry, counts.rows, read, at)
    return {
        "key": entry.file.key,
        "state": entry.state,
        "reason": entry.reason or None,
        "at": at.isoformat(),
        "chunks": len(entry.edges),
        "chunks_done": len(entry.finished),
        "bytes": entry.file.size,
        "bytes_read": read,
        "rows": counts.rows,
        "events": counts.recorded,
        "duplicates": counts.duplicates,
        "conflicts": counts.conflicts,
        "refused": counts.refused,
        "ignored": counts.ignored,
        "damaged": counts.damages,
        "reasons": dict(counts.reasons),
        "rows_a_second": rate,
        "seconds_left": left,
    }


def _pace(entry: FileState, rows: int, read: int, at: datetime) -> tuple[float | None, int | None]:
    """Rows a second since this reading began, and the seconds it still takes; None where that cannot be said."""
    if entry.begun_at is None or not rows:
        return None, None
    ended = entry.state in ENDED
    took = ((at if ended else datetime.now(UTC)) - entry.begun_at).total_seconds()
    if took <= 0:
        return None, None
    return round(rows / took, 1), None if ended or not read else round(took * (entry.file.size - read) / read)


def _without_entry(listed: Listed) -> dict[str, Any]:
    reason = ignored(listed.key, listed.size)
    state = "ignored" if reason else "not seen"
    return {"key": listed.key, "state": state, "reason": reason, "bytes": listed.size, "bytes_read": 0}


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
