"""`espial cdp-load`: a folder of feed files, loaded into SQLite as a CDP would load them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from espial.cli.output import say, table
from espial.definitions.load import load
from espial.feeds.cdp import Cdp, Loaded
from espial.feeds.checking import Layouts
from espial.feeds.definition import built_in

Definitions = Annotated[
    Path | None,
    typer.Option("--definitions", help="Where layouts of your own lie. Default: definitions/, if there is one."),
]


def cdp_load(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Feed files with their manifests.")],
    database: Annotated[
        Path | None, typer.Option(metavar="FILE", help="SQLite file to load into; what it has is kept. Default: none.")
    ] = None,
    definitions: Definitions = None,
    code: Annotated[list[str] | None, typer.Option(help="A disposition code that your CDP knows besides ours.")] = None,
    people: Annotated[int, typer.Option(min=0, help="Show so many people.")] = 10,
) -> None:
    """Load finished feed files as a CDP does, and show what follows from them and what is wrong.

    Exit status 1 if anything is: damaged files, gaps, responses without campaign event, unknown codes.
    """
    with closing(Cdp(str(database or ":memory:"), layouts(definitions), code or ())) as cdp:
        loaded = cdp.load(folder)
        _show(cdp, people)
    _sum_up(loaded)
    if loaded.findings:
        raise typer.Exit(1)


def layouts(definitions: Path | None) -> Layouts:
    """Those that ship, and those in a folder of definitions. Raises InvalidDefinition."""
    default = Path("definitions")
    root = definitions or (default if default.is_dir() else None)
    return {**built_in(), **(load(root).layouts if root else {})}


def _show(cdp: Cdp, people: int) -> None:
    if campaigns := cdp.campaigns():
        headings = ("campaign", "sends", "delivered", "opens", "clicks", "bounces", "unsubscribes")
        rows = [
            (
                one.code + (f"\n{one.name}" if one.name else ""),
                *(f"{number:,}" for number in (one.sends, one.delivered)),
                f"{one.opens_unique:,} of {one.opens:,}",
                f"{one.clicks_unique:,} of {one.clicks:,}",
                *(f"{number:,}" for number in (one.bounces, one.unsubscribes)),
            )
            for one in campaigns
        ]
        table(headings, rows, whole=0)
        say("opens and clicks: messages of which there is one, of all")
    if found := cdp.people(people):
        table(("person", "last sent", "last open", "last click"), found, whole=0)
    table(("table", "rows"), [(name, f"{rows:,}") for name, rows in cdp.counts().items() if rows])


def _sum_up(loaded: Loaded) -> None:
    for finding in loaded.findings:
        say(str(finding))
    parts = [f"{loaded.files['data']:,} files loaded, {loaded.rows['data']:,} rows"]
    if loaded.corrections:
        parts.append(f"{loaded.corrections:,} of them corrections")
    if loaded.files["known"]:
        parts.append(f"{loaded.files['known']:,} files known already")
    parts += [
        f"{loaded.rows[kind]:,} rows of {kind} not loaded" for kind in ("rejects", "unmatched") if loaded.rows[kind]
    ]
    say(", ".join([*parts, f"{len(loaded.findings):,} problems" if loaded.findings else "all is well"]))
