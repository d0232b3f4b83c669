"""split_export, record_export and sweep_exports over fakes: repeated, reordered, refused, replaced, resumed."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
import pytest

from espial import sources
from espial.deliveries import Connection
from espial.errors import MalformedItem, TryAgain
from espial.exports import files, text
from espial.exports.files import Chunk, Counts, ExportFile, Unavailable
from espial.services import record_export, split_export, sweep_exports
from espial.services.publish_events import publish
from espial.services.republish import republish
from espial.services.sweep_exports import sweep
from tests.exporting import AT, BUCKET, DROPPED, KEY, KINDS, NOW, SHOP, Archive, World, archive_file, avro_file
from tests.fakes import FakeBus, FakeConnections, stream_record


@pytest.fixture(autouse=True)
def shop(monkeypatch):
    real = sources.load
    monkeypatch.setattr(sources, "load", lambda name: SHOP if name == "shop" else real(name))


def test_a_file_is_recorded_with_its_lineage_and_its_balance():
    """Rows become events that arrived when the object did, by export, with a pointer to their place in the file."""
    world = World()
    notice = world.bucket.put(KEY, avro_file([f"p{n}" for n in range(60)] + ["bad1", "p3"]))
    assert "queued" == world.splitter().split(notice).outcome
    assert {"done"} == {done.outcome for done in world.drain()}
    event = world.events()[0]
    assert (DROPPED, "x.inner.Open") == (event.received_at, event.platform_type)
    assert event.raw.startswith(f"s3://{BUCKET}/{KEY}@e1#")
    why = {"missing_field": 1}
    assert Counts(rows=62, recorded=60, duplicates=1, refused=1, reasons=why) == world.state().counts
    assert ("done_with_refusals", 1) == (world.state().state, world.ledger.completed)


def test_a_row_may_be_several_reports_or_none():
    """Each report is recorded under its own pointer, the same when it is read again; a row without one is counted."""
    world = World()
    world.splitter().split(world.bucket.put(KEY, avro_file(["two-1", "none-1", "a", "none-2", "two-2"])))
    world.drain()
    assert {"two-1a", "two-1b", "a", "two-2a", "two-2b"} == world.recorded()
    assert Counts(rows=5, recorded=5, ignored=2) == world.state().counts
    assert "done" == world.state().state
    assert 5 == len({event.raw for event in world.events()})


def test_a_refused_report_has_the_same_place_in_quarantine_whenever_it_is_read(monkeypatch):
    """Read again, by a copy of its chunk, it is the same entry: one for each report of a row."""
    bad = [{"id": name, "t": t, "name": "x"} for name, t in [("a", AT), ("b", "never"), ("c", "no")]]
    monkeypatch.setitem(SHOP.exports, "avro", lambda _row, _export: bad)
    monkeypatch.setattr(sources, "load", lambda _: replace(SHOP, normalise=refusing_text))
    world = World()
    world.splitter().split(world.bucket.put(KEY, avro_file(["one", "two"])))
    (message,) = world.queue.messages
    world.drain()
    first = dict(world.quarantine.entries)
    world.ledger.chunks.clear()
    world.recorder().record(Chunk.from_json(message))
    assert (4, first) == (len(first), world.quarantine.entries)


def refusing_text(item, arrival):
    """The shop's normaliser, which takes no time that is text."""
    if isinstance(item["t"], str):
        raise MalformedItem("bad_timestamp", "", "t")
    return SHOP.normalise(item, arrival)


@pytest.fixture
def archives(monkeypatch):
    """Every file is an `Archive`."""
    for module in (split_export, record_export):
        monkeypatch.setattr(module, "open_container", lambda source, _key, _layout: Archive(source))


def test_a_source_is_told_what_the_member_of_an_archive_is(archives, monkeypatch):
    """Name and columns are of the member the row is in, settings are the connection's."""
    told = []
    monkeypatch.setitem(SHOP.exports, "csv", lambda row, export: told.append((row["id"], export)))
    settings = {"utc_offset": -6}
    world = World(Connection(name="main", platform="shop", account="main", settings=settings))
    world.splitter().split(world.bucket.put(KEY, archive_file(("a.csv", "csv", ["x"]), ("b.csv", "csv", ["y"]))))
    world.drain()
    columns = {"id": "ID", "t": "T"}
    assert [("x", "a.csv", columns, settings), ("y", "b.csv", columns, settings)] == [
        (name, export.record_name, export.columns, export.settings) for name, export in told
    ]


