"""EventsTable's stream, read at one's own pace: what was inserted, once, with positions to go on from.

AWS permissions: dynamodb:DescribeStream, dynamodb:GetShardIterator and dynamodb:GetRecords on the stream. A shard is
read by two readers at most: this one and publish_events.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from espial import events
from espial.errors import TryAgain
from espial.events import Event
from espial.feeds.files import END, Page, Positions

log = logging.getLogger(__name__)

_FORGOTTEN = frozenset({"TrimmedDataAccessException"})
_EMPTY_PAGES = 50
"""In a row, before a shard that is still open is held to be read: answers may be empty amid a shard (a quiet hour)."""


class DynamoStream:
    """The stream behind `feeds.files.TableStream`. `streams` is a boto3 client of dynamodbstreams."""

    def __init__(self, streams: Any, arn: str) -> None:
        self._streams = streams
        self._arn = arn

    def read(self, positions: Positions) -> Iterator[Page]:
        """See `TableStream.read`. Of a stream that was never read, all that it remembers."""
        shards = self._shards()
        reached = {shard: position for shard, position in positions.items() if shard in shards}
        for shard in sorted(shards, key=lambda name: _depth(name, shards)):
            parent = shards[shard]
            if reached.get(shard) == END or (parent in shards and reached.get(parent) != END):
                continue  # read already, or what came before it is not read to its end
            # One that begins after we last looked is read whole; so is the first of all.
            for page in self._pages(shard, reached):
                reached = dict(page.positions)
                yield page

    def _pages(self, shard: str, reached: Mapping[str, str]) -> Iterator[Page]:
        iterator, gap = self._start(shard, reached.get(shard, ""))
        empty = 0
        while iterator is not None and empty < _EMPTY_PAGES:
            answer = self._call("get_records", ShardIterator=iterator, Limit=1000)
            iterator, records = answer.get("NextShardIterator"), answer["Records"]
            if records:
                reached = {**reached, shard: records[-1]["dynamodb"]["SequenceNumber"]}
                empty = 0
            else:
                empty += 1
            if iterator is None:
                reached = {**reached, shard: END}
            if records or gap or iterator is None:
                yield Page(list(_inserted(records)), reached, gap)
                gap = False

    def _start(self, shard: str, position: str) -> tuple[str | None, bool]:
        """Where to begin, and whether something before it is forgotten."""
        wanted = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": position}
        if position:
            try:
                return self._iterator(shard, **wanted), False
            except ClientError as exc:
                if exc.response["Error"]["Code"] not in _FORGOTTEN:
                    raise
            log.error("feed.gap: shard %s has forgotten what follows %s", shard, position)
        return self._iterator(shard, ShardIteratorType="TRIM_HORIZON"), bool(position)

    def _iterator(self, shard: str, **where: str) -> str:
        answer = self._call("get_shard_iterator", StreamArn=self._arn, ShardId=shard, **where)
        return str(answer["ShardIterator"])

    def _shards(self) -> dict[str, str]:
        """Shard -> its parent, or ""."""
        found: dict[str, str] = {}
        start: dict[str, str] = {}
        while True:
            described = self._call("describe_stream", StreamArn=self._arn, **start)["StreamDescription"]
            found |= {shard["ShardId"]: shard.get("ParentShardId", "") for shard in described.get("Shards", ())}
            last = described.get("LastEvaluatedShardId")
            if not last:
                return found
            start = {"ExclusiveStartShardId": last}

    def _call(self, name: str, **request: Any) -> Any:
        try:
            return getattr(self._streams, name)(**request)
        except ClientError as exc:
            if exc.response["Error"]["Code"] in _FORGOTTEN:
                raise
            raise TryAgain(f"the table's stream answered {exc.response['Error']['Code']}") from exc
        except BotoCoreError as exc:
            raise TryAgain(f"the table's stream cannot be reached: {type(exc).__name__}") from exc


def _depth(shard: str, shards: Mapping[str, str]) -> tuple[int, str]:
    """Parents first."""
    depth, name = 0, shard
    while (name := shards.get(name, "")) and depth < len(shards):
        depth += 1
    return depth, shard


def _inserted(records: list[dict[str, Any]]) -> Iterator[Event]:
    """The events among the records. One that breaks the contract is told of and left out: no retry mends it."""
    for record in records:
        change = record["dynamodb"]
        if record["eventName"] == "INSERT" and change["Keys"]["sk"]["S"].startswith("E#"):
            try:
                yield events.decode(change["NewImage"]["body"]["S"])
            except (msgspec.MsgspecError, KeyError):
                log.error("stream.unreadable: %s", change["SequenceNumber"])  # noqa: TRY400  no values in a log
