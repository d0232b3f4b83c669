"""EventsTable in DynamoDB: the conditional insert that is both the dedupe and the outbox (DESIGN 3).

Writes go in BatchExecuteStatement calls of 25 PartiQL statements, each with a verdict of its own: at the price
of single puts, for a tenth of their client CPU. Events are published from the table's stream, never from here, so
that an insert whose reply was lost, which reports itself as a duplicate when retried, is published all the same.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from espial.vocabulary import EventType

STATEMENTS_A_CALL = 25
KEYS_A_CALL = 100
LARGEST_BODY = 350_000
"""Bytes of canonical JSON an item may hold; DynamoDB takes 400 KB with names, keys and the rest."""
LARGEST_KEY = 2048
ATTEMPTS = 4
MORE = "more"
"""`X#<event id>#more` holds what all reports that agree say together, where that is more than the recorded one says."""

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
_TOLD = (EventType.MESSAGE_REQUESTED, EventType.MESSAGE_SKIPPED)
_Item = dict[str, Any]
_Fitted = tuple[bytes, dict[str, str]]
"""The JSON that is stored, and the hash of each field that had to be left out of it."""
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
        self._insert_more = into + "{'pk': ?, 'sk': ?, 'body': ?, 'via': ?, 'ttl': ?, 'content': ?, 'said': ?}"
        self._add_transport = f'UPDATE "{table}" SET "via" = ? WHERE "pk" = ? AND "sk" = ? AND "via" = ?'  # noqa: S608
        self._add_more = (
            f'UPDATE "{table}" SET "body" = ? SET "via" = ? SET "content" = ? SET "said" = ? '  # noqa: S608
            'WHERE "pk" = ? AND "sk" = ? AND "said" = ?'
        )

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
        stored = self._read([batch.key(index) for index in indexes])
        left, unseen = [], []
        for index in indexes:
            item = stored.get(batch.key(index))
            if item is None:  # not read in this round, or expired in this instant
                left.append(index)
            elif batch.transport not in item["via"]["SS"]:
                unseen.append((index, self._add_via(item, batch.transport)))
        # ConditionalCheckFailed: another worker added a transport since we read; the next round sees it.
        left += [index for index, code in self._execute(unseen) if code is not None]
        differing, saying_more = [], []
        for index in set(indexes).difference(left):
            theirs, ours = _alike(stored[batch.key(index)], batch, index)
            if events.disagree(theirs, ours):
                differing.append(index)
            elif events.joined(theirs, ours) != theirs:
                saying_more.append(index)
            else:
                batch.verdicts[index] = Recorded.DUPLICATE
        if saying_more:
            left += self._join(batch, saying_more, stored, differing)
        return left + self._keep(batch, differing)

    def _join(
        self, batch: _Batch, indexes: list[int], stored: Mapping[tuple[str, str], _Item], differing: list[int]
    ) -> list[int]:
        """Add what these say to what the other reports said more; returns what is not settled yet.

        Nothing is published again, so each is a duplicate. Those that disagree with a report before them go to
        `differing`, and so do those that no item could hold together with it.
        """
        known = self._read([batch.key(index, MORE) for index in indexes])
        writes = []
        for index in indexes:
            more = known.get(batch.key(index, MORE))
            before = more or stored[batch.key(index)]
            theirs, ours = _alike(before, batch, index)
            if events.disagree(theirs, ours):
                differing.append(index)
                continue
            together = events.joined(theirs, ours)
            if more and together == theirs:
                batch.verdicts[index] = Recorded.DUPLICATE
                continue
            fitted = _together(before, together, batch.hidden(index, before))
            if fitted:
                writes.append((index, self._say_more(batch, index, more, fitted, events.fingerprint(together))))
            else:
                differing.append(index)
        left = []
        for index, code in self._execute(writes):
            if code is None:
                batch.verdicts[index] = Recorded.DUPLICATE
            else:  # another worker's report came in between, or a throttle: the next round looks again
                left.append(index)
        return left

    def _keep(self, batch: _Batch, indexes: list[int]) -> list[int]:
        """Keep those that say something else beside their events; returns what is not settled yet."""
        left = []
        keys = ((index, batch.key(index, batch.content(index))[1]) for index in indexes)
        for index, code in self._execute([(index, self._insert(batch, index, sk)) for index, sk in keys]):
            if code is None:
                batch.verdicts[index] = Recorded.CONFLICT
            elif code == "DuplicateItem":
                batch.verdicts[index] = Recorded.DUPLICATE
            else:
                left.append(index)
        return left

    def _insert(self, batch: _Batch, index: int, sk: str) -> _Statement:
        body, left_out = batch.fitted.get(index) or (batch.records[index].body, {})
        parameters = batch.parameters(index, sk, body)
        if not left_out:
            return {"Statement": self._insert_event, "Parameters": parameters}
        parameters += [_content(left_out), {"SS": sorted(left_out)}]
        return {"Statement": self._insert_shed, "Parameters": parameters}

    def _say_more(self, batch: _Batch, index: int, item: _Item | None, together: _Fitted, said: str) -> _Statement:
        """Put what all agreeing reports say into `item`'s place, unless it changed since it was read.

        `said` is the hash of it, by which the next one knows it again.
        """
        body, left_out = together
        if item is None:
            parameters = [*batch.parameters(index, batch.key(index, MORE)[1], body), _content(left_out), {"S": said}]
            return {"Statement": self._insert_more, "Parameters": parameters}
        via = {"SS": sorted({*item["via"]["SS"], batch.transport})}
        now = [{"S": body.decode()}, via, _content(left_out), {"S": said}]
        return {"Statement": self._add_more, "Parameters": [*now, item["pk"], item["sk"], item["said"]]}

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
            wanted = {"Keys": [{"pk": {"S": pk}, "sk": {"S": sk}} for pk, sk in some], "ConsistentRead": True}
            try:
                answer = self._dynamodb.batch_get_item(RequestItems={self._table: wanted})
            except ClientError as exc:
                raise _away(exc) from exc
            except BotoCoreError as exc:
                raise TryAgain(f"DynamoDB cannot be reached: {type(exc).__name__}") from exc
            for item in answer["Responses"].get(self._table, ()):
                found[item["pk"]["S"], item["sk"]["S"]] = item
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
        for stored in self._saying(campaign):
            about = stored.event.campaign
            if about and campaign in (about.id, about.name, about.journey_id, about.journey_name):
                yield stored

    def of_trigger(self, name: str) -> Iterator[Event]:
        """See `ports.EventStore.of_trigger`. A Scan, as `of_campaign`."""
        for stored in self._saying(name):
            event = stored.event
            if event.type in _TOLD and event.properties.get("trigger") == name:
                yield event

    def _saying(self, text: str) -> Iterator[Stored]:
        """Every event whose JSON holds the text as a value."""
        pages = self._dynamodb.get_paginator("scan").paginate(
            TableName=self._table,
            FilterExpression="begins_with(sk, :event) AND contains(body, :text)",
            ExpressionAttributeValues={":event": {"S": "E#"}, ":text": {"S": msgspec.json.encode(text).decode()}},
        )
        for page in pages:
            yield from map(_stored, page["Items"])


class _Batch:
    """One `add`: its records, what is settled, and the work that only some of them need."""

    def __init__(
        self, records: Sequence[Recordable], transport: str, expires_days: int, verdicts: dict[int, Verdict]
    ) -> None:
        self.records = records
        self.transport = transport
        self.expires_days = expires_days
        self.verdicts = verdicts
        self.fitted: dict[int, _Fitted] = {}
        self._says: dict[int, dict[str, Any]] = {}
        self._contents: dict[int, str] = {}

    def key(self, index: int, other: str = "") -> tuple[str, str]:
        """Where the record's event lies, or what `other` reports said of it."""
        record = self.records[index]
        event_id = record.event.event_id
        return record.home, f"X#{event_id}#{other}" if other else f"E#{event_id}"

    def parameters(self, index: int, sk: str, body: bytes) -> list[_Item]:
        """What every inserted item has, in the order of the statements."""
        record = self.records[index]
        expires = int(record.event.received_at.timestamp()) + self.expires_days * 86_400
        return [
            {"S": record.home},
            {"S": sk},
            {"S": body.decode()},
            {"SS": [self.transport]},
            {"N": str(expires)},
        ]

    def says(self, index: int) -> dict[str, Any]:
        """What the whole record says, whatever of it is stored."""
        if index not in self._says:
            self._says[index] = events.said(msgspec.json.decode(self.records[index].body))
        return self._says[index]

    def content(self, index: int) -> str:
        """The hash of what it says."""
        if index not in self._contents:
            self._contents[index] = events.fingerprint(self.says(index))
        return self._contents[index]

    def hidden(self, index: int, item: _Item) -> set[str]:
        """Fields that the record or the item is too large for: known by their hash, compared as wholes."""
        _, left_out = self.fitted.get(index, (b"", {}))
        return {*left_out, *_left_out(item)}

    def refused(self, index: int) -> bool:
        """Whether the record can never be stored; a large one sheds what the raw archive holds as well."""
        record = self.records[index]
        if len(record.home) * 4 > LARGEST_KEY and len(record.home.encode()) > LARGEST_KEY:
            self.verdicts[index] = MalformedItem("key_too_long", f"{len(record.home)} characters", "person")
        elif len(record.body) > LARGEST_BODY:
            fitted = _fit(msgspec.json.decode(record.body))
            if fitted:
                self.fitted[index] = fitted
            else:
                self.verdicts[index] = MalformedItem("event_too_large", f"{len(record.body)} bytes")
        return index in self.verdicts