def test_members_of_a_kind_that_the_source_cannot_read_are_refused_by_themselves(archives):
    """Once each; the others are recorded."""
    world = World()
    members = archive_file(("a.csv", "csv", ["x", "y"]), ("b.txt", "logfile", ["p", "q"]), ("c.csv", "csv", ["z"]))
    world.splitter().split(world.bucket.put(KEY, members))
    world.drain()
    (entry,) = world.quarantine.list()
    assert ("unsupported_container", "b.txt: shop exports no logfile files") == (entry.reason, entry.detail)
    assert {"x", "y", "z"} == world.recorded()
    assert Counts(rows=3, recorded=3, damages=1, reasons={"unsupported_container": 1}) == world.state().counts


def test_a_container_goes_on_from_what_it_kept(archives):
    """However short the invocations, each goes on where the last one stopped, and nothing counts twice."""
    world = World()
    ids = [f"p{n}" for n in range(30)]
    world.splitter().split(world.bucket.put(KEY, archive_file(("a", "ndjson", ids))))
    rounds = 0
    while world.queue.messages:
        rounds += 1
        world.recorder(time_left=lambda: 0.0).record(Chunk.from_json(world.queue.messages.pop()))
    assert (31, set(ids), Counts(rows=30, recorded=30)) == (rounds, world.recorded(), world.state().counts)


@pytest.mark.parametrize("glances", [0, 3, 10_000])
def test_a_gzip_stream_is_read_in_bounded_steps(monkeypatch, glances):
    """One range, however long: each invocation hands the rest back before its time is over, until there is none."""
    monkeypatch.setattr(text, "STRETCH_BYTES", 200)
    world = World()
    ids = [f"p{n}" for n in range(300)]
    lines = [json.dumps({"id": one, "t": AT}).encode() + b"\n" for one in ids]
    content = b"".join(gzip.compress(b"".join(lines[n : n + 100])) for n in range(0, 300, 100))
    assert 1 == world.splitter().split(world.bucket.put(KEY, content)).chunks
    rounds = 0
    while world.queue.messages:
        rounds += 1
        clock = iter([900_000.0] * glances)
        recorder = world.recorder(lambda clock=clock: next(clock, 0.0))
        recording = recorder.record(Chunk.from_json(world.queue.messages.pop()))
        assert recording.outcome == ("handed_back" if world.queue.messages else "done")
    assert (300, set(ids), "done") == (world.state().counts.recorded, world.recorded(), world.state().state)
    assert (rounds > 10) is (glances < 10)


def test_a_file_that_holds_no_data_is_left_alone():
    """Its platform says so by its key; nobody reads it, it is entered as ignored, and no sweep takes it up."""
    world = World()
    notice = world.bucket.put("exports/shop/main/manifest.json", b"[]")
    assert ("ignored", "not_data") == world.splitter().split(notice)[:2]
    state = world.state(key="exports/shop/main/manifest.json")
    assert ("ignored", "not_data", []) == (state.state, state.reason, list(world.quarantine.list()))
    assert {} == run_sweep(world, NOW + timedelta(hours=9)).outcomes


def test_a_file_without_rows_is_done_at_once():
    """Nothing is put on the queue."""
    world = World()
    assert "done" == world.splitter().split(world.bucket.put(KEY, avro_file([]))).outcome
    assert ("done", [], 1) == (world.state().state, world.queue.messages, world.ledger.completed)


def test_a_file_under_backfill_fires_nothing():
    """Its events are recorded in that mode, whatever the connection's, and neither publisher puts them on the bus."""
    world = World()
    world.splitter().split(world.bucket.put("exports/shop/main/backfill/2024/a.avro", avro_file(["a", "b"])))
    world.drain()
    events = world.events()
    assert ({"a", "b"}, {"backfill"}) == (world.recorded(), {event.mode for event in events})
    bus = FakeBus()
    records = [stream_record(event, str(number)) for number, event in enumerate(events)]
    assert {"backfill": 2} == publish(records, bus=bus, wanted=None).totals()
    assert {"backfill": 2} == +republish(events, bus=bus, wanted=None)
    assert [] == bus.events


