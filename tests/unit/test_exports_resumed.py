"""Going on in the midst of deflated text: the same as from its start, with little read again, whatever was kept."""

from __future__ import annotations

import gzip
import io
import json
import random
import zipfile
import zlib
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import igzip

from espial.exports import Damage, Mark, Row, deflate, open_container, text
from espial.exports.deflate import Point
from espial.sources import Layout
from tests.export_files import Memory
from tests.exporting import Resumes

EVERY = 60_000
SAMPLE = 2_000


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Points lie close together, and little is read ahead."""
    monkeypatch.setattr(deflate, "EVERY_BYTES", EVERY)
    monkeypatch.setattr(deflate, "_SLICE_BYTES", 1000)
    for module in (text, deflate):
        monkeypatch.setattr(module, "READ_BYTES", 4000)
    monkeypatch.setattr(text, "SAMPLE_BYTES", SAMPLE)


class Kept(Memory):
    """An object in memory, for which something is kept."""

    def __init__(self, content: bytes, resumes: Resumes) -> None:
        super().__init__(content)
        self.resumes = resumes


def steps(source: Memory, checkpoint: int | None = None) -> list[Row | Damage | Mark]:
    return list(open_container(source, "file", Layout()).rows(0, source.size, checkpoint))


def unmarked(found: list[Row | Damage | Mark]) -> list[Row | Damage | Mark]:
    return [step for step in found if not isinstance(step, Mark)]


def lines(seed: int, count: int, repeats: int = 1) -> bytes:
    """Rows in which text is repeated from near and far, and some is not; `repeats` of each."""
    chance = random.Random(seed)
    notes = [f"{chance.getrandbits(64):x}" * chance.randrange(9) for _ in range(200)]
    rows = ({"id": f"{chance.getrandbits(160):x}", "note": chance.choice(notes), "é": "é"} for _ in range(count))
    return b"".join((json.dumps(row, ensure_ascii=False) + "\n").encode() * repeats for row in rows)


def flushed(text_: bytes, level: int, memory: int, flush: int, every: int) -> bytes:
    """One member, flushed every so many bytes."""
    packer = zlib.compressobj(level, zlib.DEFLATED, 31, memory)
    parts = [packer.compress(text_[at : at + every]) + packer.flush(flush) for at in range(0, len(text_), every)]
    return b"".join(parts) + packer.flush()


def zipped(text_: bytes, method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("a.json", b'{"n":-1}\n')
        archive.writestr("b.json", text_)
    return out.getvalue()


def members(text_: bytes, count: int) -> bytes:
    """A member for each of so many parts."""
    edges = [len(text_) * n // count for n in range(count + 1)]
    return b"".join(gzip.compress(text_[a:b], 6) for a, b in pairwise(edges))


PACKED = st.one_of(
    st.tuples(
        st.just(flushed),
        st.sampled_from([0, 1, 6, 9]),
        st.sampled_from([3, 6, 8, 9]),
        st.sampled_from([zlib.Z_NO_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH]),
        st.sampled_from([300, 9_000, 70_000]),
    ),
    st.tuples(st.just(igzip.compress), st.integers(0, 3)),
    st.tuples(st.just(members), st.sampled_from([2, 9, 200])),
    st.tuples(st.just(zipped), st.sampled_from([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])),
)


@settings(max_examples=40)
@given(seed=st.integers(0, 99), packed=PACKED, damage=st.booleans())
def test_every_mark_goes_on_to_exactly_the_rest(seed, packed, damage):
    """Whatever compressed the text, also of a damaged file, also if what was kept is lost, changed or another's."""
    pack, *options = packed
    chance = random.Random(seed)
    content = bytearray(pack(lines(seed, 5000), *options))
    if damage:
        content[len(content) // 2 + chance.randrange(len(content) // 3)] ^= 1 + chance.randrange(255)
    expected = steps(Memory(bytes(content)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deflate, "KEPT_POINTS", 1000)
        kept = Resumes()
        assert expected == steps(Kept(bytes(content), kept))
        for index in chance.sample(range(len(expected)), 8):
            if not isinstance(mark := expected[index], Mark):
                continue
            resumes = Resumes(kept)
            for name, other in zip(kept, chance.sample(list(kept.values()), len(kept)), strict=True):
                match chance.randrange(8):
                    case 0:
                        del resumes[name]
                    case 1:
                        resumes[name] = resumes[name][: chance.randrange(40)]
                    case 2:
                        resumes[name] = other
                    case 3:
                        wrong = Point.from_state(other)
                        if wrong and wrong.window:
                            resumes[name] = wrong._replace(window=bytes(len(wrong.window))).to_state()
            rest = steps(Kept(bytes(content), resumes), mark.place)
            assert unmarked(expected[index + 1 :]) == unmarked(rest)


PACKERS = {
    "zlib 1": lambda text_: gzip.compress(text_, 1),
    "zlib 6": lambda text_: gzip.compress(text_, 6),
    "zlib 9": lambda text_: gzip.compress(text_, 9),
    "flushed": lambda text_: flushed(text_, 6, 8, zlib.Z_SYNC_FLUSH, 300),
    "members": lambda text_: members(text_, 100),
    "deflated in zip": lambda text_: zipped(text_, zipfile.ZIP_DEFLATED),
    "stored in zip": lambda text_: zipped(text_, zipfile.ZIP_STORED),
}


@pytest.mark.parametrize("kind", PACKERS)
def test_a_killed_worker_reads_little_again(monkeypatch, kind):
    """Killed twelve times: each time it reads one interval again at most, a block or two, and a sample."""
    content = PACKERS[kind](lines(1, 50_000))
    every, blocks = max(60_000, len(content) // deflate.PARTS), 60_000
    monkeypatch.setattr(deflate, "EVERY_BYTES", every)
    resumes, chance = Resumes(), random.Random(kind)
    checkpoint, found, total, kills = None, [], 0, sorted(chance.sample(range(5_000, 50_000), 12))
    for kill in [*kills, None]:
        source = Kept(content, resumes)
        container = open_container(source, "file", Layout())
        source.total = 0
        pending: list[Any] = []
        for step in container.rows(0, source.size, checkpoint):
            if isinstance(step, Mark):
                found += pending
                pending, checkpoint = [], step.place
                if kill is not None and len(found) > kill:
                    break
            else:
                pending.append(step)
        total += source.total
    found += pending
    assert unmarked(steps(Memory(content))) == found
    assert total - len(content) < len(kills) * (every + blocks + 5 * SAMPLE)
    assert len(resumes) <= 2 * deflate.KEPT_POINTS
    assert max(map(len, resumes.values())) < 33_000


def test_text_that_is_mostly_repetition():
    """What comes out of a slice in many pieces ends in a point, too."""
    content = gzip.compress(lines(1, 2500, 30))
    kept = Resumes()
    expected = steps(Kept(content, kept))
    assert len(kept) > 1
    source = Kept(content, kept)
    late = next(index for index in range(len(expected) - 500, len(expected)) if isinstance(expected[index], Mark))
    assert unmarked(expected[late:]) == unmarked(steps(source, expected[late].place))
    assert source.total < len(content) / 2


def test_a_point_is_used_only_if_what_follows_is_what_it_says():
    """However well it was kept; the stream is then read from its start."""
    content = gzip.compress(lines(1, 5000))
    kept = Resumes()
    expected = steps(Kept(content, kept))
    others = {
        name: Point.from_state(state)._replace(window=b"x" * deflate.WINDOW_BYTES) for name, state in kept.items()
    }
    source = Kept(content, Resumes({name: point.to_state() for name, point in others.items()}))
    late = next(index for index in range(len(expected) - 500, len(expected)) if isinstance(expected[index], Mark))
    assert len(others) > 1
    assert unmarked(expected[late:]) == unmarked(steps(source, expected[late].place))
    assert source.total > len(content)


def test_what_is_kept_is_believed_only_if_it_is_whole():
    """Nothing, less, something else."""
    state = Point(1, 2, 3, 4, 5, b"6", 7).to_state()
    assert Point(1, 2, 3, 4, 5, b"6", 7) == Point.from_state(state)
    for other in (None, b"", state[:-1], state[:4], b"\0" + state[1:], state + b"\0"):
        assert Point.from_state(other) is None
