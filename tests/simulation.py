"""Triggers under a simulated clock: the real stores over a table in memory, and a sender that only keeps the books."""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import count
from typing import Any, cast

from botocore.exceptions import ClientError

from espial import own_events
from espial.events import BEHAVIOUR_KEYS, Cart, Commerce, Event, Order, Person, PersonKey, Product, encode, home_key
from espial.messages import Receipt
from espial.normalise import Recordable
from espial.ports import Recorded
from espial.services.run_triggers import Tally, TriggerRunner
from espial.simulation.memory import MemoryPublished
from espial.stores.people_table import DecisionsTable, PeopleTable, RunsTable
from espial.triggers.decision import decide, exit_of
from espial.triggers.definition import Trigger
from espial.vocabulary import EventType
from tests.builders import NOON, an_event


def condition_failed() -> ClientError:
    """What boto3 raises for a condition that does not hold."""
    return ClientError({"Error": {"Code": "ConditionalCheckFailedException"}}, "PutItem")


class MemoryTable:
    """The DynamoDB operations our stores use, on a dict; conditions are `name = :value` joined by AND."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], dict[str, Any]] = {}

    def get_item(self, *, Key: Any, **_: Any) -> dict[str, Any]:  # noqa: N803
        item = self.items.get((Key["pk"]["S"], Key["sk"]["S"]))
        return {"Item": item} if item else {}

    def put_item(self, **request: Any) -> dict[str, Any]:
        item, condition = request["Item"], request.get("ConditionExpression", "")
        key = (item["pk"]["S"], item["sk"]["S"])
        before = self.items.get(key)
        values = request.get("ExpressionAttributeValues", {})
        for name, value in re.findall(r"(\w+) = (:\w+)", condition):
            if before is None or before.get(name) != values[value]:
                raise condition_failed()
        if "attribute_not_exists" in condition and before is not None:
            raise condition_failed()
        self.items[key] = item
        return {}

    def transact_write_items(self, *, TransactItems: Any) -> dict[str, Any]:  # noqa: N803
        for item in TransactItems:
            self.put_item(**item["Put"])
        return {}

    def query(self, **request: Any) -> dict[str, Any]:
        pk, first, last = (request["ExpressionAttributeValues"][name]["S"] for name in (":pk", ":first", ":last"))
        backwards = not request.get("ScanIndexForward", True)
        found = [key for key in sorted(self.items, reverse=backwards) if key[0] == pk and first <= key[1] <= last]
        return {"Items": [self.items[key] for key in found]}


class MemoryEvents:
    """The insert of EventsTable over a `MemoryTable`."""

    def __init__(self, table: MemoryTable) -> None:
        self.table = table
        self.added: list[Event] = []

    def add(self, records: Any, **_: Any) -> list[Any]:
        return [self._add(record) for record in records]

    def _add(self, record: Recordable) -> Recorded:
        item = {
            "pk": {"S": record.home},
            "sk": {"S": f"E#{record.event.event_id}"},
            "body": {"S": record.body.decode()},
        }
        try:
            self.table.put_item(Item=item, ConditionExpression="attribute_not_exists(pk)")
        except ClientError:
            return Recorded.DUPLICATE
        self.added.append(record.event)
        return Recorded.NEW


class World:
    """One stack: `happens` records and handles an event, `until` runs the timers, `sent` is what went out."""

    def __init__(self, *triggers: Trigger, now: datetime = NOON) -> None:
        self.now = now
        self.triggers = triggers
        self.table = MemoryTable()
        self.events = cast("Any", MemoryEvents(self.table))
        self.people = PeopleTable(self.table, "events")
        self.runs: Any = RunsTable(self.table, "events")
        self.decisions = DecisionsTable(self.table, "events")
        self.pending: list[tuple[datetime, int, dict[str, Any]]] = []
        self.set: list[datetime] = []
        self.sent: list[tuple[datetime, Any]] = []
        self._numbers = count()
        self.runner = TriggerRunner(
            people=self.people, runs=self.runs, decisions=self.decisions, timers=self, events=self.events
        )

    # ports.Timers

    def at(self, due_at: datetime, message: Mapping[str, Any], key: str, *, now: datetime) -> None:
        self.set.append(due_at)
        heapq.heappush(self.pending, (max(due_at, now), next(self._numbers), dict(message)))

    # the world

    def records(self, event: Event) -> None:
        """The event is in the table; nobody has looked at it yet."""
        self.events.add([Recordable(event, encode(event), home_key(event, BEHAVIOUR_KEYS))])

    def handles(self, event: Event) -> Tally:
        """run_triggers gets it from the bus, perhaps again."""
        return self.runner.on_event(event, MemoryPublished(self.triggers, {}, {}), self.now)

    def happens(self, event: Event) -> Tally:
        self.records(event)
        return self.handles(event)

    def until(self, moment: datetime) -> None:
        """Let time pass; each timer fires at its instant."""
        while self.pending and self.pending[0][0] <= moment:
            at, _, message = heapq.heappop(self.pending)
            self.now = max(self.now, at)
            self.fires(message)
        self.now = max(self.now, moment)

    def fires(self, message: Mapping[str, Any]) -> None:
        """send_message gets a message from the SendQueue: decide again, and hand over or write down why not."""
        trigger = next(trigger for trigger in self.triggers if trigger.name == message["trigger"])
        run = self.runs.get(message["person"], message["trigger"], message["key"])
        assert run is not None
        person = self.people.load(PersonKey.parse(run.person))
        decision = decide(trigger, run, person, self.now)
        if decision.outcome == "wait":
            assert decision.until is not None
            self.at(decision.until, message, "", now=self.now)
        elif decision.outcome == "send":
            self.sent.append((self.now, run.event))
            receipt = Receipt(provider="ses", provider_message_id="m", at=self.now)
            self.events.add([own_events.message_requested(run, receipt, channel="email")])
            self.runs.finish(run, "sent", closed_at=self.now)
        elif decision.outcome == "skip":
            ended = exit_of(trigger, run, person)
            at = ended.event.occurred_at if ended else run.due_at
            self.events.add([own_events.message_skipped(run, decision, at=at)])
            if ended:
                at, by = ended.event.occurred_at, ended.event.event_id
                self.runs.finish(run, "exited", closed_at=at, reason=decision.reason, ended_by=by)
            else:
                self.runs.finish(run, "skipped", closed_at=self.now, reason=decision.reason)

    def skipped(self) -> list[str]:
        """The reasons of every message_skipped event."""
        skips = [event for event in self.events.added if event.type is EventType.MESSAGE_SKIPPED]
        return [event.properties["reason"] for event in skips]


ADA = Person(external_id="P-1001", email="ada@example.com")


def at(clock: str, *, day: int = 20) -> datetime:
    """An instant of the day: `10:30:00`."""
    hour, minute, second = (int(part) for part in clock.split(":"))
    return NOON.replace(day=day, hour=hour, minute=minute, second=second)


def behaviour(type_: EventType, when: datetime, identity: str = "", **fields: Any) -> Event:
    """Something Ada did."""
    fields.setdefault("person", ADA)
    return an_event(
        f"{type_}/{identity}",
        type=type_,
        platform_type=type_.value,
        channel="web",
        platform="segment",
        occurred_at=when,
        received_at=when,
        **fields,
    )


def cart(when: datetime, *items: str, id: str = "77", **fields: Any) -> Event:
    """Ada's cart as it was then; without items it was emptied."""
    lines = tuple(Product(id=item, name=item, price=9.5, quantity=1) for item in items)
    commerce = Commerce(cart=Cart(id=id, items=lines))
    return behaviour(EventType.CART_UPDATED, when, f"{id}/{when.isoformat()}/{items}", commerce=commerce, **fields)


