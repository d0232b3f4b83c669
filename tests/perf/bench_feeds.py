"""Benchmark: events to the closed files of a feed, and their rows to bytes, against the bare writers of the same file.

    python -m tests.perf.bench_feeds                  100,000 rows
    python -m tests.perf.bench_feeds --rows 15000     … of another number

CPU time of one core, interleaved rounds, medians. Bare are the standard library's csv.writer into a text buffer, orjson
on dicts that are made for it, and pyarrow on columns of text, which our rows first have to become, typed ones too.
Memory: the most that is held at once, in multiples of the file; of events to files, at one number and four times it.
Exit status 1 if events become CSV files at less than 0.4 of csv.writer's rate, rows at less than 0.8, if more than
twice the file and some megabytes are held, or more for more events. What tying responses to sends takes besides:
bench_correlation.
"""

from __future__ import annotations

import argparse
import csv
import gc
import io
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from espial.events import Campaign, Event, Person
from espial.feeds.assembly import Assembly
from espial.feeds.definition import Column, FeedDefinition, built_in
from espial.feeds.formats import Format, encode
from espial.feeds.records import naming, sent
from espial.vocabulary import EventType

COLUMNS = built_in()["response_event"].columns
ROUNDS = 5
LEAST, LEAST_OF_EVENTS = 0.8, 0.4
FORMS: tuple[Format, ...] = ("csv", "jsonl")
HELD = 4 << 20
"""Bytes that may be held beside a file, which is there twice when it is closed: a thousand lines of it."""


def rows(count: int) -> Iterator[list[str]]:
    """Responses as they are: a third of the columns empty, a comma or a quote in one of fifty."""
    start = datetime(2026, 1, 15, 10, tzinfo=UTC)
    for number in range(count):
        at = f"{start + timedelta(seconds=number % 86_400):%Y-%m-%d %H:%M:%S}"
        reason = '550 5.1.1 "no such user", said the server' if number % 50 == 0 else ""
        filled = {
            "sor_name": "Braze",
            "client_campaign_event_id": f"{number:026X}",
            "client_response_event_id": f"{number:026X}",
            "response_event_datetime": at,
            "channel_code": "email",
            "event_disposition_code": "opened" if number % 3 else "click_through",
            "destination_url_address": "" if number % 3 else f"https://www.example.com/offers/{number}?utm_source=mail",
            "source_record_create_datetime": at,
            "source_record_update_datetime": at,
            "client_contact_id": f"cust-{number}",
            "email_address": f"reader.{number}@example.com",
            "device_type": "mobile",
            "machine_ind": "Y" if number % 7 == 0 else "N",
            "failure_reason": reason,
            "match_method": "send_key",
            "match_confidence": "1.0",
        }
        yield [filled.get(column.name, "") for column in COLUMNS]


def bare_csv(given: list[list[str]], columns: Sequence[Column] = COLUMNS) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.name for column in columns])
    writer.writerows(given)
    return out.getvalue().encode()


def bare_jsonl(given: list[list[str]]) -> bytes:
    names = [column.name for column in COLUMNS]
    return b"\n".join(orjson.dumps(dict(zip(names, row, strict=True))) for row in given)


def bare_parquet(given: list[list[str]]) -> bytes:
    table = pa.table({column.name: values for column, values in zip(COLUMNS, zip(*given, strict=True), strict=True)})
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


BARE: dict[Format, Callable[[list[list[str]]], bytes]] = {
    "csv": bare_csv,
    "jsonl": bare_jsonl,
    "parquet": bare_parquet,
}


def seconds(make: Callable[[], bytes]) -> tuple[float, int]:
    gc.collect()
    started = time.process_time()
    content = make()
    return time.process_time() - started, len(content)


def speed(count: int) -> dict[Format, float]:
    """Prints rows and bytes a second; the ratios to the bare writers."""
    given = list(rows(count))
    ratios: dict[Format, float] = {}
    for form, bare in BARE.items():
        ours, theirs = [], []
        size = 0
        for _ in range(ROUNDS):
            taken, size = seconds(lambda form=form: encode(COLUMNS, given, form))  # type: ignore[misc]
            ours.append(taken)
            theirs.append(seconds(lambda bare=bare: bare(given))[0])  # type: ignore[misc]
        mine, other = statistics.median(ours), statistics.median(theirs)
        ratios[form] = other / mine
        rate = f"{count / mine:>10,.0f} rows/s {size / mine / 1e6:>6,.0f} MB/s"
        print(f"{form:<8}{rate}   bare {count / other:>10,.0f} rows/s   {other / mine:.2f} of it")
    return ratios


