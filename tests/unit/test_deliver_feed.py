"""Delivery of a feed: every sink gets every file, in order and whole, whatever crashes, is away or says no."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from hashlib import sha256
from string import digits
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.errors import Refused, TryAgain
from espial.feeds.files import Batch, FeedFile
from espial.services.deliver_feed import Delivery, Outcome, deliver_all, resend_all
from tests.builders import NOON
from tests.feeding import Book, Killed, Trouble

MINUTES = 60_000.0


def a_file(name: str, kind: str = "data", content: bytes = b"rows\n") -> FeedFile:
    return FeedFile(
        feed="cdp",
        batch=1,
        name=name,
        kind=kind,
        layout="response_event",
        version=1,
        profile="extended",
        system="Braze",
        series="response_event/braze",
        sequence=1,
        format="csv",
        columns=("a",),
        key=("a",),
        rows=1,
        size=len(content),
        sha256=sha256(content).hexdigest(),
        first=NOON,
        last=NOON,
        created_at=NOON,
    )


class Archive:
    """`FeedArchive`; what was never put is made up, the same each time."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.held: dict[str, bytes] = {}

    def get(self, feed: str, token: str, name: str) -> bytes:
        self.call()
        return self.held[name]


class Inbox:
    """`Sink` that remembers what arrived, in order. `trouble` may raise before or after a file is there."""

    def __init__(self) -> None:
        self.arrived: list[tuple[str, bytes]] = []
        self.trouble: Callable[[], None] = lambda: None
        self.opened = 0

    def put(self, name: str, content: bytes) -> None:
        self.trouble()
        self.arrived.append((name, content))
        self.trouble()

    @property
    def names(self) -> list[str]:
        """In the order in which each was there for the first time."""
        return list(dict.fromkeys(name for name, _ in self.arrived))


class World:
    def __init__(self, *sinks: str) -> None:
        self.now = NOON
        self.trouble: Callable[[], None] = lambda: None
        self.book = Book(self._call)
        self.archive = Archive(self._call)
        self.inboxes = {sink: Inbox() for sink in sinks or ("cdp",)}
        self.left = 5 * MINUTES

    def _call(self) -> None:
        self.trouble()

    def commit(self, *names: str, kind: str = "data") -> None:
        """A batch of files."""
        number = len(self.book.kept) + 1
        files = []
        for name in names:
            content = f"{name}\n".encode() * 3
            self.archive.held[name] = content
            files.append(a_file(name, "rejects" if "rejects" in name else kind, content))
        closed_at = NOON + timedelta(minutes=number)
        self.book.kept.append(
            Batch(feed="cdp", number=number, token="t", closed_at=closed_at, files=tuple(files), positions={})
        )

    def delivery(self, sink: str = "cdp", **fields: Any) -> Delivery:
        given: dict[str, Any] = {
            "feed": "cdp",
            "sink": sink,
            "takes_refused": sink == "bucket",
            "opened": lambda _seconds_left: nullcontext(self.inboxes[sink]),
            "book": self.book,
            "archive": self.archive,
            "clock": lambda: self.now,
            "jitter": lambda: 0.0,
        }
        return Delivery(**{**given, **fields})

    def run(self, sink: str = "cdp", **options: Any) -> Outcome:
        return self.delivery(sink).run(lambda: self.left, **options)


def with_manifests(*names: str) -> list[str]:
    return [one for name in names for one in (name, f"{name}.manifest.json")]


def test_files_arrive_in_order_each_with_its_manifest_behind_it():
    """A response is never there before its send, a manifest never before its file; nothing comes twice."""
    world = World()
    world.commit("1-sends.csv", "1-responses.csv")
    world.commit("2-responses.csv")
    assert Outcome("cdp", "cdp", "delivered", 3) == world.run()
    assert with_manifests("1-sends.csv", "1-responses.csv", "2-responses.csv") == world.inboxes["cdp"].names
    assert Outcome("cdp", "cdp", "nothing") == world.run()
    world.commit("3-sends.csv")
    assert Outcome("cdp", "cdp", "delivered", 1) == world.run()
    assert 8 == len(world.inboxes["cdp"].arrived)


