"""Inflating what strangers compressed."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.compression import inflate
from espial.errors import MalformedDelivery, TooLarge

pytestmark = pytest.mark.disable_socket
ROOMY = 1_000_000


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=3))
def test_gzip_of_one_or_several_members_comes_back(parts):
    """Members are concatenated, as RFC 1952 says."""
    assert b"".join(parts) == inflate(b"".join(map(gzip.compress, parts)), ROOMY)


@given(st.binary(max_size=2000))
def test_zlib_comes_back(plain):
    """What HTTP calls deflate."""
    assert plain == inflate(zlib.compress(plain), ROOMY)


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_the_limit_is_exact(size, limit):
    """As many bytes as allowed, and not one more."""
    packed = gzip.compress(b"x" * size)
    if size <= limit:
        assert size == len(inflate(packed, limit))
    else:
        with pytest.raises(TooLarge):
            inflate(packed, limit)


@given(st.binary(min_size=1, max_size=200))
def test_anything_else_is_malformed(body):
    """Hostile bytes raise nothing but what is documented."""
    try:
        inflate(body, ROOMY)
    except (MalformedDelivery, TooLarge):
        return
    assert body[:2] == b"\x1f\x8b" or body[0] & 15 == 8


@given(st.binary(min_size=1, max_size=500), st.data())
def test_a_body_cut_short_is_malformed(plain, data):
    """Half a body is never taken for a whole one."""
    packed = gzip.compress(plain)
    with pytest.raises(MalformedDelivery):
        inflate(packed[: data.draw(st.integers(1, len(packed) - 1))], ROOMY)


def test_thousands_of_empty_members_are_refused():
    """Each costs a copy of all that follows it: 6 MB of them would keep a function busy for minutes."""
    with pytest.raises(MalformedDelivery, match="more than 100 gzip members"):
        inflate(gzip.compress(b"") * 101, ROOMY)
    assert b"x" * 100 == inflate(gzip.compress(b"x") * 100, ROOMY)


def test_a_bomb_is_refused_before_it_is_in_memory():
    """100 MB from 100 KB: refused for its ratio under a generous limit, with a fraction of it held."""
    bomb = gzip.compress(b"\0" * 100_000_000, 9)
    tracemalloc.start()
    with pytest.raises(TooLarge):
        inflate(bomb, 200_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 70_000_000 > peak
