"""OnboardingQueue on SQS."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from espial.errors import TryAgain
from espial.onboarding.state import Work


class SqsOnboardingQueue:
    """The queue behind `onboarding.state.OnboardingQueue`."""

    def __init__(self, sqs: Any, queue_url: str) -> None:
        self._sqs = sqs
        self._queue_url = queue_url

    def put(self, work: Work, delay_seconds: int = 0) -> None:
        """See `OnboardingQueue.put`."""
        try:
            self._sqs.send_message(QueueUrl=self._queue_url, MessageBody=work.to_json(), DelaySeconds=delay_seconds)
        except (ClientError, BotoCoreError) as exc:
            raise TryAgain(f"OnboardingQueue cannot be reached: {type(exc).__name__}") from exc