def _fit(plain: Mapping[str, Any], left_out: Mapping[str, str] | None = None) -> _Fitted | None:
    """An event as an item can hold it, `left_out` already without some; None if it is too large whatever it sheds."""
    for names in (set[str](), *_SHED):
        body = msgspec.json.encode({name: value for name, value in plain.items() if name not in names})
        if len(body) <= LARGEST_BODY:
            says = events.said(plain)
            return body, {**(left_out or {}), **{name: events.fingerprint(says[name]) for name in names & says.keys()}}
    return None


def _left_out(item: _Item) -> dict[str, str]:
    """Field -> hash of what the item was too large for."""
    return {name: digest["S"] for name, digest in item.get("content", {}).get("M", {}).items()}


def _content(left_out: Mapping[str, str]) -> _Item:
    return {"M": {name: {"S": digest} for name, digest in left_out.items()}}


def _alike(item: _Item, batch: _Batch, index: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a stored item and a record say, with the hash of every field that either is too large for."""
    hidden = batch.hidden(index, item)
    theirs, ours = (
        {name: events.fingerprint(value) if name in hidden else value for name, value in says.items()}
        for says in (events.said(msgspec.json.decode(item["body"]["S"])), batch.says(index))
    )
    return {**theirs, **_left_out(item)}, ours


def _together(before: _Item, together: Mapping[str, Any], hidden: set[str]) -> _Fitted | None:
    """An item for what it and a record say together; None if none could hold it."""
    plain = {**msgspec.json.decode(before["body"]["S"]), **together}
    left_out = {name: plain.pop(name) for name in hidden & plain.keys()}
    return _fit(plain, left_out)


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
