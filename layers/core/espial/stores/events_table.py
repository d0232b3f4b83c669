"""EventsTable in DynamoDB: the conditional insert that is both the dedupe and the outbox (DESIGN 3).

Writes go in BatchExecuteStatement calls of 25 PartiQL statements, each with a verdict of its own: at the price
of single puts, for a tenth of their client CPU. Events are published from the table's stream, never from here, so
that an insert whose reply was lost, which reports itself as a duplicate when retried, is published all the same.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from espial import events
from espial.errors import MalformedItem, TryAgain
from espial.events import Event, PersonKey
from espial.normalise import Recordable
from espial.ports import Recorded, Stored, Verdict
from espial.stores.batches import batches

STATEMENTS_A_CALL = 25
KEYS_A_CALL = 100
LARGEST_BODY = 350_000
"""Bytes of canonical JSON an item may hold; DynamoDB takes 400 KB with names, keys and the rest."""
LARGEST_KEY = 2048
ATTEMPTS = 4

_PERMANENT = frozenset({"ValidationError", "ValidationException", "ItemCollectionSizeLimitExceeded"})
_TRANSIENT = frozenset(
    {
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "ThrottlingException",
    }
)
_SHED = ({"properties"}, {"properties", "commerce"})
_Item = dict[str, Any]
_Statement = dict[str, Any]


class EventsTable:
    """The table behind `ports.EventStore`.

    `dynamodb` is a boto3 client or a `LightClient`, which costs a third; `sleep` waits between tries and is settable
    for tests.
    """

    def __init__(self, dynamodb: Any, table: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._sleep = sleep
        into = f'INSERT INTO "{table}" VALUE '
        self._insert_event = into + "{'pk': ?, 'sk': ?, 'body': ?, 'via': ?, 'ttl': ?}"
        self._insert_shed = into + "{'pk': ?, 'sk': ?, 'body': ?, 'via': ?, 'ttl': ?, 'content': ?, 'left_out': ?}"
        self._add_transport = f'UPDATE "{table}" SET "via" = ? WHERE "pk" = ? AND "sk" = ? AND "via" = ?'  # noqa: S608

    def add(self, records: Sequence[Recordable], *, transport: str, expires_days: int) -> list[Verdict]:
        """See `ports.EventStore.add`. Raises only what no retry mends, such as a missing permission."""
        verdicts: dict[int, Verdict] = {}
        first: dict[tuple[str, str], int] = {}
        again: list[int] = []
        for index, record in enumerate(records):
            if first.setdefault(_key(record), index) != index:
                again.append(index)
        batch = _Batch(records, transport, expires_days, verdicts)
        self._settle(batch, list(first.values()))
        # DynamoDB refuses two statements on one key in a call, so repeats within the batch come after it.
        for index in again:
            leader = first[_key(records[index])]
            if isinstance(verdicts[leader], TryAgain):
                verdicts[index] = verdicts[leader]
            elif isinstance(verdicts[leader], Recorded) and batch.content(index) == batch.content(leader):
                verdicts[index] = Recorded.DUPLICATE
            else:
                self._settle(batch, [index])
        return [verdicts[index] for index in range(len(records))]

    def _settle(self, batch: _Batch, indexes: list[int]) -> None:
        """Give each record a verdict; no two of `indexes` share a key."""
        left = [index for index in indexes if not batch.refused(index)]
        try:
            for attempt in range(ATTEMPTS):
                if attempt:
                    self._sleep(random.uniform(0.5, 1) * 0.05 * 2**attempt)  # noqa: S311  jitter
                left = self._try(batch, left)
                if not left:
                    return
        except TryAgain as exc:  # the service is away: its client has retried already, the rest need not
            reason = exc
        else:
            reason = TryAgain("the table is throttled")
        for index in indexes:
            batch.verdicts.setdefault(index, reason)

    def _try(self, batch: _Batch, indexes: list[int]) -> list[int]:
        """One round of inserts; returns what is not settled yet."""
        left, duplicates = [], []
        inserts = [(index, self._insert(batch, index, f"E#{batch.records[index].event.event_id}")) for index in indexes]
        for index, code in self._execute(inserts):
            if code is None:
                batch.verdicts[index] = Recorded.NEW
            elif code == "DuplicateItem":
                duplicates.append(index)
            elif code in _PERMANENT:
                batch.verdicts[index] = MalformedItem("refused_by_table", code)
            else:
                left.append(index)
        return left + self._compare(batch, duplicates) if duplicates else left

    def _compare(self, batch: _Batch, indexes: list[int]) -> list[int]:
        """Add lineage, keep what differs; returns what is not settled yet."""
        stored = self._read([_key(batch.records[index]) for index in indexes])
        left, unseen = [], []
        for index in indexes:
            item = stored.get(_key(batch.records[index]))
            if item is None:  # not read in this round, or expired in this instant
                left.append(index)
            elif batch.transport not in item["via"]["SS"]:
                unseen.append((index, self._add_via(item, batch.transport)))
        # ConditionalCheckFailed: another worker added a transport since we read; the next round sees it.
        left += [index for index, code in self._execute(unseen) if code is not None]
        differing = []
        for index in set(indexes).difference(left):
            item, content = stored[_key(batch.records[index])], batch.content(index)
            if content == (item["content"]["S"] if "content" in item else events.content_hash_of(item["body"]["S"])):
                batch.verdicts[index] = Recorded.DUPLICATE
            else:
                sk = f"X#{batch.records[index].event.event_id}#{content}"
                differing.append((index, self._insert(batch, index, sk)))
        for index, code in self._execute(differing):
            if code is None:
                batch.verdicts[index] = Recorded.CONFLICT
            elif code == "DuplicateItem":
                batch.verdicts[index] = Recorded.DUPLICATE
            else:
                left.append(index)
        return left

    def _insert(self, batch: _Batch, index: int, sk: str) -> _Statement:
        record = batch.records[index]
        body, left_out = batch.fitted.get(index) or (record.body, ())
        expires = int(record.event.received_at.timestamp()) + batch.expires_days * 86_400
        parameters = [
            {"S": record.home},
            {"S": sk},
            {"S": body.decode()},
            {"SS": [batch.transport]},
            {"N": str(expires)},
        ]
        if not left_out:
            return {"Statement": self._insert_event, "Parameters": parameters}
        parameters += [{"S": batch.content(index)}, {"SS": list(left_out)}]
        return {"Statement": self._insert_shed, "Parameters": parameters}

    def _add_via(self, item: _Item, transport: str) -> _Statement:
        via = item["via"]
        joined = {"SS": sorted({*via["SS"], transport})}
        return {"Statement": self._add_transport, "Parameters": [joined, item["pk"], item["sk"], via]}

    def _execute(self, statements: list[tuple[int, _Statement]]) -> Iterator[tuple[int, str | None]]:
        """Each statement's error code, or None. Raises TryAgain when the service cannot be reached."""
        for batch in batches(statements, count=STATEMENTS_A_CALL):
            codes = self._call([statement for _, statement in batch])
            for (index, _), code in zip(batch, codes, strict=True):
                yield index, code

    def _call(self, statements: list[_Statement]) -> list[str | None]:
        try:
            answer = self._dynamodb.batch_execute_statement(Statements=statements)
        except ClientError as exc:
            if _code(exc) not in _PERMANENT:
                raise _away(exc) from exc
            if len(statements) == 1:
                return [_code(exc)]
            half = len(statements) // 2  # one bad statement failed the call: find it, so that its neighbours go on
            return self._call(statements[:half]) + self._call(statements[half:])
        except BotoCoreError as exc:
            raise TryAgain(f"DynamoDB cannot be reached: {type(exc).__name__}") from exc
        return [response.get("Error", {}).get("Code") for response in answer["Responses"]]

    def _read(self, keys: list[tuple[str, str]]) -> dict[tuple[str, str], _Item]:
        """What is stored under each key, read consistently; a key the service left unprocessed is missing."""
        found: dict[tuple[str, str], _Item] = {}
        for some in batches(keys, count=KEYS_A_CALL):
            wanted = {
                "Keys": [{"pk": {"S": home}, "sk": {"S": f"E#{event_id}"}} for home, event_id in some],
                "ConsistentRead": True,
            }
            try:
                answer = self._dynamodb.batch_get_item(RequestItems={self._table: wanted})
            except ClientError as exc:
                raise _away(exc) from exc
            except BotoCoreError as exc:
                raise TryAgain(f"DynamoDB cannot be reached: {type(exc).__name__}") from exc
            for item in answer["Responses"].get(self._table, ()):
                found[item["pk"]["S"], item["sk"]["S"].removeprefix("E#")] = item
        return found

    def events_of(self, key: PersonKey, *, since: datetime | None = None, limit: int = 1000) -> list[Event]:
        """See `ports.EventStore.events_of`."""
        return [stored.event for stored in self.history(key, since=since, limit=limit)]

    def history(self, key: PersonKey, *, since: datetime | None = None, limit: int = 1000) -> list[Stored]:
        """See `ports.EventStore.history`; one Query, as ids begin with their second."""
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :from AND :to",
            ExpressionAttributeValues={
                ":pk": {"S": f"P#{key}"},
                ":from": {"S": f"E#{events.time_part(since)}" if since else "E#"},
                ":to": {"S": "E#~"},
            },
            ConsistentRead=True,
            ScanIndexForward=False,
            PaginationConfig={"MaxItems": limit},
        )
        found = [_stored(item) for page in pages for item in page["Items"]]
        if since is not None:
            found = [stored for stored in found if stored.event.occurred_at >= since]
        return sorted(found, key=lambda stored: (stored.event.occurred_at, stored.event.event_id))

    def of_campaign(self, campaign: str) -> Iterator[Stored]:
        """See `ports.EventStore.of_campaign`. A Scan: half a read unit for every 4 KB of the whole table.

        An index would cost a second write unit for every event recorded, to serve a question that people ask
        now and then; feeds and dashboards have the event feed.
        """
        pages = self._dynamodb.get_paginator("scan").paginate(
            TableName=self._table,
            FilterExpression="begins_with(sk, :event) AND contains(body, :campaign)",
            ExpressionAttributeValues={
                ":event": {"S": "E#"},
                ":campaign": {"S": msgspec.json.encode(campaign).decode()},
            },
        )
        for page in pages:
            for item in page["Items"]:
                stored = _stored(item)
                about = stored.event.campaign
                if about and campaign in (about.id, about.name, about.journey_id, about.journey_name):
                    yield stored


