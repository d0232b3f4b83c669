"""Which export files were read, how far, what became of their rows, and how to go on: for people and their programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from espial.errors import Refused
from espial.exports.files import DONE, ENDED, ExportLedger, ExportObjects, FileState, Listed
from espial.exports.notices import Notice, ignored, message

ROOT = "exports/"


class Known(ExportLedger, Protocol):
    """The ledger, asked for what it knows of a key."""

    def versions(self, bucket: str, key: str) -> list[FileState]:
        """The entries of every version of the object that was ever noticed, the one that moved last first."""
        ...


class ExportFiles(NamedTuple):
    """The exports bucket and what the ledger knows of it; `notify` puts a notice of a file on NoticeQueue."""

    bucket: str
    objects: ExportObjects
    ledger: Known
    notify: Callable[[str], None]
    clock: Callable[[], datetime]

    def facts(self, some: Sequence[Listed]) -> list[dict[str, Any]]:
        """What is known of objects of a listing, at most 100."""
        entries = self.ledger.entries(self.bucket, some)
        return [
            self._facts(entries[listed.key]) if listed.key in entries else _without_entry(listed) for listed in some
        ]

    def show(self, key: str) -> dict[str, Any]:
        """What is known of one file. Raises Refused (`unknown_export`, `not_an_export`, `not_seen`)."""
        return self._facts(self._entry(key))

    def resume(self, key: str) -> FileState:
        """Have the unfinished chunks of a file read now; what they are. Raises as `show`, and Refused (`ended`)."""
        entry = self._entry(key)
        if not self.ledger.resume(entry.file, self.clock()):
            what = f"{entry.file.key} was read to its end: `espial exports redo` reads it again from the start"
            raise Refused("ended", what)
        return self._again(entry)

    def redo(self, key: str) -> FileState:
        """Have a file that has ended read from its start. Raises as `show`, and Refused (`still_read`)."""
        entry = self._entry(key)
        if not self.ledger.redo(entry.file, self.clock()):
            how = "`espial exports resume` if it stands still"
            raise Refused("still_read", f"{entry.file.key} is still being read ({entry.state}): {how}")
        return self._again(entry)

    def _again(self, entry: FileState) -> FileState:
        """Tell of the file as S3 does. Were it not to come, the sweep finds the file planned and goes on."""
        file = entry.file
        self.notify(message(Notice(bucket=file.bucket, key=file.key, etag=file.etag, version_id=file.version_id)))
        return entry

    def _entry(self, key: str) -> FileState:
        """The ledger's entry of the object as it lies in the bucket, else of its last version."""
        wanted = ROOT + key.removeprefix(ROOT)
        entries = self.ledger.versions(self.bucket, wanted)
        lies = next((one for one in self.objects.listing(self.bucket, wanted, "") if one.key == wanted), None)
        if lies:
            entries = [entry for entry in entries if entry.file.etag == lies.etag]
        if entries:
            return entries[0]
        if not lies:
            raise Refused("unknown_export", f"no object {wanted} in {self.bucket}")
        if reason := ignored(wanted, lies.size):
            raise Refused("not_an_export", f"{wanted} is no export file ({reason}): it is left alone")
        raise Refused("not_seen", f"{wanted} was not seen yet: no notification came, and no sweep found it")

    def _facts(self, entry: FileState) -> dict[str, Any]:
        """What is known of a file, its unfinished chunks included."""
        unfinished = entry.unfinished()
        moved = self.ledger.moved(unfinished)
        counts = entry.counts
        for one in moved.values():
            counts = counts.plus(one.progress.counts)
        reached = {number: one.progress.reached for number, one in moved.items()}
        unread = sum(chunk.end - max(chunk.start, reached.get(chunk.number, 0)) for chunk in unfinished)
        is_planned = bool(entry.edges) or entry.state in DONE
        read = entry.file.size - unread if is_planned else 0
        at = max([entry.updated_at, *(one.at for one in moved.values())])
        rate, left = self._pace(entry, counts.rows, read, at)
        return {
            "key": entry.file.key,
            "state": entry.state,
            "reason": entry.reason or None,
            "at": at.isoformat(),
            "chunks": len(entry.edges),
            "chunks_done": len(entry.finished),
            "bytes": entry.file.size,
            "bytes_read": read,
            "rows": counts.rows,
            "events": counts.recorded,
            "duplicates": counts.duplicates,
            "conflicts": counts.conflicts,
            "refused": counts.refused,
            "ignored": counts.ignored,
            "damaged": counts.damages,
            "reasons": dict(counts.reasons),
            "rows_a_second": rate,
            "seconds_left": left,
        }

    def _pace(self, entry: FileState, rows: int, read: int, at: datetime) -> tuple[float | None, int | None]:
        """Rows a second since this reading began, and the seconds it still takes; None where that cannot be said."""
        if entry.begun_at is None or not rows:
            return None, None
        ended = entry.state in ENDED
        took = ((at if ended else self.clock()) - entry.begun_at).total_seconds()
        if took <= 0:
            return None, None
        return round(rows / took, 1), None if ended or not read else round(took * (entry.file.size - read) / read)


def _without_entry(listed: Listed) -> dict[str, Any]:
    reason = ignored(listed.key, listed.size)
    state = "ignored" if reason else "not seen"
    return {"key": listed.key, "state": state, "reason": reason, "bytes": listed.size, "bytes_read": 0}
