"""Benchmark: rows of a feed to the bytes of a closed file, against the bare writers that make the same file.

    python -m tests.perf.bench_feeds                  100,000 rows
    python -m tests.perf.bench_feeds --rows 15000     … of another number

CPU time of one core, interleaved rounds, medians. Bare are the standard library's csv.writer into a text buffer, orjson
on dicts that are made for it, and pyarrow on columns of text, which our rows first have to become, typed ones too.
Memory: the most that is held at once, in multiples of the file. Exit status 1 if CSV is made at less than four fifths
of csv.writer's rate, or if more than twice the file and some megabytes are held.
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
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from espial.feeds.definition import built_in
from espial.feeds.formats import Format, encode

COLUMNS = built_in()["response_event"].columns
ROUNDS = 5
LEAST = 0.8
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


def bare_csv(given: list[list[str]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.name for column in COLUMNS])
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    count = parser.parse_args().rows
    print(f"{count:,} rows of {len(COLUMNS)} columns to a closed file")
    ratios = speed(count)
    memory = {form: held(count, form) for form in FORMS}
    for form, (most, size) in memory.items():
        print(f"{form:<8}{most / size:.2f} times the file's {size / 1e6:,.0f} MB are held at most")
    met = ratios["csv"] >= LEAST and all(most <= 2 * size + HELD for most, size in memory.values())
    print(f"CSV at {ratios['csv']:.2f} of csv.writer's rate (target {LEAST}): {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
