"""Events as they were recorded: for a day by their place in the stream, after that by going through the table."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import msgspec

from espial import events
from espial.errors import MalformedDelivery
from espial.events import Event

PAGES = 1000
"""Of the stream, empty ones included, before the end of a stretch is held to be out of reach."""

log = logging.getLogger(__name__)


class PastEvents:
    """EventsTable and its stream, to read. An item that is no event any more is left out, with a warning."""

    def __init__(self, dynamodb: Any, streams: Any, table: str) -> None:
        self._dynamodb = dynamodb
        self._streams = streams
        self._table = table

    def in_stream(self, stream: str, shard: str, first: str, last: str) -> list[Event] | None:
        """What was inserted from one sequence number to another; None when the stream forgot some of it (24 hours)."""
        gone = self._streams.exceptions
        found: list[Event] = []
        try:
            for record in self._records(stream, shard, first):
                change = record["dynamodb"]
                if record["eventName"] == "INSERT" and change["Keys"]["sk"]["S"].startswith("E#"):
                    found += _event(change["NewImage"])
                if change["SequenceNumber"] == last:
                    return found
        except (gone.TrimmedDataAccessException, gone.ResourceNotFoundException):
            pass
        return None

    def _records(self, stream: str, shard: str, first: str) -> Iterator[dict[str, Any]]:
        iterator = self._streams.get_shard_iterator(
            StreamArn=stream, ShardId=shard, ShardIteratorType="AT_SEQUENCE_NUMBER", SequenceNumber=first
        )["ShardIterator"]
        for _ in range(PAGES):
            page = self._streams.get_records(ShardIterator=iterator)
            yield from page["Records"]
            iterator = page.get("NextShardIterator")
            if iterator is None:
                return

    def all(self) -> Iterator[Event]:
        """Every event kept, in no order. A Scan: half a read unit for every 4 KB of the whole table."""
        place: str = ""
        while True:
            found, place = self.page(place)
            yield from found
            if not place:
                return

    def page(self, place: str) -> tuple[list[Event], str]:
        """A page of `all` from a place on ("": from the start), and the place of the next one; "" after the last.

        Raises MalformedDelivery (`bad_place`).
        """
        start = {"ExclusiveStartKey": dict(zip(("pk", "sk"), _read_place(place), strict=True))} if place else {}
        answer = self._dynamodb.scan(
            TableName=self._table,
            FilterExpression="begins_with(sk, :event)",
            ExpressionAttributeValues={":event": {"S": "E#"}},
            **start,
        )
        last = answer.get("LastEvaluatedKey")
        following = msgspec.json.encode([last["pk"]["S"], last["sk"]["S"]]).decode() if last else ""
        return [event for item in answer["Items"] for event in _event(item)], following


def _read_place(place: str) -> list[dict[str, str]]:
    try:
        return [{"S": one} for one in msgspec.json.decode(place, type=tuple[str, str])]
    except msgspec.MsgspecError as exc:
        raise MalformedDelivery("bad_place", "not where a page ended") from exc


def _event(item: dict[str, Any]) -> list[Event]:
    try:
        return [events.decode(item["body"]["S"])]
    except (msgspec.MsgspecError, KeyError):
        log.warning("past_events.unreadable: %s", item["sk"]["S"])
        return []
