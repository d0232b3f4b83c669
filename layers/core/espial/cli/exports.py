"""`espial exports`: which export files were read, how far, and what became of their rows."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from espial.cli import stores
from espial.cli.output import dump, say, table
from espial.cli.stack import Failed, Stack
from espial.exports.files import ExportFile, FileState
from espial.stores.batches import batches

app = typer.Typer(help="Export files: how far they were read.", no_args_is_help=True)

ROOT = "exports/"
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("list")
def list_(
    ctx: typer.Context,
    prefix: Annotated[str, typer.Argument(metavar="[PREFIX]", help="`braze/braze-main/`, for example.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 200,
    as_json: Json = False,
) -> None:
    """The objects in the exports bucket, in key order, and the state of each."""
    stack: Stack = ctx.obj
    bucket, ledger = stack.exports_bucket, stores.export_ledger(stack)
    start = ROOT + prefix.removeprefix(ROOT)
    rows = []
    for some in batches(islice(stores.export_objects(stack).listing(bucket, start, ""), limit), count=100):
        states = ledger.states(bucket, some)
        for listed in some:
            state, at = states.get(listed.key, ("not seen", None))
            rows.append({"key": listed.key, "size": listed.size, "state": state, "at": at and at.isoformat()})
    if as_json:
        dump(rows)
    elif not rows:
        say(f"nothing lies under {start}")
    else:
        table(
            ("state", "bytes", "key"),
            ((str(row["state"]), f"{row['size']:,}", str(row["key"]).removeprefix(ROOT)) for row in rows),
        )


@app.command()
def show(ctx: typer.Context, key: Annotated[str, typer.Argument(metavar="KEY")], as_json: Json = False) -> None:
    """One file: its state, its chunks and what became of its rows."""
    stack: Stack = ctx.obj
    bucket, wanted = stack.exports_bucket, ROOT + key.removeprefix(ROOT)
    for listed in stores.export_objects(stack).listing(bucket, wanted, ""):
        if listed.key == wanted:
            break
    else:
        raise Failed(f"no object {wanted} in {bucket}")
    file = ExportFile(bucket=bucket, **listed._asdict())
    state = stores.export_ledger(stack).find(file)
    if state is None:
        raise Failed(f"{wanted} was not seen yet: no notification came, and no sweep found it")
    facts = _facts(state)
    if as_json:
        dump(facts)
        return
    for name, value in facts.items():
        say(f"{name:<12}{value}")


def _facts(state: FileState) -> dict[str, str | int]:
    return {
        "key": state.file.key,
        "bytes": state.file.size,
        "state": f"{state.state}: {state.reason}" if state.reason else state.state,
        "at": state.updated_at.isoformat(),
        "chunks": f"{len(state.finished)} of {len(state.edges)} read",
        **state.counts._asdict(),
    }
