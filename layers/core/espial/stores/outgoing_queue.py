"""OutgoingQueue on SQS: the names of destinations for which something waits in the outbox."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from math import ceil
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from espial.errors import TryAgain

log = logging.getLogger(__name__)


class SqsOutgoingQueue:
    """Sends names. One that is lost costs a minute: all are sent again by the clock."""

    def __init__(self, sqs: Any, queue_url: str) -> None:
        self._sqs = sqs
        self._queue_url = queue_url

    def poke(self, destinations: Iterable[str], after: float = 0.0) -> None:
        """Have somebody look at what waits for each, after so many seconds."""
        for name in destinations:
            try:
                self._sqs.send_message(QueueUrl=self._queue_url, MessageBody=name, DelaySeconds=ceil(after))
            except (ClientError, BotoCoreError, TryAgain) as exc:
                log.warning("outgoing.unavailable: %s", type(exc).__name__)
