"""A feed's world in memory: the table's stream, the index, the book and the archive, each of which may fail."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from espial import sources
from espial.deliveries import Arrival, Connection
from espial.errors import TryAgain
from espial.events import Event
from espial.feeds.definition import FeedDefinition, built_in
from espial.feeds.files import Batch, Delivered, Entry, FeedFile, Page, Positions, Standing, Waiting
from espial.feeds.published import Feeds
from espial.normalise import normalise
from espial.services.write_feed import FeedWriter, Written
from tests.builders import NOON
from tests.fakes import FakeLedger

Call = Callable[[], None]


class Killed(BaseException):
    """The process ends here."""


def braze_events(*said: Mapping[str, Any], connection: str = "braze-main", received_at: datetime = NOON) -> list[Event]:
    """Canonical events of what Braze's connector posts."""
    source = sources.load("braze")
    arrival = Arrival(
        connection=Connection(name=connection, platform="braze", account=connection),
        transport="webhook",
        received_at=received_at,
    )
    return [normalise(source, dict(item), arrival).event for item in said]


class Stream:
    """`TableStream` over lists of events, one a shard."""

    def __init__(self, call: Call, page: int = 5) -> None:
        self.shards: dict[str, list[Event]] = {"one": [], "two": []}
        self._call = call
        self._page = page

    def insert(self, *inserted: Event) -> None:
        """In a shard by person, as the table has it."""
        for event in inserted:
            name = sorted(self.shards)[hash(event.person.email) % 2]
            self.shards[name].append(event)

    def read(self, positions: Positions) -> Iterator[Page]:
        """See `TableStream`."""
        reached = dict(positions)
        for name, held in self.shards.items():
            start = int(reached.get(name, "0"))
            for at in range(start, len(held), self._page):
                self._call()
                some = held[at : at + self._page]
                reached[name] = str(at + len(some))
                yield Page(some, dict(reached))


class Index:
    """`SendIndex`."""

    def __init__(self, call: Call) -> None:
        self.held: dict[str, Entry] = {}
        self.waits: dict[str, Waiting] = {}
        self.reminders: dict[str, datetime] = {}
        self._call = call

    def entries(self, keys: Sequence[str]) -> dict[str, Entry]:
        self._call()
        return {key: self.held[key] for key in keys if key in self.held}

    def put(self, entries: Mapping[str, Entry]) -> None:
        for key, entry in entries.items():
            self._call()
            self.held[key] = entry
        self._call()

    def waiting(self, ids: Sequence[str]) -> dict[str, Waiting]:
        self._call()
        return {known: self.waits[known] for known in ids if known in self.waits}

    def keep(self, waiting: Sequence[Waiting]) -> None:
        for one in waiting:
            self._call()
            self.waits[one.event.event_id] = one
            if not one.fed_by:
                self.reminders[one.event.event_id] = one.until
        self._call()

    def due(self, since: datetime, until: datetime) -> Iterator[str]:
        self._call()
        reminded = sorted((until, known) for known, until in self.reminders.items())
        return iter([known for at, known in reminded if since - timedelta(hours=1) <= at <= until])

    def remind_no_more(self, waiting: Mapping[str, datetime]) -> None:
        for known in waiting:
            self._call()
            self.reminders.pop(known, None)


