"""EventsTable's stream, read at one's own pace: what was inserted, once, with positions to go on from.

AWS permissions: dynamodb:DescribeStream, dynamodb:GetShardIterator and dynamodb:GetRecords on the stream. A shard is
read by two readers at most: this one and publish_events.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from espial import events
from espial.errors import TryAgain
from espial.events import Event
from espial.feeds.files import END, Page, Positions

log = logging.getLogger(__name__)

_FORGOTTEN = "TrimmedDataAccessException"
_EMPTY_PAGES = 25
"""In a row, before an open shard is held to be read: answers may be empty amid a shard (a quiet hour)."""


class _Shard(NamedTuple):
    """`closed`: it has an end, and children perhaps."""

    parent: str
    closed: bool


class _Stretch(NamedTuple):
    """Some of a shard: what was inserted, and the position behind it ("" for the same as before)."""

    events: list[Event]
    position: str = ""
    gap: bool = False


class DynamoStream:
    """The stream behind `feeds.files.TableStream`. `streams` is a boto3 client of dynamodbstreams."""

    def __init__(self, streams: Any, arn: str) -> None:
        self._streams = streams
        self._arn = arn

    def read(self, positions: Positions) -> Iterator[Page]:
        """See `TableStream.read`: a page of each shard in turn. Of a stream that was never read, all it remembers."""
        shards = self._shards()
        known = {*shards, *(shard.parent for shard in shards.values())}
        reached = {name: position for name, position in positions.items() if name in known}
        if _has_forgotten(positions, shards):
            log.error("feed.gap: the stream has forgotten shards that were not read to their end")
            yield Page([], dict(reached), gap=True)
        reading: dict[str, Iterator[_Stretch]] = {}
        done: set[str] = set()
        while True:
            for name in shards.keys() - reading.keys() - done:
                parent = shards[name].parent
                if reached.get(name) == END:
                    done.add(name)
                elif parent not in shards or reached.get(parent) == END:  # else what came before it is not read yet
                    reading[name] = self._stretches(name, shards[name], reached.get(name, ""))
            if not reading:
                return
            for name in sorted(reading):
                stretch = next(reading[name], None)
                if stretch is None:
                    done.add(name)
                    del reading[name]
                    continue
                reached.pop(name, None) if stretch.gap and not stretch.position else None
                if stretch.position:
                    reached[name] = stretch.position
                yield Page(stretch.events, dict(reached), stretch.gap)

    def _stretches(self, name: str, shard: _Shard, position: str) -> Iterator[_Stretch]:
        try:
            yield from self._from(name, shard, position)
        except ClientError as exc:
            if exc.response["Error"]["Code"] != _FORGOTTEN:
                raise
            log.error("feed.gap: shard %s has forgotten what follows %s", name, position)  # noqa: TRY400
            yield _Stretch([], gap=True)
            yield from self._from(name, shard, "")

    def _from(self, name: str, shard: _Shard, position: str) -> Iterator[_Stretch]:
        where = {"ShardIteratorType": "TRIM_HORIZON"}
        if position:
            where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": position}
        iterator: str | None = self._iterator(name, **where)
        empty = 0
        while iterator is not None and (shard.closed or empty < _EMPTY_PAGES):
            answer = self._call("get_records", ShardIterator=iterator, Limit=1000)
            iterator, records = answer.get("NextShardIterator"), answer["Records"]
            empty = 0 if records else empty + 1
            if iterator is None:
                yield _Stretch(list(_inserted(records)), END)
            elif records:
                yield _Stretch(list(_inserted(records)), records[-1]["dynamodb"]["SequenceNumber"])

    def _iterator(self, shard: str, **where: str) -> str:
        answer = self._call("get_shard_iterator", StreamArn=self._arn, ShardId=shard, **where)
        return str(answer["ShardIterator"])

    def _shards(self) -> dict[str, _Shard]:
        found: dict[str, _Shard] = {}
        start: dict[str, str] = {}
        while True:
            described = self._call("describe_stream", StreamArn=self._arn, **start)["StreamDescription"]
            for shard in described.get("Shards", ()):
                ends = "EndingSequenceNumber" in shard.get("SequenceNumberRange", {})
                found[shard["ShardId"]] = _Shard(shard.get("ParentShardId", ""), ends)
            last = described.get("LastEvaluatedShardId")
            if not last:
                return found
            start = {"ExclusiveStartShardId": last}

    def _call(self, name: str, **request: Any) -> Any:
        try:
            return getattr(self._streams, name)(**request)
        except ClientError as exc:
            if exc.response["Error"]["Code"] == _FORGOTTEN:
                raise
            raise TryAgain(f"the table's stream answered {exc.response['Error']['Code']}") from exc
        except BotoCoreError as exc:
            raise TryAgain(f"the table's stream cannot be reached: {type(exc).__name__}") from exc


def _has_forgotten(positions: Positions, shards: Mapping[str, _Shard]) -> bool:
    """Whether the stream no longer lists what was not read: a shard left midway, or one that was never seen."""
    if not positions:
        return False
    midway = any(position != END and name not in shards for name, position in positions.items())
    return midway or any(
        shard.parent and not {name, shard.parent} & {*positions} and shard.parent not in shards
        for name, shard in shards.items()
    )


def _inserted(records: list[dict[str, Any]]) -> Iterator[Event]:
    """The events among the records. One that breaks the contract is told of and left out: no retry mends it."""
    for record in records:
        change = record["dynamodb"]
        if record["eventName"] == "INSERT" and change["Keys"]["sk"]["S"].startswith("E#"):
            try:
                yield events.decode(change["NewImage"]["body"]["S"])
            except (msgspec.MsgspecError, KeyError):
                log.error("stream.unreadable: %s", change["SequenceNumber"])  # noqa: TRY400  no values in a log
