"""Export files over fakes: a bucket, a ledger and a queue in memory, a platform of three kinds of rows, files of it."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import fastavro

from espial import sources
from espial.deliveries import Connection, Item
from espial.errors import MalformedItem, TryAgain
from espial.exports import Damage, Mark, Row
from espial.exports.files import (
    DONE,
    Chunk,
    Counts,
    ExportFile,
    FileSource,
    FileState,
    Listed,
    Moved,
    Progress,
    Unavailable,
)
from espial.exports.notices import Notice, sequence
from espial.services import record_export
from espial.services.record_export import ChunkRecorder
from espial.services.split_export import Splitter
from espial.sources import Export
from espial.verify.shared import bearer_token
from tests.export_files import bgzf_member
from tests.fakes import FakeConnections, FakeEventStore, FakeQuarantine
from tests.fakes import FakeLedger as FakeBalance

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
DROPPED = datetime(2026, 1, 15, 11, tzinfo=UTC)
BUCKET = "acme-exports"
KEY = "exports/shop/main/part+0.avro"

SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "x.inner.Open",
        "fields": [{"name": "id", "type": "string"}, {"name": "t", "type": "int"}],
    }
)


AT = 1_768_000_000


def from_row(row: Mapping[str, Any], export: Export) -> Item | list[Item] | None:
    """What the row's id says: `bad` cannot be read, `bug` is our own mistake, `none` is no report, `two` is two."""
    if "id" not in row:
        raise MalformedItem("missing_field", "", "id")
    name = str(row["id"])
    item = {"id": name, "t": int(row["t"]), "name": export.record_name}
    if name.startswith("bad"):
        raise MalformedItem("missing_field", "", "email")
    if name.startswith("bug"):
        raise ZeroDivisionError
    if name.startswith("none"):
        return None
    if name.startswith("two"):
        return [{**item, "id": f"{name}{part}"} for part in "ab"]
    return item


SHOP = sources.Source(
    name="shop",
    verify=bearer_token(),
    split=lambda _: [],
    event_types={},
    normalise=lambda item, _: {
        "type": "opened",
        "platform_type": item["name"],
        "channel": "email",
        "occurred_at": datetime.fromtimestamp(item["t"], UTC),
        "person": {"external_id": item["id"]},
    },
    identity=lambda item: (item["id"],),
    docs=sources.Docs(title="Shop", url="https://example.com"),
    person_order=lambda _: ("external_id",),
    exports=dict.fromkeys(("avro", "csv", "ndjson", "parquet"), from_row),
    layout=lambda key, _: sources.Layout(skip=key.endswith("/manifest.json")),
)


def avro_file(ids: list[str], codec: str = "null") -> bytes:
    """An Avro file of a few rows a block."""
    out = io.BytesIO()
    rows = [{"id": one, "t": AT} for one in ids]
    fastavro.writer(out, SCHEMA, rows, codec=codec, sync_interval=200, sync_marker=bytes(range(16)))
    return out.getvalue()


def csv_file(ids: list[str]) -> bytes:
    """With line feeds in quotes, at which no range may start."""
    return "".join(["ID,T,Note\r\n", *(f'{one},{AT},"a ""note""\r\nof {one}"\r\n' for one in ids)]).encode()


def ndjson_file(ids: list[str]) -> bytes:
    """A value a line."""
    return b"".join(json.dumps({"id": one, "t": AT}).encode() + b"\n" for one in ids)


def gzip_file(ids: list[str]) -> bytes:
    """Of several members, as Firehose concatenates them; a line may end in the next."""
    whole = ndjson_file(ids)
    return b"".join(gzip.compress(whole[at : at + 700], mtime=0) for at in range(0, len(whole) or 1, 700))


def bgzf_file(ids: list[str]) -> bytes:
    """Of members that say how long they are, the last one without text."""
    whole = ndjson_file(ids)
    members = (whole[at : at + 100] for at in range(0, len(whole), 100))
    return b"".join(map(bgzf_member, (*members, b"")))