class Book:
    """`FeedBook`."""

    def __init__(self, call: Call) -> None:
        self.standing: dict[str, Standing] = {}
        self.kept: list[Batch] = []
        self.sinks: dict[tuple[str, str], Delivered] = {}
        self._call = call
        self._holders = 0

    def take(self, feed: str, *, now: datetime, until: datetime) -> Standing | None:
        self._call()
        self._holders += 1
        known = self.standing.get(feed, Standing(feed=feed, holder=""))
        self.standing[feed] = msgspec.structs.replace(known, holder=str(self._holders))
        return self.standing[feed]

    def commit(
        self, standing: Standing, batch: Batch, series: Mapping[str, int], due_from: datetime | None = None
    ) -> bool:
        self._call()
        if self.standing[standing.feed].holder != standing.holder:
            return False
        self.kept.append(batch)
        self.standing[standing.feed] = Standing(
            feed=standing.feed,
            holder=standing.holder,
            number=batch.number,
            positions=batch.positions,
            series=dict(series),
            closed_at=batch.closed_at,
            due_from=due_from,
            open_day=batch.open_day,
        )
        self._call()
        return True

    def skip(self, standing: Standing, positions: Positions, due_from: datetime | None = None) -> bool:
        self._call()
        known = self.standing[standing.feed]
        if known.holder != standing.holder:
            return False
        self.standing[standing.feed] = msgspec.structs.replace(known, positions=dict(positions), due_from=due_from)
        return True

    def release(self, standing: Standing) -> None:
        """Nothing to do here: whoever takes it next has it."""

    def committed(self, feed: str, tokens: Sequence[str]) -> set[str]:
        self._call()
        return {batch.token for batch in self.kept if batch.feed == feed} & set(tokens)

    def batches(self, feed: str, *, after: int = 0) -> Iterator[Batch]:
        return (batch for batch in self.kept if batch.feed == feed and batch.number > after)

    def delivered(self, feed: str, sink: str) -> Delivered:
        return self.sinks.get((feed, sink), Delivered(feed=feed, sink=sink))

    def deliver(self, before: Delivered, after: Delivered) -> bool:
        self._call()
        if self.delivered(before.feed, before.sink) != before:
            return False
        self.sinks[before.feed, before.sink] = after
        self._call()
        return True


class Archive(dict[tuple[str, str, str], bytes]):
    """`FeedArchive`."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call

    def put(self, feed: str, token: str, name: str, content: bytes) -> None:
        self._call()
        self[feed, token, name] = content
        self._call()

    def read(self, feed: str, token: str, name: str) -> bytes:
        return self[feed, token, name]


class World:
    """One feed and all it needs. `trouble` is called at every call of a port and may raise."""

    def __init__(self, feed: FeedDefinition | None = None, *, page: int = 5, seed: int = 0, **fields: Any) -> None:
        self.feed = feed or FeedDefinition.model_validate({"name": "cdp", **fields})
        self.now = NOON
        self.trouble: Call = lambda: None
        self.account: Callable[[Event], str] = lambda event: event.connection
        self._rng = random.Random(seed)

        def call() -> None:
            self.trouble()

        self.stream, self.index, self.book, self.archive = Stream(call, page), Index(call), Book(call), Archive(call)
        self.ledger = FakeLedger()

    def run(self, *, later: timedelta = timedelta(minutes=6)) -> Written:
        """One run of the writer, some time after the last."""
        self.now += later
        return self.writer().run()

    def writer(self) -> FeedWriter:
        """The feed's writer over all this."""
        return FeedWriter(
            feed=self.feed,
            layouts=built_in(),
            account=self.account,
            send=Feeds({}).send_of(self.feed),
            stream=self.stream,
            index=self.index,
            book=self.book,
            archive=self.archive,  # type: ignore[arg-type]
            ledger=self.ledger,
            clock=lambda: self.now,
            token=lambda: f"{self._rng.getrandbits(60):015x}",
        )

    def settle(self) -> None:
        """Run until nothing is new, without trouble."""
        self.trouble = lambda: None
        while self.run().outcome != "nothing":
            pass

    @property
    def files(self) -> list[tuple[FeedFile, bytes]]:
        """Every committed file, in order."""
        return [
            (file, self.archive[batch.feed, batch.token, file.name]) for batch in self.book.kept for file in batch.files
        ]

    def rows(self, layout: str, kind: str = "data") -> list[dict[str, str]]:
        """The rows of a layout's files, in order."""
        return [
            row
            for file, content in self.files
            if file.layout == layout and file.kind == kind
            for row in csv.DictReader(io.StringIO(content.decode(), newline=""))
        ]


class Trouble:
    """Kills the process, or has the service away, at random calls; at most `most` times."""

    def __init__(self, rng: random.Random, most: int = 12, often: float = 0.06) -> None:
        self._rng = rng
        self._left = most
        self._often = often

    def __call__(self) -> None:
        if self._left and self._rng.random() < self._often:
            self._left -= 1
            raise Killed if self._rng.random() < 0.7 else TryAgain("away")