def test_what_was_refused_goes_to_folders_of_a_bucket_only():
    """A CDP would take them for data."""
    world = World("bucket", "cdp")
    world.commit("1.csv", "1.rejects.csv", "2.csv")
    world.commit("3.rejects.csv")
    assert [4, 2] == [world.run(sink).files for sink in ("bucket", "cdp")]
    assert (
        with_manifests("1.csv", "rejects/1.rejects.csv", "2.csv", "rejects/3.rejects.csv")
        == world.inboxes["bucket"].names
    )
    assert with_manifests("1.csv", "2.csv") == world.inboxes["cdp"].names
    assert ["nothing", "nothing"] == [world.run(sink).outcome for sink in ("bucket", "cdp")]


def test_a_batch_without_files_is_passed_over():
    """Else it would be read again for ever."""
    world = World()
    world.commit()
    world.commit("1.csv")
    world.commit()
    assert 1 == world.run().files
    assert "nothing" == world.run().outcome
    assert 3 == world.book.delivered("cdp", "cdp").batch


def test_a_failing_sink_waits_and_holds_up_no_other():
    """The others get all of it; the failing one goes on where it stopped."""
    world = World("one", "two")
    world.commit("1.csv", "2.csv")
    world.inboxes["one"].trouble = raising(TryAgain("the disk is full"))
    deliveries = [world.delivery(sink) for sink in ("one", "two")]
    failed, delivered = deliver_all(deliveries, lambda: world.left)
    closed_at = NOON + timedelta(minutes=1)
    assert Outcome("cdp", "one", "failed", 0, closed_at, 1, "the disk is full") == failed
    assert Outcome("cdp", "two", "delivered", 2) == delivered
    world.inboxes["one"].trouble = lambda: None
    assert "waits" == world.run("one").outcome
    world.now += timedelta(seconds=15)
    assert Outcome("cdp", "one", "delivered", 2) == world.run("one")
    noted = world.book.delivered("cdp", "one")
    assert (0, "", None, None, None) == (
        noted.failures,
        noted.reason,
        noted.failed_at,
        noted.again_at,
        noted.busy_until,
    )


@pytest.mark.parametrize("when", ["opening", "closing"])
def test_a_sink_that_cannot_be_opened_or_closed_has_failed_like_any_other(when):
    """It is noted against it, it is not left busy, and the others get their files."""
    world = World("one", "two")
    world.commit("1.csv")

    @contextmanager
    def opened(_seconds_left: Callable[[], float]) -> Iterator[Inbox]:
        if when == "opening":
            raise RuntimeError(when)
        yield world.inboxes["one"]
        raise RuntimeError(when)

    one = world.delivery("one", opened=opened)
    failed, delivered = deliver_all([one, world.delivery("two")], lambda: world.left)
    assert ("failed", 1) == (failed.outcome, failed.failures)
    assert f"unexpected_error: RuntimeError in {opened.__name__}, line " == failed.reason.rstrip(digits)
    assert Outcome("cdp", "two", "delivered", 1) == delivered
    noted = world.book.delivered("cdp", "one")
    assert (1, None, when == "closing") == (noted.failures, noted.busy_until, noted.files == 1)
    assert (NOON + timedelta(minutes=1) if when == "opening" else None) == failed.oldest
    resent = resend_all([one, world.delivery("two")], ["1.csv"], lambda: world.left)
    assert "delivered" == resent[1].outcome
    assert world.book.delivered("cdp", "one").busy_until is None


def test_an_error_of_one_sinks_book_stops_no_other():
    """Whatever it is; nothing can be noted then, so the function itself fails at its end."""
    world = World("one", "two")
    world.commit("1.csv")

    class Damaged(Book):
        def batches(self, feed: str, *, after: int = 0) -> Iterator[Batch]:
            raise ValueError("what was in it")

    damaged, delivered = deliver_all(
        [world.delivery("one", book=Damaged(lambda: None)), world.delivery("two")], lambda: world.left
    )
    assert ("try_again", True) == (damaged.outcome, damaged.reason.startswith("unexpected_error: ValueError in "))
    assert "what was in it" not in damaged.reason
    assert Outcome("cdp", "two", "delivered", 1) == delivered


