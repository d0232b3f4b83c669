"""Timers: short waits in SQS, long ones as one-off schedules, both ending on the SendQueue.

EventBridge Scheduler fires within the minute after the stated second; SQS delays up to 15 minutes are exact to the
second, so short waits go there (https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html,
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-timers.html).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from espial.errors import TryAgain

LONGEST_DELAY = 900
_PERMANENT = frozenset({"ValidationException", "AccessDeniedException", "ResourceNotFoundException", "AccessDenied"})


class SqsAndSchedulerTimers:
    """Implements `ports.Timers`.

    `sqs` and `scheduler` make their clients on first use. AWS permissions: sqs:SendMessage on the SendQueue,
    scheduler:CreateSchedule in the group, and iam:PassRole on the role that lets schedules write to the queue.
    """

    def __init__(
        self,
        sqs: Callable[[], Any],
        scheduler: Callable[[], Any],
        *,
        queue_url: str,
        queue_arn: str,
        group: str,
        role_arn: str,
        dead_letter_arn: str,
        short_wait_seconds: int,
    ) -> None:
        self._sqs = sqs
        self._scheduler = scheduler
        self._queue_url = queue_url
        self._queue_arn = queue_arn
        self._group = group
        self._role_arn = role_arn
        self._dead_letter_arn = dead_letter_arn
        self._short = min(short_wait_seconds, LONGEST_DELAY)

    def at(self, due_at: datetime, message: Mapping[str, Any], key: str, *, now: datetime) -> None:
        """See `ports.Timers.at`. Never early: fractions of a second are rounded up."""
        body = json.dumps(message, separators=(",", ":"))
        wait = max(0, math.ceil((due_at - now).total_seconds()))
        try:
            if wait <= self._short:
                self._sqs().send_message(QueueUrl=self._queue_url, MessageBody=body, DelaySeconds=wait)
            else:
                self._schedule(due_at, body, key)
        except ClientError as exc:
            code = exc.response["Error"]["Code"]
            if code in _PERMANENT:
                raise
            raise TryAgain(f"a timer cannot be set: {code}") from exc
        except BotoCoreError as exc:
            raise TryAgain(f"a timer cannot be set: {type(exc).__name__}") from exc

    def _schedule(self, due_at: datetime, body: str, key: str) -> None:
        second = (due_at.astimezone(UTC) + timedelta(microseconds=999_999)).replace(microsecond=0, tzinfo=None)
        name = blake2b(f"{key}\x1f{second.isoformat()}".encode(), digest_size=24).hexdigest()
        try:
            self._scheduler().create_schedule(
                Name=name,
                GroupName=self._group,
                ScheduleExpression=f"at({second.isoformat()})",
                ScheduleExpressionTimezone="UTC",
                FlexibleTimeWindow={"Mode": "OFF"},
                ActionAfterCompletion="DELETE",
                Target={
                    "Arn": self._queue_arn,
                    "RoleArn": self._role_arn,
                    "Input": body,
                    "DeadLetterConfig": {"Arn": self._dead_letter_arn},
                },
            )
        except ClientError as exc:
            if exc.response["Error"]["Code"] != "ConflictException":  # there already: the same timer
                raise
