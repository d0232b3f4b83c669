"""What was written for CDPs, and how far each sink of a feed is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from espial.errors import Refused
from espial.feeds.definition import FeedDefinition, LayoutDefinition, Sink
from espial.feeds.files import Batch, FeedBook, Standing
from espial.feeds.parcels import DATA, steps_from
from espial.feeds.published import Feeds


class Known(FeedBook, Protocol):
    """The book, asked for where a feed stands."""

    def standing(self, feed: str) -> Standing | None: ...


class FeedStatus(NamedTuple):
    """The feeds that were applied last, and the book of their batches."""

    feeds: Feeds
    book: Known

    def definition(self, name: str, sink: str | None = None) -> tuple[FeedDefinition, Mapping[str, LayoutDefinition]]:
        """A feed with its layouts. Raises Refused (`unknown_feed`, `unknown_sink`)."""
        for feed, used in self.feeds.feeds():
            if feed.name == name:
                if sink and sink not in (known := [one.name for one in feed.sinks]):
                    raise Refused("unknown_sink", f"feed {name} has no sink {sink} (its sinks: {', '.join(known)})")
                return feed, used
        raise Refused("unknown_feed", f"no feed named {name} was applied")

    def facts(self, feed: FeedDefinition) -> dict[str, Any]:
        """What is known of a feed, as JSON has it."""
        standing = self.book.standing(feed.name)
        number = standing.number if standing else 0
        last = next(iter(self.book.batches(feed.name, after=number - 1)), None) if number else None
        files = [file for file in last.files if file.kind == DATA] if last else []
        return {
            "feed": feed.name,
            "batch": number,
            "closed_at": last.closed_at.isoformat() if last else None,
            "files": len(files),
            "rows": sum(file.rows for file in files),
            "newly_waiting": last.counts.get("waiting", 0) if last else 0,
            "sinks": [self._sink(feed.name, sink) for sink in feed.sinks],
        }

    def batch(self, feed: str, number: int) -> Batch:
        """Raises Refused (`unknown_batch`)."""
        found = next(iter(self.book.batches(feed, after=number - 1)), None)
        if found is None or found.number != number:
            raise Refused("unknown_batch", f"feed {feed} has no batch {number}, or it is no longer known")
        return found

    def _sink(self, feed: str, sink: Sink) -> dict[str, Any]:
        at = self.book.delivered(feed, sink.name)
        by_day = sink.collect == "day"
        steps = steps_from(at, self.book, lambda file: file.kind == DATA or sink.kind == "bucket", by_day=by_day)
        ready = [step.ready for step in steps if step.parcel]
        due = sink.schedule.first(ready[0]) if sink.schedule and ready else None
        return {
            "sink": at.sink,
            "kind": sink.kind,
            "batch": at.batch,
            "lacks": len(ready),
            "due": due and due.isoformat(),
            "failures": at.failures,
            "reason": at.reason or None,
            "failed_at": at.failed_at and at.failed_at.isoformat(),
            "again_at": at.again_at and at.again_at.isoformat(),
        }