def test_a_sink_is_told_how_long_it_may_take():
    """Until the invocation ends, but for what it takes to note that it was too slow."""
    world = World()
    world.commit("1.csv")
    told: list[float] = []

    def opened(seconds_left: Callable[[], float]) -> AbstractContextManager[Inbox]:
        told.append(seconds_left())
        world.left = 9_000
        told.append(seconds_left())
        return nullcontext(world.inboxes["cdp"])

    world.delivery(opened=opened).run(lambda: world.left)
    assert [290.0, -1.0] == told


def raising(error: BaseException) -> Callable[[], None]:
    def trouble() -> None:
        raise error

    return trouble


@pytest.mark.parametrize(
    ("error", "pauses", "reason"),
    [
        (TryAgain("away"), [15, 30, 60, 120, 240, 480, 900, 900], "away"),
        (TryAgain("busy", after=100), [100, 100, 100, 120], "busy"),
        (Refused("not_authorised", "cdp"), [3600, 3600], "not_authorised: cdp"),
        (ZeroDivisionError("what it was about"), [3600, 3600], "unexpected_error: ZeroDivisionError in trouble, line "),
    ],
)
def test_the_pauses_between_attempts(error, pauses, reason):
    """Longer and longer where time may mend it, hourly where somebody has to; never given up."""
    world = World()
    world.commit("1.csv")
    world.inboxes["cdp"].trouble = raising(error)
    for number, pause in enumerate(pauses, 1):
        failed = world.run()
        assert ("failed", number, reason) == (failed.outcome, failed.failures, failed.reason.rstrip(digits))
        noted = world.book.delivered("cdp", "cdp")
        assert (world.now, world.now + timedelta(seconds=pause)) == (noted.failed_at, noted.again_at)
        world.now += timedelta(seconds=pause)


def test_pauses_are_spread():
    """So that many sinks of one server do not come back at one instant."""
    world = World()
    world.commit("1.csv")
    world.inboxes["cdp"].trouble = raising(TryAgain("away"))
    world.delivery(jitter=lambda: 1.0).run(lambda: world.left)
    assert world.now + timedelta(seconds=15 * 1.25) == world.book.delivered("cdp", "cdp").again_at


def test_who_asks_for_it_now_does_not_wait():
    """The password is mended: nobody wants to wait for an hour."""
    world = World()
    world.commit("1.csv")
    world.inboxes["cdp"].trouble = raising(Refused("not_authorised"))
    world.run()
    world.inboxes["cdp"].trouble = lambda: None
    waits = world.run()
    assert ("waits", 1, "not_authorised") == (waits.outcome, waits.failures, waits.reason)
    assert "delivered" == world.run(at_once=True).outcome


def test_one_process_at_a_time_is_at_a_sink():
    """Two would write one part file. Who dies there is waited for, as long as it may live."""
    world = World()
    world.commit("1.csv")
    world.inboxes["cdp"].trouble = raising(Killed())
    with pytest.raises(Killed):
        world.run()
    world.inboxes["cdp"].trouble = lambda: None
    assert Outcome("cdp", "cdp", "busy", 0, NOON + timedelta(minutes=1)) == world.run()
    assert "busy" == world.delivery().resend([], lambda: world.left).outcome
    world.now += timedelta(minutes=5)
    assert "delivered" == world.run().outcome


def test_two_that_begin_at_once_are_one():
    """The note is conditional: who comes second sees that somebody is there."""
    world = World()
    world.commit("1.csv", "2.csv")
    inner: list[Outcome] = []

    def another() -> None:
        world.inboxes["cdp"].trouble = lambda: None
        inner.append(world.run())

    world.inboxes["cdp"].trouble = another
    assert "delivered" == world.run().outcome
    assert ["busy"] == [outcome.outcome for outcome in inner]
    assert 4 == len(world.inboxes["cdp"].arrived)


