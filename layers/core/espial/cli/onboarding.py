"""`espial onboarding`: which files of recipients were sent, how far, what came of them, and sending one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from espial.cli import stores
from espial.cli.output import dump, say, table
from espial.cli.stack import Failed, Stack
from espial.services.recipient_files import ROOT
from espial.services.recipient_files import facts as facts_of

app = typer.Typer(help="Recipients handed to platforms: executions, and sending a file.", no_args_is_help=True)

_LABELS = {"updated_at": "last moved"}

Key = Annotated[str, typer.Argument(metavar="KEY", help="As `list` shows it.")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("list")
def list_(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Only this onboarding's.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 50,
    as_json: Json = False,
) -> None:
    """Files of recipients and what came of each, the one that moved last first."""
    files = stores.recipient_files(ctx.obj)
    facts = [facts_of(one) for one in files.list([name] if name else files.names)[:limit]]
    if as_json:
        dump(facts)
    elif not facts:
        say(f"nothing was dropped under {ROOT}{name}")
    else:
        headings = ("state", "execution", "rows", "sent", "failed", "unchanged", "refused", "key")
        table(headings, map(_line, facts), whole=7)


@app.command()
def show(ctx: typer.Context, key: Key, as_json: Json = False) -> None:
    """One file: its execution and what came of its rows."""
    facts = facts_of(stores.recipient_files(ctx.obj).find(key))
    if as_json:
        dump(facts)
        return
    for name, value in facts.items():
        if value not in (None, ""):
            say(f"{_LABELS.get(name, name):<11} {value:,}" if isinstance(value, int) else f"{name:<11} {value}")


@app.command()
def run(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The onboarding, as its definition is called.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="CSV or NDJSON.")],
) -> None:
    """Send a file from here: it is dropped into the bucket under a name of its own, however often it is sent."""
    stack: Stack = ctx.obj
    known = (stores.definitions(stack).active() or {}).get("onboardings", {})
    if name not in known:
        raise Failed(f"no onboarding {name!r} is applied (known: {', '.join(sorted(known)) or 'none'})")
    key = f"{ROOT}{name}/{datetime.now(UTC):%Y%m%dT%H%M%S}-{file.name}"
    stores.drops(stack).put(key, file.read_bytes())
    say(key.removeprefix(ROOT))


@app.command()
def resume(ctx: typer.Context, key: Key) -> None:
    """Have a file looked at again now: refused for a reason that is mended since, or standing still."""
    execution = stores.recipient_files(ctx.obj).resume(key)
    say(f"{execution.file.key}: back on the queue")


def _line(facts: dict[str, Any]) -> tuple[str, ...]:
    state = f"{facts['state']}: {facts['reason']}" if facts["reason"] else str(facts["state"])
    numbers = (facts[name] for name in ("execution", "rows", "sent", "failed", "unchanged", "refused"))
    shown = ("" if number is None else f"{number:,}" for number in numbers)
    return (state, *shown, str(facts["key"]).removeprefix(ROOT))
