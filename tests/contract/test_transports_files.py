"""Sample files through the containers that read them in production give what an independent reader finds in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from espial.exports import Damage, Row
from espial.sources import Layout
from tests import samples
from tests.export_files import opened
from tests.rows import Found, events

PLATFORMS = ("adobe", "cheetah", "mailchimp", "pure360", "sessionm", "sfmc")
FILES = [path for platform in PLATFORMS for path in samples.exports(platform)]


def contained(path: Path, layout: Layout) -> Iterator[Found]:
    """As a worker reads it: range by range, kind, name and columns being those of the row at hand."""
    content = path.read_bytes()
    for start, end in opened(content, path.name, layout).plan(200):
        container = opened(content, path.name, layout)
        for step in container.rows(start, end):
            assert not isinstance(step, Damage), step
            if isinstance(step, Row):
                yield Found(container.kind, step.data, container.record_name, container.columns)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_gives_the_same_events_by_either_reader(path: Path) -> None:
    """Nothing is damaged, left out or read twice, however it is cut."""
    settings = samples.EXPORT_SETTINGS.get(path.name, {})
    expected = [record.body for record in events(path, settings)]
    assert expected or path.name == "manifest.json"
    assert expected == [record.body for record in events(path, settings, contained)]
