"""The key of a message that we handed over, where a platform repeats it in some of the message's reports only."""

from __future__ import annotations

from typing import Any

from espial.messages import OWN_KEY, is_ours
from espial.sources import EventFields


def note_own_key(fields: EventFields, *said: Any) -> None:
    """Keep the first of what is said that is a key of ours. It is evidence; what ties reports together stays."""
    found = next(filter(is_ours, said), None)
    if found:
        fields["properties"][OWN_KEY] = found
