"""One very large export file through the real use-cases: split, recorded chunk by chunk, handed over again and again.

    python -m tests.perf.big_export                       NDJSON, 10 GB of plain text
    python -m tests.perf.big_export --kind NDJSON.gz      one gzip stream of 10 GB inflated
    python -m tests.perf.big_export --kind Avro --gb 4    as Braze Currents writes it

The file lies on the disk; of the outside world only the bucket, the ledger, the queue and the table are stand-ins. A
worker has time for so many rows, then hands its chunk over; the next goes on from the checkpoint. The table counts:
every row has a number, so each event is there once if no number comes twice and all of them came. Exit status 1 if one
is missing, came twice or was refused, or if memory is over its limit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from espial.deliveries import Connection
from espial.exports.files import Chunk, ExportFile
from espial.exports.notices import Notice
from espial.normalise import Recordable
from espial.ports import Recorded, Verdict
from espial.services.record_export import MARGIN_MS, ChunkRecorder
from espial.services.split_export import TARGET_BYTES
from tests.exporting import BUCKET, DROPPED, NOW, World
from tests.perf.large_files import EVENT, WRITERS, Disk, KeptOnDisk, peak_mb

FOLDER = Path(".local/big-export")
MEMORY_MB = 80
"""Of the whole process, which holds the stand-ins too: some 50 MB before it begins."""
PROGRESS_SECONDS = 15

MAPPED: dict[str, Any] = {
    "fields": {
        "type": "event",
        "id": "id",
        "occurred_at": "time",
        "person.external_id": "external_user_id",
        "person.email": "email_address",
        "campaign.id": "campaign_id",
        "campaign.name": "campaign_name",
        "message_id": "send_id",
        "link.url": "url",
        "client.user_agent": "user_agent",
    },
    "types": {EVENT: "clicked"},
}
CONNECTION = Connection(name="big", platform="custom_json", account="big", settings=MAPPED)
CURRENTS = Connection(name="big", platform="braze", account="big")


class CountingTable:
    """EventStore of row numbers: a bit each, whatever the file's size in bytes."""

    def __init__(self, rows: int) -> None:
        self._seen = bytearray(rows // 8 + 1)
        self.new = self.duplicates = 0

    def add(self, records: Sequence[Recordable], *, transport: str, expires_days: int) -> list[Verdict]:
        """See `EventStore`."""
        assert (transport, expires_days) == ("export", 60)
        return [self._add(int(record.event.person.external_id or "")) for record in records]

    def _add(self, number: int) -> Recorded:
        block, row = divmod(number, 10_000)
        place, bit = divmod(block * 1000 + row, 8)
        if self._seen[place] >> bit & 1:
            self.duplicates += 1
            return Recorded.DUPLICATE
        self._seen[place] |= 1 << bit
        self.new += 1
        return Recorded.NEW


class Worker:
    """One invocation after another: each has time for so many rows, by the table's count."""

    def __init__(self, table: CountingTable, rows: int) -> None:
        self._table = table
        self._rows = rows
        self._until = rows
        self.number = 1

    def time_left(self) -> float:
        """Milliseconds, at a millisecond a row."""
        return MARGIN_MS + float(self._until - self._table.new - self._table.duplicates)

    def next(self) -> None:
        """The invocation is over."""
        self.number += 1
        self._until = self._table.new + self._table.duplicates + self._rows


class Forgetful:
    """The balance's ledger, which would hold a sheet a checkpoint in memory."""

    def note(self, sheets: object) -> None:
        """Nothing is kept."""


class Objects:
    """The bucket of one object."""

    def __init__(self, disk: Disk) -> None:
        self.read = disk.read
        self._size = disk.size

    def head(self, notice: Notice) -> ExportFile:
        """See `ExportObjects`."""
        return ExportFile(bucket=BUCKET, key=notice.key, etag=notice.etag, size=self._size, modified_at=DROPPED)


def run(kind: str, gigabytes: float, worker_rows: int, folder: Path) -> bool:
    """Write, split and record one file; True if every row is there once."""
    path = folder / "file"
    started = time.monotonic()
    rows = WRITERS[kind](path, round(gigabytes * 1000))
    print(
        f"{kind}: {rows:,} rows, {gigabytes} GB plain, {path.stat().st_size / 1e9:.2f} GB on the disk, "
        f"written in {time.monotonic() - started:.0f} s",
        flush=True,
    )
    with closing(Disk(path)) as disk:
        begun, cpu, before = time.monotonic(), time.process_time(), peak_mb()
        whole = record(kind, disk, rows, worker_rows, folder)
        took, cpu = time.monotonic() - begun, time.process_time() - cpu
        print(
            f"bytes read {disk.total:,}, {disk.total / disk.size - 1:+.2%} of the file; "
            f"{gigabytes * 1000 / took:.0f} MB/s, {rows / took:,.0f} rows/s, {took:.0f} s ({cpu:.0f} s of CPU); "
            f"peak memory {peak_mb():.0f} MB, {before:.0f} of them before it began",
            flush=True,
        )
    return whole


def record(kind: str, disk: Disk, rows: int, worker_rows: int, folder: Path) -> bool:
    """Split the object and record its chunks, worker after worker; True if every row is there once."""
    connection = CURRENTS if kind == "Avro" else CONNECTION
    world = World(connection)
    world.bucket = Objects(disk)  # type: ignore[assignment]
    table, key = CountingTable(rows), f"exports/{connection.platform}/{connection.name}/file"
    worker = Worker(table, worker_rows)
    recorder = ChunkRecorder(
        connections=world.connections,
        objects=world.bucket,
        ledger=world.ledger,
        balance=Forgetful(),  # type: ignore[arg-type]
        queue=world.queue,
        store=table,  # type: ignore[arg-type]
        quarantine=world.quarantine,
        now=NOW,
        time_left=worker.time_left,
        resumes=lambda _: KeptOnDisk(folder),
    )
    print(world.splitter(TARGET_BYTES).split(Notice(BUCKET, key, disk.size, "e1")), flush=True)
    begun = said = time.monotonic()
    handed_over = 0
    while world.queue.messages:
        recording = recorder.record(Chunk.from_json(world.queue.messages.pop(0)))
        if recording.outcome == "handed_back":
            handed_over += 1
            worker.next()
        if time.monotonic() - said > PROGRESS_SECONDS:
            said = time.monotonic()
            print(f"  {table.new:,} rows after {said - begun:.0f} s, {peak_mb():.0f} MB", flush=True)
    state = world.state(key=key)
    counts = state.counts
    print(
        f"{state.state}: {counts.rows:,} rows, {counts.recorded:,} events, {counts.duplicates:,} duplicates, "
        f"{counts.refused + counts.damages:,} refused; {len(state.edges)} chunks, {worker.number} workers, "
        f"{handed_over} hand-overs",
        flush=True,
    )
    everything = (state.state, counts.rows, counts.recorded, table.new) == ("done", rows, rows, rows)
    return everything and not table.duplicates


def main() -> int:
    """One file; exit status 1 if anything of it is not as it should be."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--kind", choices=[kind for kind in WRITERS if kind != "Parquet"], default="NDJSON")
    arguments.add_argument("--gb", type=float, default=10, help="gigabytes of plain text (of Avro: of the rows as CSV)")
    arguments.add_argument("--worker-rows", type=int, default=840_000, help="14 minutes at a thousand writes a second")
    chosen = arguments.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        whole = run(chosen.kind, chosen.gb, chosen.worker_rows, Path(folder))
    flat = peak_mb() <= MEMORY_MB
    print(f"big_export {chosen.kind}: {'every row once' if whole else 'FAILED'}{'' if flat else ', MEMORY OVER LIMIT'}")
    return not (whole and flat)


if __name__ == "__main__":
    sys.exit(main())
