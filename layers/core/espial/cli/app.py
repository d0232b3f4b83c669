"""`espial`: the commands, what they share, and how they fail.

Exit status: 0 done, 1 refused or failed (one clear line on standard error), 2 wrong usage.
"""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from espial.cli import (
    apply,
    catalogue,
    cdp,
    conformance,
    destinations,
    enter,
    events,
    exports,
    feeds,
    ledger,
    onboarding,
    quarantine,
    republish,
    sample,
    secrets,
    simulate,
    sink,
    templates,
    timeline,
    travel,
    triggers,
)
from espial.cli.output import complain
from espial.cli.stack import Stack
from espial.errors import EspialError, InvalidDefinition, Refused


class _Group(TyperGroup):
    """Turns whatever a command raises into a line and status 1; `--debug` lets the traceback through."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as exc:
            lines = _lines(exc)
            if not lines or ctx.meta.get("espial.debug"):
                raise
            for line in lines:
                complain(line)
            raise typer.Exit(1) from exc


def _lines(exc: Exception) -> list[str]:
    """What to say of an error; nothing for those that typer reports itself."""
    if isinstance(exc, InvalidDefinition):
        many = len(exc.problems) > 1
        return [*exc.problems, f"{len(exc.problems)} problem{'s' if many else ''}: nothing was changed"]
    if type(exc).__module__.partition(".")[0] in ("typer", "click"):
        return []
    if isinstance(exc, Refused) and exc.detail:
        return [f"espial: {exc.detail}"]
    if isinstance(exc, EspialError):
        return [f"espial: {exc}"]
    return [f"espial: {type(exc).__name__}: {' '.join(str(exc).split())} (--debug shows where)"]


app = typer.Typer(
    name="espial",
    cls=_Group,
    help="What email and engagement platforms report, as one stream of events, and what is done with it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)


@app.callback()
def _common(
    ctx: typer.Context,
    stack: Annotated[
        str | None, typer.Option(help="CloudFormation stack. Default: ESPIAL_STACK, else samconfig.toml's.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    ctx.obj = Stack(stack)
    ctx.meta["espial.debug"] = debug
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")


app.command("apply")(apply.apply)
app.command("validate")(apply.validate)
app.command("schema")(apply.schema)
app.command("events")(events.events)
app.command("explain")(events.explain)
app.command("enter")(enter.enter)
app.command("messages")(events.messages)
app.command("timeline")(timeline.timeline)
app.add_typer(quarantine.app, name="quarantine")
app.command("ledger")(ledger.ledger)
app.command("republish")(republish.republish)
app.command("preview")(templates.preview)
app.add_typer(templates.app, name="template")
app.command("conformance")(conformance.conformance)
app.command("send-sample")(sample.send_sample)
app.command("local-secrets")(secrets.local_secrets)
app.command("simulate-platform")(simulate.simulate_platform)
app.command("simulate")(travel.simulate)
app.add_typer(triggers.app, name="triggers")
app.add_typer(exports.app, name="exports")
app.add_typer(feeds.app, name="feeds")
app.add_typer(catalogue.app, name="catalogue")
app.command("cdp-load")(cdp.cdp_load)
app.add_typer(onboarding.app, name="onboarding")
app.add_typer(destinations.app, name="destinations")
app.command("attempts")(destinations.attempts)
app.command("replay")(destinations.replay)
app.command("sink")(sink.sink)
