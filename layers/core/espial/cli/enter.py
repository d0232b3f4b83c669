"""`espial enter`: have a person enter a trigger whose entry is a call."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer

from espial.campaigns.compiled import read
from espial.cli import stores
from espial.cli.output import dump, say
from espial.cli.stack import Failed, Stack
from espial.errors import Refused
from espial.events import PersonKey
from espial.services.enter_people import enter_by_call


def enter(
    ctx: typer.Context,
    trigger: Annotated[str, typer.Argument(metavar="TRIGGER", help="Its `entry` is `{call: true}`.")],
    person: Annotated[str, typer.Argument(metavar="PERSON", help="As for `events --person`.")],
    *,
    request: Annotated[str, typer.Option(help="The id of this request: once for each.")],
    properties: Annotated[str, typer.Option(help="A JSON object: `event.properties` of the event.")] = "{}",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Have a person enter a trigger, once a request id.

    The same again changes nothing; the id with something else is refused.
    """
    stack: Stack = ctx.obj
    try:
        key, said = PersonKey.parse(person), _object(properties)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    active = stores.definitions(stack).active() or {}
    written = active.get("triggers", {}).get(trigger)
    try:
        called = enter_by_call(
            read(written) if written else None,
            key,
            request,
            said,
            walks=stores.walks(stack),
            events=stores.events(stack),
            now=datetime.now(UTC),
        )
    except Refused as exc:
        raise Failed(f"{trigger}: {exc}") from exc
    if as_json:
        dump(called._asdict())
    else:
        say(f"{called.event_id}: {'entered' if called.is_new else 'entered before by this request'}")


def _object(text: str) -> dict[str, Any]:
    """Raises ValueError."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as exc:
        raise ValueError(f"properties must be a JSON object: {exc}") from exc
