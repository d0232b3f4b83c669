"""NotificationsTable: what waits for each destination, what was tried, and how each destination is.

pk                          sk               what
N#<destination>#<shard>     <id>             a notification; `waits` (its pk) and `due` index those that wait
L#<lease>                   LEASE            a lease: open, consumed or over
A#<destination>             <time>#<id>      an attempt, 30 days
H#<destination>             HEALTH, WORKER   how the destination is, and who works for it
H#<destination>             MAILS            how many mails it was sent that day
F#<key>                     FIRST            the first event of a kind, 30 days

A notification changes only while its `lease` is what it was read with, and each change gives it another: so reading
from the index, which lags a little, takes nothing twice. Whose lease was consumed counts as delivered, and is
written so by whoever comes by next. Before somebody takes what an older lease holds he ends that lease, so that a
batch is either consumed or taken again, whatever the clocks say.

Where order is asked for, `due` is the place in the order and never moves; `held` is until when it is held back.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import groupby, islice
from secrets import token_hex
from typing import Any

import msgspec

from espial import events
from espial.errors import TryAgain
from espial.notifications.outbox import SETTLE, Attempt, Health, Mails, Notification, State, Taken
from espial.stores.batches import batches
from espial.stores.conditional import ConditionalTable, Item, Unmet

SHARDS = 8
"""Partitions a destination: each takes 1,000 writes a second."""
STATEMENTS_A_CALL = 25
KEYS_A_CALL = 100
ATTEMPTS = 6

KEPT = timedelta(days=30)
"""How long a notification is known since it was put or replayed; attempts too."""
LEASES_KEPT = timedelta(days=90)
"""Longer than any notification that a lease could have taken."""

Key = tuple[str, str]
_FRESH: Item = {"lease": {"S": "new"}, "state": {"S": "waiting"}, "attempts": {"N": "0"}, "replayed": {"N": "0"}}
_REFUSED = frozenset({"ConditionalCheckFailed", "DuplicateItem"})


class _Table:
    """What the three share: the table, and calls that are throttled now and then."""

    def __init__(self, dynamodb: Any, table: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._items = ConditionalTable(dynamodb, table, "NotificationsTable")
        self._sleep = sleep

    def _write(self, statements: Mapping[Key, Item]) -> set[Key]:
        """Do them all; which of them the table refused because it is otherwise by now. No outcome is left open."""
        refused = set()
        left = list(statements.items())
        for attempt in self._attempts():
            again = []
            for some in batches(left, count=STATEMENTS_A_CALL):
                asked = [statement for _, statement in some]
                answers = self._items.call("batch_execute_statement", Statements=asked)["Responses"]
                for (key, statement), answer in zip(some, answers, strict=True):
                    code = answer.get("Error", {}).get("Code")
                    if code in _REFUSED:
                        refused.add(key)
                    elif code:
                        again.append((key, statement))
            if not again:
                break
            left = again
            self._pause(attempt)
        return refused

    def _read(self, keys: Collection[Key]) -> dict[Key, Item]:
        """The items that there are, read consistently."""
        found: dict[Key, Item] = {}
        for some in batches(keys, count=KEYS_A_CALL):
            wanted = [{"pk": {"S": pk}, "sk": {"S": sk}} for pk, sk in some]
            for attempt in self._attempts():
                asked = {self._items.name: {"Keys": wanted, "ConsistentRead": True}}
                answer = self._items.call("batch_get_item", RequestItems=asked)
                found |= {_key_of(item): item for item in answer["Responses"].get(self._items.name, ())}
                wanted = answer.get("UnprocessedKeys", {}).get(self._items.name, {}).get("Keys", [])
                if not wanted:
                    break
                self._pause(attempt)
        return found

    def _attempts(self) -> Iterator[int]:
        yield from range(ATTEMPTS)
        raise TryAgain("NotificationsTable is throttled")

    def _pause(self, attempt: int) -> None:
        self._sleep(random.uniform(0.5, 1) * 0.05 * 2**attempt)  # noqa: S311  jitter


class OutboxTable(_Table):
    """The table behind `Outbox`."""

    def __init__(self, dynamodb: Any, table: str, sleep: Callable[[float], None] = time.sleep) -> None:
        super().__init__(dynamodb, table, sleep)
        names = ("pk", "sk", "waits", "due", "put_at", "trigger", "body", "ttl", *_FRESH)
        self._put = f'INSERT INTO "{table}" VALUE {{{", ".join(f"{name!r}: ?" for name in names)}}}'
        update, key = f'UPDATE "{table}"', 'WHERE "pk" = ? AND "sk" = ? AND "lease" = ? AND "state" = ?'
        self._mark = f'{update} SET "lease" = ? SET "due" = ? {key}'
        self._mark_in_place = f'{update} SET "lease" = ? {key}'
        self._settle = f'{update} SET "state" = ? REMOVE "waits" {key}'
        self._release = f'{update} SET "lease" = ? SET "due" = ? SET "attempts" = ? {key}'
        self._hold = f'{update} SET "lease" = ? SET "held" = ? SET "attempts" = ? {key}'
        self._again = (
            f'{update} SET "lease" = ? SET "due" = ? SET "waits" = ? SET "state" = ? SET "attempts" = ? '
            f'SET "replayed" = ? SET "ttl" = ? REMOVE "held" {key}'
        )

    def put(self, notifications: Sequence[Notification]) -> None:
        """See `Outbox.put`."""
        statements: dict[Key, Item] = {}
        for one in notifications:
            pk, sk = _key(one.destination, one.id)
            body = {"S": events.encode(one.event).decode()}
            values = [{"S": pk}, {"S": sk}, {"S": pk}, _number(one.due), _number(one.put_at), {"S": one.trigger}, body]
            statements[pk, sk] = _statement(self._put, *values, _ttl(one.put_at + KEPT), *_FRESH.values())
        self._write(statements)

    def take(
        self,
        destination: str,
        limit: int,
        *,
        now: datetime,
        until: datetime,
        newest_first: bool = False,
        triggers: Sequence[str] = (),
        in_order: bool = False,
    ) -> Taken:
        """See `Outbox.take`."""
        lease = token_hex(12)
        found = self._due(destination, now, triggers, newest_first=newest_first)
        if in_order:
            found = _in_turn(destination, found, now)
        taken: list[Item] = []
        ended: dict[str, bool] = {}
        while len(taken) < limit and (some := list(islice(found, limit - len(taken)))):
            if not taken:
                self._open(lease, until)
            taken += self._take(some, lease, None if in_order else until, ended)
        return Taken(
            lease=lease if taken else "",
            until=until,
            notifications=_sorted(destination, taken, newest_first=newest_first, in_order=in_order),
            more=next(found, None) is not None,
        )

    def _take(self, some: Sequence[Item], lease: str, until: datetime | None, ended: dict[str, bool]) -> list[Item]:
        """Those that are ours now, hidden until then. `ended`: leases known to be at an end -> whether consumed."""
        marks: dict[Key, Item] = {}
        delivered: dict[Key, Item] = {}
        by_key = {_key_of(item): item for item in some}
        for key, item in by_key.items():
            before = item["lease"]["S"]
            if before not in ended:
                ended[before] = self._end(before)
            if ended[before]:
                delivered[key] = self._settled(key, before, "delivered")
            else:
                condition = _condition(key, before)
                if until is None:
                    marks[key] = _statement(self._mark_in_place, {"S": lease}, *condition)
                else:
                    marks[key] = _statement(self._mark, {"S": lease}, _number(until), *condition)
        self._write(delivered)
        refused = self._write(marks)
        # A write whose answer was lost is refused when it is repeated: what bears our lease is ours.
        ours = {key for key, item in self._read(refused).items() if item["lease"]["S"] == lease}
        return [by_key[key] for key in marks if key not in refused or key in ours]

    def look(
        self,
        destination: str,
        limit: int,
        *,
        now: datetime,
        newest_first: bool = False,
        triggers: Sequence[str] = (),
        in_order: bool = False,
    ) -> Taken:
        """See `Outbox.look`."""
        found = self._unconsumed(self._due(destination, now, triggers, newest_first=newest_first))
        if in_order:
            found = _in_turn(destination, found, now)
        some = list(islice(found, limit))
        return Taken(
            lease="",
            until=now,
            notifications=_sorted(destination, some, newest_first=newest_first, in_order=in_order),
            more=next(found, None) is not None,
        )

    def settle(self, destination: str, lease: str, ids: Sequence[str], state: State, *, now: datetime) -> int:  # noqa: ARG002
        """See `Outbox.settle`."""
        if self._consumed([lease]):
            return 0
        keys = [_key(destination, known) for known in dict.fromkeys(ids)]
        refused = self._write({key: self._settled(key, lease, state) for key in keys})
        there = self._read(refused)
        before = [key for key, item in there.items() if (item["lease"]["S"], item["state"]["S"]) == (lease, state)]
        return len(keys) - len(refused) + len(before)

    def release(
        self,
        destination: str,
        lease: str,
        due: Mapping[str, datetime],
        *,
        now: datetime,  # noqa: ARG002
        tried: bool = True,
        in_order: bool = False,
    ) -> int:
        """See `Outbox.release`."""
        if self._consumed([lease]):
            return 0
        back = f"back-{lease}"
        moments = {_key(destination, known): moment for known, moment in due.items()}
        held = self._read(moments)
        writes = {}
        for key, item in held.items():
            if item["lease"]["S"] == lease:
                attempts = {"N": str(int(item["attempts"]["N"]) + tried)}
                values = [{"S": back}, _number(moments[key]), attempts, *_condition(key, lease)]
                writes[key] = _statement(self._hold if in_order else self._release, *values)
        refused = self._write(writes)
        already = [item for item in held.values() if item["lease"]["S"] == back]
        again = [item for item in self._read(refused).values() if item["lease"]["S"] == back]
        return len(writes) - len(refused) + len(already) + len(again)

    def consume(self, taken: Taken, *, now: datetime) -> bool:
        """See `Outbox.consume`: one conditional write, whatever the number."""
        values = {":open": {"S": "open"}, ":consumed": {"S": "consumed"}, ":now": _number(now)}
        condition = "#state = :open AND held_until > :now"
        try:
            self._items.update(_lease(taken.lease), "SET #state = :consumed", condition, values, {"#state": "state"})
        except Unmet:
            return self._consumed([taken.lease]) == {taken.lease}  # a first try's answer may have been lost
        return True

    def replay(self, destination: str, ids: Sequence[str], *, now: datetime) -> int:
        """See `Outbox.replay`."""
        left = dict.fromkeys(_key(destination, known) for known in ids)
        again = f"again-{token_hex(12)}"
        done = 0
        for attempt in self._attempts():
            held = self._read(left)
            mine = {key for key, item in held.items() if item["lease"]["S"] == again}
            writes = {}
            for key in held.keys() - mine:
                replayed = {"N": str(int(held[key]["replayed"]["N"]) + 1)}
                values = [{"S": again}, _number(now), {"S": key[0]}, {"S": "waiting"}, {"N": "0"}, replayed]
                condition = _condition(key, held[key]["lease"]["S"], held[key]["state"]["S"])
                writes[key] = _statement(self._again, *values, _ttl(now + KEPT), *condition)
            refused = self._write(writes)
            done += len(mine) + len(writes) - len(refused)
            if not refused:
                break
            left = dict.fromkeys(refused)  # somebody changed it meanwhile
            self._pause(attempt)
        return done

    def waiting(self, destination: str) -> int:
        """See `Outbox.waiting`. Reads the index of what waits: half a read unit for every 4 KB of it."""
        return sum(1 for _ in self._unconsumed(self._due(destination, None, ())))

    def of(
        self, destination: str, *, since: datetime, until: datetime, state: State | None = None
    ) -> Iterator[Notification]:
        """See `Outbox.of`. Reads all that is known of the destination: replays are seldom, and an index is not free."""
        shards = [
            self._items.query(
                KeyConditionExpression="pk = :pk",
                FilterExpression="put_at BETWEEN :since AND :until",
                ExpressionAttributeValues={":pk": {"S": pk}, ":since": _number(since), ":until": _number(until)},
            )
            for pk in _shards(destination)
        ]
        for some in batches(heapq.merge(*shards, key=lambda item: item["sk"]["S"]), count=KEYS_A_CALL):
            consumed = self._consumed({item["lease"]["S"] for item in some if item["state"]["S"] == "waiting"})
            for item in some:
                delivered = item["state"]["S"] == "waiting" and item["lease"]["S"] in consumed
                if state in (None, "delivered" if delivered else item["state"]["S"]):
                    yield _notification(destination, item)

    # -- leases

    def _open(self, lease: str, until: datetime) -> None:
        item = {
            **_lease(lease),
            "state": {"S": "open"},
            "held_until": _number(until),
            "ttl": _ttl(until + LEASES_KEPT),
        }
        self._items.call("put_item", TableName=self._items.name, Item=item)

    def _end(self, lease: str) -> bool:
        """Nobody can consume it any more, unless it was consumed already: then True."""
        if not _is_lease(lease):
            return False
        values = {":open": {"S": "open"}, ":over": {"S": "over"}}
        try:
            self._items.update(_lease(lease), "SET #state = :over", "#state = :open", values, {"#state": "state"})
        except Unmet:
            return bool(self._consumed([lease]))
        return False

    def _consumed(self, leases: Iterable[str]) -> set[str]:
        """Which of them were consumed."""
        keys = [(f"L#{lease}", "LEASE") for lease in leases if _is_lease(lease)]
        return {pk.removeprefix("L#") for (pk, _), item in self._read(keys).items() if item["state"]["S"] == "consumed"}

    # -- items

    def _due(
        self, destination: str, now: datetime | None, triggers: Sequence[str], *, newest_first: bool = False
    ) -> Iterator[Item]:
        """Those that wait (until now), by when they are due; from the index."""
        request: Item = {
            "TableName": self._items.name,
            "IndexName": "due",
            "ScanIndexForward": not newest_first,
            "KeyConditionExpression": "waits = :pk" + (" AND due <= :now" if now else ""),
        }
        values: Item = {":now": _number(now)} if now else {}
        if triggers:
            wanted = {f":t{number}": {"S": name} for number, name in enumerate(triggers)}
            request["FilterExpression"] = f"#trigger IN ({', '.join(wanted)})"
            request["ExpressionAttributeNames"] = {"#trigger": "trigger"}
            values |= wanted
        shards = [
            self._pages({**request, "ExpressionAttributeValues": {**values, ":pk": {"S": pk}}})
            for pk in _shards(destination)
        ]
        return heapq.merge(*shards, key=lambda item: int(item["due"]["N"]), reverse=newest_first)

    def _pages(self, request: Item) -> Iterator[Item]:
        more: Item = {}
        while True:
            answer = self._items.call("query", **request, **more)
            yield from answer["Items"]
            if not answer.get("LastEvaluatedKey"):
                return
            more = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def _unconsumed(self, items: Iterable[Item]) -> Iterator[Item]:
        for some in batches(items, count=KEYS_A_CALL):
            consumed = self._consumed({item["lease"]["S"] for item in some})
            yield from (item for item in some if item["lease"]["S"] not in consumed)

    def _settled(self, key: Key, lease: str, state: State) -> Item:
        return _statement(self._settle, {"S": state}, *_condition(key, lease))


class FirstsTable(_Table):
    """The table behind `Firsts`."""

    def __init__(self, dynamodb: Any, table: str, sleep: Callable[[float], None] = time.sleep) -> None:
        super().__init__(dynamodb, table, sleep)
        self._put = f"INSERT INTO \"{table}\" VALUE {{'pk': ?, 'sk': ?, 'event': ?, 'ttl': ?}}"

    def first(self, events: Mapping[str, str], *, now: datetime) -> set[str]:
        """See `Firsts.first`."""
        ids = {(f"F#{key}", "FIRST"): event_id for key, event_id in events.items()}
        ttl = _ttl(now + KEPT)
        refused = self._write(
            {key: _statement(self._put, {"S": key[0]}, {"S": key[1]}, {"S": of}, ttl) for key, of in ids.items()}
        )
        theirs = {key for key, item in self._read(refused).items() if item["event"]["S"] != ids[key]}
        return {pk.removeprefix("F#") for pk, _ in ids.keys() - theirs}


class EvidenceTable(_Table):
    """The table behind `Evidence`."""

    def keep(self, attempts: Sequence[Attempt]) -> None:
        """See `Evidence.keep`."""
        items = [
            {
                "pk": {"S": f"A#{one.destination}"},
                "sk": {"S": f"{_sortable(one.at)}#{one.id}"},
                "body": {"S": msgspec.json.encode(one).decode()},
                "notifications": {"L": [{"S": known} for known in one.notifications]},
                "ttl": _ttl(one.at + KEPT),
            }
            for one in attempts
        ]
        for some in batches(items, count=STATEMENTS_A_CALL):
            left = [{"PutRequest": {"Item": item}} for item in some]
            for attempt in self._attempts():
                answer = self._items.call("batch_write_item", RequestItems={self._items.name: left})
                left = answer.get("UnprocessedItems", {}).get(self._items.name, [])
                if not left:
                    break
                self._pause(attempt)

    def of(self, destination: str, *, since: datetime | None = None, notification: str = "") -> Iterator[Attempt]:
        """See `Evidence.of`."""
        values: Item = {":pk": {"S": f"A#{destination}"}, ":since": {"S": _sortable(since) if since else "0"}}
        narrowed: Item = {}
        if notification:
            narrowed = {"FilterExpression": "contains(notifications, :notification)"}
            values[":notification"] = {"S": notification}
        for item in self._items.query(
            KeyConditionExpression="pk = :pk AND sk >= :since",
            ExpressionAttributeValues=values,
            ScanIndexForward=False,
            **narrowed,
        ):
            yield msgspec.json.decode(item["body"]["S"], type=Attempt)


class ConditionsTable(_Table):
    """The table behind `Conditions`."""

    def health(self, destination: str) -> Health:
        """See `Conditions.health`."""
        item = self._items.get(_state(destination, "HEALTH"))
        return msgspec.json.decode(item["body"]["S"], type=Health) if item else Health(destination=destination)

    def change(self, before: Health, after: Health) -> bool:
        """See `Conditions.change`."""
        key, is_fresh = _state(after.destination, "HEALTH"), before == Health(destination=before.destination)
        return self._swap(key, before, after, is_fresh=is_fresh) or self.health(after.destination) == after

    def mails(self, destination: str) -> Mails:
        """See `Conditions.mails`."""
        item = self._items.get(_state(destination, "MAILS"))
        return msgspec.json.decode(item["body"]["S"], type=Mails) if item else Mails(destination=destination)

    def count(self, before: Mails, after: Mails) -> bool:
        """See `Conditions.count`."""
        key, is_fresh = _state(after.destination, "MAILS"), before == Mails(destination=before.destination)
        return self._swap(key, before, after, is_fresh=is_fresh) or self.mails(after.destination) == after

    def _swap(self, key: Item, before: msgspec.Struct, after: msgspec.Struct, *, is_fresh: bool) -> bool:
        """False if it was not as before; who calls looks then, for an answer may have been lost."""
        condition = "attribute_not_exists(pk) OR body = :before" if is_fresh else "body = :before"
        item = {**key, "body": {"S": msgspec.json.encode(after).decode()}}
        try:
            self._items.call(
                "put_item",
                TableName=self._items.name,
                Item=item,
                ConditionExpression=condition,
                ExpressionAttributeValues={":before": {"S": msgspec.json.encode(before).decode()}},
            )
        except Unmet:
            return False
        return True

    def enter(self, destination: str, *, now: datetime, until: datetime) -> str:
        """See `Conditions.enter`."""
        holder = token_hex(12)
        values = {":holder": {"S": holder}, ":until": _number(until), ":now": _number(now)}
        condition = "attribute_not_exists(held_until) OR held_until <= :now OR holder = :holder"
        try:
            self._items.update(
                _state(destination, "WORKER"), "SET holder = :holder, held_until = :until", condition, values, {}
            )
        except Unmet:
            return ""
        return holder

    def leave(self, destination: str, holder: str) -> None:
        """See `Conditions.leave`."""
        values = {":holder": {"S": holder}, ":over": {"N": "0"}}
        try:
            self._items.update(_state(destination, "WORKER"), "SET held_until = :over", "holder = :holder", values, {})
        except (Unmet, TryAgain):
            return


def _key(destination: str, known: str) -> Key:
    shard = blake2b(known.encode(), digest_size=1).digest()[0] % SHARDS
    return f"N#{destination}#{shard}", known


def _shards(destination: str) -> list[str]:
    return [f"N#{destination}#{shard}" for shard in range(SHARDS)]


def _key_of(item: Item) -> Key:
    return item["pk"]["S"], item["sk"]["S"]


def _is_lease(lease: str) -> bool:
    """False for `new`, `back-…` and `again-…`: nobody has what bears one of these."""
    return lease != "new" and "-" not in lease


def _lease(lease: str) -> Item:
    return {"pk": {"S": f"L#{lease}"}, "sk": {"S": "LEASE"}}


def _state(destination: str, what: str) -> Item:
    return {"pk": {"S": f"H#{destination}"}, "sk": {"S": what}}


def _condition(key: Key, lease: str, state: str = "waiting") -> list[Item]:
    return [{"S": key[0]}, {"S": key[1]}, {"S": lease}, {"S": state}]


def _statement(statement: str, *parameters: Item) -> Item:
    return {"Statement": statement, "Parameters": list(parameters)}


def _sorted(destination: str, items: Iterable[Item], *, newest_first: bool, in_order: bool) -> tuple[Notification, ...]:
    found = [_notification(destination, item) for item in items]
    return tuple(sorted(found, key=lambda one: (one.due if in_order else one.put_at, one.id), reverse=newest_first))


def _in_turn(destination: str, items: Iterable[Item], now: datetime) -> Iterator[Item]:
    """Those that nothing older of their person stands before. `items` are by when they are due."""
    behind: set[str] = set()
    for _, same in groupby(items, key=lambda item: item["due"]["N"]):
        for item in sorted(same, key=lambda item: item["sk"]["S"]):
            one = _notification(destination, item)
            if ("held" in item and _instant(item["held"]) > now) or one.put_at > now - SETTLE:
                behind.add(one.whom)
            if one.whom not in behind:
                yield item


def _notification(destination: str, item: Item) -> Notification:
    return Notification(
        destination=destination,
        event=events.decode(item["body"]["S"]),
        trigger=item["trigger"]["S"],
        put_at=_instant(item["put_at"]),
        due=_instant(item["due"]),
        attempts=int(item["attempts"]["N"]),
        replayed=int(item["replayed"]["N"]),
    )


def _number(moment: datetime) -> Item:
    """Milliseconds since the epoch."""
    return {"N": str(round(moment.timestamp() * 1000))}


def _instant(value: Mapping[str, str]) -> datetime:
    return datetime.fromtimestamp(int(value["N"]) / 1000, UTC)


def _sortable(moment: datetime) -> str:
    return f"{round(moment.timestamp() * 1000):014}"


def _ttl(moment: datetime) -> Item:
    return {"N": str(int(moment.timestamp()))}
