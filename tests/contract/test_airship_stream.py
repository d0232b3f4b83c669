"""Airship's stream as it comes over the wire: chunked, slow, cut, compressed, redirected, refused."""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espial.errors import EspialError, Refused, TryAgain
from espial.stores import airship_stream
from espial.stores.airship_stream import AirshipStream
from espial.streams import OffsetGone, StreamRequest
from tests.streaming import Script, Server, Wire, streaming

REQUEST = StreamRequest(region="us", app_key="app-1", tokens=(b"token-1",))
LINES = [b'{"offset":"%d"}' % number for number in range(5)]
BODY = b"\n".join(LINES) + b"\n"


def read(server: Server, request: StreamRequest = REQUEST, seconds: float = 5.0) -> list[bytes]:
    return list(AirshipStream(server.connect).lines(request, seconds))


def whole(wire: Wire) -> None:
    wire.head().chunk(BODY).end()


def answering(status: int, **headers: str) -> Script:
    return lambda wire: wire.head(status, **headers)


def test_what_is_asked_is_what_airship_documents() -> None:
    """Token, app key, version, and where to begin: an offset or a start, never both."""
    with streaming(whole) as server:
        assert LINES == read(server)
        read(server, REQUEST._replace(offset="17", filters=({"types": ["CUSTOM"]},)))
        read(server, REQUEST._replace(start="LATEST"))
    first, second, third = server.asked
    assert "POST /api/events HTTP/1.1" == first.line
    expected = {
        "authorization": "Bearer token-1",
        "x-ua-appkey": "app-1",
        "accept": "application/vnd.urbanairship+x-ndjson; version=3;",
        "content-type": "application/json",
    }
    assert expected.items() <= first.headers.items()
    assert {"start": "EARLIEST", "enable_offset_updates": True} == first.body
    assert {"resume_offset": "17", "enable_offset_updates": True, "filters": [{"types": ["CUSTOM"]}]} == second.body
    assert {"start": "LATEST", "enable_offset_updates": True} == third.body


@settings(max_examples=25)
@given(st.lists(st.integers(0, len(BODY)), max_size=12), st.booleans())
def test_lines_come_whole_however_they_are_cut_into_chunks(cuts: list[int], packed: bool) -> None:
    """In the middle of a line, of a character, of a compressed block."""
    body = gzip.compress(BODY, mtime=0) if packed else BODY
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    parts = [body[one:two] for one, two in pairwise(edges) if two > one]
    encoding = {"Content_Encoding": "gzip"} if packed else {}
    with streaming(lambda wire: wire.head(**encoding).chunk(*parts).end()) as server:
        assert LINES == read(server)


def test_a_line_that_was_cut_off_is_left_out_and_what_came_before_it_is_not() -> None:
    """It comes again from the offset before it."""
    with streaming(lambda wire: wire.head().chunk(BODY, b'{"offset":"9')) as server:
        stream = AirshipStream(server.connect).lines(REQUEST, 5)
        assert LINES == [next(stream) for _ in LINES]
        with pytest.raises(TryAgain):
            next(stream)


def test_a_line_without_its_end_is_left_out_too() -> None:
    """Even if the answer says that it is whole."""
    with streaming(lambda wire: wire.head().chunk(BODY + b'{"offset":"9"}').end()) as server:
        assert LINES == read(server)


def test_an_answer_that_ends_with_its_connection_is_read_too() -> None:
    """Without chunks, as a proxy may hand it on."""
    with streaming(lambda wire: wire.head(connection="close").raw(BODY)) as server:
        assert LINES == read(server)


@pytest.mark.parametrize("headers", [{}, {"connection": "close"}], ids=["chunked", "until it closes"])
def test_reading_ends_when_the_time_is_up(headers: dict[str, str]) -> None:
    """However long the stream says nothing, and with all that came before."""
    chunked = not headers

    def slow(wire: Wire) -> None:
        wire.head(**headers)
        (wire.chunk if chunked else wire.raw)(BODY)
        wire.wait(3)

    with streaming(slow) as server:
        began = time.monotonic()
        assert LINES == read(server, seconds=0.5)
        assert 0.4 < time.monotonic() - began < 2


def test_keep_alives_come_as_empty_lines() -> None:
    """They say that nothing more is waiting."""
    with streaming(lambda wire: wire.head().chunk(b"\n", LINES[0] + b"\r\n", b"\n\n").end()) as server:
        assert [b"", LINES[0], b"", b""] == read(server)


def test_a_slow_stream_is_handed_on_as_it_comes() -> None:
    """Not when it has ended."""
    with streaming(lambda wire: wire.head().chunk(BODY).wait(1.5).chunk(BODY).end()) as server:
        stream = AirshipStream(server.connect).lines(REQUEST, 5)
        began = time.monotonic()
        assert LINES[0] == next(stream)
        assert time.monotonic() - began < 1
        assert 9 == len(list(stream))


def test_several_compressed_parts_one_after_the_other_are_read() -> None:
    """As a server may write them that flushes often."""
    body = b"".join(gzip.compress(line + b"\n", mtime=0) for line in LINES)
    with streaming(lambda wire: wire.head(Content_Encoding="gzip").chunk(body[:33], body[33:]).end()) as server:
        assert LINES == read(server)


def test_a_flushed_compressed_line_does_not_wait_for_the_next() -> None:
    """Each comes when it was sent."""
    packer = zlib.compressobj(wbits=31)
    part = packer.compress(BODY) + packer.flush(zlib.Z_SYNC_FLUSH)
    with streaming(lambda wire: wire.head(Content_Encoding="gzip").chunk(part).wait(3)) as server:
        stream = AirshipStream(server.connect).lines(REQUEST, 2)
        began = time.monotonic()
        assert LINES == [next(stream) for _ in LINES]
        assert time.monotonic() - began < 1
        stream.close()


