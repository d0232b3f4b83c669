"""`espial triggers report`: what a trigger did, and what its goal came to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from espial.cli import stores
from espial.cli.output import dump, say, table
from espial.cli.stack import Failed, Stack
from espial.services import trigger_report
from espial.services.trigger_report import Measured, Place, Report, Row

app = typer.Typer(help="What triggers did.", no_args_is_help=True)


@app.command()
def report(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="TRIGGER", help="The trigger's name.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs, one object a line.")] = False,
) -> None:
    """Show what a trigger did, by stage and variant, and what its goal came to.

    Of the events that are still kept. Reads the whole table.
    """
    stack: Stack = ctx.obj
    trigger = stores.published(stack).trigger(name)
    if trigger is None:
        raise Failed(f"no trigger {name!r} is in force")
    found = trigger_report.report(trigger, stores.events(stack), stores.people(stack))
    if as_json:
        dump(found.plain())
    else:
        show(found)


def show(found: Report) -> None:
    """A report as tables."""
    if not found.rows:
        say("no trigger began anything")
        return
    rows = [line for place, row in found.rows.items() for line in _row(place, row)]
    table(("trigger", "stage", "what became of them", "number", "share"), rows, whole=2)
    if found.goals:
        say("")
        table(("goal of", "arm", "entered", "converted", "revenue", "lift (95 %)"), map(_goal, found.goals), whole=2)


def _row(place: Place, row: Row) -> Iterator[tuple[str, ...]]:
    name = f"{place.trigger}, {place.variant}" if place.variant else place.trigger
    yield name, str(place.stage + 1), "entered", str(row.entered), ""
    outcomes = {
        "sent": row.sent,
        **{f"exited: {reason}": count for reason, count in row.exited.most_common()},
        **{f"skipped: {reason}": count for reason, count in row.skipped.most_common()},
        "replaced by a newer event": row.replaced,
        "still waiting": row.waiting,
    }
    for what, count in outcomes.items():
        if count or what == "sent":
            yield "", "", f"  {what}", str(count), f"{count / row.entered:.1%}"


def _goal(one: Measured) -> tuple[str, ...]:
    arm, lift = one.arm, one.lift
    said = f"{lift.value:+.1%} ({lift.low:+.1%} to {lift.high:+.1%})" if lift else ""
    rate = f"{arm.converted} ({arm.rate:.1%})"
    return one.trigger, arm.name or "all", str(arm.entered), rate, f"{arm.revenue:,.2f}", said