def zip_file(ids: list[str]) -> bytes:
    """CSV and NDJSON members, a picture beside them."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/opens.csv", csv_file(ids[::2]))
        archive.writestr("logo.png", b"\x89PNG")
        archive.writestr("clicks.json", ndjson_file(ids[1::2]))
    return out.getvalue()


def parquet_file(ids: list[str]) -> bytes:
    """Of row groups of ten rows."""
    import pyarrow as pa
    import pyarrow.parquet

    out = io.BytesIO()
    table = pa.table({"id": pa.array(ids, pa.string()), "t": pa.array([AT] * len(ids), pa.int64())})
    pyarrow.parquet.write_table(table, out, row_group_size=10)
    return out.getvalue()


KINDS: dict[str, Callable[[list[str]], bytes]] = {
    "avro": avro_file,
    "avro-deflate": lambda ids: avro_file(ids, "deflate"),
    "csv": csv_file,
    "ndjson": ndjson_file,
    "gzip": gzip_file,
    "bgzf": bgzf_file,
    "zip": zip_file,
    "parquet": parquet_file,
}


class Archive:
    """A container of members, each a range that is read as one; what it says of itself is of the member being read.

    Places are those of no byte: a thousand a member.

    Its file is JSON: a list of {name, kind, rows}; a row that is text is damage of that reason.
    """

    def __init__(self, source: FileSource) -> None:
        self._source = source
        self._members = json.loads(source.read(0, source.size))
        self.kind, self.record_name = self._members[0]["kind"], self._members[0]["name"]
        self.columns: Mapping[str, str] = {}

    def plan(self, _target_bytes: int) -> list[tuple[int, int]]:
        """A byte a member, the last one to the file's end."""
        edges = [*range(len(self._members)), self._source.size]
        return list(pairwise(edges))

    def rows(self, start: int, _end: int, checkpoint: int | None = None) -> Iterator[Row | Damage | Mark]:
        """From the place kept for this one, if there is one."""
        member = self._members[start]
        self.kind, self.record_name = member["kind"], member["name"]
        self.columns = {name.lower(): name for name in ("ID", "T")} if self.kind == "csv" else {}
        for place, row in enumerate(member["rows"], 1000 * start):
            if place < (checkpoint or 0):
                continue
            if checkpoint is not None and place == checkpoint:
                assert str(place).encode() == self._source.resumes.load(f"{start}/{place}")
            yield Damage(place, place + 1, row, "") if isinstance(row, str) else Row(place, 0, row)
            self._source.resumes.save(f"{start}/{place + 1}", str(place + 1).encode())
            yield Mark(place + 1)


def archive_file(*members: tuple[str, str, list[Any]]) -> bytes:
    """Of (name, kind, rows) each; a row is an id, or damage of a reason."""
    return json.dumps(
        [
            {"name": name, "kind": kind, "rows": [{"id": row, "t": AT} if "_" not in row else row for row in rows]}
            for name, kind, rows in members
        ]
    ).encode()


class Killed(BaseException):
    """The process ends here."""


class Bucket:
    """ExportObjects in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[str, bytes]] = {}
        self.problem: Exception | None = None

    def put(self, key: str, content: bytes, etag: str = "e1") -> Notice:
        self.objects[key] = etag, content
        return Notice(BUCKET, key, len(content), etag)

    def head(self, notice: Notice) -> ExportFile:
        content = self._content(notice.key, notice.etag)
        return ExportFile(bucket=BUCKET, key=notice.key, etag=notice.etag, size=len(content), modified_at=DROPPED)

    def read(self, file: ExportFile, start: int, end: int) -> bytes:
        return self._content(file.key, file.etag)[start:end]

    def _content(self, key: str, etag: str) -> bytes:
        if self.problem:
            raise self.problem
        if key not in self.objects:
            raise Unavailable("object_gone")
        found, content = self.objects[key]
        if found != etag:
            raise Unavailable("object_replaced")
        return content

    def listing(self, bucket, prefix, after):
        for key in sorted(self.objects):
            if key > after:
                etag, content = self.objects[key]
                yield Listed(key, etag, len(content), DROPPED)


class FakeLedger:
    """ExportLedger in memory; tests/contract/test_export_stores.py holds it and the real one to the same behaviour."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], FileState] = {}
        self.chunks: dict[tuple[str, str, int, int], Moved] = {}
        self.plans: set[tuple[str, str, int]] = set()
        self.latest: dict[str, str] = {}
        self.sweeps: dict[str, str] = {}
        self.completed = 0

    def find(self, file):
        return self.files.get((file.key, file.etag))

    def entries(self, bucket, objects):
        return {one.key: found for one in objects if (found := self.files.get((one.key, one.etag)))}

    def is_stale(self, notice, now):
        new, old = sequence(notice.sequencer), self.latest.get(notice.key, "")
        self.latest[notice.key] = max(new, old)
        return bool(notice.sequencer) and new < old

    def claim(self, file, edges, now):
        found = self.find(file)
        if found is None:
            found = FileState(file, "planned", (), frozenset(), Counts(), now)
        elif found.state in DONE | {"queued"} or (found.state == "planned" and self.is_planned(found)):
            return found
        if not self.is_planned(found):
            self.plans.add((file.key, file.etag, found.round))
            found = found._replace(edges=tuple(edges), begun_at=now)
        return self._keep(found._replace(state="planned", reason="", updated_at=now))

    def is_planned(self, state):
        return (state.file.key, state.file.etag, state.round) in self.plans

    def _keep(self, state):
        self.files[state.file.key, state.file.etag] = state
        return state

    def queued(self, file, now):
        found = self.find(file)
        if found.state in ("planned", "queued"):
            self._keep(found._replace(state="queued", updated_at=now))

    def fail(self, file, reason, now):
        self._enter(file, "failed", reason, now)

    def ignore(self, file, reason, now):
        self._enter(file, "ignored", reason, now)

    def _enter(self, file, state, reason, now):
        found = self.find(file) or FileState(file, state, (), frozenset(), Counts(), now)
        if found.state not in DONE:
            self._keep(found._replace(state=state, reason=reason, updated_at=now))

    def resume(self, file, now):
        found = self.find(file)
        if found.state in DONE:
            return False
        self._keep(found._replace(state="planned", reason="", updated_at=now))
        return True

    def redo(self, file, now):
        found = self.find(file)
        if found.state in ("planned", "queued"):
            return False
        self._keep(FileState(file, "planned", (), frozenset(), Counts(), now, round=found.round + 1))
        return True

    def settle(self, file, now):
        found = self.find(file)
        if found is None or found.state in DONE or len(found.finished) < len(found.edges) or not self.is_planned(found):
            return None
        self.completed += 1
        refused = found.counts.refused or found.counts.damages
        return self._keep(found._replace(state="done_with_refusals" if refused else "done", reason="", updated_at=now))

    def progress(self, chunk):
        return self.moved([chunk]).get(chunk.number, Moved(Progress(), NOW)).progress

    def moved(self, chunks):
        return {one.number: found for one in chunks if (found := self.chunks.get(self._chunk(one)))}

    def _chunk(self, chunk):
        return chunk.file.key, chunk.file.etag, chunk.round, chunk.number

    def advance(self, chunk, before, after, now):
        found = self.chunks.get(self._chunk(chunk))
        stands = (found.progress.place, found.progress.done) if found else None
        if stands != (None if before.place is None else (before.place, False)):
            return False
        self.chunks[self._chunk(chunk)] = Moved(after, now)
        return True

    def finish(self, chunk, counts, now):
        found = self.find(chunk.file)
        if found and chunk.number not in found.finished and chunk.round == found.round:
            finished = found.finished | {chunk.number}
            self._keep(found._replace(finished=finished, counts=found.counts.plus(counts), updated_at=now))
        return self.settle(chunk.file, now)

    def sweep_position(self, bucket):
        return self.sweeps.get(bucket, "")

    def keep_sweep_position(self, bucket, key):
        self.sweeps[bucket] = key