def test_no_file_is_begun_without_time_for_it():
    """An invocation that ends amid a file is a crash; the rest is for the next one."""
    world = World()
    world.commit("1.csv", "2.csv", "3.csv")

    def time_left() -> float:
        return 5 * MINUTES - 1.5 * MINUTES * (len(world.inboxes["cdp"].arrived) // 2)

    assert Outcome("cdp", "cdp", "more", 3 - 1, NOON + timedelta(minutes=1)) == world.delivery().run(
        time_left, enough_ms=2.5 * MINUTES
    )
    assert Outcome("cdp", "cdp", "delivered", 1) == world.run()


def test_every_sink_has_its_share_of_the_time():
    """The first has so much to get that it would take all of it."""
    world = World("one", "two")
    world.commit(*(f"{number}.csv" for number in range(10)))
    spent = [0.0]

    def slow() -> None:
        spent[0] += 10_000  # four times a file with its manifest

    for inbox in world.inboxes.values():
        inbox.trouble = slow
    outcomes = list(deliver_all([world.delivery("one"), world.delivery("two")], lambda: 5 * MINUTES - spent[0]))
    assert ["more", "more"] == [outcome.outcome for outcome in outcomes]
    assert all(outcome.files >= 2 for outcome in outcomes)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda held: held.clear(), "not_in_archive"),
        (lambda held: held.update({"1.csv": b"other\n"}), "damaged_in_archive: 1.csv"),
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_not_delivered(damage, reason):
    """And is not passed over either."""
    world = World()
    world.commit("1.csv", "2.csv")
    damage(world.archive.held)
    assert ("failed", reason) == (world.run().outcome, world.book.delivered("cdp", "cdp").reason)
    assert [] == world.inboxes["cdp"].names


def test_a_book_that_is_away_is_no_failure_of_the_sink():
    """Nothing is noted against it."""
    world = World()
    world.commit("1.csv")
    world.trouble = raising(TryAgain("FeedsTable is throttled"))
    assert ("try_again", "FeedsTable is throttled") == (world.run().outcome, world.run().reason)
    world.trouble = lambda: None
    assert 0 == world.book.delivered("cdp", "cdp").failures


def test_a_file_is_sent_again_as_it_was():
    """By its name, in order, and how far the sink is does not change."""
    world = World("bucket", "cdp")
    world.commit("1.csv", "1.rejects.csv", "2.csv")
    world.run("cdp")
    world.run("bucket")
    before = world.book.delivered("cdp", "cdp")
    world.inboxes["cdp"].arrived.clear()
    assert Outcome("cdp", "cdp", "delivered", 2) == world.delivery().resend(["2.csv", "1.csv"], lambda: world.left)
    assert with_manifests("1.csv", "2.csv") == world.inboxes["cdp"].names
    assert before == world.book.delivered("cdp", "cdp")
    assert 1 == world.delivery("bucket").resend(["1.rejects.csv"], lambda: world.left).files


def test_a_batch_is_sent_again_by_its_number():
    """All of it that the sink gets."""
    world = World("bucket", "cdp")
    world.commit("1.csv")
    world.commit("2.csv", "2.rejects.csv")
    for sink, files in (("bucket", 2), ("cdp", 1)):
        world.run(sink)
        assert files == world.delivery(sink).resend(["2"], lambda: world.left).files


@pytest.mark.parametrize("name", ["3.csv", "2", "0", "99999999999", "1.rejects.csv", "unknown.csv"])
def test_what_a_sink_was_never_given_cannot_be_sent_again(name):
    """It would come before its turn, or where it does not belong."""
    world = World()
    world.commit("1.csv", "1.rejects.csv")
    world.run()
    world.commit("3.csv")
    with pytest.raises(Refused, match=f"never given {name}"):
        world.delivery().resend(["1.csv", name], lambda: world.left)


def test_a_failed_resend_says_why_and_leaves_the_sink_free():
    """The next run goes on."""
    world = World()
    world.commit("1.csv")
    world.run()
    world.inboxes["cdp"].trouble = raising(TryAgain("away"))
    failed = world.delivery().resend(["1.csv"], lambda: world.left)
    assert ("failed", "away") == (failed.outcome, failed.reason)
    world.inboxes["cdp"].trouble = lambda: None
    world.commit("2.csv")
    assert "delivered" == world.run().outcome


