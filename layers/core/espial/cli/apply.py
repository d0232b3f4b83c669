"""`espial apply`, `validate` and `schema`: definitions from files to the running stack."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from espial.cli import stores
from espial.cli.output import complain, dump, say
from espial.cli.stack import Failed
from espial.definitions import load, publish
from espial.definitions.load import Definitions
from espial.definitions.schemas import KINDS, json_schema

Folder = Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder of definitions.")]
Stage = Annotated[str | None, typer.Option(help="Lay stages/<STAGE>.yaml over the definitions.")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


def apply(
    ctx: typer.Context,
    directory: Folder = Path("definitions"),
    stage: Stage = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Put the definitions in force, all or nothing.

    They are checked first, and what changes is shown.
    """
    checked = load.load(directory, stage)
    _warn(checked)
    checked_again = partial(load.load, directory, stage)
    done = publish.apply(checked, stores.definitions(ctx.obj), datetime.now(UTC), checked_again, dry_run=dry_run)
    if as_json:
        dump(done._asdict())
        return
    for line in done.changes:
        say(line)
    version = done.version[:12]
    if not done.changes:
        say(f"nothing to change: version {version} is in force")
    elif dry_run:
        say(f"dry run: version {version} would be put in force; nothing was changed")
    else:
        say(f"version {version} is in force")


def validate(directory: Folder = Path("definitions"), stage: Stage = None, as_json: Json = False) -> None:
    """Check the definitions, without AWS.

    Alone and under every stage, or under one.
    """
    checked = load.load(directory, stage)
    for other in [] if stage else load.stages(directory):
        load.load(directory, other)
    _warn(checked)
    if as_json:
        dump(_addresses(checked))
        return
    counts = [_count(number, kind) for kind in publish.KINDS if (number := len(getattr(checked, kind)))]
    say(f"{directory}: valid: {', '.join(counts) or 'nothing in it'}")
    for name, addresses in _addresses(checked).items():
        say(f"  {name}: POST {addresses['post']}, files under {addresses['exports']}")
    for name, onboarding in checked.onboardings.items():
        say(f"  {name}: recipients under {onboarding.prefix}")


def _warn(checked: Definitions) -> None:
    for name, compiled in checked.templates.items():
        for warning in compiled["warnings"]:
            complain(f"warning: templates/{name}/{warning}")


def _count(number: int, kind: str) -> str:
    return f"{number} {kind.removesuffix('s') if number == 1 else kind}"


def _addresses(checked: Definitions) -> dict[str, dict[str, str]]:
    """Where each connection's platform is to post, and to drop its files."""
    return {
        name: {"post": connection.path, "exports": connection.export_prefix}
        for name, connection in checked.connections.items()
    }


def schema(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of {', '.join(KINDS)}.")],
) -> None:
    """Print the JSON Schema of a kind, for editors."""
    if kind not in KINDS:
        raise Failed(f"no kind {kind!r}: one of {', '.join(KINDS)}")
    dump(json_schema(kind))