class Queue:
    """ChunkQueue in memory: what is received comes again unless it is deleted, in any order."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.delays: list[int] = []
        self.away = False

    def put(self, chunks, delay_seconds=0):
        if self.away:
            raise TryAgain("the queue is away")
        self.messages += [chunk.to_json() for chunk in chunks]
        self.delays.append(delay_seconds)


class Resumes(dict[str, bytes]):
    """Resumes in memory."""

    save = dict.__setitem__
    load = dict.get


class World:
    """Everything the services stand on; `step`, if set, is called before every effect and may kill."""

    def __init__(self, connection: Connection | None = None) -> None:
        self.connections = FakeConnections(connection or Connection(name="main", platform="shop", account="main"))
        self.bucket = Bucket()
        self.ledger = FakeLedger()
        self.balance = FakeBalance()
        self.queue = Queue()
        self.store = FakeEventStore()
        self.quarantine = FakeQuarantine()
        self.resumes: dict[str, Resumes] = {}
        self.step = lambda: None

    def port(self, real):
        return Port(self, real)

    def splitter(self, target_bytes: int = 500, now: datetime = NOW) -> Splitter:
        return Splitter(
            connections=self.connections,
            objects=self.port(self.bucket),
            ledger=self.port(self.ledger),
            queue=self.port(self.queue),
            quarantine=self.port(self.quarantine),
            now=now,
            target_bytes=target_bytes,
        )

    def recorder(self, time_left=lambda: 900_000.0, store=None, now: datetime = NOW) -> ChunkRecorder:
        return ChunkRecorder(
            connections=self.connections,
            objects=self.port(self.bucket),
            ledger=self.port(self.ledger),
            balance=self.port(self.balance),
            queue=self.port(self.queue),
            store=self.port(store or self.store),
            quarantine=self.port(self.quarantine),
            now=now,
            time_left=time_left,
            resumes=lambda file: self.resumes.setdefault(file.etag, Resumes()),
            checkpoint_rows=7,
        )

    def drain(self) -> list[record_export.Recording]:
        done = []
        while self.queue.messages:
            done.append(self.recorder().record(Chunk.from_json(self.queue.messages.pop(0))))
        return done

    def events(self):
        return [stored.event for stored in self.store.items.values()]

    def recorded(self) -> set[str]:
        return {event.person.external_id for event in self.events()}

    def state(self, etag: str = "e1", key: str = KEY) -> FileState:
        return self.ledger.files[key, etag]


class Port:
    """A port whose every call first lets the world step."""

    def __init__(self, world: Any, real: object) -> None:
        self._world = world
        self._real = real

    def __getattr__(self, name: str):
        method = getattr(self._real, name)

        def call(*args, **kwargs):
            self._world.step()
            answer = method(*args, **kwargs)
            self._world.step()
            return answer

        return call