def test_a_resend_of_much_ends_in_time_and_says_where():
    """Cut off by the clock it would leave the sink busy, and nobody would know what was sent."""
    world = World("one", "two")
    world.commit("1.csv", "2.csv", "3.csv")
    for sink in world.inboxes:
        world.run(sink)
        world.inboxes[sink].arrived.clear()
    spent = [0.0]

    def slow() -> None:
        spent[0] += 10_000  # four times a file with its manifest

    for inbox in world.inboxes.values():
        inbox.trouble = slow
    deliveries = [world.delivery(sink) for sink in world.inboxes]
    outcomes = resend_all(deliveries, ["1"], lambda: 4 * MINUTES - spent[0])
    said = "no time for 3.csv and what is behind it"
    assert [Outcome("cdp", sink, "more", 2, reason=said) for sink in world.inboxes] == outcomes
    assert with_manifests("1.csv", "2.csv") == world.inboxes["two"].names
    assert world.book.delivered("cdp", "one").busy_until is None


class Counted(Book):
    """How many batches were read; `meanwhile` is done once when the first is."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self.read = 0
        self.meanwhile: Callable[[], object] = lambda: None

    def batches(self, feed: str, *, after: int = 0) -> Iterator[Batch]:
        for batch in super().batches(feed, after=after):
            self.read += 1
            meanwhile, self.meanwhile = self.meanwhile, lambda: None
            meanwhile()
            yield batch


@pytest.mark.parametrize(
    ("names", "read"), [(["7", "3"], 2), (["4.csv"], 4), (["4.csv", "6"], 6), (["12", "12"], 1), (["8", "8.csv"], 8)]
)
def test_a_resend_reads_no_more_of_history_than_it_has_to(names, read):
    """A year of it has a hundred thousand batches."""
    world = World()
    world.book = Counted()
    for number in range(1, 21):
        world.commit(f"{number}.csv")
    world.run()
    world.book.read = 0
    world.inboxes["cdp"].arrived.clear()
    assert "delivered" == world.delivery().resend(names, lambda: world.left).outcome
    numbers = sorted({int(name.removesuffix(".csv")) for name in names})
    assert with_manifests(*(f"{number}.csv" for number in numbers)) == world.inboxes["cdp"].names
    assert read == world.book.read


def test_a_sink_may_get_on_while_a_file_is_looked_for():
    """That takes minutes where there is much history."""
    world = World()
    world.book = book = Counted()
    world.commit("1.csv")
    world.run()
    world.commit("2.csv")
    book.meanwhile = world.run
    assert Outcome("cdp", "cdp", "delivered", 1) == world.delivery().resend(["1.csv"], lambda: world.left)
    assert 2 == world.book.delivered("cdp", "cdp").batch


def test_looking_for_a_file_ends_in_time():
    """It says how to find it faster."""
    world = World()
    world.commit("1.csv")
    world.commit("2.csv")
    world.run()
    (failed,) = resend_all([world.delivery()], ["2.csv"], lambda: 1_000.0)
    assert ("failed", "no time to look through all batches: give the batch's number") == (failed.outcome, failed.reason)


@given(seed=st.integers(0, 1 << 32), sizes=st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_whatever_dies_wherever_every_sink_gets_every_file_in_order(seed, sizes):
    """Killed, away or refused at any call: first arrivals are the committed order, and all is there in the end."""
    rng = random.Random(seed)
    world = World("one", "two")
    for number, size in enumerate(sizes):
        world.commit(*(f"{number}-{at}.csv" for at in range(size)))
    world.trouble = Trouble(rng, often=0.15)
    for inbox in world.inboxes.values():
        inbox.trouble = Trouble(rng, often=0.15)
    for _ in range(200):
        world.now += timedelta(minutes=rng.choice((1, 6)))
        try:
            said = list(deliver_all([world.delivery(sink) for sink in world.inboxes], lambda: world.left))
        except Killed:
            continue
        if {"nothing"} == {outcome.outcome for outcome in said}:
            break
    else:
        pytest.fail("it never ended")
    wanted = with_manifests(*(file.name for batch in world.book.kept for file in batch.files))
    for inbox in world.inboxes.values():
        assert wanted == inbox.names
        assert len(inbox.names) == len({*inbox.arrived})  # what came again was the same
