"""Send claims in EventsTable: `P#<person>` / `S#<send key>`, every step one conditional write.

    (absent) ──claim──► calling ──sent──► sent
                          │ ▲ │ └─unknown─► unknown ──sent | refused──►
                  release ▼ │ └──refused──► refused        │
                          free ◄────────release────────────┘

`attempt` grows with every claim, so that whoever held it before can change nothing any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from espial.errors import TryAgain
from espial.messages import Receipt
from espial.ports import AlreadyRefused, AlreadySent, Claim, InProgress, Standing, Unsettled

KEPT = timedelta(days=90)
"""Longer than the dedupe horizon of 60 days, so that no event that could send again outlives its claim."""

_Item = Mapping[str, Any]


class ClaimsTable:
    """The table behind `ports.Claims`. AWS permissions: dynamodb:GetItem and dynamodb:UpdateItem on the table."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def look(self, person: str, send_key: str, *, now: datetime) -> Standing | None:
        """See `ports.Claims.look`."""
        item = self._item(person, send_key)
        return _standing(person, send_key, item, now) if item else None

    def claim(self, person: str, send_key: str, *, now: datetime, lease: timedelta) -> Standing:
        """See `ports.Claims.claim`."""
        holder = token_hex(16)
        taken = self._update(
            Claim(person, send_key, 0),
            "SET #state = :calling, holder = :holder, called_at = :now, lease_until = :lease, "
            "attempt = if_not_exists(attempt, :zero) + :one, #ttl = :ttl",
            "attribute_not_exists(pk) OR #state = :free",
            {
                ":calling": {"S": "calling"},
                ":free": {"S": "free"},
                ":holder": {"S": holder},
                ":lease": _number(now + lease),
                ":now": _number(now),
                ":zero": {"N": "0"},
                ":one": {"N": "1"},
                ":ttl": {"N": str(int((now + KEPT).timestamp()))},
            },
        )
        if taken is None:
            taken = self._item(person, send_key) or {}
            if taken.get("holder") != {"S": holder}:  # else it is ours: a first try's answer was lost
                standing = _standing(person, send_key, taken, now) if taken else None
                if standing is None or isinstance(standing, Claim):
                    raise TryAgain("the claim changed hands meanwhile")
                return standing
        return Claim(person, send_key, int(taken["attempt"]["N"]))

    def sent(self, claim: Claim, receipt: Receipt) -> None:
        """See `ports.Claims.sent`."""
        values = {
            "provider": {"S": receipt.provider},
            "message_id": {"S": receipt.provider_message_id},
            "sent_at": _number(receipt.at),
        }
        self._move(claim, "sent", ("calling", "unknown"), values)

    def refused(self, claim: Claim, reason: str) -> None:
        """See `ports.Claims.refused`."""
        self._move(claim, "refused", ("calling", "unknown"), {"reason": {"S": reason}})

    def unknown(self, claim: Claim) -> None:
        """See `ports.Claims.unknown`."""
        self._move(claim, "unknown", ("calling",), {})

    def release(self, claim: Claim) -> None:
        """See `ports.Claims.release`."""
        self._moved(claim, "free", ("calling", "unknown"), {})

    def _move(self, claim: Claim, state: str, before: tuple[str, ...], values: Mapping[str, Any]) -> None:
        if not self._moved(claim, state, before, values):
            raise TryAgain(f"the claim is no longer ours to make {state}")

    def _moved(self, claim: Claim, state: str, before: tuple[str, ...], values: Mapping[str, Any]) -> bool:
        """One step; a step that an earlier, unheard answer already took is taken."""
        names = {f":v{index}": value for index, value in enumerate(values.values())}
        states = {f":s{index}": {"S": name} for index, name in enumerate((*before, state))}
        assignments = "".join(f", {name} = :v{index}" for index, name in enumerate(values))
        updated = self._update(
            claim,
            f"SET #state = :to{assignments}",
            f"attempt = :attempt AND #state IN ({', '.join(states)})",
            {":to": {"S": state}, ":attempt": {"N": str(claim.attempt)}, **names, **states},
        )
        return updated is not None

    def _item(self, person: str, send_key: str) -> _Item | None:
        try:
            answer = self._dynamodb.get_item(TableName=self._table, Key=_key(person, send_key), ConsistentRead=True)
        except (ClientError, BotoCoreError) as exc:
            raise TryAgain(f"the claim cannot be read: {type(exc).__name__}") from exc
        item: _Item | None = answer.get("Item")
        return item

    def _update(self, claim: Claim, update: str, condition: str, values: Mapping[str, Any]) -> _Item | None:
        names = {"#state": "state"} | ({"#ttl": "ttl"} if "#ttl" in update else {})
        try:
            answer = self._dynamodb.update_item(
                TableName=self._table,
                Key=_key(claim.person, claim.send_key),
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
            )
        except ClientError as exc:
            if exc.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return None
            raise TryAgain(f"the claim cannot be written: {exc.response['Error']['Code']}") from exc
        except BotoCoreError as exc:
            raise TryAgain(f"the claim cannot be written: {type(exc).__name__}") from exc
        item: _Item = answer["Attributes"]
        return item


def _standing(person: str, send_key: str, item: _Item, now: datetime) -> Standing:
    claim = Claim(person, send_key, int(item["attempt"]["N"]))
    match item["state"]["S"]:
        case "sent":
            return AlreadySent(item["provider"]["S"], item["message_id"]["S"], _instant(item["sent_at"]))
        case "refused":
            return AlreadyRefused(item["reason"]["S"])
        case "free":
            return claim
        case "calling" if now < _instant(item["lease_until"]):
            return InProgress(_instant(item["lease_until"]))
    return Unsettled(claim, _instant(item["called_at"]))


def _key(person: str, send_key: str) -> dict[str, Any]:
    return {"pk": {"S": f"P#{person}"}, "sk": {"S": f"S#{send_key}"}}


def _number(moment: datetime) -> dict[str, str]:
    """Milliseconds since the epoch."""
    return {"N": str(round(moment.timestamp() * 1000))}


def _instant(value: Mapping[str, str]) -> datetime:
    return datetime.fromtimestamp(int(value["N"]) / 1000, UTC)
