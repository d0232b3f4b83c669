"""The export ledger in EventsTable: one item a file, one a chunk, every change conditional.

pk `X#<bucket>/<key>`: sk `O#<etag>` the file, `O#<etag>#C#<nnnnnn>` a chunk's checkpoint (`O#<etag>#R<n>#C#<nnnnnn>`
in the n-th reading after the first), `LATEST` the newest sequencer notified. pk `X#<bucket>/`, sk `SWEEP`: where the
sweep stopped. Why rows were refused is counted in attributes named `why.<reason>`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec

from espial.errors import TryAgain
from espial.exports.files import DONE, ENDED, Chunk, Counts, ExportFile, FileState, Listed, Moved, Progress
from espial.exports.notices import Notice, sequence
from espial.stores.batches import batches
from espial.stores.conditional import ConditionalTable, Item, Unmet

KEEP_DAYS = 90
"""Longer than any sweep looks back and than the dedupe horizon."""

_KEYS_A_CALL = 100
_DAY = 86_400
_NUMBERS = tuple(Counts().numbers())
_RESERVED = ("#state", "#file", "#ttl", "#round", *(f"#{name}" for name in _NUMBERS))
"""DynamoDB's own words among our attributes, which expressions may only name by a stand-in."""

_WHY = "why."
_AT_REST = ENDED | {"ignored"}


