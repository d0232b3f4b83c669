"""Timers on the local cloud: short waits through SQS, long ones through EventBridge Scheduler."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from espial.errors import TryAgain
from espial.stores.timers import SqsAndSchedulerTimers
from tests.builders import NOON

ROLE = "arn:aws:iam::000000000000:role/schedules"
DEAD = "arn:aws:sqs:eu-west-1:000000000000:send-dead"
MESSAGE = {"person": "id:P-1001", "trigger": "cart", "key": "77", "version": "v", "due_at": NOON.isoformat()}


class Waits:
    """The queue, the group and the timers over them."""

    def __init__(self, cloud: Any, short: int = 60) -> None:
        self.sqs, self.scheduler = cloud.client("sqs"), cloud.client("scheduler")
        self.url = self.sqs.create_queue(QueueName="send")["QueueUrl"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])
        self.scheduler.create_schedule_group(Name="waits")
        self.arn = attributes["Attributes"]["QueueArn"]
        self.timers = SqsAndSchedulerTimers(
            lambda: self.sqs,
            lambda: self.scheduler,
            queue_url=self.url,
            queue_arn=self.arn,
            group="waits",
            role_arn=ROLE,
            dead_letter_arn=DEAD,
            short_wait_seconds=short,
        )

    def received(self, wait: int = 0) -> list[dict[str, Any]]:
        answer = self.sqs.receive_message(QueueUrl=self.url, WaitTimeSeconds=wait, MaxNumberOfMessages=10)
        return [json.loads(message["Body"]) for message in answer.get("Messages", ())]

    def schedules(self) -> list[dict[str, Any]]:
        found = self.scheduler.list_schedules(GroupName="waits")["Schedules"]
        return [self.scheduler.get_schedule(GroupName="waits", Name=one["Name"]) for one in found]


@pytest.fixture
def waits(cloud) -> Waits:
    return Waits(cloud)


@pytest.mark.cloud
def test_what_is_due_is_on_the_queue_at_once(waits):
    """A trigger without a wait, or a timer set too late."""
    for due in (NOON, NOON - timedelta(days=1)):
        waits.timers.at(due, MESSAGE, "k", now=NOON)
        assert [MESSAGE] == waits.received(2)
    assert [] == waits.schedules()


@pytest.mark.cloud
def test_a_short_wait_comes_back_through_the_queue_and_not_early(waits):
    """To the second, rounded up."""
    started = time.monotonic()
    waits.timers.at(NOON + timedelta(seconds=1.2), MESSAGE, "k", now=NOON)
    assert [] == waits.received()
    assert [MESSAGE] == waits.received(5)
    assert time.monotonic() - started >= 1.2
    assert [] == waits.schedules()


@pytest.mark.cloud
def test_a_long_wait_is_one_schedule_however_often_it_is_asked_for(waits):
    """The same key and time is the same timer; another time or key is another."""
    due = NOON + timedelta(days=182, microseconds=1)
    for _ in range(3):
        waits.timers.at(due, MESSAGE, "k", now=NOON)
    [schedule] = waits.schedules()
    assert f"at({(due + timedelta(seconds=1)).strftime('%Y-%m-%dT%H:%M:%S')})" == schedule["ScheduleExpression"]
    assert ("OFF", "DELETE", MESSAGE, waits.arn, ROLE) == (
        schedule["FlexibleTimeWindow"]["Mode"],
        schedule["ActionAfterCompletion"],
        json.loads(schedule["Target"]["Input"]),
        schedule["Target"]["Arn"],
        schedule["Target"]["RoleArn"],
    )
    waits.timers.at(due, MESSAGE, "other", now=NOON)
    waits.timers.at(due + timedelta(hours=1), MESSAGE, "k", now=NOON)
    assert 3 == len(waits.schedules())


@pytest.mark.cloud
def test_a_schedule_fires_onto_the_send_queue(cloud):
    """The whole way, in real time."""
    waits = Waits(cloud, short=0)
    now = datetime.now(UTC)
    waits.timers.at(now + timedelta(seconds=2), MESSAGE, "k", now=now)
    deadline = time.monotonic() + 90
    found: list[dict[str, Any]] = []
    while not found and time.monotonic() < deadline:
        found = waits.received(5)
    assert [MESSAGE] == found


@pytest.mark.parametrize(
    ("code", "expected"), [("ThrottlingException", TryAgain), ("AccessDeniedException", ClientError)]
)
def test_only_what_time_mends_is_tried_again(code, expected):
    """A throttle is TryAgain; a missing permission is somebody's work."""

    class Away:
        def create_schedule(self, **_: Any) -> None:
            raise ClientError({"Error": {"Code": code}}, "CreateSchedule")

    timers = SqsAndSchedulerTimers(
        Away, Away, queue_url="u", queue_arn="a", group="g", role_arn=ROLE, dead_letter_arn=DEAD, short_wait_seconds=1
    )
    with pytest.raises(expected):
        timers.at(NOON + timedelta(hours=1), MESSAGE, "k", now=NOON)
