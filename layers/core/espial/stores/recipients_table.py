"""RecipientsTable in DynamoDB: the executions of each onboarding and what each recipient was last told.

pk `O#<name>`: sk `HEAD` how many executions were begun and how many have ended, `F#<etag>#<hash of the key>` a file and
its execution. pk `R#<name>#<external id>`, sk `TOLD`: a recipient. None of it expires: who was told what stays known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from secrets import token_hex
from typing import Any

import msgspec

from espial.errors import TryAgain
from espial.exports.files import ExportFile
from espial.onboarding.state import ENDED, Counts, Execution, Held, Told
from espial.stores.batches import batches
from espial.stores.conditional import ConditionalTable, Item, Unmet

KEYS_A_CALL = 100
ITEMS_A_CALL = 25
ATTEMPTS = 10

_COUNTS = Counts._fields


class RecipientsTable:
    """The table behind `onboarding.state.Executions` and `Recipients`. Every method raises TryAgain when it is away."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._items = ConditionalTable(dynamodb, table, "the recipients")

    # -- executions

    def find(self, name: str, file: ExportFile) -> Execution | None:
        """See `Executions.find`; read consistently."""
        item = self._get(_file_key(name, file))
        return _execution(item) if item else None

    def of(self, name: str) -> list[Execution]:
        """See `Executions.of`."""
        found = self._items.query(
            KeyConditionExpression="pk = :pk AND begins_with(sk, :sk)",
            ExpressionAttributeValues={":pk": {"S": f"O#{name}"}, ":sk": {"S": "F#"}},
        )
        return sorted(map(_execution, found), key=lambda one: one.updated_at, reverse=True)

    def refuse(self, name: str, file: ExportFile, reason: str, now: datetime) -> None:
        """See `Executions.refuse`."""
        try:
            self._update(
                _file_key(name, file),
                "SET #state = :refused, reason = :reason, #file = :file, #name = :name, updated_at = :now",
                "attribute_not_exists(#number)",
                {":refused": {"S": "refused"}, ":reason": {"S": reason}, **_entry(name, file, now)},
            )
        except Unmet:
            return

    def claim(self, name: str, file: ExportFile, rows: int, now: datetime) -> Execution:
        """See `Executions.claim`. The number and the count of numbers change together, so that none is left out."""
        for _ in range(ATTEMPTS):
            found = self.find(name, file)
            if found and found.number:
                return found
            begun = int(self._get(_head_key(name)).get("begun", {"N": "0"})["N"])
            begin = {
                "Key": _file_key(name, file),
                "UpdateExpression": "SET #state = :running, #number = :number, #rows = :rows, #file = :file, "
                "#name = :name, updated_at = :now REMOVE reason",
                "ConditionExpression": "attribute_not_exists(#number)",
                "ExpressionAttributeNames": _names("#state #number #rows #file #name"),
                "ExpressionAttributeValues": {
                    ":running": {"S": "running"},
                    ":number": {"N": str(begun + 1)},
                    ":rows": {"N": str(rows)},
                    **_entry(name, file, now),
                },
            }
            count = {
                "Key": _head_key(name),
                "UpdateExpression": "SET begun = :next, ended = if_not_exists(ended, :nothing)",
                "ConditionExpression": "attribute_not_exists(begun) OR begun = :begun",
                "ExpressionAttributeValues": {
                    ":begun": {"N": str(begun)},
                    ":next": {"N": str(begun + 1)},
                    ":nothing": {"N": "0"},
                },
            }
            self._together(begin, count)
        raise TryAgain("another file of the onboarding began at every try")

    def take(self, execution: Execution, *, now: datetime, until: datetime) -> Held | None:
        """See `Executions.take`. Who has ended stays ended, so the turn cannot be lost between the two calls."""
        head = self._get(_head_key(execution.name))
        if int(head.get("ended", {"N": "0"})["N"]) != execution.number - 1:
            return None
        holder = token_hex(16)
        try:
            item = self._update(
                _file_key(execution.name, execution.file),
                "SET holder = :holder, held_until = :until",
                "#state = :running AND (attribute_not_exists(held_until) OR held_until <= :now)",
                {
                    ":holder": {"S": holder},
                    ":until": _number(until),
                    ":now": _number(now),
                    ":running": {"S": "running"},
                },
            )
        except Unmet:
            return None
        return Held(_execution(item), holder)

    def renew(self, held: Held, *, until: datetime) -> bool:
        """See `Executions.renew`."""
        return self._held(held, "SET held_until = :until", {":until": _number(until)}) is not None

    def advance(self, held: Held, counts: Counts, *, now: datetime, until: datetime) -> Held | None:
        """See `Executions.advance`."""
        item = self._held(
            held,
            "SET counts = :counts, updated_at = :now, held_until = :until",
            {
                ":counts": {"M": {name: {"N": str(count)} for name, count in counts._asdict().items()}},
                ":now": _number(now),
                ":until": _number(until),
            },
        )
        return None if item is None else held._replace(execution=_execution(item))

    def release(self, held: Held, reason: str = "") -> None:
        """See `Executions.release`."""
        update, values = "SET held_until = :nothing REMOVE reason", {":nothing": {"N": "0"}}
        if reason:
            update, values = "SET held_until = :nothing, reason = :reason", {**values, ":reason": {"S": reason}}
        self._held(held, update, values)

    def end(self, execution: Execution, state: str, reason: str, now: datetime) -> None:
        """See `Executions.end`. State and turn change together."""
        because = ", reason = :reason" if reason else " REMOVE reason"
        end = {
            "Key": _file_key(execution.name, execution.file),
            "UpdateExpression": f"SET #state = :state, updated_at = :now{because}",
            "ConditionExpression": "#state = :running",
            "ExpressionAttributeNames": _names("#state"),
            "ExpressionAttributeValues": {
                ":state": {"S": state},
                ":running": {"S": "running"},
                ":now": _number(now),
                **({":reason": {"S": reason}} if reason else {}),
            },
        }
        turn = {
            "Key": _head_key(execution.name),
            "UpdateExpression": "SET ended = :number",
            "ConditionExpression": "ended = :before",
            "ExpressionAttributeValues": {
                ":number": {"N": str(execution.number)},
                ":before": {"N": str(execution.number - 1)},
            },
        }
        if not self._together(end, turn):
            found = self.find(execution.name, execution.file)
            if found is None or found.state not in ENDED:
                raise TryAgain("the execution cannot be ended: it is not its turn")

    def _held(self, held: Held, update: str, values: Item) -> Item | None:
        """The item as it is now; None, changing nothing, if somebody else has it."""
        key = _file_key(held.execution.name, held.execution.file)
        try:
            return self._update(
                key,
                update,
                "holder = :holder AND #state = :running",
                {":holder": {"S": held.holder}, ":running": {"S": "running"}, **values},
            )
        except Unmet:
            return None

    # -- recipients

    def told(self, name: str, external_ids: Collection[str]) -> Mapping[str, Told]:
        """See `Recipients.told`; read consistently."""
        found: dict[str, Told] = {}
        prefix = _recipient_key(name, "")["pk"]["S"]
        for some in batches(sorted(set(external_ids)), count=KEYS_A_CALL):
            left: list[Item] = [_recipient_key(name, external_id) for external_id in some]
            for _ in range(ATTEMPTS):
                request = {self._items.name: {"Keys": left, "ConsistentRead": True}}
                answer = self._items.call("batch_get_item", RequestItems=request)
                for item in answer["Responses"].get(self._items.name, ()):
                    found[item["pk"]["S"].removeprefix(prefix)] = _told(item)
                left = answer.get("UnprocessedKeys", {}).get(self._items.name, {}).get("Keys", [])
                if not left:
                    break
            else:
                raise TryAgain("the recipients are throttled")
        return found

    def remember(self, name: str, told: Mapping[str, Told]) -> None:
        """See `Recipients.remember`."""
        puts = [{"PutRequest": {"Item": _recipient(name, external_id, one)}} for external_id, one in told.items()]
        for some in batches(puts, count=ITEMS_A_CALL):
            left = list(some)
            for _ in range(ATTEMPTS):
                answer = self._items.call("batch_write_item", RequestItems={self._items.name: left})
                left = answer.get("UnprocessedItems", {}).get(self._items.name, [])
                if not left:
                    break
            else:
                raise TryAgain("the recipients are throttled")

    # -- calls

    def _get(self, key: Item) -> Item:
        return self._items.get(key)

    def _update(self, key: Item, update: str, condition: str, values: Item) -> Item:
        return self._items.update(key, update, condition, values, _names(f"{update} {condition}"))

    def _together(self, *updates: Item) -> bool:
        """Both updates or none; False if a condition of theirs does not hold (any more)."""
        items = [{"Update": {"TableName": self._items.name, **update}} for update in updates]
        try:
            self._items.call("transact_write_items", TransactItems=items)
        except Unmet:
            return False
        return True