class DynamoExportLedger:
    """The table behind `exports.files.ExportLedger`. Every method raises TryAgain when the table is away."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._items = ConditionalTable(dynamodb, table, "the ledger")

    def find(self, file: ExportFile) -> FileState | None:
        """See `ExportLedger.find`; read consistently."""
        item = self._get(_file_key(file))
        return _state(item) if item else None

    def entries(self, bucket: str, objects: Sequence[Listed]) -> Mapping[str, FileState]:
        """See `ExportLedger.entries`."""
        keys = [{"pk": {"S": f"X#{bucket}/{one.key}"}, "sk": {"S": f"O#{one.etag}"}} for one in objects]
        return {state.file.key: state for state in map(_state, self._get_many(keys))}

    def versions(self, bucket: str, key: str) -> list[FileState]:
        """The entries of every version of the object that was ever noticed, the one that moved last first."""
        found = self._items.query(
            KeyConditionExpression="pk = :pk AND begins_with(sk, :sk)",
            FilterExpression="attribute_exists(#state)",
            ExpressionAttributeNames={"#state": "state"},
            ExpressionAttributeValues={":pk": {"S": f"X#{bucket}/{key}"}, ":sk": {"S": "O#"}},
        )
        return sorted(map(_state, found), key=lambda state: state.updated_at, reverse=True)

    def _get_many(self, keys: Sequence[Item]) -> Iterator[Item]:
        for some in batches(keys, count=_KEYS_A_CALL):
            answer = self._items.call(
                "batch_get_item", RequestItems={self._items.name: {"Keys": list(some), "ConsistentRead": True}}
            )
            if answer.get("UnprocessedKeys"):
                raise TryAgain("the ledger is throttled")
            yield from answer["Responses"].get(self._items.name, ())

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
        except Unmet:
            return True
        return False

    def claim(self, file: ExportFile, edges: Sequence[int], now: datetime) -> FileState:
        """See `ExportLedger.claim`."""
        try:
            item = self._update(
                _file_key(file),
                "SET #state = :planned, edges = if_not_exists(edges, :edges), #file = :file, updated_at = :now, "
                "begun_at = if_not_exists(begun_at, :now), #ttl = :ttl REMOVE reason",
                "attribute_not_exists(#state) OR #state IN (:failed, :ignored) "
                "OR (#state = :planned AND attribute_not_exists(edges))",
                {
                    ":planned": {"S": "planned"},
                    ":failed": {"S": "failed"},
                    ":ignored": {"S": "ignored"},
                    ":edges": {"L": [{"N": str(edge)} for edge in edges]},
                    ":file": {"S": msgspec.json.encode(file).decode()},
                    **_at(now),
                    **_until(now),
                },
            )
        except Unmet:
            item = self._get(_file_key(file))
        return _state(item)

    def queued(self, file: ExportFile, now: datetime) -> None:
        """See `ExportLedger.queued`. It may have failed or be done meanwhile, which says more."""
        with suppress(Unmet):
            self._update(
                _file_key(file),
                "SET #state = :queued, updated_at = :now",
                "#state IN (:planned, :queued)",
                {":planned": {"S": "planned"}, ":queued": {"S": "queued"}, **_at(now)},
            )

    def fail(self, file: ExportFile, reason: str, now: datetime) -> None:
        """See `ExportLedger.fail`."""
        self._enter(file, "failed", reason, now)

    def ignore(self, file: ExportFile, reason: str, now: datetime) -> None:
        """See `ExportLedger.ignore`."""
        self._enter(file, "ignored", reason, now)

    def _enter(self, file: ExportFile, state: str, reason: str, now: datetime) -> None:
        values = {
            ":state": {"S": state},
            ":reason": {"S": reason},
            ":file": {"S": msgspec.json.encode(file).decode()},
            **_states(DONE),
            **_at(now),
            **_until(now),
        }
        with suppress(Unmet):  # done meanwhile, which says more
            self._update(
                _file_key(file),
                "SET #state = :state, reason = :reason, #file = :file, updated_at = :now, #ttl = :ttl",
                f"attribute_not_exists(#state) OR NOT (#state IN ({', '.join(_states(DONE))}))",
                values,
            )

    def resume(self, file: ExportFile, now: datetime) -> bool:
        """See `ExportLedger.resume`."""
        try:
            self._update(
                _file_key(file),
                "SET #state = :planned, updated_at = :now REMOVE reason",
                f"attribute_exists(#state) AND NOT (#state IN ({', '.join(_states(DONE))}))",
                {":planned": {"S": "planned"}, **_states(DONE), **_at(now)},
            )
        except Unmet:
            return False
        return True

    def redo(self, file: ExportFile, now: datetime) -> bool:
        """See `ExportLedger.redo`. A new round has its own checkpoints: those of the last one expire."""
        before = self._get(_file_key(file))
        counted = [*_NUMBERS, *(name for name in before if name.startswith(_WHY))]
        stand_ins = {f"#c{number}": name for number, name in enumerate(counted)}
        try:
            self._update(
                _file_key(file),
                "SET #state = :planned, #round = :round, updated_at = :now "
                f"REMOVE {', '.join(('reason', 'edges', 'finished', 'begun_at', *stand_ins))}",
                f"#state IN ({', '.join(_states(_AT_REST))}) AND "
                + ("#round = :before" if "round" in before else "attribute_not_exists(#round)"),
                {
                    ":planned": {"S": "planned"},
                    ":round": {"N": str(_round(before) + 1)},
                    **({":before": before["round"]} if "round" in before else {}),
                    **_states(_AT_REST),
                    **_at(now),
                },
                stand_ins,
            )
        except Unmet:
            return False
        return True

    def settle(self, file: ExportFile, now: datetime) -> FileState | None:
        """See `ExportLedger.settle`."""
        item = self._get(_file_key(file))
        return self._settle(item, file, now) if item else None

    def _settle(self, item: Item, file: ExportFile, now: datetime) -> FileState | None:
        state = _state(item)
        if "edges" not in item or len(state.finished) < len(state.edges):
            return None
        refused = state.counts.refused or state.counts.damages
        ended = {":ended": {"S": "done_with_refusals" if refused else "done"}}
        try:
            done = self._update(
                _file_key(file),
                "SET #state = :ended, updated_at = :now REMOVE reason",
                f"NOT (#state IN ({', '.join(_states(DONE))}))",
                {**ended, **_states(DONE), **_at(now)},
            )
        except Unmet:
            return None
        return _state(done)

    def progress(self, chunk: Chunk) -> Progress:
        """See `ExportLedger.progress`."""
        item = self._get(_chunk_key(chunk))
        return _progress(item) if item else Progress()

    def moved(self, chunks: Sequence[Chunk]) -> Mapping[int, Moved]:
        """See `ExportLedger.moved`."""
        items = self._get_many([_chunk_key(chunk) for chunk in chunks])
        return {
            int(item["sk"]["S"].rpartition("#")[2]): Moved(_progress(item), _instant(item["updated_at"]))
            for item in items
            if "updated_at" in item
        }

    def advance(self, chunk: Chunk, before: Progress, after: Progress, now: datetime) -> bool:
        """See `ExportLedger.advance`.

        A write whose answer was lost is repeated by the client and then finds its own work: that is "moved by
        someone else" too, and the caller goes on from where the chunk stands.
        """
        item = {
            **_chunk_key(chunk),
            "done": {"BOOL": after.done},
            "reached": {"N": str(after.reached)},
            "updated_at": _at(now)[":now"],
            **{name: {"N": str(count)} for name, count in _counted(after.counts).items()},
            "ttl": _until(now)[":ttl"],
        }
        if after.place is not None:
            item["place"] = {"N": str(after.place)}
        given: Item = {"ConditionExpression": "attribute_not_exists(pk)"}
        if before.place is not None:
            given = {
                "ConditionExpression": "place = :place AND done = :open",
                "ExpressionAttributeValues": {":place": {"N": str(before.place)}, ":open": {"BOOL": False}},
            }
        try:
            self._items.call("put_item", TableName=self._items.name, Item=item, **given)
        except Unmet:
            return False
        return True

    def finish(self, chunk: Chunk, counts: Counts, now: datetime) -> FileState | None:
        """See `ExportLedger.finish`. The set of finished chunks makes the addition happen once."""
        counted = _counted(counts)
        stand_ins = {f"#c{number}": name for number, name in enumerate(counted)}
        added = "".join(f", {stand_in} :c{number}" for number, stand_in in enumerate(stand_ins))
        try:
            item = self._update(
                _file_key(chunk.file),
                f"ADD finished :numbers{added} SET updated_at = :now",
                "attribute_exists(#state) AND NOT contains(finished, :number) AND "
                + ("#round = :round" if chunk.round else "attribute_not_exists(#round)"),
                {
                    ":numbers": {"NS": [str(chunk.number)]},
                    ":number": {"N": str(chunk.number)},
                    **({":round": {"N": str(chunk.round)}} if chunk.round else {}),
                    **{f":c{number}": {"N": str(count)} for number, count in enumerate(counted.values())},
                    **_at(now),
                },
                stand_ins,
            )
        except Unmet:
            return self.settle(chunk.file, now)
        return self._settle(item, chunk.file, now)

    def sweep_position(self, bucket: str) -> str:
        """See `ExportLedger.sweep_position`."""
        item = self._get(_sweep_key(bucket))
        return str(item["after"]["S"]) if item else ""

    def keep_sweep_position(self, bucket: str, key: str) -> None:
        """See `ExportLedger.keep_sweep_position`."""
        self._items.call("put_item", TableName=self._items.name, Item={**_sweep_key(bucket), "after": {"S": key}})

    def _get(self, key: Item) -> Item:
        return self._items.get(key)

    def _update(
        self, key: Item, update: str, condition: str, values: Item, stand_ins: Mapping[str, str] | None = None
    ) -> Item:
        words = update + condition
        names = {**{name: name[1:] for name in _RESERVED if name in words}, **(stand_ins or {})}
        return self._items.update(key, update, condition, values, names)


def _file_key(file: ExportFile) -> Item:
    return {"pk": {"S": f"X#{file.bucket}/{file.key}"}, "sk": {"S": f"O#{file.etag}"}}


def _chunk_key(chunk: Chunk) -> Item:
    key = _file_key(chunk.file)
    again = f"#R{chunk.round}" if chunk.round else ""
    return {"pk": key["pk"], "sk": {"S": f"{key['sk']['S']}{again}#C#{chunk.number:06d}"}}


def _sweep_key(bucket: str) -> Item:
    return {"pk": {"S": f"X#{bucket}/"}, "sk": {"S": "SWEEP"}}


def _at(now: datetime) -> Item:
    return {":now": {"N": str(now.timestamp())}}


def _until(now: datetime) -> Item:
    return {":ttl": {"N": str(int(now.timestamp()) + KEEP_DAYS * _DAY)}}


def _instant(value: Item) -> datetime:
    return datetime.fromtimestamp(float(value["N"]), UTC)


def _states(states: Iterable[str]) -> Item:
    """Values of an expression's `IN`, which is its keys."""
    return {f":is_{state}": {"S": state} for state in sorted(states)}


