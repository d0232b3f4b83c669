"""Catalogues in DynamoDB, spread so that a busy shop is not one hot partition.

    C#<catalogue>#<0 to 15>  P#<id>        a product: body (JSON); the number is a hash of the id
    C#<catalogue>            B#<category>  ids of its best sellers: body (JSON); B# is the whole shop
    C#<catalogue>            LOADED        as of when it was last loaded, whole
    C#<catalogue>            LEASE         while it is being loaded

Nothing of it expires: what the newest file does not name is removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from zlib import crc32

import msgspec

from espial.catalogue import Product
from espial.errors import TryAgain
from espial.stores.batches import batches
from espial.stores.conditional import ConditionalTable, Item, Unmet

SHARDS = 16
KEYS_A_CALL = 100
ITEMS_A_CALL = 25
ATTEMPTS = 10

_product = msgspec.json.Decoder(Product)
_ids = msgspec.json.Decoder(list[str])


class CatalogueTable:
    """Implements `ports.Catalogues`, and loading.

    AWS permissions: dynamodb:GetItem and BatchGetItem; to load, Query, UpdateItem and BatchWriteItem.

    Every method raises TryAgain when the table is away.
    """

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._items = ConditionalTable(dynamodb, table, "the catalogue")

    # -- for a mail

    def loaded_at(self, name: str) -> datetime | None:
        """See `ports.Catalogues.loaded_at`."""
        item = self._items.get(_key(f"C#{name}", "LOADED"))
        return datetime.fromisoformat(item["at"]["S"]) if item else None

    def products(self, name: str, ids: Iterable[str]) -> dict[str, Product]:
        """See `ports.Catalogues.products`; read consistently."""
        found = self._read(_product_key(name, id_) for id_ in dict.fromkeys(ids))
        return {item["sk"]["S"][2:]: _product.decode(item["body"]["S"]) for item in found}

    def best(self, name: str, categories: Iterable[str]) -> dict[str, list[str]]:
        """See `ports.Catalogues.best`."""
        found = self._read(_key(f"C#{name}", f"B#{one}") for one in dict.fromkeys(categories))
        return {item["sk"]["S"][2:]: _ids.decode(item["body"]["S"]) for item in found}

    # -- loading

    def take(self, name: str, *, now: datetime, until: datetime) -> bool:
        """Whether the catalogue is the caller's to load, until then or until it is released."""
        values = {":now": {"N": str(int(now.timestamp()))}, ":until": {"N": str(int(until.timestamp()))}}
        free = "attribute_not_exists(held_until) OR held_until <= :now"
        try:
            self._items.update(_key(f"C#{name}", "LEASE"), "SET held_until = :until", free, values, {})
        except Unmet:
            return False
        return True

    def release(self, name: str) -> None:
        """Let the next one load it."""
        self._write([{"DeleteRequest": {"Key": _key(f"C#{name}", "LEASE")}}])

    def everything(self, name: str) -> dict[str, Product]:
        """Id -> product, of the whole catalogue."""
        shards = (f"C#{name}#{number}" for number in range(SHARDS))
        return {
            item["sk"]["S"][2:]: _product.decode(item["body"]["S"]) for pk in shards for item in self._under(pk, "P#")
        }

    def write(self, name: str, products: Iterable[Product], gone: Iterable[str]) -> None:
        """Put these products and remove those ids. Repeating it is harmless."""
        self._write([_put(_product_key(name, one.id), one) for one in products])
        self._write([{"DeleteRequest": {"Key": _product_key(name, id_)}} for id_ in gone])

    def finish(self, name: str, best: Mapping[str, list[str]], loaded_at: datetime) -> None:
        """Replace the lists of best sellers; then the catalogue is as new as `loaded_at`."""
        pk = f"C#{name}"
        left = {item["sk"]["S"] for item in self._under(pk, "B#")} - {f"B#{category}" for category in best}
        self._write([_put(_key(pk, f"B#{category}"), ids) for category, ids in best.items()])
        self._write([{"DeleteRequest": {"Key": _key(pk, sk)}} for sk in sorted(left)])
        self._write([{"PutRequest": {"Item": {**_key(pk, "LOADED"), "at": {"S": loaded_at.isoformat()}}}}])

    # -- calls

    def _under(self, pk: str, prefix: str) -> Iterator[Item]:
        return self._items.query(
            KeyConditionExpression="pk = :pk AND begins_with(sk, :sk)",
            ExpressionAttributeValues={":pk": {"S": pk}, ":sk": {"S": prefix}},
        )

    def _read(self, keys: Iterable[Item]) -> Iterator[Item]:
        for some in batches(keys, count=KEYS_A_CALL):
            left = some
            for _ in range(ATTEMPTS):
                request = {self._items.name: {"Keys": left, "ConsistentRead": True}}
                answer = self._items.call("batch_get_item", RequestItems=request)
                yield from answer["Responses"].get(self._items.name, ())
                left = answer.get("UnprocessedKeys", {}).get(self._items.name, {}).get("Keys", [])
                if not left:
                    break
            else:
                raise TryAgain("the catalogue is throttled")

    def _write(self, requests: list[Item]) -> None:
        for some in batches(requests, count=ITEMS_A_CALL):
            left = some
            for _ in range(ATTEMPTS):
                answer = self._items.call("batch_write_item", RequestItems={self._items.name: left})
                left = answer.get("UnprocessedItems", {}).get(self._items.name, [])
                if not left:
                    break
            else:
                raise TryAgain("the catalogue is throttled")


def _key(pk: str, sk: str) -> Item:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _product_key(name: str, id_: str) -> Item:
    return _key(f"C#{name}#{crc32(id_.encode()) % SHARDS}", f"P#{id_}")


def _put(key: Item, body: Any) -> Item:
    return {"PutRequest": {"Item": {**key, "body": {"S": msgspec.json.encode(body).decode()}}}}
