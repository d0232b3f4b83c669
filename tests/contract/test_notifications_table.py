"""NotificationsTable: the outbox, the evidence and the conditions keep the rules that their fakes keep."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from espial.events import Person
from espial.notifications.outbox import Attempt, Health, Mails, Outbox, Taken
from espial.stores.aws_http import AwsClient
from espial.stores.light_sdk import LightClient
from espial.stores.notifications_table import ConditionsTable, EvidenceTable, FirstsTable, OutboxTable
from tests.builders import NOON, an_event
from tests.notifying import FakeConditions, FakeEvidence, FakeFirsts, FakeOutbox, a_notification

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
SOON = NOON + 5 * MINUTE
LATER = NOON + 20 * MINUTE
CLOUDS = [pytest.param(name, marks=pytest.mark.cloud) for name in ("ministack", "light", "moto")]


def notifications_table(cloud: Any, name: str = "notifications") -> None:
    """A fresh table with its index, as the template declares it."""
    cloud.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": key, "AttributeType": kind}
            for key, kind in (("pk", "S"), ("sk", "S"), ("waits", "S"), ("due", "N"))
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "due",
                "KeySchema": [
                    {"AttributeName": "waits", "KeyType": "HASH"},
                    {"AttributeName": "due", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    )


def client_of(name: str, request: pytest.FixtureRequest) -> Any:
    cloud = request.getfixturevalue("moto_process" if name == "moto" else "cloud_process")
    cloud.reset()
    notifications_table(cloud)
    return light_client(cloud, request) if name == "light" else cloud.client("dynamodb")


def light_client(cloud: Any, request: pytest.FixtureRequest) -> LightClient:
    http = AwsClient("dynamodb", "eu-west-1", cloud.url)
    request.addfinalizer(http.close)
    return LightClient(http, lambda: cloud.client("dynamodb"))


@pytest.fixture(params=["fake", *CLOUDS[:2]])  # moto's PartiQL inserts nothing that has parameters
def outbox(request) -> Outbox:
    if request.param == "fake":
        return FakeOutbox()
    return OutboxTable(client_of(request.param, request), "notifications")


@pytest.fixture(params=["fake", CLOUDS[1]])
def two(request) -> list[Outbox]:
    """One outbox as two programs see it."""
    if request.param == "fake":
        return [FakeOutbox()] * 2
    first = client_of("light", request)
    second = light_client(request.getfixturevalue("cloud_process"), request)
    return [OutboxTable(client, "notifications") for client in (first, second)]


@pytest.fixture(params=["fake", *CLOUDS])
def evidence(request):
    return (
        FakeEvidence() if request.param == "fake" else EvidenceTable(client_of(request.param, request), "notifications")
    )


@pytest.fixture(params=["fake", *CLOUDS])
def conditions(request):
    if request.param == "fake":
        return FakeConditions()
    return ConditionsTable(client_of(request.param, request), "notifications")


def some(count: int, **fields: Any) -> list[Any]:
    """Put a second apart, the oldest first."""
    moments = [NOON + timedelta(seconds=number) for number in range(count)]
    return [a_notification(str(n), put_at=at, due=at, **fields) for n, at in enumerate(moments)]


def ids(taken: Taken) -> list[str]:
    return [one.id for one in taken.notifications]


def test_what_is_put_twice_waits_once(outbox):
    one = a_notification()
    outbox.put([one, one])
    outbox.put([one])
    assert outbox.waiting("crm") == 1
    taken = outbox.take("crm", 10, now=NOON, until=SOON)
    assert [msgspec.structs.replace(found, due=NOON) for found in taken.notifications] == [one]
    assert outbox.settle("crm", taken.lease, [one.id], "delivered", now=NOON) == 1
    outbox.put([one])
    assert outbox.waiting("crm") == 0


def test_by_age_or_the_newest_first(outbox):
    put = some(30)
    outbox.put(put)
    now = NOON + MINUTE
    names = [one.id for one in put]
    assert ids(outbox.look("crm", 5, now=now)) == names[:5]
    newest = outbox.take("crm", 5, now=now, until=SOON, newest_first=True)
    assert (ids(newest), newest.more) == (names[:-6:-1], True)
    oldest = outbox.take("crm", 25, now=now, until=SOON)
    assert (ids(oldest), oldest.more) == (names[:25], False)
    nothing = outbox.take("crm", 5, now=now, until=SOON)
    assert (nothing.notifications, nothing.lease, nothing.more) == ((), "", False)


def test_each_destination_and_trigger_by_itself(outbox):
    event = an_event("one")
    outbox.put([a_notification(event=event, destination=name) for name in ("crm", "crm2")])
    outbox.put([a_notification(event=event, trigger="CLICK")])
    clicks = outbox.take("crm", 10, now=NOON, until=SOON, triggers=["CLICK", "BOUNCE"])
    assert [one.trigger for one in clicks.notifications] == ["CLICK"]
    assert [one.trigger for one in outbox.look("crm", 10, now=NOON).notifications] == ["OPEN"]
    assert outbox.waiting("crm2") == 1


def test_nothing_is_taken_before_it_is_due_nor_while_somebody_has_it(outbox):
    outbox.put([a_notification(due=SOON)])
    assert ids(outbox.take("crm", 10, now=NOON, until=SOON)) == []
    first = outbox.take("crm", 10, now=SOON, until=SOON + MINUTE)
    assert len(ids(first)) == 1
    assert ids(outbox.take("crm", 10, now=SOON, until=LATER)) == ids(outbox.look("crm", 10, now=SOON)) == []
    second = outbox.take("crm", 10, now=SOON + MINUTE, until=LATER)
    assert ids(second) == ids(first)
    assert outbox.settle("crm", first.lease, ids(first), "delivered", now=LATER) == 0
    assert outbox.release("crm", first.lease, dict.fromkeys(ids(first), NOON), now=LATER) == 0
    assert not outbox.consume(first, now=SOON)  # whatever its clock says
    assert outbox.settle("crm", second.lease, ids(second), "delivered", now=SOON + MINUTE) == 1


def test_what_nobody_took_meanwhile_may_be_settled_late(outbox):
    outbox.put([a_notification()])
    taken = outbox.take("crm", 1, now=NOON, until=SOON)
    assert outbox.settle("crm", taken.lease, ids(taken), "delivered", now=LATER) == 1
    assert outbox.waiting("crm") == 0


def test_what_is_released_comes_again_when_it_is_due_with_an_attempt_more(outbox):
    outbox.put(some(3))
    taken = outbox.take("crm", 3, now=SOON, until=LATER)
    assert outbox.release("crm", taken.lease, {ids(taken)[0]: LATER, ids(taken)[1]: SOON}, now=SOON) == 2
    assert outbox.release("crm", taken.lease, {ids(taken)[0]: NOON}, now=SOON) == 1  # once more, as if never answered
    again = outbox.take("crm", 3, now=SOON, until=LATER)
    assert [(one.id, one.attempts) for one in again.notifications] == [(ids(taken)[1], 1)]
    assert outbox.settle("crm", taken.lease, ids(taken), "given_up", now=SOON) == 1
    last = outbox.take("crm", 3, now=LATER, until=LATER + MINUTE)
    assert [(one.id, one.attempts) for one in last.notifications] == [(ids(taken)[0], 1), (ids(taken)[1], 1)]


def test_a_batch_is_consumed_in_one_step(outbox):
    outbox.put(some(130))
    taken = outbox.take("crm", 120, now=SOON, until=LATER)
    assert outbox.consume(taken, now=SOON)
    assert outbox.consume(taken, now=SOON)
    assert outbox.waiting("crm") == 10
    assert outbox.settle("crm", taken.lease, ids(taken)[:1], "given_up", now=SOON) == 0
    assert outbox.release("crm", taken.lease, dict.fromkeys(ids(taken), NOON), now=SOON) == 0
    assert len(ids(outbox.look("crm", 200, now=LATER + MINUTE))) == 10
    between = {"since": NOON, "until": LATER}
    assert sorted(one.id for one in outbox.of("crm", **between, state="delivered")) == sorted(ids(taken))
    rest = outbox.take("crm", 200, now=LATER + MINUTE, until=LATER + 9 * MINUTE)
    assert len(ids(rest)) == 10
    assert not set(ids(rest)) & set(ids(taken))
    assert sorted(one.id for one in outbox.of("crm", **between, state="delivered")) == sorted(ids(taken))


def test_what_was_settled_before_its_batch_was_consumed_stays_so(outbox):
    outbox.put(some(3))
    taken = outbox.take("crm", 3, now=SOON, until=LATER)
    outbox.settle("crm", taken.lease, ids(taken)[:1], "given_up", now=SOON)
    outbox.release("crm", taken.lease, {ids(taken)[1]: SOON}, now=SOON)
    assert outbox.consume(taken, now=SOON)
    between = {"since": NOON, "until": LATER}
    assert [one.id for one in outbox.of("crm", **between, state="given_up")] == ids(taken)[:1]
    assert [one.id for one in outbox.of("crm", **between, state="delivered")] == ids(taken)[2:]
    assert ids(outbox.take("crm", 3, now=SOON, until=LATER)) == ids(taken)[1:2]


def test_a_lease_that_is_over_consumes_nothing(outbox):
    outbox.put([a_notification()])
    taken = outbox.take("crm", 1, now=NOON, until=SOON)
    assert not outbox.consume(taken, now=SOON)
    assert not outbox.consume(msgspec.structs.replace(taken, lease="0000"), now=NOON)
    assert ids(outbox.take("crm", 1, now=SOON, until=LATER)) == ids(taken)


def test_a_replay_has_them_again_whatever_became_of_them(outbox):
    outbox.put(some(5))
    taken = outbox.take("crm", 3, now=SOON, until=LATER)
    outbox.settle("crm", taken.lease, ids(taken)[:1], "delivered", now=SOON)
    outbox.settle("crm", taken.lease, ids(taken)[1:2], "given_up", now=SOON)
    outbox.release("crm", taken.lease, {ids(taken)[2]: LATER}, now=SOON)
    batch = outbox.take("crm", 2, now=SOON, until=LATER)
    assert outbox.consume(batch, now=SOON)
    every = [*ids(taken), *ids(batch)]
    assert outbox.replay("crm", [*every, "unknown"], now=SOON) == 5
    again = outbox.take("crm", 10, now=SOON, until=LATER)
    assert sorted(ids(again)) == sorted(every)
    assert {(one.replayed, one.attempts) for one in again.notifications} == {(1, 0)}
    assert outbox.replay("crm", every[:1], now=SOON) == 1  # even what somebody has
    assert [one.replayed for one in outbox.take("crm", 10, now=SOON, until=LATER).notifications] == [2]


def test_those_put_between_two_times_by_when_they_happened(outbox):
    put = [
        a_notification(event=an_event(str(n), occurred_at=NOON + n * MINUTE), put_at=NOON + (9 - n) * MINUTE)
        for n in range(10)
    ]
    outbox.put(put)
    found = outbox.of("crm", since=NOON + 2 * MINUTE, until=NOON + 5 * MINUTE)
    assert [one.id for one in found] == [one.id for one in put[4:8]]
    assert list(outbox.of("crm", since=NOON, until=LATER, state="given_up")) == []


def test_in_order_a_held_one_holds_back_its_persons_and_keeps_its_place(outbox):
    """Whoever takes them again after a crash has them in the same order, without waiting for a lease."""
    people = [Person(email=f"{number % 2}@example.com") for number in range(6)]
    put = [
        a_notification(
            str(n), event=an_event(str(n), person=whom), due=NOON + n * SECOND, put_at=NOON + (9 - n) * SECOND
        )
        for n, whom in enumerate(people)
    ]
    outbox.put(put)
    names = [one.id for one in put]
    # the first of each was put a moment ago: something older may still be reported
    assert ids(outbox.look("crm", 9, now=NOON + 12 * SECOND, in_order=True)) == []
    crashed = outbox.take("crm", 4, now=SOON, until=LATER, in_order=True)
    assert ids(crashed) == names[:4]
    taken = outbox.take("crm", 9, now=SOON, until=LATER, in_order=True)
    assert ids(taken) == names
    assert outbox.settle("crm", crashed.lease, names[:1], "delivered", now=SOON) == 0
    assert outbox.release("crm", taken.lease, {names[1]: LATER}, now=SOON, in_order=True) == 1
    behind = dict.fromkeys(names[2:], SOON)
    assert outbox.release("crm", taken.lease, behind, now=SOON, tried=False, in_order=True) == 4
    outbox.settle("crm", taken.lease, names[:1], "delivered", now=SOON)
    assert ids(outbox.look("crm", 9, now=SOON, in_order=True)) == [names[2], names[4]]
    again = outbox.take("crm", 9, now=LATER, until=LATER + MINUTE, in_order=True)
    assert [(one.id, one.attempts) for one in again.notifications] == [
        (name, int(name == names[1])) for name in names[1:]
    ]
    outbox.release("crm", again.lease, {names[1]: LATER + MINUTE}, now=LATER, in_order=True)
    assert outbox.replay("crm", [names[1]], now=LATER) == 1  # at the end, and held back no more
    assert ids(outbox.look("crm", 9, now=LATER, in_order=True)) == [*names[2:], names[1]]


def test_ten_thousand_are_one_batch(two):
    outbox = two[0]
    put = [a_notification(str(number)) for number in range(10_050)]
    outbox.put(put)
    taken = outbox.take("crm", 10_000, now=NOON, until=SOON)
    assert (len(set(ids(taken))), taken.more) == (10_000, True)
    assert outbox.consume(taken, now=NOON)
    rest = outbox.take("crm", 10_000, now=NOON, until=SOON)
    assert (len(ids(rest)), rest.more) == (50, False)
    assert {*ids(rest), *ids(taken)} == {one.id for one in put}


class Reader:
    """Takes and acknowledges, and dies now and then between the two, or before it heard whether it was taken."""

    def __init__(self, outbox: Outbox, seed: int) -> None:
        self.outbox = outbox
        self.rng = random.Random(seed)
        self.acknowledged: Counter[str] = Counter()

    def read(self, now: Any) -> bool:
        """One batch; False if there was none."""
        taken = self.outbox.take("crm", self.rng.randint(1, 300), now=now, until=now + MINUTE)
        if not taken.notifications or self.rng.random() < 0.2:
            return bool(taken.notifications)
        names = ids(taken)
        if self.rng.random() < 0.5:
            if self.outbox.consume(taken, now=now + self.rng.choice([0, 1, 2]) * MINUTE):
                self.acknowledged.update(names)
        else:
            held = names[: self.rng.randint(0, len(names))]
            assert self.outbox.settle("crm", taken.lease, held, "delivered", now=now) in range(len(held) + 1)
            self.acknowledged.update(held)
        return True


def test_two_readers_that_crash_have_each_exactly_once(two):
    put = [a_notification(str(number)) for number in range(5000)]
    two[0].put(put)
    readers = [Reader(outbox, seed) for seed, outbox in enumerate(two)]
    now, idle = NOON, 0
    with ThreadPoolExecutor(1 if two[0] is two[1] else 2) as pool:
        while idle < 4:
            got = list(pool.map(lambda reader, at=now: reader.read(at), readers))
            idle = 0 if any(got) else idle + 1
            now += timedelta(seconds=20)
    assert readers[0].acknowledged + readers[1].acknowledged == Counter(one.id for one in put)
    assert two[0].waiting("crm") == 0


@pytest.mark.parametrize("kind", ["fake", *CLOUDS[:2]])
def test_the_first_of_a_kind_stays_the_first(kind, request):
    firsts = FakeFirsts() if kind == "fake" else FirstsTable(client_of(kind, request), "notifications")
    assert firsts.first({"a": "1", "b": "1"}, now=NOON) == {"a", "b"}
    assert firsts.first({"a": "2", "b": "1", "c": "2"}, now=LATER) == {"b", "c"}
    assert firsts.first({}, now=NOON) == set()


def an_attempt(number: int, **fields: Any) -> Attempt:
    at = NOON + number * MINUTE
    given: dict[str, Any] = {"id": f"a{number}", "destination": "crm", "notifications": (f"n{number}",), "at": at}
    return Attempt(**given | {"milliseconds": 12, "outcome": "failed", "status": 503} | fields)


def test_attempts_are_kept_and_found_the_newest_first(evidence):
    kept = [an_attempt(number) for number in range(40)]
    evidence.keep(kept)
    evidence.keep([kept[3], an_attempt(50, destination="other")])
    assert list(evidence.of("crm")) == kept[::-1]
    assert list(evidence.of("crm", since=NOON + 38 * MINUTE)) == [kept[39], kept[38]]
    assert list(evidence.of("crm", notification="n7")) == [kept[7]]
    assert list(evidence.of("crm", notification="n")) == []


def test_a_condition_changes_only_from_what_it_is(conditions):
    well = conditions.health("crm")
    assert well == Health(destination="crm")
    failing = msgspec.structs.replace(well, failures=1, failing_since=NOON)
    off = msgspec.structs.replace(well, state="off", why="410")
    assert conditions.change(well, failing)
    assert conditions.change(well, failing)  # as if never answered
    assert not conditions.change(well, off)
    assert conditions.change(failing, off)
    assert conditions.health("crm") == off
    assert conditions.change(off, well)
    assert conditions.change(well, off)
    assert conditions.health("other") == Health(destination="other")


def test_mails_are_counted_only_from_what_they_are(conditions):
    none = conditions.mails("ops")
    one = Mails(destination="ops", day="2026-11-20", count=1)
    assert none == Mails(destination="ops")
    assert conditions.count(none, one)
    assert conditions.count(none, one)  # as if never answered
    assert not conditions.count(none, Mails(destination="ops", day="2026-11-20", count=2))
    assert conditions.mails("ops") == one
    assert conditions.mails("ops").on("2026-11-21") == Mails(destination="ops", day="2026-11-21")
    assert conditions.count(one, none)
    assert conditions.health("ops") == Health(destination="ops")


def test_one_works_for_a_destination_at_a_time(conditions):
    holder = conditions.enter("crm", now=NOON, until=SOON)
    assert holder
    assert not conditions.enter("crm", now=NOON, until=SOON)
    assert conditions.enter("other", now=NOON, until=SOON)
    second = conditions.enter("crm", now=SOON, until=LATER)
    assert second
    conditions.leave("crm", holder)
    assert not conditions.enter("crm", now=SOON, until=LATER)
    conditions.leave("crm", second)
    assert conditions.enter("crm", now=SOON, until=LATER)
