"""How a delivery travels on RawQueue: the body compressed, everything else in message attributes (DESIGN 6).

A message is `body` (base64 of the zlib-compressed bytes) with the attributes `delivery` (JSON of every other field)
and `encoding` (`zlib`). A delivery over the queue's limit lies in the store instead: `encoding` is `s3`,
`pointer` its key, and the body a placeholder, since the queue takes no empty one.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from isal import isal_zlib
from isal.igzip_lib import IsalError

from espial.deliveries import SECRET_PARAMETERS, RawDelivery
from espial.errors import MalformedDelivery

LIMIT = 1_048_576
"""Bytes of an SQS message: body and attributes with their names and types (SQS quotas, 1 MiB since 2025)."""

DROPPED_HEADERS = frozenset(
    {"authorization", "cookie", "proxy-authorization", "x-amz-firehose-access-key", "x-api-key"}
)
"""They carry secrets, which never reach the archive."""

_SECRET = re.compile(rf"([?&](?:{'|'.join(sorted(SECRET_PARAMETERS))})=)[^&#]*")
ATTRIBUTE_TYPE = "String"
ELSEWHERE = "s3"


class Packed(NamedTuple):
    """A message: its body and its attributes, all of type String and all ASCII."""

    body: str
    attributes: dict[str, str]

    @property
    def size(self) -> int:
        """Bytes that count against `LIMIT`."""
        named = sum(len(name) + len(ATTRIBUTE_TYPE) + len(value) for name, value in self.attributes.items())
        return len(self.body) + named


def pack(delivery: RawDelivery) -> Packed:
    """The message of a delivery, which may turn out too big for the queue: see `Packed.size` and `point_to`."""
    body = b64encode(isal_zlib.compress(delivery.body, 1)).decode()
    return Packed(body, {"delivery": _facts(delivery), "encoding": "zlib"})


def point_to(packed: Packed, pointer: str) -> tuple[Packed, bytes]:
    """The same message without its body, and what has to lie at `pointer` before it is sent."""
    attributes = {"delivery": packed.attributes["delivery"], "encoding": "s3", "pointer": pointer}
    return Packed(ELSEWHERE, attributes), b64decode(packed.body)


def unpack(body: str, attributes: Mapping[str, str], fetch: Callable[[str], bytes]) -> RawDelivery:
    """The delivery as it was packed, without the headers dropped; `fetch` reads a pointer.

    Raises MalformedDelivery if it is no message of ours, and whatever `fetch` raises.
    """
    try:
        pointer = attributes["pointer"] if attributes["encoding"] == "s3" else None
        facts = json.loads(attributes["delivery"])
        packed = b64decode(body, validate=True) if pointer is None else fetch(pointer)
        facts["received_at"] = datetime.fromisoformat(facts["received_at"])
        return RawDelivery(body=isal_zlib.decompress(packed), **facts)
    except (KeyError, TypeError, ValueError, binascii.Error, IsalError) as exc:  # type: ignore[misc]  # its stub calls the class an instance
        raise MalformedDelivery("unreadable_message", f"not a packed delivery: {type(exc).__name__}") from exc


def _without_secret(url: str) -> str:
    """Some platforms can show the connection's secret nowhere else."""
    return _SECRET.sub(r"\1", url) if "?" in url else url


def _facts(delivery: RawDelivery) -> str:
    headers = {name: value for name, value in delivery.headers.items() if name not in DROPPED_HEADERS}
    return json.dumps(
        {
            "delivery_id": delivery.delivery_id,
            "platform": delivery.platform,
            "connection": delivery.connection,
            "transport": delivery.transport,
            "received_at": delivery.received_at.isoformat(),
            "headers": headers,
            "method": delivery.method,
            "url": _without_secret(delivery.url),
            "mode": delivery.mode,
        },
        separators=(",", ":"),
    )
