"""The way back from quarantine: what was refused goes through its queue again, once its reason is mended."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from espial.deliveries import RawDelivery
from espial.errors import Refused
from espial.exports.files import DONE, ExportLedger, Listed
from espial.exports.notices import Notice, message
from espial.ports import DeliveryQueue, Quarantine, Quarantined
from espial.services.record_events import REPLAYED


class WaysBack(NamedTuple):
    """RawQueue, NoticeQueue (takes a message's body, returns once it is durable), and which files were read."""

    queue: DeliveryQueue
    notify: Callable[[str], None]
    ledger: ExportLedger


def replay(id: str, *, quarantine: Quarantine, ways: WaysBack, mode: str | None = None) -> None:
    """Put one entry back on its queue, and remove it once it is durable there.

    A delivery or an item goes to RawQueue, a file or a notice of one to NoticeQueue: the file is read again from
    where it could not be read on. `mode` replaces the mode a delivery arrived in (`backfill` records without firing a
    trigger). Neighbours of an item are not replayed with it, and what was recorded meanwhile is recognised as a
    duplicate. Raises KeyError for an unknown id, Refused where there is nothing to replay or the mode cannot be
    chosen, TryAgain when the queue cannot take it now.
    """
    entry = quarantine.get(id)
    if entry.content.get("kind") in ("export", "notice"):
        if mode:
            raise Refused("mode_not_possible", "a file is recorded in the mode of its connection")
        ways.notify(_message(entry, ways.ledger))
    else:
        ways.queue.put(_delivery(entry, mode))
    quarantine.remove(id)


def _message(entry: Quarantined, ledger: ExportLedger) -> str:
    content = entry.content
    if content["kind"] == "notice":
        said = content["message"]
        return said if isinstance(said, str) else json.dumps(said)
    bucket, key, etag = content["bucket"], content["key"], content["etag"]
    state = ledger.entries(bucket, [Listed(key, etag, 0, entry.quarantined_at)]).get(key)
    if state and state.state in DONE:
        raise Refused(
            "nothing_to_replay",
            f"the rest of the file was recorded: `espial exports redo {key}` once it can be read, or have this part "
            f"dropped again under a new key: {content['raw']}",
        )
    return message(Notice(bucket=bucket, key=key, etag=etag, version_id=content["version_id"]))


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
    if kind == "onboarding":
        raise Refused("nothing_to_replay", f"a file of recipients: `espial onboarding resume {content['key']}`")
    if "key" in content:
        raise Refused("nothing_to_replay", f"a row of a file: `espial exports redo {content['key']}` reads it again")
    raise Refused("nothing_to_replay", f"replay what it came from: {content.get('raw')}")
