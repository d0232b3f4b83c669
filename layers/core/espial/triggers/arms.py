"""Which variant a person gets, or that they are held out: by hash, so that nobody has to remember it.

The same person and salt give the same arm, in every run, version and process. Who is held out is drawn apart from who
gets which variant, so that changing the one share moves nobody in the other.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from espial.triggers.definition import Trigger

HELD_OUT = "held_out"
"""The arm of those who get nothing, so that there is something to compare with."""


def assign(trigger: Trigger, person: str) -> str:
    """The name of the person's variant, HELD_OUT, or nothing where there are no arms."""
    salt = trigger.salt or trigger.name
    if trigger.holdout and 100 * drawn(salt, HELD_OUT, person) < trigger.holdout:
        return HELD_OUT
    place = drawn(salt, "variant", person) * sum(variant.weight for variant in trigger.variants)
    for variant in trigger.variants:
        place -= variant.weight
        if place < 0:
            return variant.name
    return ""


def drawn(salt: str, what: str, person: str) -> float:
    """A number from 0 up to 1, evenly spread over people and without relation between salts."""
    digest = blake2b(f"{salt}\x1f{what}\x1f{person}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