@pytest.mark.parametrize("key", ["exports/shop/main/backfill.avro", "exports/shop/main/2024/backfill/a.avro"])
def test_only_the_connection_s_own_backfill_folder_is_history(key):
    """A platform's own folder of that name further down means nothing, nor does a file's name."""
    world = World()
    world.splitter().split(world.bucket.put(key, avro_file(["a"])))
    world.drain()
    assert ["live"] == [event.mode for event in world.events()]


def test_a_backfill_connection_marks_its_events():
    """History is recorded without firing triggers: the connection's mode goes into every event."""
    world = World(Connection(name="main", platform="shop", account="main", mode="backfill"))
    world.splitter().split(world.bucket.put(KEY, avro_file(["a"])))
    world.drain()
    assert "backfill" == world.events()[0].mode


@pytest.mark.parametrize(
    ("key", "content", "reason"),
    [
        ("exports/shop/other/a.avro", avro_file(["a"]), "unknown_connection"),
        ("exports/nosuch/main/a.avro", avro_file(["a"]), "unknown_connection"),
        ("elsewhere/a.avro", avro_file(["a"]), "unknown_connection"),
        ("exports/shop/main/a.parquet.zst", b"\x28\xb5\x2f\xfd....", "unsupported_container"),
        ("exports/shop/main/a.avro", b"Obj\x01\x02", "truncated_header"),
    ],
)
def test_a_file_nobody_can_read_is_quarantined_with_its_reason(key, content, reason):
    """It has a place, a reason and, by `retry_failed`, a way back; a repeat adds nothing."""
    world = World()
    notice = world.bucket.put(key, content)
    outcomes = [world.splitter().split(notice) for _ in range(2)]
    assert [("refused", reason)] * 2 == [(one.outcome, one.reason) for one in outcomes]
    (entry,) = world.quarantine.list()
    assert (reason, key) == (entry.reason, entry.content["key"])
    assert "failed" == world.state(key=key).state


@pytest.mark.parametrize("name", ["opens.csv", "opens.json.gz", "opens"])
def test_a_file_is_read_for_what_it_is_not_for_its_name(name):
    """Names lie; content does not."""
    world = World()
    key = f"exports/shop/main/{name}"
    world.splitter().split(world.bucket.put(key, avro_file(["a", "b"])))
    world.drain()
    assert ({"a", "b"}, "done") == (world.recorded(), world.state(key=key).state)


def test_text_under_the_name_of_a_container_is_read_too():
    """A CSV dropped as .avro."""
    world = World()
    world.splitter().split(world.bucket.put(KEY, f"ID,T\na,{AT}\nb,{AT}\n".encode()))
    world.drain()
    assert ({"a", "b"}, "done") == (world.recorded(), world.state().state)


def test_a_file_of_rows_that_its_platform_does_not_export_has_failed(monkeypatch):
    """The kind is named; nothing of it is guessed."""
    monkeypatch.setattr(sources, "load", lambda _: replace(SHOP, exports={"avro": SHOP.exports["avro"]}))
    world = World()
    assert "unsupported_container" == world.splitter().split(world.bucket.put(KEY, b'{"id": "a"}\n')).reason
    (entry,) = world.quarantine.list()
    assert "unsupported_container: shop exports no ndjson files" == entry.detail


def test_damage_is_quarantined_and_the_intact_blocks_are_recorded():
    """A file cut within a block: everything before is recorded, the place of the damage is kept."""
    world = World()
    content = avro_file([f"p{n}" for n in range(60)])
    world.splitter().split(world.bucket.put(KEY, content[:-30]))
    world.drain()
    (entry,) = world.quarantine.list()
    assert ("truncated_block", BUCKET) == (entry.reason, entry.content["bucket"])
    assert 0 < len(world.recorded()) < 60
    assert (1, {"truncated_block": 1}) == (world.state().counts.damages, world.state().counts.reasons)
    assert "done_with_refusals" == world.state().state


def test_an_object_of_no_bytes_is_no_file():
    """Neither by its notice nor by what it is when it is looked at."""
    world = World()
    assert ("ignored", "empty") == world.splitter().split(world.bucket.put(KEY, b""))[:2]
    assert ("ignored", "empty") == world.splitter().split(world.bucket.put(KEY, b"")._replace(size=-1))[:2]


