"""Export files in memory, read as the services read them: by any plan, resumed at any mark."""

from __future__ import annotations

import random
import zlib
from itertools import pairwise
from typing import Any

from espial.exports import Container, Damage, Mark, Row, open_container
from espial.sources import Layout


class Memory:
    """An object in memory. It counts bytes read and the largest read."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)
        self.largest = 0
        self.total = 0

    def read(self, start: int, end: int) -> bytes:
        assert 0 <= start <= end <= self.size
        self.largest = max(self.largest, end - start)
        self.total += end - start
        return self.content[start:end]


def bgzf_member(content: bytes, level: int = 6, extra: bytes = b"") -> bytes:
    """A gzip member that says how long it is; `extra` are fields before the one that does."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    packed = packer.compress(content) + packer.flush()
    fields = extra + b"BC\x02\0"
    length = 12 + len(fields) + 2 + len(packed) + 8
    head = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff" + (len(fields) + 2).to_bytes(2, "little")
    trailer = zlib.crc32(content).to_bytes(4, "little") + len(content).to_bytes(4, "little")
    return head + fields + (length - 1).to_bytes(2, "little") + packed + trailer


def opened(content: bytes, key: str = "file", layout: Layout | None = None) -> Container:
    """A fresh reader."""
    return open_container(Memory(content), key, layout or Layout())


def steps_of(
    content: bytes, key: str = "file", layout: Layout | None = None, *, target: int = 1 << 30
) -> list[Row | Damage | Mark]:
    """All steps over the ranges of a plan, each range by a fresh reader."""
    plan = opened(content, key, layout).plan(target)
    return [step for start, end in plan for step in opened(content, key, layout).rows(start, end)]


def rows_of(content: bytes, key: str = "file", layout: Layout | None = None, *, target: int = 1 << 30) -> list[Any]:
    """The data of all rows."""
    return [step.data for step in steps_of(content, key, layout, target=target) if isinstance(step, Row)]


def reasons_of(content: bytes, key: str = "file", layout: Layout | None = None, *, target: int = 1 << 30) -> list[str]:
    """The reasons of all damages."""
    return [step.reason for step in steps_of(content, key, layout, target=target) if isinstance(step, Damage)]


def check(
    content: bytes, expected: list[Any], chance: random.Random, key: str = "file", layout: Layout | None = None
) -> None:
    """Any plan gives each row once, in the same places; every mark resumes to exactly the rest."""
    whole = steps_of(content, key, layout)
    found = [step for step in whole if not isinstance(step, Mark)]
    assert expected == [step.data if isinstance(step, Row) else step.reason for step in found]
    places = [(step.place, step.ordinal) for step in found if isinstance(step, Row)]
    assert len(places) == len(set(places))
    for target in (chance.randint(1, 40), chance.randint(1, len(content) + 1)):
        plan = opened(content, key, layout).plan(target)
        assert all(one[1] == two[0] for one, two in pairwise(plan))
        assert not plan or plan[-1][1] == len(content)
        steps = [step for start, end in plan for step in opened(content, key, layout).rows(start, end)]
        assert found == [step for step in steps if not isinstance(step, Mark)]
    for start, end in opened(content, key, layout).plan(chance.randint(1, len(content) + 1)):
        steps = list(opened(content, key, layout).rows(start, end))
        for index, step in enumerate(steps):
            if isinstance(step, Mark):
                rest = list(opened(content, key, layout).rows(start, end, step.place))
                assert [one for one in steps[index + 1 :] if not isinstance(one, Mark)] == [
                    one for one in rest if not isinstance(one, Mark)
                ]
