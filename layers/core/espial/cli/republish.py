"""`espial republish`: events that were recorded and never reached the bus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import typer

from espial.cli import stores
from espial.cli.output import complain, say
from espial.cli.stack import Failed, Stack
from espial.errors import MalformedDelivery
from espial.events import Event, PersonKey
from espial.services import republish as service
from espial.services.publish_events import wanted_by
from espial.services.republish import Gap
from espial.services.timeline import timeline

FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
HELD_SECONDS = 900
"""How long a message is this command's alone."""

MOST_OF_A_PERSON = 100_000

Time = Annotated[datetime | None, typer.Option(formats=FORMATS, help="Received from (to) then on, in UTC.")]
Put = Callable[[Iterable[Event]], Counter[str]]


def republish(
    ctx: typer.Context,
    person: Annotated[str | None, typer.Option(metavar="KEY", help="As for `events --person`.")] = None,
    since: Time = None,
    until: Time = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Also what no trigger wants, as with PublishEverything.")
    ] = False,
) -> None:
    """Publish again what was recorded and never reached the bus.

    Without --person and --since: what StreamDeadLetterQueue tells of. Whoever takes
    events from the bus knows them by their id: publishing one twice changes nothing.
    """
    stack: Stack = ctx.obj
    wanted = None if everything else wanted_by(stores.definitions(stack).active() or {})
    put = partial(service.republish, bus=stores.event_bus(stack), wanted=wanted)
    if person is None and since is None:
        if until is not None:
            raise typer.BadParameter("needs --since or --person", param_hint="--until")
        _tell(*_from_queue(stack, put))
    else:
        first, last = (at.replace(tzinfo=UTC) if at else None for at in (since, until))
        found = _of_person(stack, person) if person else stores.past_events(stack).all()
        _tell(put(service.received(found, first, last)), 0)


def _of_person(stack: Stack, person: str) -> list[Event]:
    try:
        keys = stores.keys_of(stack, PersonKey.parse(person))
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--person") from exc
    found = timeline(stores.events(stack), lambda _: keys, keys[0], limit=MOST_OF_A_PERSON)
    return [stored.event for stored in found]


def _from_queue(stack: Stack, put: Put) -> tuple[Counter[str], int]:
    """Publish every gap the queue tells of: what became of the events, and how many messages stay.

    What the stream has forgotten is looked for in the table, once for all gaps.
    """
    past, queue = stores.past_events(stack), _Queue(stack)
    tally: Counter[str] = Counter()
    forgotten: list[tuple[Gap, str]] = []
    for body, receipt in queue.messages():
        try:
            gap = service.read_gap(body)
        except MalformedDelivery as exc:
            complain(f"a message stays: {exc}")
            queue.keep(receipt)
            continue
        found = past.in_stream(gap.stream, gap.shard, gap.first, gap.last)
        if found is None:
            forgotten.append((gap, receipt))
        else:
            tally += queue.settle([receipt], put(found))
    if forgotten:
        complain(f"the stream has forgotten {len(forgotten)} of them: going through the table")
        found_again = (event for event in past.all() if any(gap.may_hold(event) for gap, _ in forgotten))
        tally += queue.settle([receipt for _, receipt in forgotten], put(found_again))
    queue.release()
    return tally, len(queue.kept)


class _Queue:
    """StreamDeadLetterQueue. A message is removed only when its events are on the bus."""

    def __init__(self, stack: Stack) -> None:
        self._sqs = stack.client("sqs")
        self._url = stack.stream_dead_letter_queue_url
        self.kept: list[str] = []

    def messages(self) -> Iterator[tuple[str, str]]:
        """Body and receipt of each."""
        while True:
            answer = self._sqs.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=1, VisibilityTimeout=HELD_SECONDS
            )
            found: list[dict[str, Any]] = answer.get("Messages", [])
            if not found:
                return
            yield from ((message["Body"], message["ReceiptHandle"]) for message in found)

    def settle(self, receipts: list[str], tally: Counter[str]) -> Counter[str]:
        """Remove the messages if all their events were taken; returns the tally."""
        for receipt in receipts:
            if tally["failed"]:
                self.keep(receipt)
            else:
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=receipt)
        return tally

    def keep(self, receipt: str) -> None:
        self.kept.append(receipt)

    def release(self) -> None:
        """Let the next run find at once what was kept."""
        for receipt in self.kept:
            self._sqs.change_message_visibility(QueueUrl=self._url, ReceiptHandle=receipt, VisibilityTimeout=0)


def _tell(tally: Counter[str], kept: int) -> None:
    say(f"{tally['published']} events published")
    if tally["unwanted"]:
        say(f"{tally['unwanted']} more that no trigger wants (--everything publishes them too)")
    if tally["backfill"]:
        say(f"{tally['backfill']} more that were recorded as backfill, to trigger nothing")
    if tally["failed"] or kept:
        raise Failed(f"{tally['failed']} events were refused by the bus, {kept} messages stay: run it again")