def test_an_object_deleted_before_it_was_looked_at_has_failed_for_that_reason():
    """Nothing is left to be kept; the ledger says what happened, and a repeat of the notice says the same."""
    world = World()
    notice = world.bucket.put(KEY, avro_file(["a"]))
    del world.bucket.objects[KEY]
    assert [("unavailable", "object_gone")] * 2 == [world.splitter().split(notice)[:2] for _ in range(2)]
    assert ("failed", "object_gone", []) == (world.state().state, world.state().reason, list(world.quarantine.list()))


@pytest.mark.parametrize("reason", ["object_gone", "object_replaced"])
def test_an_object_that_goes_while_it_is_read_keeps_what_was_read(reason):
    """The file has failed for that reason, its rows up to there are events, and its chunks say how many they are."""
    world = World()
    ids = [f"p{n}" for n in range(200)]
    world.splitter(target_bytes=1000).split(world.bucket.put(KEY, avro_file(ids)))
    first, *others = world.queue.messages
    world.recorder().record(Chunk.from_json(first))
    if reason == "object_gone":
        del world.bucket.objects[KEY]
    else:
        world.bucket.put(KEY, avro_file(["q"]), "e2")
    assert {("failed", reason)} == {
        (done.outcome, done.reason) for done in map(world.recorder().record, map(Chunk.from_json, others))
    }
    state = world.state()
    assert ("failed", reason, frozenset([0])) == (state.state, state.reason, state.finished)
    assert 0 < state.counts.recorded == len(world.recorded()) < 200
    assert state.updated_at == split_export.last_moved(state, world.ledger)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("avro", "truncated_block"),
        ("csv", "open_quote"),
        ("ndjson", "truncated_json"),
        ("gzip", "truncated_gzip"),
    ],
)
def test_of_a_truncated_file_every_row_before_the_cut_is_kept(kind, reason):
    """It is done with refusals, for a reason of its kind, and nothing is made up of the rest."""
    world = World()
    ids = [f"p{n}" for n in range(60)]
    content = KINDS[kind](ids)
    world.splitter().split(world.bucket.put(KEY, content[:-60] if kind == "avro" else content[:-20]))
    world.drain()
    assert ("done_with_refusals", {reason: 1}) == (world.state().state, world.state().counts.reasons)
    assert set(ids) > world.recorded() >= set(ids[:20])
    assert [reason] == [entry.reason for entry in world.quarantine.list()]


@pytest.mark.parametrize(("kind", "reason"), [("zip", "truncated_zip"), ("parquet", "truncated_parquet")])
def test_a_truncated_file_that_is_read_from_its_end_has_failed(kind, reason):
    """Nothing in it can be found without its directory or footer."""
    world = World()
    world.splitter().split(world.bucket.put(KEY, KINDS[kind](["a", "b"])[:-20]))
    assert ("failed", reason) == (world.state().state, world.state().reason)


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_of_file_is_read_to_its_end(kind):
    """Each by the same way, each row once."""
    world = World()
    ids = [f"p{n}" for n in range(60)]
    world.splitter().split(world.bucket.put(KEY, KINDS[kind](ids)))
    world.drain()
    assert ("done", Counts(rows=60, recorded=60)) == (world.state().state, world.state().counts)
    assert set(ids) == world.recorded()


def test_of_an_archive_the_platform_is_asked_member_by_member():
    """A manifest in it is left alone as one beside it is, and so is an archive of nothing else."""
    world = World()
    row = json.dumps({"id": "p1", "t": AT})
    world.splitter().split(world.bucket.put(KEY, zipped({"manifest.json": '{"t": 1}', "x.json": row}), "e1"))
    world.drain()
    assert ("done", Counts(rows=1, recorded=1)) == (world.state().state, world.state().counts)
    found = world.splitter().split(world.bucket.put(KEY, zipped({"manifest.json": '{"t": 1}'}), "e2"))
    assert split_export.Split("ignored", "not_data") == found
    assert ("ignored", "not_data") == (world.state("e2").state, world.state("e2").reason)