class _Batch:
    """One `add`: its records, what is settled, and the work that only some of them need."""

    def __init__(
        self, records: Sequence[Recordable], transport: str, expires_days: int, verdicts: dict[int, Verdict]
    ) -> None:
        self.records = records
        self.transport = transport
        self.expires_days = expires_days
        self.verdicts = verdicts
        self.fitted: dict[int, tuple[bytes, tuple[str, ...]]] = {}
        self._contents: dict[int, str] = {}

    def content(self, index: int) -> str:
        """The hash of the whole event, whatever of it is stored."""
        if index not in self._contents:
            self._contents[index] = events.content_hash_of(self.records[index].body)
        return self._contents[index]

    def refused(self, index: int) -> bool:
        """Whether the record can never be stored; a large one sheds what the raw archive holds as well."""
        record = self.records[index]
        if len(record.home) * 4 > LARGEST_KEY and len(record.home.encode()) > LARGEST_KEY:
            self.verdicts[index] = MalformedItem("key_too_long", f"{len(record.home)} characters", "person")
        elif len(record.body) > LARGEST_BODY:
            for names in _SHED:
                plain = msgspec.to_builtins(record.event)
                body = msgspec.json.encode({name: value for name, value in plain.items() if name not in names})
                if len(body) <= LARGEST_BODY:
                    self.fitted[index] = body, tuple(sorted(names))
                    return False
            self.verdicts[index] = MalformedItem("event_too_large", f"{len(record.body)} bytes")
        return index in self.verdicts


def _key(record: Recordable) -> tuple[str, str]:
    return record.home, record.event.event_id


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _away(error: ClientError) -> Exception:
    """TryAgain where time mends it; the error itself where somebody has to."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return TryAgain(f"DynamoDB answered {_code(error)}") if _code(error) in _TRANSIENT or status >= 500 else error


def _stored(item: _Item) -> Stored:
    left_out = item.get("left_out", {}).get("SS", ())
    return Stored(events.decode(item["body"]["S"]), tuple(sorted(item["via"]["SS"])), tuple(sorted(left_out)))
