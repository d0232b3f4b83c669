"""People enter triggers without an event of theirs: by a segment at once, by a schedule with the walk of its time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from espial.services.enter_people import FIRST
from espial.stores.walks_table import WalksTable
from tests.local.by_hand import ByHand
from tests.local.world import SCHEDULED, World


def test_a_segment_and_a_schedule(world: World):
    """Gold members are welcomed within seconds; those of Leeds get their mail when the time comes, once."""
    with ByHand(world, "EnterPeople") as walker:
        walks = WalksTable(world.stack.cloud.client("dynamodb"), world.stack.outputs["EventsTable"])
        world.until(
            "who is a member already is noted", lambda: walker.run({}) is not None and walks.is_done("gold", FIRST)
        )
        addresses = {name: world.shopper(name, city="Leeds") for name in ("entry-one", "entry-two")}
        world.until("both are known", lambda: all(world.events_of(address) for address in addresses.values()))
        gold = addresses["entry-one"]
        traits = {"email": gold, "tier": "gold"}
        assert world.track("identify", messageId="entry-one-gold", userId="entry-one", traits=traits) == 200
        world.until("the member's mail", lambda: world.mails_to(gold))
        ahead = (SCHEDULED - datetime.now(UTC) + timedelta(minutes=1)).total_seconds()
        assert walker.run({}, ahead)["leeds.entered"] == 2
        assert not walker.run({}, ahead).get("leeds.entered")
    runs = {name: {"gold", "leeds"} if name == "entry-one" else {"leeds"} for name in addresses}
    world.becomes(runs, lambda: {name: world.triggers(f"id:{name}") for name in addresses})
    assert len(world.mails_to(gold)) == 1
