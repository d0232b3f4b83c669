"""Inflating what others compressed, without letting a small body become a huge one."""

from __future__ import annotations

from isal import isal_zlib
from isal.igzip_lib import IsalError

from espial.errors import MalformedDelivery, TooLarge

MAX_RATIO = 200
"""JSON of events compresses 5 to 30 times; bombs reach 1,000."""
RATIO_COUNTS_FROM = 1_048_576
"""Below this much output the ratio means nothing: a short body of blanks is harmless."""

MAX_MEMBERS = 100
"""Of a gzip body. Each costs a copy of all that follows it, so thousands of empty ones would cost minutes."""

_GZIP_OR_ZLIB = 47


def inflate(body: bytes, limit: int) -> bytes:
    """The plain bytes of a gzip (one member or several) or zlib body, at most `limit` of them.

    Raises TooLarge over the limit or past `MAX_RATIO`, before it is all in memory; MalformedDelivery if the body is
    damaged, cut short or in more than `MAX_MEMBERS` pieces.
    """
    # Counting one byte more than allowed shows that there is one.
    allowed = min(limit, max(RATIO_COUNTS_FROM, MAX_RATIO * len(body)))
    plain = bytearray()
    rest = body
    members = 0
    try:
        while rest:
            members += 1
            if members > MAX_MEMBERS:
                raise MalformedDelivery("damaged_compression", f"more than {MAX_MEMBERS} gzip members")
            stream = isal_zlib.decompressobj(wbits=_GZIP_OR_ZLIB)
            plain += stream.decompress(rest, allowed + 1 - len(plain))
            if len(plain) > allowed:
                raise TooLarge(f"body inflates to more than {allowed} bytes")
            if not stream.eof:
                raise MalformedDelivery("damaged_compression", "the compressed body ends early")
            rest = stream.unused_data
    except IsalError as exc:  # type: ignore[misc]  # its stub calls the class an instance
        raise MalformedDelivery("damaged_compression", "not gzip or zlib") from exc
    return bytes(plain)
