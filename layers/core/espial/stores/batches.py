"""Service limits in one place: how many things, and how many bytes of them, one call takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def batches(
    items: Iterable[T], *, count: int, total: int | None = None, size: Callable[[T], int] = lambda _: 0
) -> Iterator[list[T]]:
    """Cut `items`, in order, into lists of at most `count` whose sizes add up to at most `total`.

    An item larger than `total` goes alone; whether the service takes it is the caller's business.
    """
    batch: list[T] = []
    filled = 0
    for item in items:
        weight = size(item)
        if batch and (len(batch) == count or (total is not None and filled + weight > total)):
            yield batch
            batch, filled = [], 0
        batch.append(item)
        filled += weight
    if batch:
        yield batch
