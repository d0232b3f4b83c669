"""EventBridge: events to the bus, every receipt read."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from espial import events
from espial.errors import TryAgain
from espial.events import Event
from espial.stores.batches import batches

ENTRIES_A_CALL = 10
BYTES_A_CALL = 1_000_000
"""Of all the entries of a call together; the service's limit is 1 MB (256 KB before 2026)."""
LARGEST_DETAIL = 900_000
"""An event goes on to SQS in an envelope of its own, which must stay under that queue's 1 MiB."""
ATTEMPTS = 3

log = logging.getLogger(__name__)


class _Entry(NamedTuple):
    event: Event
    entry: dict[str, Any]
    size: int


class EventBridgeBus:
    """The bus behind `ports.EventBus`; `sleep` waits between tries and is settable for tests.

    `eventbridge` is a boto3 client or a `LightClient`.
    """

    def __init__(self, eventbridge: Any, bus: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._eventbridge = eventbridge
        self._bus = bus
        self._sleep = sleep

    def put(self, events: Iterable[Event]) -> list[Event]:
        """See `ports.EventBus.put`. Failed entries alone are sent again; what is left after that is returned."""
        left = [self._entry(event) for event in events]
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(random.uniform(0.5, 1) * 0.1 * 2**attempt)  # noqa: S311  jitter
            left = [
                entry
                for batch in batches(left, count=ENTRIES_A_CALL, total=BYTES_A_CALL, size=lambda entry: entry.size)
                for entry in self._call(batch)
            ]
            if not left:
                break
        return [entry.event for entry in left]

    def _call(self, batch: list[_Entry]) -> list[_Entry]:
        """The entries of one call that were not accepted: a 200 can hold failures."""
        try:
            answer = self._eventbridge.put_events(Entries=[entry.entry for entry in batch])
        except ClientError as exc:
            log.warning("bus.unavailable: %s", exc.response["Error"]["Code"])
            return batch
        except (BotoCoreError, TryAgain) as exc:
            log.warning("bus.unavailable: %s", type(exc).__name__)
            return batch
        if not answer["FailedEntryCount"]:
            return []
        verdicts = [receipt.get("ErrorCode") for receipt in answer["Entries"]]
        log.warning("bus.refused: %s", ", ".join(sorted({code for code in verdicts if code})))
        return [entry for entry, code in zip(batch, verdicts, strict=True) if code]

    def _entry(self, event: Event) -> _Entry:
        detail = events.encode(event)
        if len(detail) > LARGEST_DETAIL:
            detail = events.encode(msgspec.structs.replace(event, properties={}))
        entry = {
            "Source": "espial",
            "DetailType": event.type.value,
            "Time": event.occurred_at.timestamp(),
            "EventBusName": self._bus,
            "Detail": detail.decode(),
        }
        return _Entry(event, entry, len(detail) + len(event.type.value) + len("espial") + 14)
