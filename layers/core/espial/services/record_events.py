"""RawQueue to EventsTable: archive, split, normalise, insert; each delivery of a batch stands for itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec

from espial import sources
from espial.compression import inflate
from espial.deliveries import Arrival, Item, RawDelivery
from espial.envelope import unpack
from espial.errors import MalformedDelivery, TooLarge, TryAgain, UnknownConnection
from espial.ports import Connections, EventStore, Quarantine, Quarantined, RawArchive
from espial.services.recorder import Outcome, Recorder, Report, Tally, entry_id
from espial.sources import Source

LARGEST_PLAIN_BODY = 64 * 1_048_576
"""Bytes a compressed body may inflate to."""

REPLAYED = "REPLAY"
"""`RawDelivery.method` of items that come back from quarantine: the body is a JSON array of them, split already."""

_REASONS: dict[type[Exception], str] = {UnknownConnection: "unknown_connection", TooLarge: "too_large"}
_items = msgspec.json.Decoder(list[Any])


def read_messages(
    messages: Iterable[Mapping[str, Any]], fetch: Callable[[str], bytes]
) -> tuple[dict[str, RawDelivery], dict[str, Exception]]:
    """SQS message id -> delivery, and message id -> why it cannot be read now; `fetch` reads a spilled body.

    A message that is none of ours is never quarantined as a platform's doing: it ends in the dead-letter queue.
    """
    deliveries: dict[str, RawDelivery] = {}
    failures: dict[str, Exception] = {}
    for message in messages:
        try:
            attributes = {name: value["stringValue"] for name, value in message["messageAttributes"].items()}
            deliveries[message["messageId"]] = unpack(message["body"], attributes, fetch)
        except Exception as exc:  # noqa: BLE001  its neighbours go on
            failures[message["messageId"]] = exc
    return deliveries, failures


def record(
    deliveries: Sequence[RawDelivery],
    *,
    connections: Connections,
    store: EventStore,
    archive: RawArchive,
    quarantine: Quarantine,
    now: datetime,
) -> Tally:
    """Record one batch; `Tally.failures` holds the ids of the deliveries that have to be delivered again.

    Raises nothing for one delivery: what cannot be read is quarantined, what cannot be done now is retried by
    itself, and recording again what was recorded already counts as duplicates.
    """
    tally = Tally()

    def reports() -> Iterator[Report]:
        for delivery, raw in _archived(archive, deliveries, tally):
            try:
                for report in _reports(delivery, raw, connections):
                    tally.received[delivery.delivery_id] += 1
                    yield report
            except (MalformedDelivery, UnknownConnection, TooLarge) as exc:
                refuse(_entry(delivery, raw, exc, now), delivery)
            except Exception as exc:  # noqa: BLE001  its neighbours go on; it is retried and ends in the dead-letter queue
                _fail(delivery, exc, tally)

    def refuse(entry: Quarantined, delivery: RawDelivery) -> None:
        try:
            quarantine.put(entry)
        except Exception as exc:  # noqa: BLE001  without its place in quarantine the delivery is not dealt with
            _fail(delivery, exc, tally)
        else:
            _whole(delivery, "quarantined", entry.reason, tally)

    return Recorder(store, quarantine, now).record(reports(), tally)


def _archived(
    archive: RawArchive, deliveries: Sequence[RawDelivery], tally: Tally
) -> Iterator[tuple[RawDelivery, str]]:
    """The deliveries that are kept whole now, each with its pointer: first, so that no pointer is ever dangling."""
    try:
        kept = archive.keep(deliveries)
    except Exception as exc:  # noqa: BLE001  one that cannot be kept must not hold up the others
        if len(deliveries) > 1 and not isinstance(exc, TryAgain):
            for delivery in deliveries:
                yield from _archived(archive, [delivery], tally)
        else:
            for delivery in deliveries:
                _fail(delivery, exc, tally)
    else:
        yield from zip(deliveries, kept, strict=True)


def _reports(delivery: RawDelivery, raw: str, connections: Connections) -> Iterator[Report]:
    connection = connections.find(delivery.platform, delivery.connection)
    source = sources.of(connection)
    arrival = Arrival(
        connection=connection,
        transport=delivery.transport,
        received_at=delivery.received_at,
        mode=connection.mode if delivery.mode == "live" else delivery.mode,
    )
    for position, item in enumerate(_split(source, delivery)):
        yield Report(source, arrival, item, raw, delivery.delivery_id, position)


def _split(source: Source, delivery: RawDelivery) -> list[Item]:
    if delivery.method == REPLAYED:
        return _items.decode(delivery.body)
    if delivery.headers.get("content-encoding", "").strip().lower() in ("gzip", "deflate"):
        delivery = replace(delivery, body=inflate(delivery.body, LARGEST_PLAIN_BODY))
    return source.split(delivery)


def _entry(delivery: RawDelivery, raw: str, error: Exception, now: datetime) -> Quarantined:
    malformed = error if isinstance(error, MalformedDelivery) else None
    reason = malformed.reason if malformed else _REASONS[type(error)]
    return Quarantined(
        id=entry_id(delivery.received_at, reason, delivery.delivery_id),
        reason=reason,
        detail=malformed.detail if malformed else str(error),
        path=malformed.path if malformed else "",
        platform=delivery.platform,
        connection=delivery.connection,
        quarantined_at=now,
        content={"kind": "delivery", "raw": raw, **delivery.plain()},
    )


def _fail(delivery: RawDelivery, error: Exception, tally: Tally) -> None:
    tally.fail(delivery.delivery_id, error)
    _whole(delivery, "retried", type(error).__name__, tally)


def _whole(delivery: RawDelivery, verdict: str, what: str, tally: Tally) -> None:
    """What became of a delivery whose items nobody knows: it counts as one."""
    tally.received[delivery.delivery_id] += 1
    tally.count(delivery.delivery_id, Outcome(delivery.platform, delivery.connection, verdict, what))
