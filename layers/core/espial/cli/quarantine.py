"""`espial quarantine`: what was refused after it was accepted, why, and its way back."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from espial.cli import stores
from espial.cli.output import complain, dump, say
from espial.cli.stack import Failed, Stack
from espial.errors import EspialError
from espial.ports import Quarantine, Quarantined
from espial.services.replay_quarantine import replay as replay_one

app = typer.Typer(help="What was refused after it was accepted, and its way back.", no_args_is_help=True)

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As `list` shows them.")]
Reason = Annotated[str | None, typer.Option(help="Only entries with this reason.")]
Limit = Annotated[int, typer.Option(min=1, help="At most this many.")]
Json = Annotated[bool, typer.Option("--json", help="For programs, one entry a line.")]


@app.command("list")
def list_(ctx: typer.Context, reason: Reason = None, limit: Limit = 50, as_json: Json = False) -> None:
    """Entries, newest first."""
    found = list(islice(stores.quarantine(ctx.obj).list(reason=reason, limit=limit), limit))
    if as_json:
        dump([_plain(entry) for entry in found])
    elif not found:
        say("nothing is in quarantine" + (f" for {reason}" if reason else ""))
    else:
        for entry in found:
            say(entry.id)
            where = f" at {entry.path}" if entry.path else ""
            say(f"    {entry.platform}/{entry.connection}{where}: {entry.detail or entry.reason}")
        say(f"{len(found)} shown; `espial quarantine show ID` for the contents")


@app.command()
def show(ctx: typer.Context, id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """One entry with everything that is known of it, as JSON."""
    dump(_plain(_get(stores.quarantine(ctx.obj), id)))


@app.command()
def replay(
    ctx: typer.Context,
    ids: Ids = None,
    reason: Reason = None,
    limit: Limit = 1000,
    mode: Annotated[str | None, typer.Option(help="`backfill`: record, but trigger nothing.")] = None,
) -> None:
    """Put entries back on their queue, by id or all of a reason; done once the cause is mended."""
    if mode not in (None, "live", "backfill", "replay"):
        raise typer.BadParameter("must be live, backfill or replay", param_hint="--mode")
    _one_of(ids, reason)
    stack: Stack = ctx.obj
    kept = stores.quarantine(stack)
    chosen = _chosen(kept, ids, reason, limit)
    failed = 0
    with stores.ways_back(stack) as ways:
        for one in chosen:
            try:
                replay_one(one, quarantine=kept, ways=ways, mode=mode)
            except KeyError:
                failed += 1
                complain(f"{one}: no such entry")
            except EspialError as exc:
                failed += 1
                complain(f"{one}: {exc}")
            else:
                say(f"{one}: back on the queue")
    if failed:
        raise Failed(f"{failed} of {len(chosen)} could not be replayed")


@app.command()
def discard(
    ctx: typer.Context,
    ids: Ids = None,
    reason: Reason = None,
    limit: Limit = 1000,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove entries for good, by id or all of a reason. The raw archive keeps what came from webhooks."""
    _one_of(ids, reason)
    kept = stores.quarantine(ctx.obj)
    chosen = _chosen(kept, ids, reason, limit)
    for one in chosen:
        _get(kept, one)
    if chosen and not yes:
        typer.confirm(f"remove {len(chosen)} from quarantine for good?", abort=True)
    for one in chosen:
        kept.remove(one)
        say(f"{one}: removed")


def _one_of(ids: list[str] | None, reason: str | None) -> None:
    if bool(ids) == bool(reason):
        raise typer.BadParameter("give ids or --reason, one of the two")


def _chosen(kept: Quarantine, ids: list[str] | None, reason: str | None, limit: int) -> list[str]:
    return ids or [entry.id for entry in kept.list(reason=reason, limit=limit)]


def _get(kept: Quarantine, id: str) -> Quarantined:
    try:
        return kept.get(id)
    except KeyError:
        raise Failed(f"no entry {id!r} in quarantine") from None


def _plain(entry: Quarantined) -> dict[str, object]:
    return {**entry._asdict(), "quarantined_at": entry.quarantined_at.isoformat()}