def _names(expression: str) -> dict[str, str]:
    """Attributes whose names are words of DynamoDB's own, which expressions may only name by a stand-in."""
    return {f"#{name}": name for name in ("state", "number", "rows", "file", "name") if f"#{name}" in expression}


def _file_key(name: str, file: ExportFile) -> Item:
    digest = blake2b(file.key.encode(), digest_size=16).hexdigest()  # a key may be as long as a sort key, and then some
    return {"pk": {"S": f"O#{name}"}, "sk": {"S": f"F#{file.etag}#{digest}"}}


def _head_key(name: str) -> Item:
    return {"pk": {"S": f"O#{name}"}, "sk": {"S": "HEAD"}}


def _recipient_key(name: str, external_id: str) -> Item:
    return {"pk": {"S": f"R#{name}#{external_id}"}, "sk": {"S": "TOLD"}}


def _recipient(name: str, external_id: str, told: Told) -> Item:
    return {
        **_recipient_key(name, external_id),
        "content": {"S": told.content},
        "execution": {"N": str(told.execution)},
        "contact": {"N": str(told.contact)},
        "outcome": {"S": told.outcome},
    }


def _told(item: Item) -> Told:
    outcome = item["outcome"]["S"]
    return Told(item["content"]["S"], int(item["execution"]["N"]), int(item["contact"]["N"]), outcome)


def _entry(name: str, file: ExportFile, now: datetime) -> Item:
    return {":file": {"S": msgspec.json.encode(file).decode()}, ":name": {"S": name}, ":now": _number(now)}


def _number(moment: datetime) -> Item:
    """Milliseconds since the epoch."""
    return {"N": str(round(moment.timestamp() * 1000))}


def _execution(item: Item) -> Execution:
    counts = item.get("counts", {}).get("M", {})
    return Execution(
        name=item["name"]["S"],
        file=msgspec.json.decode(item["file"]["S"], type=ExportFile),
        number=int(item["number"]["N"]) if "number" in item else 0,
        state=item["state"]["S"],
        updated_at=datetime.fromtimestamp(int(item["updated_at"]["N"]) / 1000, UTC),
        counts=Counts(*(int(counts[name]["N"]) if name in counts else 0 for name in _COUNTS)),
        rows=int(item["rows"]["N"]) if "rows" in item else 0,
        reason=item.get("reason", {}).get("S", ""),
    )
