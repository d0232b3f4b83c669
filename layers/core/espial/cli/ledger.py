"""`espial ledger`: what came in, hour by hour and source by source, and what became of it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from espial.cli import stores
from espial.cli.output import dump, say, table
from espial.ledger import CONSUMERS, Balance, plain
from espial.services.ledger import between

FORMATS = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d"]
_WORDS = {
    "unaccounted": "items without a verdict",
    "overcounted": "verdicts too many",
    "unpublished": "recorded and not published",
    "unrouted": "published and not arrived at a consumer",
    "unfed": "recorded and not known to a feed",
    "unexplained": "published and not known as recorded",
    "pending": "items wait for a retry",
    "unfinished": "chunks of files not read to their end",
}


def ledger(
    ctx: typer.Context,
    since: Annotated[
        datetime | None, typer.Option(formats=FORMATS, help="From the hour of this time on, UTC. Default: a day ago.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=FORMATS, help="Before this time, UTC. Default: now.")
    ] = None,
    platform: Annotated[str | None, typer.Option(help="Of this platform, or `platform/connection`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: an hour of a source a line.")] = False,
) -> None:
    """What was received, recorded, published and routed, by hour and source, and whether it balances."""
    now = datetime.now(UTC)
    end = until.replace(tzinfo=UTC) if until else now
    start = since.replace(tzinfo=UTC) if since else end - timedelta(days=1)
    found = list(between(stores.ledger(ctx.obj), start, end, platform))
    if as_json:
        dump([plain(balance, now) for balance in found])
    elif not found:
        say("nothing was received")
    else:
        _show(found, now)


def _show(found: list[Balance], now: datetime) -> None:
    table(("hour", "source", "in", "new", "again", "refused", "bus", "off", "routed"), map(_row, found))
    for balance in found:
        for feed, outcomes in sorted(balance.feeds.items()):
            told = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(outcomes.items()))
            say(f"{balance.hour:%m-%d %Hh} {balance.source}, feed {feed}: {told}")
        for kind, difference in sorted(balance.differences.items()):
            about = f"{balance.hour:%Y-%m-%dT%H} {balance.source}"
            say(f"{balance.state(now)}: {about}: {difference.count} {_WORDS[kind]}")
            for event_id in difference.ids:
                say(f"  {event_id}")
    states = Counter(balance.state(now) for balance in found)
    say(", ".join(f"{states[state]} {state}" for state in ("balanced", "open", "unbalanced") if states[state]))


def _row(balance: Balance) -> list[str]:
    numbers = (
        balance.received,
        balance.recorded,
        balance.duplicates + balance.conflicts,
        balance.quarantined.total(),
        balance.published,
        balance.off.total(),
        min(balance.routed[consumer] for consumer in CONSUMERS),
    )
    return [f"{balance.hour:%m-%d %Hh}", balance.source, *(f"{number:,}" for number in numbers)]
