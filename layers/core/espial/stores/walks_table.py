"""How far walks over all people have come, in EventsTable.

W#<trigger>  <occasion>      part, after, done; held until then by who walks
W#<trigger>  call#<request>  what was asked for under a request id of the caller's, and when
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from espial.ports import Walk
from espial.stores.conditional import ConditionalTable, Item, Unmet

KEPT = timedelta(days=30)
CALLS_KEPT = timedelta(days=60)


class WalksTable:
    """Implements `ports.Walks`. AWS permissions: dynamodb:GetItem and UpdateItem on the table."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._items = ConditionalTable(dynamodb, table, "EventsTable")

    def go_on(self, trigger: str, occasion: str, *, now: datetime, until: datetime) -> Walk | None:
        """See `ports.Walks.go_on`."""
        values = {
            ":now": _seconds(now),
            ":until": _seconds(until),
            ":ttl": _seconds(now + KEPT),
            ":done": {"BOOL": True},
        }
        condition = "(attribute_not_exists(held_until) OR held_until <= :now) AND (NOT done = :done)"
        update = "SET held_until = :until, #ttl = :ttl"
        try:
            item = self._items.update(_key(trigger, occasion), update, condition, values, {"#ttl": "ttl"})
        except Unmet:
            return None
        return Walk(int(item["part"]["N"]), item["after"]["S"]) if "part" in item else Walk()

    def reach(self, trigger: str, occasion: str, walk: Walk, *, until: datetime) -> None:
        """See `ports.Walks.reach`."""
        values: Item = {
            ":part": {"N": str(walk.part)},
            ":after": {"S": walk.after},
            ":done": {"BOOL": walk.done},
            ":until": _seconds(until),
        }
        names = {"#part": "part", "#after": "after"}
        update = "SET #part = :part, #after = :after, done = :done, held_until = :until"
        self._items.update(_key(trigger, occasion), update, "attribute_exists(pk)", values, names)

    def is_done(self, trigger: str, occasion: str) -> bool:
        """See `ports.Walks.is_done`."""
        item = self._items.get(_key(trigger, occasion))
        return item.get("done", {}).get("BOOL") is True

    def remember(self, trigger: str, request: str, content: str, *, now: datetime) -> tuple[datetime, str]:
        """See `ports.Walks.remember`."""
        key, asked = _key(trigger, f"call#{request}"), {"at": {"S": now.isoformat()}, "content": {"S": content}}
        item = {**key, **asked, "ttl": _seconds(now + CALLS_KEPT)}
        try:
            condition = "attribute_not_exists(pk)"
            self._items.call("put_item", TableName=self._items.name, Item=item, ConditionExpression=condition)
        except Unmet:
            item = self._items.get(key)
        return datetime.fromisoformat(item["at"]["S"]), item["content"]["S"]


def _key(trigger: str, occasion: str) -> Item:
    return {"pk": {"S": f"W#{trigger}"}, "sk": {"S": occasion}}


def _seconds(moment: datetime) -> Item:
    return {"N": str(int(moment.timestamp()))}
