"""The way back from quarantine: what was refused goes through the queue again, once its reason is mended."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from espial.deliveries import RawDelivery
from espial.errors import Refused
from espial.ports import DeliveryQueue, Quarantine, Quarantined
from espial.services.record_events import REPLAYED


def replay(id: str, *, quarantine: Quarantine, queue: DeliveryQueue, mode: str | None = None) -> RawDelivery:
    """Put one entry back on RawQueue, and remove it once it is durable there.

    `mode` replaces the mode it arrived in (`backfill` records without firing a trigger). Neighbours of an item are
    not replayed with it, and what was recorded meanwhile is recognised as a duplicate. Raises KeyError for an
    unknown id, Refused where the entry holds nothing to replay, TryAgain when the queue cannot take it now.
    """
    entry = quarantine.get(id)
    delivery = _delivery(entry, mode)
    queue.put(delivery)
    quarantine.remove(id)
    return delivery


_WAY_BACK = {
    "export": (
        "drop the file again under a new key, or, once its cause is mended, invoke sweep_exports with "
        '`{"days": 30, "retry_failed": true}`, which reads failed files again'
    ),
    "notice": "it names no file; sweep_exports finds every file whose notification was lost",
}
"""Kind of entry -> how else to get at what it stands for."""


def _delivery(entry: Quarantined, mode: str | None) -> RawDelivery:
    content: Mapping[str, Any] = entry.content
    kind = content.get("kind")
    if kind == "delivery":
        return RawDelivery.from_plain({**content, "mode": mode or content["mode"]})
    if kind == "item" and content["item"] is not None:
        return RawDelivery(
            delivery_id=f"replay-{entry.id.rpartition('/')[2]}",
            platform=entry.platform,
            connection=entry.connection,
            transport=content["transport"],
            body=msgspec.json.encode([content["item"]]),
            received_at=datetime.fromisoformat(content["received_at"]),
            method=REPLAYED,
            mode=mode or content["mode"],
        )
    raise Refused("nothing_to_replay", _WAY_BACK.get(str(kind), "replay what it came from") + f": {content.get('raw')}")
