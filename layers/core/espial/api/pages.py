"""Long lists, page by page: an opaque cursor says where the next one begins."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Annotated, Generic, TypeVar

from aws_lambda_powertools.event_handler.openapi.params import Query
from pydantic import BaseModel, Field

from espial.gateway import Refusal

T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=100, description="At most this many.")]
Cursor = Annotated[str, Query(max_length=4000, description="`next` of the page before; left out for the first.")]


class Page(BaseModel, Generic[T]):
    """Part of a list. `next` is the cursor of the next page, null on the last."""

    items: list[T]
    next: str | None = Field(default=None)


def cursor_of(place: str) -> str:
    """A cursor that names a place."""
    return urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def place_of(cursor: str) -> str:
    """The place that a cursor names; empty for none. Raises Refusal (400)."""
    if not cursor:
        return ""
    try:
        place = json.loads(urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):
        place = None
    if not isinstance(place, str) or not place or cursor_of(place) != cursor:
        raise Refusal(400, "bad_cursor", "cursor: not one of ours")
    return place


def after(found: Iterable[T], place: str, name: Callable[[T], str]) -> Iterator[T]:
    """What follows the item of that name. Raises Refusal (400) when it is not there any more."""
    left = iter(found)
    if place and not any(name(one) == place for one in left):
        raise Refusal(400, "bad_cursor", "cursor: what it names is no longer there; begin anew")
    return left


def page(left: Iterator[T], limit: int, name: Callable[[T], str]) -> tuple[list[T], str | None]:
    """The first `limit` of what is left, and the cursor of what follows them."""
    some = list(islice(left, limit + 1))
    return some[:limit], cursor_of(name(some[limit - 1])) if len(some) > limit else None