def zipped(members: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def test_stale_and_repeated_notices_do_nothing():
    """An older notice after a newer one, and the same file again, cost no chunk."""
    world = World()
    notice = world.bucket.put(KEY, avro_file(["a"]))._replace(sequencer="0065A7")
    world.splitter().split(notice)
    world.drain()
    assert "repeated" == world.splitter().split(notice).outcome
    assert "stale" == world.splitter().split(notice._replace(sequencer="0065A6FF", etag="e0")).outcome
    assert [] == world.queue.messages


def test_a_notice_repeated_while_its_file_is_read_sends_no_chunk_again():
    """They are safe on the queue."""
    world = World()
    notice = world.bucket.put(KEY, avro_file([f"p{n}" for n in range(60)]))
    world.splitter().split(notice)
    before = list(world.queue.messages)
    assert "reading" == world.splitter().split(notice).outcome
    assert before == world.queue.messages


def test_an_object_replaced_while_it_is_read_is_left_to_its_successor():
    """The rest of the old version cannot be read: it is entered as failed, and the new one is recorded whole."""
    world = World()
    world.splitter().split(world.bucket.put(KEY, avro_file(["a", "b"])))
    successor = world.bucket.put(KEY, avro_file(["b", "c"]), "e2")
    assert ["failed"] == [done.outcome for done in world.drain()]
    world.splitter().split(successor)
    world.drain()
    assert {"b", "c"} == world.recorded()
    assert ("object_replaced", "done") == (world.state("e1").reason, world.state("e2").state)
    assert [] == list(world.quarantine.list())


def test_out_of_time_hands_back_and_the_rest_follows():
    """A worker with no time left records at least a block, checkpoints and hands back; nothing counts twice."""
    world = World()
    ids = [f"p{n}" for n in range(200)]
    world.splitter(target_bytes=100_000).split(world.bucket.put(KEY, avro_file(ids)))
    rounds = 0
    while world.queue.messages:
        rounds += 1
        world.recorder(time_left=lambda: 0.0).record(Chunk.from_json(world.queue.messages.pop()))
    assert rounds > 5
    assert (set(ids), 200) == (world.recorded(), world.state().counts.recorded)


class Throttled:
    """A store that is away."""

    def add(self, records, *, transport, expires_days):
        return [TryAgain("throttled") for _ in records]


def test_a_throttled_chunk_comes_back_later_and_not_for_ever():
    """Handed back with growing delays; without any progress it goes the way of the dead-letter queue in the end."""
    world = World()
    world.splitter().split(world.bucket.put(KEY, avro_file(["a"])))
    recorder = world.recorder(store=Throttled())
    for _ in range(record_export.MAX_HANDOFFS):
        assert "handed_back" == recorder.record(Chunk.from_json(world.queue.messages.pop())).outcome
    with pytest.raises(TryAgain):
        recorder.record(Chunk.from_json(world.queue.messages.pop()))
    assert [0, 30, 60, 120, 300, 300] == world.queue.delays[:6]
    assert {300} == set(world.queue.delays[6:])


class ThrottledLater:
    """A store that goes away after one stretch of rows."""

    def __init__(self, store):
        self._stores = [store]

    def add(self, records, **how):
        return (self._stores.pop() if self._stores else Throttled()).add(records, **how)


def test_a_throttle_after_some_progress_is_waited_for_the_least():
    """And counts as no handoff: a chunk that moves is never given up."""
    world = World()
    world.splitter().split(world.bucket.put(KEY, avro_file([f"id-{n}" for n in range(60)])))
    chunk = Chunk.from_json(world.queue.messages.pop(0))
    recording = world.recorder(store=ThrottledLater(world.store)).record(msgspec.structs.replace(chunk, handoffs=3))
    assert ("handed_back", True) == (recording.outcome, recording.counts.recorded > 0)
    assert 15 == world.queue.delays[-1]
    assert 0 == Chunk.from_json(world.queue.messages[-1]).handoffs


def test_a_bug_on_one_row_records_the_others_and_fails_the_chunk():
    """The chunk is retried and dead-lettered, but no other row waits for the mend; no checkpoint passes the row."""
    world = World()
    ids = [f"p{n}" for n in range(30)]
    world.splitter(target_bytes=100_000).split(world.bucket.put(KEY, avro_file([*ids[:10], "bug", *ids[10:]])))
    chunk = Chunk.from_json(world.queue.messages.pop())
    with pytest.raises(ZeroDivisionError):
        world.recorder().record(chunk)
    assert set(ids) == world.recorded()
    assert ("failed", "internal_error") == (world.state().state, world.state().reason)


def test_two_workers_on_one_chunk_count_once():
    """The second finds the chunk moved on by the first, goes on from there, and the balance is that of one pass."""
    world = World()
    ids = [f"p{n}" for n in range(80)]
    world.splitter(target_bytes=100_000).split(world.bucket.put(KEY, avro_file(ids)))
    chunk = Chunk.from_json(world.queue.messages.pop())
    calls = iter(range(10_000))
    inside: list[bool] = []

    def interfere():
        if next(calls) == 14 and not inside:
            inside.append(True)
            world.recorder().record(chunk)

    world.step = interfere
    world.recorder().record(chunk)
    assert inside
    assert (set(ids), 80, 1) == (world.recorded(), world.state().counts.rows, world.ledger.completed)


def run_sweep(world: World, now: datetime = NOW, *, time_left=lambda: 600_000.0, days: int = 7, retry_failed=False):
    return sweep(
        BUCKET,
        splitter=world.splitter(now=now),
        objects=world.bucket,
        ledger=world.ledger,
        now=now,
        time_left=time_left,
        days=days,
        retry_failed=retry_failed,
    )


def test_a_lost_notification_heals():
    """An object without a ledger entry is split by the sweep; one that is done, ignored, fresh or old is not."""
    world = World()
    world.bucket.put(KEY, avro_file(["a"]))
    world.bucket.put("exports/shop/main/", b"")
    assert {} == run_sweep(world, DROPPED + timedelta(minutes=29)).outcomes
    assert {} == run_sweep(world, DROPPED + timedelta(days=8)).outcomes
    assert {"queued": 1} == run_sweep(world).outcomes
    world.drain()
    assert {} == run_sweep(world, NOW + timedelta(hours=2)).outcomes
    assert {"a"} == world.recorded()


def test_a_crash_between_plan_and_queue_heals():
    """A file planned but never queued is sent again once it has stood still for an hour; by its notice, at once."""
    world = World()
    notice = world.bucket.put(KEY, avro_file(["a"]))
    world.queue.away = True
    with pytest.raises(TryAgain):
        world.splitter().split(notice)
    assert "planned" == world.state().state
    world.queue.away = False
    assert {} == run_sweep(world, NOW + timedelta(minutes=59)).outcomes
    assert {"queued": 1} == run_sweep(world, NOW + timedelta(minutes=61)).outcomes
    world.drain()
    assert {"a"} == world.recorded()


def test_lost_chunks_heal():
    """A file of which nothing moved for an hour has its unfinished chunks put on the queue again, and no others."""
    world = World()
    ids = [f"p{n}" for n in range(200)]
    world.splitter(target_bytes=1000).split(world.bucket.put(KEY, avro_file(ids)))
    first, *lost = world.queue.messages
    world.queue.messages.clear()
    world.recorder().record(Chunk.from_json(first))
    assert {} == run_sweep(world, NOW + timedelta(minutes=59)).outcomes
    assert {"queued": 1} == run_sweep(world, NOW + timedelta(minutes=61)).outcomes
    assert lost == world.queue.messages
    world.drain()
    assert (set(ids), "done") == (world.recorded(), world.state().state)


def test_a_chunk_that_moves_is_not_taken_for_lost():
    """A range that takes hours has checkpoints; sending it again would set two workers against each other."""
    world = World()
    world.splitter(target_bytes=100_000).split(world.bucket.put(KEY, avro_file([f"p{n}" for n in range(200)])))
    later = NOW + timedelta(minutes=50)
    chunk = Chunk.from_json(world.queue.messages.pop())
    assert "handed_back" == world.recorder(time_left=lambda: 0.0, now=later).record(chunk).outcome
    assert {"reading": 1} == run_sweep(world, later + timedelta(minutes=30)).outcomes
    world.queue.messages.clear()
    assert {"queued": 1} == run_sweep(world, later + timedelta(minutes=61)).outcomes


def test_a_failed_file_resumes_where_it_stands():
    """Its unfinished chunks alone are read, from their checkpoints; the counts are those of one pass."""
    world = World()
    ids = [f"p{n}" for n in range(200)]
    notice = world.bucket.put(KEY, avro_file(ids))
    world.splitter(target_bytes=1000).split(notice)
    world.recorder().record(Chunk.from_json(world.queue.messages.pop(0)))
    world.bucket.problem = Unavailable("object_forbidden", "AccessDenied")
    world.drain()
    assert ("failed", "object_forbidden") == (world.state().state, world.state().reason)
    world.bucket.problem = None
    assert world.ledger.resume(world.state().file, NOW)
    assert len(world.state().edges) - 1 == world.splitter().split(notice).chunks
    world.drain()
    assert ("done", "", Counts(rows=200, recorded=200)) == (
        world.state().state,
        world.state().reason,
        world.state().counts,
    )


def test_a_finished_file_is_read_again_from_its_start(monkeypatch):
    """After a parser was mended: what was recorded is a duplicate, what was refused is recorded, and it ends anew."""
    world = World()
    notice = world.bucket.put(KEY, avro_file(["a", "bad", "b"]))
    world.splitter().split(notice)
    (message,) = world.queue.messages
    world.drain()
    assert ("done_with_refusals", {"a", "b"}) == (world.state().state, world.recorded())
    mended = {"avro": lambda row, export: {**row, "name": export.record_name}}
    monkeypatch.setattr(sources, "load", lambda _: replace(SHOP, exports=mended))
    assert world.ledger.redo(world.state().file, NOW)
    world.recorder().record(Chunk.from_json(message))  # a late copy of the first round's
    world.splitter().split(notice)
    world.drain()
    assert ("done", {"a", "bad", "b"}) == (world.state().state, world.recorded())
    assert Counts(rows=3, recorded=1, duplicates=2) == world.state().counts


def test_a_reading_that_was_to_begin_again_and_did_not_is_found():
    """Its notice was lost: the sweep plans it."""
    world = World()
    world.splitter().split(world.bucket.put(KEY, avro_file(["a"])))
    world.drain()
    world.ledger.redo(world.state().file, NOW)
    assert {"queued": 1} == run_sweep(world, NOW + timedelta(minutes=61)).outcomes


def test_failed_files_are_taken_up_on_demand():
    """Once the reason is mended, here a connection that was missing, `retry_failed` is the way back."""
    world = World()
    world.connections = FakeConnections()
    world.splitter().split(world.bucket.put(KEY, avro_file(["a"])))
    world.connections = World().connections
    assert {} == run_sweep(world).outcomes
    assert {"queued": 1} == run_sweep(world, retry_failed=True).outcomes
    world.drain()
    assert {"a"} == world.recorded()


def test_a_sweep_out_of_time_goes_on_where_it_stopped(monkeypatch):
    """The listing's place is kept, so that a large bucket is gone through by several sweeps."""
    monkeypatch.setattr(sweep_exports, "LOOKED_UP_TOGETHER", 2)
    world = World()
    for n in range(5):
        world.bucket.put(f"exports/shop/main/{n}.avro", avro_file([str(n)]), f"e{n}")
    swept = [run_sweep(world, time_left=lambda: 0.0) for _ in range(4)]
    assert [2, 2, 1, 0] == [one.listed for one in swept]
    assert [False, False, False, True] == [one.complete for one in swept]
    world.drain()
    assert {"0", "1", "2", "3", "4"} == world.recorded()


def test_one_file_that_cannot_be_split_now_does_not_stop_a_sweep():
    """It is counted and left for the next sweep."""
    world = World()
    world.bucket.put(KEY, avro_file(["a"]))
    world.bucket.problem = TryAgain("away")
    assert {"retry": 1} == run_sweep(world).outcomes


def test_a_forbidden_object_is_quarantined():
    """Retrying what a key policy forbids is of no use: somebody has to see it."""
    world = World()
    notice = world.bucket.put(KEY, avro_file(["a"]))
    world.bucket.problem = Unavailable("object_forbidden", "AccessDenied")
    assert ("unavailable", "object_forbidden") == world.splitter().split(notice)[:2]
    assert ["object_forbidden"] == [entry.reason for entry in world.quarantine.list()]
    assert "failed" == world.state().state


def test_a_chunk_survives_its_message():
    """What goes on the queue comes back equal."""
    file = ExportFile(bucket=BUCKET, key=KEY, etag="e1", size=10, modified_at=DROPPED, version_id="v")
    chunk = files.Chunk(file=file, number=3, start=1, end=10, handoffs=2)
    assert chunk == Chunk.from_json(chunk.to_json())
