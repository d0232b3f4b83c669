"""FeedsTable: what feeds have written and delivered, and by what responses find their sends (`espial.feeds.files`).

pk                      sk               what
F#<feed>                STATE            how far the feed is, and who writes it
F#<feed>                B#<number>       a committed batch
F#<feed>                T#<token>        the same batch by its token
F#<feed>                S#<sink>         how far a sink is
K#<feed>#<key>          K                the sends under a key, and the responses that wait for one
W#<feed>#<event id>     W                a waiting response
D#<feed>#<hour>         <event id>       a response whose time ends in that hour
"""

from __future__ import annotations

import random
import time
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any, TypeVar

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from espial.errors import TryAgain
from espial.feeds.files import Batch, Delivered, Entry, Positions, Standing, Waiting
from espial.stores.batches import batches

KEYS_A_CALL = 100
WRITES_A_CALL = 25
ATTEMPTS = 6

KEPT = timedelta(days=400)
"""How long batches are known: as long as their files are kept."""

_HOUR = timedelta(hours=1)
_PERMANENT = ("ValidationException", "ItemCollectionSizeLimitExceededException", "AccessDeniedException")
"""No retry mends these: somebody has to know."""

_Item = dict[str, Any]
T = TypeVar("T")
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class _Table:
    """Calls of one table that time may mend."""

    def __init__(self, dynamodb: Any, table: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._sleep = sleep

    def _call(self, name: str, **request: Any) -> Any:
        """Raises TryAgain; ClientError of a condition that does not hold."""
        try:
            return getattr(self._dynamodb, name)(**request)
        except ClientError as exc:
            code = exc.response["Error"]["Code"]
            if code in ("ConditionalCheckFailedException", "TransactionCanceledException", *_PERMANENT):
                raise
            raise TryAgain(f"FeedsTable answered {code}") from exc
        except BotoCoreError as exc:
            raise TryAgain(f"FeedsTable cannot be reached: {type(exc).__name__}") from exc

    def _get(self, keys: Iterable[tuple[str, str]]) -> Iterator[_Item]:
        """The items that there are, read consistently."""
        for some in batches(keys, count=KEYS_A_CALL):
            wanted = [{"pk": {"S": pk}, "sk": {"S": sk}} for pk, sk in some]
            for attempt in self._attempts():
                asked = {self._table: {"Keys": wanted, "ConsistentRead": True}}
                answer = self._call("batch_get_item", RequestItems=asked)
                yield from answer["Responses"].get(self._table, ())
                wanted = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
                if not wanted:
                    break
                self._pause(attempt)

    def _put(self, items: Iterable[_Item]) -> None:
        self._write({"PutRequest": {"Item": item}} for item in items)

    def _write(self, requests: Iterable[_Item]) -> None:
        for some in batches(requests, count=WRITES_A_CALL):
            left = some
            for attempt in self._attempts():
                answer = self._call("batch_write_item", RequestItems={self._table: left})
                left = answer.get("UnprocessedItems", {}).get(self._table, [])
                if not left:
                    break
                self._pause(attempt)

    def _attempts(self) -> Iterator[int]:
        yield from range(ATTEMPTS)
        raise TryAgain("FeedsTable is throttled")

    def _pause(self, attempt: int) -> None:
        self._sleep(random.uniform(0.5, 1) * 0.05 * 2**attempt)  # noqa: S311  jitter

    def _query(self, pk: str, first: str, last: str) -> Iterator[_Item]:
        start: dict[str, Any] = {}
        while True:
            answer = self._call(
                "query",
                TableName=self._table,
                KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
                ExpressionAttributeValues={":pk": {"S": pk}, ":first": {"S": first}, ":last": {"S": last}},
                ConsistentRead=True,
                **start,
            )
            yield from answer["Items"]
            if not (behind := answer.get("LastEvaluatedKey")):
                return
            start = {"ExclusiveStartKey": behind}


class FeedBookTable(_Table):
    """The table behind `FeedBook`."""

    def take(self, feed: str, *, now: datetime, until: datetime) -> Standing | None:
        """See `FeedBook.take`."""
        holder = token_hex(12)
        try:
            answer = self._call(
                "update_item",
                TableName=self._table,
                Key={"pk": {"S": f"F#{feed}"}, "sk": {"S": "STATE"}},
                UpdateExpression="SET holder = :holder, held_until = :until",
                ConditionExpression="attribute_not_exists(held_until) OR held_until <= :now",
                ExpressionAttributeValues={":holder": {"S": holder}, ":until": _at(until), ":now": _at(now)},
                ReturnValues="ALL_NEW",
            )
        except ClientError:
            return None
        body = answer["Attributes"].get("body", {}).get("S")
        known = msgspec.json.decode(body, type=Standing) if body else Standing(feed=feed, holder=holder)
        return msgspec.structs.replace(known, holder=holder)

    def standing(self, feed: str) -> Standing | None:
        """How far the feed is, for who only looks; None before its first batch."""
        for item in self._get([(f"F#{feed}", "STATE")]):
            if "body" in item:
                return _decode(item, Standing)
        return None

    def commit(
        self, standing: Standing, batch: Batch, series: Mapping[str, int], due_from: datetime | None = None
    ) -> bool:
        """See `FeedBook.commit`. One transaction."""
        ttl = {"N": str(int((batch.closed_at + KEPT).timestamp()))}
        # Compressed: a year's backfill has a file for each day and layout, a kilobyte of manifest each.
        body = {"S": b64encode(zlib.compress(msgspec.json.encode(batch))).decode()}
        after = Standing(
            feed=standing.feed,
            holder=standing.holder,
            number=batch.number,
            positions=batch.positions,
            series={**standing.series, **series},
            closed_at=batch.closed_at,
            due_from=due_from,
            open_day=batch.open_day,
        )
        pk = {"S": f"F#{standing.feed}"}
        new = [
            {"pk": pk, "sk": {"S": f"B#{batch.number:09}"}, "body": body, "ttl": ttl},
            {"pk": pk, "sk": {"S": f"T#{batch.token}"}, "ttl": ttl},
        ]
        puts = [
            {"Put": {"TableName": self._table, "Item": item, "ConditionExpression": "attribute_not_exists(pk)"}}
            for item in new
        ]
        try:
            self._call("transact_write_items", TransactItems=[{"Update": self._move(standing, after)}, *puts])
        except ClientError as exc:
            if exc.response["Error"]["Code"] in _PERMANENT:
                raise
            # An answer that was lost: what is there may be this very batch.
            return self.committed(standing.feed, [batch.token]) == {batch.token}
        return True

    def skip(self, standing: Standing, positions: Positions, due_from: datetime | None = None) -> bool:
        """See `FeedBook.skip`. That nothing is due is noted with the hour."""
        hour = due_from and due_from.replace(minute=0, second=0, microsecond=0)
        if positions == standing.positions and (hour is None or (standing.due_from or _LONG_AGO) >= hour):
            return True
        after = msgspec.structs.replace(standing, positions=dict(positions), due_from=due_from)
        try:
            self._call("update_item", **self._move(standing, after))
        except ClientError:
            return False
        return True

    def _move(self, standing: Standing, after: Standing) -> dict[str, Any]:
        return {
            "TableName": self._table,
            "Key": {"pk": {"S": f"F#{standing.feed}"}, "sk": {"S": "STATE"}},
            "UpdateExpression": "SET body = :body",
            "ConditionExpression": "holder = :holder",
            "ExpressionAttributeValues": {
                ":body": {"S": msgspec.json.encode(after).decode()},
                ":holder": {"S": standing.holder},
            },
        }

    def release(self, standing: Standing) -> None:
        """See `FeedBook.release`. Where that fails the right ends by itself."""
        try:
            self._call(
                "update_item",
                TableName=self._table,
                Key={"pk": {"S": f"F#{standing.feed}"}, "sk": {"S": "STATE"}},
                UpdateExpression="SET held_until = :nothing",
                ConditionExpression="holder = :holder",
                ExpressionAttributeValues={":nothing": {"N": "0"}, ":holder": {"S": standing.holder}},
            )
        except (ClientError, TryAgain):
            return

    def committed(self, feed: str, tokens: Sequence[str]) -> set[str]:
        """See `FeedBook.committed`."""
        keys = [(f"F#{feed}", f"T#{token}") for token in tokens if token]
        return {item["sk"]["S"].removeprefix("T#") for item in self._get(keys)}

    def batches(self, feed: str, *, after: int = 0) -> Iterator[Batch]:
        """See `FeedBook.batches`."""
        for item in self._query(f"F#{feed}", f"B#{after + 1:09}", "B#~"):
            yield msgspec.json.decode(zlib.decompress(b64decode(item["body"]["S"])), type=Batch)

    def delivered(self, feed: str, sink: str) -> Delivered:
        """See `FeedBook.delivered`."""
        for item in self._get([(f"F#{feed}", f"S#{sink}")]):
            return _decode(item, Delivered)
        return Delivered(feed=feed, sink=sink)

    def deliver(self, before: Delivered, after: Delivered) -> bool:
        """See `FeedBook.deliver`."""
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
        if before != Delivered(feed=before.feed, sink=before.sink):
            condition = {
                "ConditionExpression": "body = :before",
                "ExpressionAttributeValues": {":before": {"S": msgspec.json.encode(before).decode()}},
            }
        item = {
            "pk": {"S": f"F#{after.feed}"},
            "sk": {"S": f"S#{after.sink}"},
            "body": {"S": msgspec.json.encode(after).decode()},
        }
        try:
            self._call("put_item", TableName=self._table, Item=item, **condition)
        except ClientError:
            return self.delivered(after.feed, after.sink) == after
        return True


class SendIndexTable(_Table):
    """The table behind `SendIndex`, for one feed. What is written is forgotten after `kept`."""

    def __init__(
        self,
        dynamodb: Any,
        table: str,
        feed: str,
        *,
        kept: timedelta,
        now: datetime,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(dynamodb, table, sleep)
        self._feed = feed
        self._ttl = {"N": str(int((now + kept).timestamp()))}

    def entries(self, keys: Sequence[str]) -> dict[str, Entry]:
        """See `SendIndex.entries`."""
        prefix = f"K#{self._feed}#"
        found = self._get((prefix + key, "K") for key in keys)
        return {item["pk"]["S"].removeprefix(prefix): _decode(item, Entry) for item in found}

    def put(self, entries: Mapping[str, Entry]) -> None:
        """See `SendIndex.put`."""
        self._put(self._item(f"K#{self._feed}#{key}", "K", entry) for key, entry in entries.items())

    def waiting(self, ids: Sequence[str]) -> dict[str, Waiting]:
        """See `SendIndex.waiting`."""
        found = [_decode(item, Waiting) for item in self._get((f"W#{self._feed}#{known}", "W") for known in ids)]
        return {one.event.event_id: one for one in found}

    def keep(self, waiting: Sequence[Waiting]) -> None:
        """See `SendIndex.keep`. What was fed needs no reminder."""
        self._put(
            {"pk": {"S": self._due(one.until)}, "sk": {"S": one.event.event_id}, "ttl": self._ttl}
            for one in waiting
            if not one.fed_by
        )
        self._put(self._item(f"W#{self._feed}#{one.event.event_id}", "W", one) for one in waiting)

    def remind_no_more(self, waiting: Mapping[str, datetime]) -> None:
        """See `SendIndex.remind_no_more`."""
        keys = ({"pk": {"S": self._due(until)}, "sk": {"S": event_id}} for event_id, until in waiting.items())
        self._write({"DeleteRequest": {"Key": key}} for key in keys)

    def due(self, since: datetime, until: datetime) -> Iterator[str]:
        """See `SendIndex.due`: whole hours, and the one before for clocks that differ."""
        hour = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0) - _HOUR
        while hour <= until:
            for item in self._query(self._due(hour), " ", "~"):
                yield item["sk"]["S"]
            hour += _HOUR

    def _due(self, instant: datetime) -> str:
        return f"D#{self._feed}#{instant.astimezone(UTC):%Y-%m-%dT%H}"

    def _item(self, pk: str, sk: str, body: msgspec.Struct) -> _Item:
        return {"pk": {"S": pk}, "sk": {"S": sk}, "body": {"S": msgspec.json.encode(body).decode()}, "ttl": self._ttl}


def _decode(item: _Item, kind: type[T]) -> T:
    return msgspec.json.decode(item["body"]["S"], type=kind)


def _at(moment: datetime) -> dict[str, str]:
    """Milliseconds since the epoch."""
    return {"N": str(round(moment.timestamp() * 1000))}
