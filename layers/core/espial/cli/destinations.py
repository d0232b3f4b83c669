"""`espial destinations`, `attempts`, `replay`: the systems that learn of events, what was tried, and sending again."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
import typer

from espial.cli import stores
from espial.cli.output import dump, say, table
from espial.cli.stack import Failed
from espial.notifications.outbox import Attempt
from espial.notifications.triggers import ASKABLE
from espial.stores.batches import batches

app = typer.Typer(help="Other systems that learn of events: how they are, on and off.", no_args_is_help=True)

Destination = Annotated[str, typer.Argument(metavar="DESTINATION")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
Time = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])]

AT_ONCE = 100


@app.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """Every destination, what waits for it, and how it is."""
    found = stores.destinations(ctx.obj)
    facts = [found.facts(one) for one in found.known.values()]
    if as_json:
        dump(facts)
    elif not facts:
        say("no destination was applied")
    else:
        rows = [(one["destination"], one["process"], f"{one['waiting']:,}", one["state"], _why(one)) for one in facts]
        table(("destination", "process", "waiting", "state", "why"), rows)


@app.command()
def show(ctx: typer.Context, destination: Destination, as_json: Json = False) -> None:
    """One destination, and what was tried last."""
    found = stores.destinations(ctx.obj)
    facts = found.facts(found.definition(destination))
    tried = found.tried(destination, 10)
    if as_json:
        dump({**facts, "attempts": [msgspec.to_builtins(one) for one in tried]})
        return
    say(f"destination {destination}: {facts['process']}, {facts['state']}, {facts['waiting']:,} waiting")
    if why := _why(facts):
        say(why)
    _show(tried)


@app.command()
def on(ctx: typer.Context, destination: Destination) -> None:
    """Have a destination served again that was switched off, or that fails, at once."""
    stores.destinations(ctx.obj).switch(destination, on=True)
    say(f"{destination} is on")


@app.command("off")
def off_(ctx: typer.Context, destination: Destination) -> None:
    """Post nothing to a destination; what happens meanwhile waits for it."""
    stores.destinations(ctx.obj).switch(destination, on=False)
    say(f"{destination} is off: what happens waits until `espial destinations on {destination}`")


def attempts(
    ctx: typer.Context,
    destination: Destination,
    notification: Annotated[str, typer.Option("--id", help="Only of this notification.")] = "",
    limit: Annotated[int, typer.Option("-n", "--limit", min=1)] = 20,
    as_json: Json = False,
) -> None:
    """What was tried, the newest first: status, time and the head of the answer. Kept 30 days."""
    tried = stores.destinations(ctx.obj).tried(destination, limit, notification)
    if as_json:
        dump([msgspec.to_builtins(one) for one in tried])
    else:
        _show(tried)


def replay(
    ctx: typer.Context,
    destination: Destination,
    *,
    ids: Annotated[list[str] | None, typer.Option("--id", help="A notification; may come several times.")] = None,
    since: Time = None,
    until: Time = None,
    trigger: Annotated[str, typer.Option(help="Only what this fired, such as OPEN.")] = "",
    rate: Annotated[int | None, typer.Option(min=1, help="Notifications a second. Default: all at once.")] = None,
) -> None:
    """Have notifications sent again, whatever became of them: by id, or all that were put in a time (UTC).

    The receiver gets them under their own ids, marked as a replay.
    """
    if bool(ids) == (since is not None):
        raise typer.BadParameter("give either --id or --since", param_hint="--id")
    if trigger and trigger not in ASKABLE:
        raise typer.BadParameter(f"no trigger or event type named {trigger!r}", param_hint="--trigger")
    found = stores.destinations(ctx.obj)
    found.definition(destination)
    chosen = ids or found.put_in(destination, _utc(since), _utc(until), trigger)
    count = 0
    for some in batches(chosen, count=min(rate or AT_ONCE, AT_ONCE)):
        if count and rate:
            time.sleep(len(some) / rate)
        count += found.replay(destination, some, datetime.now(UTC))
    if ids and not count:
        raise Failed(f"{destination} has no such notification, or it is no longer known")
    say(f"{count:,} notifications wait for {destination} again")


def _utc(at: datetime | None) -> datetime:
    return at.replace(tzinfo=UTC) if at else datetime.now(UTC) + timedelta(minutes=1)


def _why(facts: dict[str, Any]) -> str:
    since = facts["failing_since"]
    return f"{facts['failures']} failures since {since:%m-%d %H:%M}: {facts['why']}" if since else str(facts["why"])


def _show(tried: list[Attempt]) -> None:
    if not tried:
        say("nothing was tried")
        return
    rows = [
        (
            f"{one.at:%m-%d %H:%M:%S}",
            one.outcome + (" (replay)" if one.replay else ""),
            str(one.status or "-"),
            f"{one.milliseconds:,} ms",
            " ".join(filter(None, (", ".join(one.notifications), one.reason, one.answer))),
        )
        for one in tried
    ]
    table(("at", "outcome", "status", "took", "what"), rows, whole=4)