def order(when: datetime, *, cart_id: str | None = "77", **fields: Any) -> Event:
    """Ada bought it."""
    commerce = Commerce(order=Order(id=f"order-{when.isoformat()}", cart_id=cart_id))
    return behaviour(EventType.ORDER_COMPLETED, when, f"{cart_id}/{when.isoformat()}", commerce=commerce, **fields)


def agrees(when: datetime = NOON - timedelta(days=9), **fields: Any) -> Event:
    """Ada signs up for marketing mail."""
    said = {"topic": "marketing", "channel": "email"}
    return behaviour(EventType.SUBSCRIBED, when, when.isoformat(), properties=said, **fields)


def a_trigger(**fields: Any) -> Trigger:
    """The cart trigger: an hour after the last edit, unless bought or emptied."""
    return Trigger.model_validate(
        {
            "name": "cart",
            "status": "live",
            "on": ["cart_updated"],
            "key": "event.commerce.cart.id",
            "wait": "1h",
            "restart": True,
            "exit_on": [
                {
                    "name": "bought",
                    "event": "order_completed",
                    "when": "!has(event.commerce.order.cart_id) || event.commerce.order.cart_id == run.key",
                },
                {
                    "name": "cart_emptied",
                    "event": "cart_updated",
                    "when": "event.commerce.cart.id == run.key && size(event.commerce.cart.items) == 0",
                },
            ],
            "consent": {"channel": "email", "topic": "marketing"},
            "send": {"provider": "ses", "template": "cart-reminder"},
            **fields,
        }
    )
