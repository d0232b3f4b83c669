"""Logins to the pull and the batches that are out, in NotificationsTable.

pk                 sk         what
S#<hash of id>     CONTEXT    a login, until it was idle for too long
U#<hash of name>   LOGINS     passwords tried since a moment
B#<lease>          BATCH      a batch that was handed out, for a day
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

import msgspec
from isal import igzip

from espial.compression import inflate
from espial.notifications.contexts import IDLE, LOCKED, WRONG, Batch, Context
from espial.stores.conditional import ConditionalTable, Item, Unmet

KEPT = timedelta(days=1)
"""How long a batch is remembered when its lease is over: whoever is late learns that it is too late."""
LARGEST = 4 << 20
"""Bytes of a batch's ids, inflated."""


class PullContexts:
    """The table behind `Contexts`. AWS permissions: dynamodb:GetItem, PutItem, UpdateItem and DeleteItem on it."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._items = ConditionalTable(dynamodb, table, "NotificationsTable")

    def open(self, context_id: str, context: Context, *, now: datetime) -> None:
        """See `Contexts.open`."""
        body = {"S": msgspec.json.encode(context).decode()}
        self._put({**_context(context_id), "body": body, "role": {"S": context.role}, **_lives(now + IDLE)})

    def use(self, context_id: str, *, now: datetime) -> Context | None:
        """See `Contexts.use`."""
        values = {":until": _number(now + IDLE), ":ttl": _ttl(now + IDLE), ":now": _number(now)}
        try:
            item = self._items.update(
                _context(context_id),
                "SET held_until = :until, #ttl = :ttl",
                "held_until > :now",
                values,
                {"#ttl": "ttl"},
            )
        except Unmet:
            return None
        context = msgspec.json.decode(item["body"]["S"], type=Context)
        return msgspec.structs.replace(context, role=item["role"]["S"])

    def switch(self, context_id: str, role: str) -> None:
        """See `Contexts.switch`."""
        try:
            self._items.update(
                _context(context_id),
                "SET #role = :role",
                "attribute_exists(pk)",
                {":role": {"S": role}},
                {"#role": "role"},
            )
        except Unmet:
            return  # logged out meanwhile

    def close(self, context_id: str) -> None:
        """See `Contexts.close`."""
        self._items.call("delete_item", TableName=self._items.name, Key=_context(context_id))

    def attempt(self, user: str, *, now: datetime) -> bool:
        """See `Contexts.attempt`."""
        values = {":now": _number(now), ":past": _number(now - LOCKED), ":most": {"N": str(WRONG)}, ":one": {"N": "1"}}
        values[":ttl"] = _ttl(now + 2 * LOCKED)
        changes = (
            ("ADD tries :one SET tried_at = :now, #ttl = :ttl", "tries < :most AND since > :past"),
            (
                "SET tries = :one, since = :now, tried_at = :now, #ttl = :ttl",
                "attribute_not_exists(pk) OR tried_at <= :past OR (tries < :most AND since <= :past)",
            ),
        )
        for update, condition in changes:
            used = {name: value for name, value in values.items() if name in f"{update} {condition}"}
            try:
                self._items.update(_logins(user), update, condition, used, {"#ttl": "ttl"})
            except Unmet:
                continue
            return True
        return False

    def right(self, user: str) -> None:
        """See `Contexts.right`."""
        values = {":less": {"N": "-1"}, ":none": {"N": "0"}}
        try:
            self._items.update(_logins(user), "ADD tries :less", "tries > :none", values, {})
        except Unmet:
            return  # counted from new meanwhile

    def keep(self, batch: Batch) -> None:
        """See `Contexts.keep`."""
        ids = b64encode(igzip.compress("\n".join(batch.notifications).encode())).decode()
        plain = msgspec.json.encode(msgspec.structs.replace(batch, notifications=())).decode()
        self._put({**_batch(batch.lease), "body": {"S": plain}, "ids": {"S": ids}, "ttl": _ttl(batch.until + KEPT)})

    def batch(self, lease: str) -> Batch | None:
        """See `Contexts.batch`."""
        item = self._items.get(_batch(lease))
        if not item:
            return None
        ids = inflate(b64decode(item["ids"]["S"]), LARGEST).decode()
        batch = msgspec.json.decode(item["body"]["S"], type=Batch)
        return msgspec.structs.replace(batch, notifications=tuple(ids.split()))

    def _put(self, item: Item) -> None:
        self._items.call("put_item", TableName=self._items.name, Item=item)


def _context(context_id: str) -> Item:
    return {"pk": {"S": f"S#{_hash(context_id)}"}, "sk": {"S": "CONTEXT"}}


def _logins(user: str) -> Item:
    return {"pk": {"S": f"U#{_hash(user)}"}, "sk": {"S": "LOGINS"}}


def _batch(lease: str) -> Item:
    return {"pk": {"S": f"B#{_hash(lease)}"}, "sk": {"S": "BATCH"}}


def _hash(said: str) -> str:
    """Of whatever length and letters somebody sends."""
    return blake2b(said.encode("utf-8", "replace"), digest_size=20).hexdigest()


def _lives(until: datetime) -> Item:
    return {"held_until": _number(until), "ttl": _ttl(until)}


def _number(moment: datetime) -> Item:
    """Milliseconds since the epoch."""
    return {"N": str(round(moment.timestamp() * 1000))}


def _ttl(moment: datetime) -> Item:
    return {"N": str(int(moment.timestamp()))}
