"""The export ledger in EventsTable: one item a file, one a chunk, every change conditional.

pk `X#<bucket>/<key>`: sk `O#<etag>` the file, `O#<etag>#C#<nnnnnn>` a chunk's checkpoint, `LATEST` the newest
sequencer notified. pk `X#<bucket>/`, sk `SWEEP`: where the sweep stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from espial.errors import TryAgain
from espial.exports.files import Chunk, Counts, ExportFile, FileState, Listed, Progress
from espial.exports.notices import Notice, sequence
from espial.stores.batches import batches

KEEP_DAYS = 90
"""Longer than any sweep looks back and than the dedupe horizon."""

_KEYS_A_CALL = 100
_DAY = 86_400
_RESERVED = ("#state", "#file", "#ttl", *(f"#{name}" for name in Counts._fields))
"""DynamoDB's own words among our attributes, which expressions may only name by a stand-in."""

_Item = dict[str, Any]


class _Unmet(Exception):
    """The condition of a write does not hold."""


class DynamoExportLedger:
    """The table behind `exports.files.ExportLedger`. Every method raises TryAgain when the table is away."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def find(self, file: ExportFile) -> FileState | None:
        """See `ExportLedger.find`; read consistently."""
        item = self._get(_file_key(file))
        return _state(item) if item else None

    def states(self, bucket: str, objects: Sequence[Listed]) -> Mapping[str, tuple[str, datetime]]:
        """See `ExportLedger.states`."""
        prefix = f"X#{bucket}/"
        found: dict[str, tuple[str, datetime]] = {}
        for some in batches(objects, count=_KEYS_A_CALL):
            keys = [{"pk": {"S": prefix + one.key}, "sk": {"S": f"O#{one.etag}"}} for one in some]
            left = {self._table: {"Keys": keys, "ConsistentRead": True}}
            answer = self._call("batch_get_item", RequestItems=left)
            if answer.get("UnprocessedKeys"):
                raise TryAgain("the ledger is throttled")
            for item in answer["Responses"].get(self._table, ()):
                key = item["pk"]["S"].removeprefix(prefix)
                found[key] = item["state"]["S"], _instant(item["updated_at"])
        return found

    def is_stale(self, notice: Notice, now: datetime) -> bool:
        """See `ExportLedger.is_stale`; notices without a sequencer are never stale."""
        if not notice.sequencer:
            return False
        try:
            self._update(
                {"pk": {"S": f"X#{notice.bucket}/{notice.key}"}, "sk": {"S": "LATEST"}},
                "SET sequencer = :new, #ttl = :ttl",
                "attribute_not_exists(sequencer) OR sequencer <= :new",
                {":new": {"S": sequence(notice.sequencer)}, **_until(now)},
            )
        except _Unmet:
            return True
        return False

    def claim(self, file: ExportFile, edges: Sequence[int], now: datetime) -> FileState:
        """See `ExportLedger.claim`."""
        try:
            item = self._update(
                _file_key(file),
                "SET #state = :planned, edges = if_not_exists(edges, :edges), #file = :file, updated_at = :now, "
                "#ttl = :ttl REMOVE reason",
                "attribute_not_exists(#state) OR #state = :failed",
                {
                    ":planned": {"S": "planned"},
                    ":failed": {"S": "failed"},
                    ":edges": {"L": [{"N": str(edge)} for edge in edges]},
                    ":file": {"S": msgspec.json.encode(file).decode()},
                    **_at(now),
                    **_until(now),
                },
            )
        except _Unmet:
            item = self._get(_file_key(file))
        return _state(item)

    def queued(self, file: ExportFile, now: datetime) -> None:
        """See `ExportLedger.queued`."""
        self._enter(file, "queued", now)

    def fail(self, file: ExportFile, reason: str, now: datetime) -> None:
        """See `ExportLedger.fail`."""
        self._enter(file, "failed", now, reason)

    def _enter(self, file: ExportFile, state: str, now: datetime, reason: str = "") -> None:
        values = {
            ":state": {"S": state},
            ":done": {"S": "done"},
            ":reason": {"S": reason},
            ":file": {"S": msgspec.json.encode(file).decode()},
            **_at(now),
            **_until(now),
        }
        try:
            self._update(
                _file_key(file),
                "SET #state = :state, reason = :reason, #file = :file, updated_at = :now, #ttl = :ttl",
                "attribute_not_exists(#state) OR #state <> :done",
                values,
            )
        except _Unmet:  # done meanwhile, which says more
            return

    def settle(self, file: ExportFile, now: datetime) -> FileState | None:
        """See `ExportLedger.settle`."""
        item = self._get(_file_key(file))
        return self._settle(item, file, now) if item else None

    def _settle(self, item: _Item, file: ExportFile, now: datetime) -> FileState | None:
        state = _state(item)
        if len(state.finished) < len(state.edges):
            return None
        try:
            done = self._update(
                _file_key(file),
                "SET #state = :done, updated_at = :now REMOVE reason",
                "#state <> :done",
                {":done": {"S": "done"}, **_at(now)},
            )
        except _Unmet:
            return None
        return _state(done)

    def progress(self, chunk: Chunk) -> Progress:
        """See `ExportLedger.progress`."""
        item = self._get(_chunk_key(chunk))
        if not item:
            return Progress()
        place = int(item["place"]["N"]) if "place" in item else None
        return Progress(place, _counts(item), item["done"]["BOOL"])

    def advance(self, chunk: Chunk, before: Progress, after: Progress, now: datetime) -> bool:
        """See `ExportLedger.advance`.

        A write whose answer was lost is repeated by the client and then finds its own work: that is "moved by
        someone else" too, and the caller goes on from where the chunk stands.
        """
        item = {
            **_chunk_key(chunk),
            "done": {"BOOL": after.done},
            **{name: {"N": str(count)} for name, count in after.counts._asdict().items()},
            "ttl": _until(now)[":ttl"],
        }
        if after.place is not None:
            item["place"] = {"N": str(after.place)}
        given: _Item = {"ConditionExpression": "attribute_not_exists(pk)"}
        if before.place is not None:
            given = {
                "ConditionExpression": "place = :place AND done = :open",
                "ExpressionAttributeValues": {":place": {"N": str(before.place)}, ":open": {"BOOL": False}},
            }
        try:
            self._call("put_item", TableName=self._table, Item=item, **given)
        except _Unmet:
            return False
        return True

    def finish(self, chunk: Chunk, counts: Counts, now: datetime) -> FileState | None:
        """See `ExportLedger.finish`. The set of finished chunks makes the addition happen once."""
        names = Counts._fields
        try:
            item = self._update(
                _file_key(chunk.file),
                "ADD finished :numbers, " + ", ".join(f"#{name} :{name}" for name in names) + " SET updated_at = :now",
                "attribute_exists(#state) AND NOT contains(finished, :number)",
                {
                    ":numbers": {"NS": [str(chunk.number)]},
                    ":number": {"N": str(chunk.number)},
                    **{f":{name}": {"N": str(count)} for name, count in zip(names, counts, strict=True)},
                    **_at(now),
                },
            )
        except _Unmet:
            return self.settle(chunk.file, now)
        return self._settle(item, chunk.file, now)

    def sweep_position(self, bucket: str) -> str:
        """See `ExportLedger.sweep_position`."""
        item = self._get(_sweep_key(bucket))
        return str(item["after"]["S"]) if item else ""

    def keep_sweep_position(self, bucket: str, key: str) -> None:
        """See `ExportLedger.keep_sweep_position`."""
        self._call("put_item", TableName=self._table, Item={**_sweep_key(bucket), "after": {"S": key}})

    def _get(self, key: _Item) -> _Item:
        item: _Item = self._call("get_item", TableName=self._table, Key=key, ConsistentRead=True).get("Item") or {}
        return item

    def _update(self, key: _Item, update: str, condition: str, values: _Item) -> _Item:
        """One conditional update; returns the whole item afterwards. Raises _Unmet."""
        words = update + condition
        names = {name: name[1:] for name in _RESERVED if name in words}
        given = {"ExpressionAttributeNames": names} if names else {}
        answer = self._call(
            "update_item",
            TableName=self._table,
            Key=key,
            UpdateExpression=update,
            ConditionExpression=condition,
            ExpressionAttributeValues=values,
            ReturnValues="ALL_NEW",
            **given,
        )
        item: _Item = answer["Attributes"]
        return item

    def _call(self, operation: str, **arguments: Any) -> _Item:
        try:
            answer: _Item = getattr(self._dynamodb, operation)(**arguments)
        except self._dynamodb.exceptions.ConditionalCheckFailedException as exc:
            raise _Unmet from exc
        except ClientError as exc:
            raise TryAgain(f"the ledger cannot be reached: {exc.response['Error']['Code']}") from exc
        except BotoCoreError as exc:
            raise TryAgain(f"the ledger cannot be reached: {type(exc).__name__}") from exc
        return answer


def _file_key(file: ExportFile) -> _Item:
    return {"pk": {"S": f"X#{file.bucket}/{file.key}"}, "sk": {"S": f"O#{file.etag}"}}


def _chunk_key(chunk: Chunk) -> _Item:
    key = _file_key(chunk.file)
    return {"pk": key["pk"], "sk": {"S": f"{key['sk']['S']}#C#{chunk.number:06d}"}}


def _sweep_key(bucket: str) -> _Item:
    return {"pk": {"S": f"X#{bucket}/"}, "sk": {"S": "SWEEP"}}


def _at(now: datetime) -> _Item:
    return {":now": {"N": str(now.timestamp())}}


def _until(now: datetime) -> _Item:
    return {":ttl": {"N": str(int(now.timestamp()) + KEEP_DAYS * _DAY)}}


def _instant(value: _Item) -> datetime:
    return datetime.fromtimestamp(float(value["N"]), UTC)


def _counts(item: _Item) -> Counts:
    return Counts(*(int(item[name]["N"]) if name in item else 0 for name in Counts._fields))


def _state(item: _Item) -> FileState:
    return FileState(
        file=msgspec.json.decode(item["file"]["S"], type=ExportFile),
        state=item["state"]["S"],
        edges=tuple(int(edge["N"]) for edge in item.get("edges", {}).get("L", ())),
        finished=frozenset(int(number) for number in item.get("finished", {}).get("NS", ())),
        counts=_counts(item),
        updated_at=_instant(item["updated_at"]),
        reason=item.get("reason", {}).get("S", ""),
    )
