"""Send claims in EventsTable: `P#<person>` / `S#<send key>`, every step one conditional write.

    (absent) ──claim──► claimed ──calling──► calling ──sent──► sent
                 ▲          │                   │ └──unknown──► unknown ──sent | refused──►
                 └── lease ─┘◄─────release──────┴──────────────────┘
                     over    └──refused──► refused

`attempt` grows with every claim, so that a holder whose lease ran out can change nothing any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
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
        try:
            answer = self._dynamodb.get_item(TableName=self._table, Key=_key(person, send_key), ConsistentRead=True)
        except (ClientError, BotoCoreError) as exc:
            raise TryAgain(f"the claim cannot be read: {type(exc).__name__}") from exc
        item = answer.get("Item")
        return _standing(person, send_key, item, now) if item else None

    def claim(self, person: str, send_key: str, *, now: datetime, lease: timedelta) -> Standing:
        """See `ports.Claims.claim`."""
        taken = self._update(
            Claim(person, send_key, 0),
            "SET #state = :claimed, lease_until = :lease, attempt = if_not_exists(attempt, :zero) + :one, #ttl = :ttl",
            "attribute_not_exists(pk) OR (#state = :claimed AND lease_until <= :now)",
            {
                ":claimed": {"S": "claimed"},
                ":lease": _number(now + lease),
                ":now": _number(now),
                ":zero": {"N": "0"},
                ":one": {"N": "1"},
                ":ttl": {"N": str(int((now + KEPT).timestamp()))},
            },
        )
        if taken is not None:
            return Claim(person, send_key, int(taken["attempt"]["N"]))
        standing = self.look(person, send_key, now=now)
        if standing is None or isinstance(standing, Claim):
            raise TryAgain("the claim changed hands meanwhile")
        return standing

    def calling(self, claim: Claim, *, now: datetime, lease: timedelta) -> None:
        """See `ports.Claims.calling`."""
        self._move(claim, "calling", ("claimed",), {"lease_until": _number(now + lease), "called_at": _number(now)})

    def sent(self, claim: Claim, receipt: Receipt) -> None:
        """See `ports.Claims.sent`."""
        values = {
            "provider": {"S": receipt.provider},
            "message_id": {"S": receipt.provider_message_id},
            "sent_at": _number(receipt.at),
        }
        self._move(claim, "sent", ("claimed", "calling", "unknown"), values)

    def refused(self, claim: Claim, reason: str) -> None:
        """See `ports.Claims.refused`."""
        self._move(claim, "refused", ("claimed", "calling", "unknown"), {"reason": {"S": reason}})

    def unknown(self, claim: Claim) -> None:
        """See `ports.Claims.unknown`."""
        self._move(claim, "unknown", ("calling",), {})

    def release(self, claim: Claim) -> None:
        """See `ports.Claims.release`."""
        self._move(claim, "claimed", ("claimed", "calling", "unknown"), {"lease_until": {"N": "0"}})

    def _move(self, claim: Claim, state: str, before: tuple[str, ...], values: Mapping[str, Any]) -> None:
        """One step; a step that an earlier, unheard answer already took is no error."""
        names = {f":v{index}": value for index, value in enumerate(values.values())}
        states = {f":s{index}": {"S": name} for index, name in enumerate((*before, state))}
        assignments = "".join(f", {name} = :v{index}" for index, name in enumerate(values))
        moved = self._update(
            claim,
            f"SET #state = :to{assignments}",
            f"attempt = :attempt AND #state IN ({', '.join(states)})",
            {":to": {"S": state}, ":attempt": {"N": str(claim.attempt)}, **names, **states},
        )
        if moved is None:
            raise TryAgain(f"the claim is no longer ours to make {state}")

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
        case "unknown":
            return Unsettled(claim, _instant(item["called_at"]))
    until = _instant(item["lease_until"])
    if now < until:
        return InProgress(until)
    return Unsettled(claim, _instant(item["called_at"])) if item["state"]["S"] == "calling" else claim


def _key(person: str, send_key: str) -> dict[str, Any]:
    return {"pk": {"S": f"P#{person}"}, "sk": {"S": f"S#{send_key}"}}


def _number(moment: datetime) -> dict[str, str]:
    """Milliseconds since the epoch."""
    return {"N": str(round(moment.timestamp() * 1000))}


def _instant(value: Mapping[str, str]) -> datetime:
    return datetime.fromtimestamp(int(value["N"]) / 1000, UTC)
