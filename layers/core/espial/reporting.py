"""What functions behind the queues tell of a batch: metrics of few dimensions, failures without anybody's data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from aws_lambda_powertools import single_metric
from aws_lambda_powertools.metrics import MetricUnit

from espial.errors import TryAgain
from espial.logs import logger, metrics, where
from espial.services.recorder import Tally
from espial.vocabulary import OWN as PLATFORM

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from espial.events import Event
    from espial.services.deliver_feed import Outcome
    from espial.services.write_feed import Written


def count_outcomes(tally: Tally) -> None:
    """Metrics `events.new`, `events.duplicate`, `events.conflict`, `events.quarantined`, `events.retried`.

    By platform, and by event type or, where there is none, by reason. `items.quarantined` is the function's total,
    which an alarm watches.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    for outcome, count in tally.counts.items():
        counts[outcome.verdict, outcome.platform, outcome.what] += count
    for (verdict, platform, what), count in counts.items():
        name = f"events.{verdict}"
        with single_metric(name=name, unit=MetricUnit.Count, value=count, namespace="Espial") as metric:
            metric.add_dimension("platform", platform)
            metric.add_dimension("reason" if verdict in ("quarantined", "retried") else "type", what)
    metrics.add_metric("items.quarantined", MetricUnit.Count, tally.totals().get("quarantined", 0))


def count_runs(tally: Mapping[tuple[str, str], int]) -> None:
    """Metrics `run.<outcome>` by trigger, of (trigger, outcome) -> runs."""
    for (trigger, outcome), count in tally.items():
        with single_metric(name=f"run.{outcome}", unit=MetricUnit.Count, value=count, namespace="Espial") as metric:
            metric.add_dimension("trigger", trigger)


def count_handled(handled: Sequence[Event], now: datetime) -> None:
    """Metrics `events.handled`, and `event.lag`: seconds from an event's receipt until it is acted on.

    That is the worst of each source, and the function's own the worst of all, which an alarm watches. Our own events
    are received by nobody.
    """
    metrics.add_metric("events.handled", MetricUnit.Count, len(handled))
    worst: dict[str, float] = {}
    for event in handled:
        if event.platform != PLATFORM:
            source = f"{event.platform}/{event.connection}"
            worst[source] = max(worst.get(source, 0.0), (now - event.received_at).total_seconds())
    for source, lag in worst.items():
        with single_metric(name="event.lag", unit=MetricUnit.Seconds, value=lag, namespace="Espial") as metric:
            metric.add_dimension("source", source)
    if worst:
        metrics.add_metric("event.lag", MetricUnit.Seconds, max(worst.values()))


def count_written(written: Written) -> None:
    """Metrics `feed.<outcome>` by feed, of one run of a feed's writer, and a line for each file."""
    batch = written.batch
    if batch is None:
        return
    counts: Counter[str] = Counter()
    for outcome, count in batch.counts.items():
        counts[outcome.partition(":")[0]] += count
    for outcome, count in counts.items():
        with single_metric(name=f"feed.{outcome}", unit=MetricUnit.Count, value=count, namespace="Espial") as metric:
            metric.add_dimension("feed", batch.feed)
    logger.info("feed.committed", extra={"feed": batch.feed, "batch": batch.number, "counts": batch.counts})
    for file in batch.files:
        logger.info("feed.file", extra={"feed": batch.feed, "file": file.name, "rows": file.rows, "bytes": file.size})


def count_delivered(outcomes: Sequence[Outcome], now: datetime) -> None:
    """Metric `feed.undelivered`: seconds since the oldest batch was closed that a sink still lacks a file of.

    By feed and sink; the function's own is the worst of them, which an alarm watches.
    """
    worst = 0.0
    for outcome in outcomes:
        age = (now - outcome.oldest).total_seconds() if outcome.oldest else 0.0
        worst = max(worst, age)
        with single_metric(name="feed.undelivered", unit=MetricUnit.Seconds, value=age, namespace="Espial") as metric:
            metric.add_dimension("feed", outcome.feed)
            metric.add_dimension("sink", outcome.sink)
    metrics.add_metric("feed.undelivered", MetricUnit.Seconds, worst)


def log_failures(message: str, failures: Mapping[str, Exception]) -> None:
    """One line each: a warning for what time mends, an error for what somebody has to."""
    for name, error in failures.items():
        if isinstance(error, TryAgain):
            logger.warning(message, extra={"id": name, "detail": str(error)})
        else:
            logger.error(message, extra={"id": name, "detail": where(error)})
