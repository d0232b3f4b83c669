"""The ledger of the whole stack: webhooks, tracking and a file balance, and a planted loss is told (goal 27)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from espial.ledger import Entry, Sheet, hour_of
from espial.stores.ledger_table import LedgerTable
from tests.local.by_hand import ByHand
from tests.local.test_channels import as_file, as_posted, key, opens
from tests.local.world import MUG, World, sendgrid_events


def ledger(world: World, source: str) -> dict[str, Any]:
    """What `espial ledger` says of a source, its hours together."""
    said = world.stack.espial("ledger", "--platform", source, "--json").stdout
    hours = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    total: dict[str, Any] = {"differences": []}
    for hour in hours:
        total["differences"] += hour["differences"]
        for name, count in {**hour["record"], **hour["publish"], **hour["route"]}.items():
            known = total.get(name, 0 if isinstance(count, int) else {})
            if isinstance(count, dict):
                total[name] = {one: known.get(one, 0) + count.get(one, 0) for one in {*known, *count}}
            else:
                total[name] = known + count
    return total


def since(before: dict[str, Any], after: dict[str, Any], *names: str) -> list[int]:
    """By how much the counts have grown."""
    return [after.get(name, 0) - before.get(name, 0) for name in names]


STAGES = ("received", "recorded", "duplicates", "published", "run_triggers")


def settled(world: World, *sources: str) -> None:
    """Wait until nothing is on its way; what a feed collects for its next file is fetched."""

    def differences(source: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ledger(world, source)["differences"]
        if "unfed" in {difference["kind"] for difference in found}:
            world.stack.espial("feeds", "write", "cdp")
        return found

    for source in sources:
        world.becomes([], lambda source=source: differences(source))  # type: ignore[misc]


def test_webhooks_tracking_and_a_file_balance(world: World):
    """Bad items, repeats, the same events by HTTP and in a file: every one is accounted for, to the last consumer."""
    sources = ("sendgrid/sendgrid-main", "braze/braze-main", "segment/shop")
    before = [ledger(world, source) for source in sources]
    events, rows = sendgrid_events("balance", 12), opens("balance", 30)
    bad = {"email": "1.balance@example.com"}
    for items in ([*events, bad], [*events[:4], bad, bad]):
        assert 200 == world.sendgrid(items)
    body = json.dumps({"events": [as_posted(row) for row in rows[:10]]}).encode()
    assert 200 == world.post("braze-main", "braze", body, now=datetime.now(UTC))
    world.drop(key("balance"), as_file(rows))
    assert 200 == world.cart("balance", "c-balance", MUG)
    world.until("all is recorded", lambda: len(world.events_of("balance@")) >= 30)
    world.until("nothing waits", lambda: not any(map(world.waiting, ("RawQueue", "ChunkQueue", "TriggerQueue"))))
    settled(world, *sources)
    after = [ledger(world, source) for source in sources]
    grown = [since(*pair, *STAGES) for pair in zip(before, after, strict=True)]
    assert [[19, 12, 4, 12, 12], [40, 30, 10, 30, 30], [1, 1, 0, 1, 1]] == grown
    assert 3 == sum(after[0]["quarantined"].values()) - sum(before[0].get("quarantined", {}).values())


def test_a_planted_loss_is_told_with_its_id_and_counted_for_the_alarm(world: World):
    """One event's way out of the stream and to the triggers is struck from the notes, as if it had been lost there."""
    source = "sendgrid/sendgrid-main"
    assert 200 == world.sendgrid(sendgrid_events("missing", 5))
    world.until("all is recorded", lambda: len(world.events_of("missing@")) == 5)
    settled(world, source)
    lost = world.events_of("missing@")[2]
    kept = LedgerTable(world.stack.cloud.client("dynamodb"), world.stack.outputs["EventsTable"])
    sheets = list(kept.sheets(hour_of(datetime.fromisoformat(lost["received_at"]))))
    with struck(world, kept, [sheet for sheet in sheets if sheet.stage != "record"], lost["event_id"]):
        assert [{"kind": "unpublished", "count": 1, "ids": [lost["event_id"]]}] == ledger(world, source)["differences"]
        with ByHand(world, "SweepExports") as sweep:
            assert source in sweep.run({}, ahead=timedelta(hours=3).total_seconds())["unbalanced"]
    settled(world, source)


@contextmanager
def struck(world: World, kept: LedgerTable, sheets: list[Sheet], event_id: str) -> Iterator[None]:
    """The sheets that name the event do so no longer, meanwhile."""
    naming = [sheet for sheet in sheets if event_id in str(sheet)]
    assert naming
    for sheet in naming:
        delete(world, sheet)
    without = [
        msgspec.structs.replace(sheet, entries=[_without(e, event_id) for e in sheet.entries]) for sheet in naming
    ]
    kept.note(without)
    yield
    for sheet in without:
        delete(world, sheet)
    kept.note(naming)


def _without(entry: Entry, event_id: str) -> Entry:
    ids = {verdict: [one for one in ids if one != event_id] for verdict, ids in entry.ids.items()}
    return msgspec.structs.replace(entry, ids=ids)


def delete(world: World, sheet: Sheet) -> None:
    table = world.stack.outputs["EventsTable"]
    for item in world.items():
        if item["sk"]["S"] == sheet.name:
            key = {"pk": item["pk"], "sk": item["sk"]}
            world.stack.cloud.client("dynamodb").delete_item(TableName=table, Key=key)
