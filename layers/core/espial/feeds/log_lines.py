"""Lines of PureResponse's event log: pairs `"key:value"` joined by commas (B.c.5).

    "type:OPEN","event date:1700519196","email:ann.lee@example.com","message name:An ""offer"", late"

Quotes in a value are doubled, line ends in it become a blank, and a pair is split at its first colon.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

Pairs = list[tuple[str, str]]

_ENDS = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_PAIR = r'"([^":]+):((?:[^"]|"")*)"'
_WELL_FORMED = re.compile(rf"{_PAIR}(?:,{_PAIR})*")
_NEXT = re.compile(r'"\s*,\s*"?(?=[^":,]+:)|,\s*"(?=[^":,]+:)')


def written(pairs: Iterable[tuple[str, str]]) -> str:
    """The line, without an end."""
    return ",".join(f'"{key}:{_ENDS.sub(" ", value).replace(chr(34), chr(34) * 2)}"' for key, value in pairs)


def read(line: str) -> Pairs:
    """The pairs of a line, also of one with the slips of the published samples.

    These are a quote that is missing at either end of a pair, a doubled one for an empty value, and blanks after
    commas. What has no colon is left out.
    """
    line = line.strip()
    if _WELL_FORMED.fullmatch(line):
        return [(key, value.replace('""', '"')) for key, value in re.findall(_PAIR, line)]
    found: Pairs = []
    for part in _NEXT.split(line.removeprefix('"').removesuffix('"')):
        key, colon, value = part.partition(":")
        if colon:
            found.append((key.strip(), value.replace('""', '"') if value.strip('"') else ""))
    return found
