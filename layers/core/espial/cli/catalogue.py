"""`espial catalogue`: what mails may recommend, from a shop's own file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from espial.catalogue import rows
from espial.cli import stores
from espial.cli.output import dump, plain, say
from espial.cli.stack import Failed, Stack
from espial.errors import Refused
from espial.services.load_catalogue import load

app = typer.Typer(help="Products that mails recommend.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="CATALOGUE", help="As templates name it.")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("load")
def load_(
    ctx: typer.Context,
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The whole catalogue: .csv, or .ndjson.")],
    as_json: Json = False,
) -> None:
    """Make a catalogue what a file says.

    What the file does not name is no longer sold. Rows that cannot be read are listed and left out; a file with more
    than a tenth of such rows changes nothing.
    """
    stack: Stack = ctx.obj
    try:
        now = datetime.now(UTC)
        loaded = load(name, _rows(file), stores.catalogues(stack), as_of=now, now=now)
    except Refused as exc:
        raise Failed(f"{file}: {exc}; nothing was changed") from exc
    counts = Counter(change.what for change in loaded.changes)
    if as_json:
        bad = [row._asdict() for row in loaded.bad]
        dump({"catalogue": name, "products": loaded.products, "changes": dict(counts), "bad_rows": bad})
        return
    told = ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items())) or "nothing changed"
    say(f"catalogue {name}: {loaded.products:,} products; {told}")
    for row in loaded.bad[:20]:
        say(f"row {row.row}: {row.reason} ({row.column})")


@app.command()
def show(ctx: typer.Context, name: Name, product: Annotated[str, typer.Argument(metavar="PRODUCT")]) -> None:
    """One product as a mail would show it."""
    stack: Stack = ctx.obj
    found = stores.catalogues(stack).products(name, [product]).get(product)
    if found is None:
        raise Failed(f"no product {product!r} in catalogue {name!r}")
    stock = "stock unknown" if found.stock is None else f"{found.stock:,} in stock"
    say(f"{plain(found.name)}: {found.price:.2f} {plain(found.currency)}, {stock}")
    say(f"{plain(found.category) or 'no category'}, {found.sold:g} sold")
    say(plain(found.url))


def _rows(file: Path) -> Iterator[Mapping[str, Any]]:
    """Raises Failed for a file that cannot be opened, Refused for one that cannot be read."""
    try:
        lines = file.open(encoding="utf-8-sig", newline="")
    except OSError as exc:
        raise Failed(f"{file}: cannot be read: {exc.strerror}") from exc
    with lines:
        yield from rows(file.name, lines)
