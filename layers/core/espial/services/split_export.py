"""Notice of a new object -> recognised, planned, entered in the ledger -> chunks on ChunkQueue.

Whatever is repeated is harmless: a notice that comes again sends only chunks that are not finished, and only if it had
not come to that before or nothing has moved for so long that they must be lost. Rows recorded twice are duplicates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from espial import sources
from espial.deliveries import Connection
from espial.errors import Malformed, MalformedDelivery, UnknownConnection
from espial.exports import NOT_DATA, Container, open_container
from espial.exports.files import (
    DONE,
    ChunkQueue,
    ExportFile,
    ExportLedger,
    ExportObjects,
    FileSource,
    FileState,
    Unavailable,
)
from espial.exports.notices import Notice, ignored, parse
from espial.ports import Connections, Quarantine, Quarantined
from espial.services.recorder import entry_id
from espial.sources import Source, layout_of

PREFIX = "exports"

TARGET_BYTES = 64 << 20
"""Of a chunk: a minute or two of work at 50,000 rows a second and core, so that a retry costs little."""

BACKFILL = "backfill"
"""The folder of a connection whose files are history: recorded, and nothing fires."""

LOST = timedelta(hours=1)
"""A file on the queue of which no chunk has moved for so long is put there again."""


class Split(NamedTuple):
    """What became of a notice, and for what `reason`.

    `outcome` is ignored, stale, unavailable, refused, repeated (was read), reading (moves), queued or done (no rows).
    """

    outcome: str
    reason: str = ""
    chunks: int = 0


class Splitter:
    """Plans export files."""

    def __init__(
        self,
        *,
        connections: Connections,
        objects: ExportObjects,
        ledger: ExportLedger,
        queue: ChunkQueue,
        quarantine: Quarantine,
        now: datetime,
        target_bytes: int = TARGET_BYTES,
    ) -> None:
        self._connections = connections
        self._objects = objects
        self._ledger = ledger
        self._queue = queue
        self._quarantine = quarantine
        self._now = now
        self._target_bytes = target_bytes

    def split_message(self, message: str | Mapping[str, Any], message_id: str) -> Iterator[tuple[Notice, Split]]:
        """Plan each object that a message tells of. Raises TryAgain; a message that is no notice is quarantined."""
        try:
            notices = parse(message)
        except MalformedDelivery as exc:
            self._quarantine.put(
                Quarantined(
                    id=entry_id(self._now, exc.reason, message_id),
                    reason=exc.reason,
                    detail=exc.detail,
                    path="",
                    platform="",
                    connection="",
                    quarantined_at=self._now,
                    content={"kind": "notice", "message": message, "raw": message_id},
                )
            )
            return
        for notice in notices:
            yield notice, self.split(notice)

    def split(self, notice: Notice) -> Split:
        """Plan one object. Raises TryAgain; what can never be read is quarantined and said so."""
        if reason := ignored(notice.key, notice.size):
            return Split("ignored", reason)
        if self._ledger.is_stale(notice, self._now):
            return Split("stale")
        try:
            file = self._objects.head(notice)
        except Unavailable as exc:
            missed = unseen(notice, self._now)
            return Split("unavailable", give_up(missed, exc, self._ledger, self._quarantine, self._now))
        state = self._ledger.find(file)
        if state and state.state in DONE:
            return Split("repeated")
        if state and state.state == "queued" and self._now - last_moved(state, self._ledger) < LOST:
            return Split("reading")
        return self._planned(file)

    def _planned(self, file: ExportFile) -> Split:
        if reason := ignored(file.key, file.size):
            return Split("ignored", reason)
        try:
            return self._plan(file)
        except (Unavailable, Malformed, UnknownConnection) as exc:
            if getattr(exc, "reason", "") == NOT_DATA:
                self._ledger.ignore(file, NOT_DATA, self._now)
                return Split("ignored", NOT_DATA)
            outcome = "unavailable" if isinstance(exc, Unavailable) else "refused"
            return Split(outcome, give_up(file, exc, self._ledger, self._quarantine, self._now))

    def _plan(self, file: ExportFile) -> Split:
        connection, source = owner(file.key, self._connections)
        layout = layout_of(source, file.key, connection.settings)
        if layout.skip:
            raise Malformed(NOT_DATA, file.key)
        container = open_container(FileSource(self._objects, file), file.key, layout)
        if container.kind not in source.exports and not is_archive(container):
            raise Malformed("unsupported_container", f"{source.name} exports no {container.kind} files")
        edges = [start for start, _ in container.plan(self._target_bytes)]
        chunks = self._ledger.claim(file, edges, self._now).unfinished()
        if chunks:
            self._queue.put(chunks)
            self._ledger.queued(file, self._now)
            return Split("queued", chunks=len(chunks))
        self._ledger.settle(file, self._now)
        return Split("done")


def is_archive(container: Container) -> bool:
    """Whether it has members, each of its own kind: text that has a name."""
    return container.kind in ("csv", "ndjson") and bool(container.record_name)


def last_moved(state: FileState, ledger: ExportLedger) -> datetime:
    """When the file or one of the chunks it waits for was last heard of."""
    return max([state.updated_at, *(moved.at for moved in ledger.moved(state.unfinished()).values())])


def owner(key: str, connections: Connections) -> tuple[Connection, Source]:
    """Whose file it is, by `exports/<platform>/<connection>/…`. Raises UnknownConnection."""
    platform, name = names(key)
    connection = connections.find(platform, name)
    return connection, sources.of(connection)


def mode(key: str, connection: Connection) -> str:
    """Of a file's events: backfill under `exports/<platform>/<connection>/backfill/`, else the connection's."""
    parts = key.split("/")
    return BACKFILL if len(parts) > 4 and parts[3] == BACKFILL else connection.mode


def names(key: str) -> tuple[str, str]:
    """Platform and connection in a key; empty where it does not name them."""
    parts = key.split("/")
    return (parts[1], parts[2]) if parts[0] == PREFIX and len(parts) > 3 else ("", "")


def give_up(
    file: ExportFile, error: Exception, ledger: ExportLedger, quarantine: Quarantine, now: datetime, *, place: int = 0
) -> str:
    """Quarantine a file that cannot be read on and enter it as failed; returns the reason.

    A deleted or replaced object is only entered: nothing is left of it to be read again.
    """
    reason = getattr(error, "reason", "unknown_connection")
    if reason not in ("object_gone", "object_replaced"):
        quarantine.put(refusal(file, reason, str(error), now, place=place))
    ledger.fail(file, reason, now)
    return str(reason)


def refusal(
    file: ExportFile,
    reason: str,
    detail: str,
    now: datetime,
    *,
    place: int = 0,
    until: int | None = None,
) -> Quarantined:
    """The quarantine entry of a file, or of [place, until) of it."""
    platform, connection = names(file.key)
    return Quarantined(
        id=entry_id(file.modified_at, reason, file.pointer, str(place)),
        reason=reason,
        detail=detail,
        path=str(place),
        platform=platform,
        connection=connection,
        quarantined_at=now,
        content={
            "kind": "export",
            "raw": f"{file.pointer}#{place}",
            "bucket": file.bucket,
            "key": file.key,
            "etag": file.etag,
            "version_id": file.version_id,
            "place": place,
            "until": file.size if until is None else until,
        },
    )


def unseen(notice: Notice, now: datetime) -> ExportFile:
    """What is known of an object that could not even be looked at."""
    return ExportFile(
        bucket=notice.bucket,
        key=notice.key,
        etag=notice.etag,
        size=max(notice.size, 0),
        modified_at=now,
        version_id=notice.version_id,
    )