def held(count: int, form: Format) -> tuple[int, int]:
    """The most bytes held at once, and the file's own."""
    tracemalloc.start()
    content = encode(COLUMNS, rows(count), form)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most, len(content)


FEED = FeedDefinition(name="cdp", layouts=("campaign_event_nonrpi",), systems={"main": "Braze"})
CLOSED = datetime(2026, 1, 15, 12, tzinfo=UTC)


def sends(count: int) -> Iterator[Event]:
    """Sends as Braze reports them."""
    for number in range(count):
        at = CLOSED - timedelta(seconds=number % 3600)
        yield Event(
            event_id=f"{number:026X}",
            type=EventType.SENT,
            platform_type="users.messages.email.Send",
            channel="email",
            platform="braze",
            connection="main",
            occurred_at=at,
            received_at=at,
            person=Person(external_id=f"cust-{number}", email=f"reader.{number}@example.com", source_contact_id="5f00"),
            campaign=Campaign(
                id="c0000000-0000-4000-8000-000000000001",
                name="Autumn Offer",
                variation_id="d0000000-0000-4000-8000-000000000001",
                variation_name="Variant 1",
                dispatch_id=f"e{number // 1000:031}",
            ),
            properties={"message_extras": {"offer_code": "OFF10"}},
        )


def files(given: Iterable[Event]) -> Iterator[bytes]:
    """The closed files of events whose sends are known, fifteen thousand rows each, as a writer's batches are."""
    left = iter(given)
    while batch := list(islice(left, FEED.rotate.rows)):
        assembly = Assembly(FEED, built_in(), 1, CLOSED)
        for event in batch:
            named = naming(FEED, event)
            assembly.add("campaign_event", event, sent(event, FEED, named, event.event_id, origin="esp_send"))
        yield from (content for _, content in assembly.files({}))


def speed_of_events(count: int) -> float:
    """Prints events a second to closed files; the ratio to csv.writer with the same rows."""
    given = list(sends(count))
    made = [list(csv.reader(io.StringIO(content.decode(), newline="")))[1:] for content in files(given)]
    columns = built_in()["campaign_event_nonrpi"].columns
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(seconds(lambda: b"".join(files(given)))[0])
        theirs.append(seconds(lambda: b"".join(bare_csv(some, columns) for some in made))[0])
    mine, other = statistics.median(ours), statistics.median(theirs)
    print(f"events  {count / mine:>10,.0f} rows/s, {mine / count * 1e6:.1f} µs each  {other / mine:.2f} of csv.writer")
    return other / mine


def held_of_events(count: int) -> int:
    """The most bytes held at once while so many events become files."""
    tracemalloc.start()
    for _ in files(sends(count)):
        pass
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    count = parser.parse_args().rows
    print(f"{count:,} rows of {len(COLUMNS)} columns to a closed file")
    ratios = speed(count)
    memory = {form: held(count, form) for form in FORMS}
    for form, (most, size) in memory.items():
        print(f"{form:<8}{most / size:.2f} times the file's {size / 1e6:,.0f} MB are held at most")
    of_events = speed_of_events(count)
    few, many = held_of_events(30_000), held_of_events(120_000)
    print(f"events  {few / 1e6:.0f} MB are held at most for 30,000 of them, {many / 1e6:.0f} MB for 120,000")
    met = ratios["csv"] >= LEAST and all(most <= 2 * size + HELD for most, size in memory.values())
    met = met and of_events >= LEAST_OF_EVENTS and many <= 1.1 * few
    print(
        f"feeds: events to CSV files at {of_events:.2f} of csv.writer's rate (target {LEAST_OF_EVENTS}), rows at"
        f" {ratios['csv']:.2f} (target {LEAST}): {'met' if met else 'MISSED'}"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
