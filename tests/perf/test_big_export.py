"""Files as large as one likes: what `make bench-export` and `tests.perf.big_export` stand on."""

from __future__ import annotations

from pathlib import Path

import pytest

from espial.events import Person
from espial.ports import Recorded
from tests.builders import a_record
from tests.perf.bench_export import read_through
from tests.perf.big_export import CountingTable, run
from tests.perf.large_files import ROWS_A_BLOCK, WRITERS


@pytest.mark.parametrize("kind", [kind for kind in WRITERS if kind != "Parquet"])
def test_a_file_is_recorded_once_by_many_workers(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Workers run out of time within a chunk, the next go on from the checkpoint; every row is there once."""
    assert run(kind, 0.008, 3000, tmp_path)
    assert " 0 hand-overs" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", WRITERS)
def test_an_interrupted_reading_gives_every_row(kind: str, tmp_path: Path) -> None:
    """What the benchmark reads of a file is what was written."""
    rows = WRITERS[kind](tmp_path / "file", 6)
    assert rows == read_through(kind, tmp_path / "file")["rows"] > ROWS_A_BLOCK


def test_the_counting_table_tells_rows_apart() -> None:
    """Numbers of any block; one that comes twice is counted."""
    table = CountingTable(3 * ROWS_A_BLOCK)
    numbers = [0, 999, 10_000, 20_999, 10_000]
    records = [a_record(str(number), person=Person(external_id=f"{number:012d}")) for number in numbers]
    verdicts = table.add(records, transport="export", expires_days=60)
    assert [Recorded.NEW] * 4 + [Recorded.DUPLICATE] == verdicts
    assert (4, 1) == (table.new, table.duplicates)
