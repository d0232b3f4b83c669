"""Recipients that come by a call instead of a file: kept as a file, and from there on like any other (A1)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from espial.errors import MalformedDelivery, Refused, TooLarge
from espial.onboarding.definition import OnboardingDefinition
from espial.onboarding.state import Drops
from espial.sources._shared import json_lines

MAX_BYTES = 6_000_000
"""What the gateway lets in."""


class Accepted(NamedTuple):
    """`id` names the call, `key` the file that its recipients are in, `recipients` how many they are."""

    id: str
    key: str
    recipients: int


def accept(
    body: bytes,
    name: str,
    *,
    definition: Callable[[str], OnboardingDefinition | None],
    drops: Drops,
    now: datetime,
) -> Accepted:
    """Keep the recipients durably under `onboarding/<name>/api/<id>.ndjson`, where they are picked up: to answer 202.

    `body`: a JSON array of objects, `{"recipients": [...]}`, one object, or an object a line; fields are named like
    the columns of a file. The same recipients on the same day have the same id, so that a repeated call is one file.
    Raises Refused (`unknown_onboarding`, `disabled`), TooLarge, MalformedDelivery (`not_json`, `not_recipients`) and
    TryAgain.
    """
    of = definition(name)
    if of is None or not of.enabled:
        raise Refused("disabled" if of else "unknown_onboarding", name)
    if len(body) > MAX_BYTES:
        raise TooLarge(f"over {MAX_BYTES:,} bytes: drop a file under {of.prefix} instead")
    recipients = _recipients(body)
    lines = b"".join(orjson.dumps(one) + b"\n" for one in recipients)
    name_of_call = f"{now:%Y-%m-%d}-{blake2b(lines, digest_size=12).hexdigest()}"
    key = f"{of.prefix}api/{name_of_call}.ndjson"
    drops.put(key, lines)
    return Accepted(name_of_call, key, len(recipients))


def _recipients(body: bytes) -> list[dict[str, Any]]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = json_lines(body)
    if isinstance(found, dict):
        found = found.get("recipients", [found])
    if not isinstance(found, list) or not found:
        raise MalformedDelivery("not_recipients", "neither a list of recipients nor one of them")
    for number, one in enumerate(found):
        if not isinstance(one, dict):
            raise MalformedDelivery("not_recipients", f"recipient {number} is not an object", f"[{number}]")
    return found