def _counted(counts: Counts) -> dict[str, int]:
    """Attribute -> count; zeros of reasons are left out."""
    return {**counts.numbers(), **{_WHY + reason: count for reason, count in counts.reasons.items() if count}}


def _counts(item: Item) -> Counts:
    numbers = (int(item[name]["N"]) if name in item else 0 for name in _NUMBERS)
    reasons = {name.removeprefix(_WHY): int(item[name]["N"]) for name in sorted(item) if name.startswith(_WHY)}
    return Counts._make((*numbers, reasons))


def _progress(item: Item) -> Progress:
    return Progress(
        place=int(item["place"]["N"]) if "place" in item else None,
        counts=_counts(item),
        done=item["done"]["BOOL"],
        reached=int(item["reached"]["N"]) if "reached" in item else 0,
    )


def _round(item: Item) -> int:
    return int(item["round"]["N"]) if "round" in item else 0


def _state(item: Item) -> FileState:
    return FileState(
        file=msgspec.json.decode(item["file"]["S"], type=ExportFile),
        state=item["state"]["S"],
        edges=tuple(int(edge["N"]) for edge in item.get("edges", {}).get("L", ())),
        finished=frozenset(int(number) for number in item.get("finished", {}).get("NS", ())),
        counts=_counts(item),
        updated_at=_instant(item["updated_at"]),
        reason=item.get("reason", {}).get("S", ""),
        round=_round(item),
        begun_at=_instant(item["begun_at"]) if "begun_at" in item else None,
    )
