"""`espial simulate`: what the triggers would do in a month, in seconds, before anybody gets a mail."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from espial.campaigns.compiling import made
from espial.cli.output import dump, say
from espial.cli.stack import Failed
from espial.cli.triggers import show
from espial.definitions import load
from espial.definitions.load import Definitions
from espial.simulation import report
from espial.simulation.shoppers import Model, introduced, made_up, read_events, read_people
from espial.simulation.world import World
from espial.triggers.definition import Trigger


def simulate(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder of definitions.")] = Path(
        "definitions"
    ),
    *,
    people: Annotated[
        Path | None, typer.Option(metavar="FILE", exists=True, help="NDJSON: external_id, email, attributes, consent.")
    ] = None,
    shoppers: Annotated[int, typer.Option(min=1, max=100_000, help="Without --people: how many to make up.")] = 1000,
    events: Annotated[
        Path | None, typer.Option(metavar="FILE", exists=True, help="NDJSON of what happens, instead of the model.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=366, help="How long.")] = 30,
    start: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The first day.")] = datetime(2026, 1, 5),  # noqa: DTZ001
    seed: Annotated[str, typer.Option(help="The same seed gives the same month.")] = "0",
    stage: Annotated[str | None, typer.Option(help="Lay stages/<STAGE>.yaml over the definitions.")] = None,
    messages: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every message there, one JSON object a line.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs, one object a line.")] = False,
) -> None:
    """Run the triggers over a month in memory, and show what they would send.

    By the code that runs them in production. All but paused ones run as if they were live. Nothing is sent, and no
    stack is needed.
    """
    definitions = load.load(directory, stage)
    triggers = _as_live(definitions)
    folk = read_people(_lines(people), str(people)) if people else []
    given = read_events(_lines(events), str(events)) if events else []
    if (people and not folk) or (events and not given):
        raise Failed(f"{people or events}: nobody is in it" if people and not folk else f"{events}: nothing is in it")
    if not people and not events:
        folk = made_up(shoppers, seed, _consents(triggers))
    first = min((event.occurred_at for event in given), default=start.replace(tzinfo=UTC))
    model = Model(folk, seed)
    world = World(
        triggers,
        providers={name: provider.published() for name, provider in definitions.providers.items()}
        | made(definitions).providers,
        templates=definitions.templates,
        now=first,
        reacts=None if events else model.reacts,
    )
    lives = (*(introduced(one, first) for one in folk), *given) if events else model.life(first, days)
    world.live(lives, first + timedelta(days=days))
    if messages:
        lines = (json.dumps(message, ensure_ascii=False) + "\n" for message in report.messages(world))
        messages.write_text("".join(lines), encoding="utf-8")
    found = report.report(world)
    if as_json:
        dump(found.plain())
        return
    show(found)
    say(f"{days} days from {first:%Y-%m-%d %H:%M}, {len(folk)} people: {len(world.outbox.taken)} messages")


def _lines(file: Path) -> list[bytes]:
    return file.read_bytes().splitlines()


def _as_live(definitions: Definitions) -> list[Trigger]:
    """What would run if everything that is not paused went live."""
    return [
        trigger if trigger.status == "paused" else trigger.model_copy(update={"status": "live"})
        for trigger in (*definitions.triggers.values(), *made(definitions).triggers.values())
    ]


def _consents(triggers: Sequence[Trigger]) -> list[str]:
    """What the triggers ask people to have agreed to."""
    asked = {f"{one.consent.channel}/{one.consent.topic}" for one in triggers if one.consent}
    return sorted(asked)