def test_a_redirect_is_followed_once_with_its_cookie() -> None:
    """The same request to the same host: the cookie ties the stream to one server."""
    to = {"Set_Cookie": "route=abc; Path=/; Secure", "Location": "https://connect.urbanairship.com/api/events"}
    with streaming(answering(307, **to), whole) as server:
        assert LINES == read(server)
    assert [None, "route=abc"] == [asked.headers.get("cookie") for asked in server.asked]
    assert server.asked[0].body == server.asked[1].body


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Set_Cookie": "a=b", "Location": "https://evil.example.net/api/events"},
        {"Set_Cookie": "a=b", "Location": "//evil.example.net/api/events"},
    ],
    ids=["no cookie", "elsewhere", "elsewhere without a scheme"],
)
def test_a_redirect_leads_nowhere_else(headers: dict[str, str]) -> None:
    """The token is not for others."""
    with streaming(answering(307, **headers), whole) as server:
        with pytest.raises(Refused, match="redirect"):
            read(server)
        assert 1 == len(server.asked)


def test_a_second_redirect_is_not_followed() -> None:
    """It would go on for ever."""
    with streaming(answering(307, Set_Cookie="a=b")) as server:
        with pytest.raises(TryAgain):
            read(server)
        assert 2 == len(server.asked)


@pytest.mark.parametrize(
    ("status", "offset", "expected"),
    [
        (400, "17", OffsetGone),
        (410, "17", OffsetGone),
        (416, "17", OffsetGone),
        (400, "", Refused),
        (401, "17", Refused),
        (402, "17", Refused),
        (403, "", Refused),
        (404, "17", Refused),
        (429, "17", TryAgain),
        (500, "17", TryAgain),
        (503, "", TryAgain),
    ],
)
def test_what_an_answer_means(status: int, offset: str, expected: type[EspialError]) -> None:
    """Wait, begin anew, or have somebody look."""
    with streaming(answering(status)) as server, pytest.raises(expected, match=str(status)):
        read(server, REQUEST._replace(offset=offset))


def test_a_throttled_reader_waits_as_long_as_it_is_told() -> None:
    """`Retry-After` in seconds."""
    with streaming(answering(429, Retry_After="7")) as server, pytest.raises(TryAgain) as refused:
        read(server)
    assert 7 == refused.value.after


def test_an_older_token_opens_while_it_is_rotated() -> None:
    """Secrets are plural here too; only an answer that is about the token asks for the next one."""
    with streaming(answering(401), whole) as server:
        assert LINES == read(server, REQUEST._replace(tokens=(b"new", b"old")))
    assert ["Bearer new", "Bearer old"] == [asked.headers["authorization"] for asked in server.asked]
    with streaming(answering(402)) as server:
        with pytest.raises(Refused):
            read(server, REQUEST._replace(tokens=(b"new", b"old")))
        assert 1 == len(server.asked)


@pytest.mark.parametrize("tokens", [(), (b"two\nlines",), ("\u2603".encode() + b"\r\nx: y",)])
def test_a_token_that_cannot_be_one_is_refused_and_not_told(tokens: tuple[bytes, ...]) -> None:
    """It stands in no message."""
    with streaming(whole) as server, pytest.raises(Refused) as refused:
        read(server, REQUEST._replace(tokens=tokens))
    assert "lines" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert [] == server.asked


@pytest.mark.parametrize(
    "script",
    [
        lambda wire: None,
        lambda wire: wire.raw(b"HTTP/9.9 what\r\n\r\n"),
        lambda wire: wire.head().raw(b"zz\r\n"),
        lambda wire: wire.head(Content_Encoding="gzip").chunk(b"this is no gzip"),
    ],
    ids=["no answer", "no HTTP", "no chunk", "no gzip"],
)
def test_what_is_no_stream_is_tried_again(script: Script) -> None:
    """Whatever stands between us and Airship."""
    with streaming(script) as server, pytest.raises(TryAgain):
        read(server)


def test_nobody_there_is_tried_again() -> None:
    """A closed port."""
    with streaming(whole) as server:
        connect: Callable[..., Any] = server.connect
    with pytest.raises(TryAgain):
        list(AirshipStream(connect).lines(REQUEST, 2))


def test_a_line_without_end_is_refused_before_memory_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed or not."""
    monkeypatch.setattr(airship_stream, "LONGEST_LINE", 10_000)
    endless = b"a" * 70_000
    with streaming(lambda wire: wire.head().chunk(endless).end()) as server, pytest.raises(Refused, match="line"):
        read(server)
    packed = gzip.compress(endless * 100)
    with (
        streaming(lambda wire: wire.head(Content_Encoding="gzip").chunk(packed).end()) as server,
        pytest.raises(Refused, match="line"),
    ):
        read(server)


def test_the_hosts_are_airships_own() -> None:
    """Of the project's region, over TLS."""
    assert {"us": "connect.urbanairship.com", "eu": "connect.asnapieu.com"} == airship_stream.HOSTS
    asked = []

    def connect(host: str, seconds: float) -> Any:
        asked.append(host)
        raise AssertionError

    for region in airship_stream.HOSTS:
        with pytest.raises(AssertionError):
            list(AirshipStream(connect).lines(REQUEST._replace(region=region), 1))
    assert list(airship_stream.HOSTS.values()) == asked
    assert 443 == airship_stream._https("connect.asnapieu.com", 1).port
