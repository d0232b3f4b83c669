"""People, runs and decisions on the local cloud's table, and the one in memory that unit tests use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from espial.errors import TryAgain
from espial.events import BEHAVIOUR_KEYS, Event, Person, PersonKey, encode, home_key
from espial.normalise import Recordable
from espial.stores.aws_http import AwsClient
from espial.stores.events_table import EventsTable
from espial.stores.light_sdk import LightClient
from espial.stores.people_table import DecisionsTable, PeopleTable, RunsTable
from espial.triggers.decision import Decision, Rule, begin
from espial.triggers.run import Run
from espial.vocabulary import EventType
from tests.builders import NOON, an_event
from tests.simulation import MemoryEvents, MemoryTable, a_trigger, at, behaviour, cart

TABLE = "events"


class Stack:
    """The stores over one table."""

    def __init__(self, dynamodb: Any, events: Any) -> None:
        self.dynamodb = dynamodb
        self.events = events
        self.people = PeopleTable(dynamodb, TABLE)
        self.runs = RunsTable(dynamodb, TABLE)
        self.decisions = DecisionsTable(dynamodb, TABLE)

    def happens(self, event: Event) -> None:
        record = Recordable(event, encode(event), home_key(event, BEHAVIOUR_KEYS))
        self.events.add([record], transport="tracking", expires_days=60)
        self.people.merge(event)


@pytest.fixture(params=["memory", *(pytest.param(name, marks=pytest.mark.cloud) for name in ("sdk", "light"))])
def stack(request) -> Iterator[Stack]:
    if request.param == "memory":
        table = MemoryTable()
        yield Stack(table, MemoryEvents(table))
        return
    cloud = request.getfixturevalue("cloud")
    dynamodb = cloud.client("dynamodb")
    dynamodb.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        BillingMode="PAY_PER_REQUEST",
    )
    http = AwsClient("dynamodb", "eu-west-1", cloud.url)
    yield Stack(
        dynamodb if request.param == "sdk" else LightClient(http, lambda: dynamodb), EventsTable(dynamodb, TABLE)
    )
    http.close()


def key(text: str) -> PersonKey:
    return PersonKey.parse(text)


def visit(minute: int, **person: str) -> Event:
    moment = NOON + timedelta(minutes=minute)
    return behaviour(EventType.PAGE_VIEWED, moment, str(person), person=Person(**person))


def a_run(event: Event | None = None) -> Run:
    run = begin(a_trigger(), event or cart(at("10:00:00"), "shoe"), "id:P-1001")
    assert run is not None
    return run


def test_one_view_joins_a_persons_keys(stack):
    """Session, address and id: events and profile of all of them, from whichever key is asked."""
    stack.happens(visit(0, session_id="s-1"))
    stack.happens(visit(1, session_id="s-1", external_id="c-1"))
    stack.happens(visit(2, external_id="c-1", email="ada@example.com"))
    stack.happens(an_event("mail", occurred_at=NOON + timedelta(minutes=3), person=Person(email="ada@example.com")))
    everything = {key("id:c-1"), key("email:ada@example.com"), key("session:s-1")}
    for asked in everything:
        view = stack.people.load(asked)
        assert (asked, everything, ()) == (view.key, set(view.keys), view.conflicts)
        assert [0, 1, 2, 3] == [(event.occurred_at - NOON).seconds // 60 for event in view.events]
        assert ("ada@example.com", "c-1") == (view.attributes["email"], view.external_id)


def test_an_address_of_two_customers_joins_nobody(stack):
    """A family's address: not followed, listed as a conflict, and its suppression holds for both."""
    stack.happens(visit(0, external_id="c-1", email="family@example.com"))
    stack.happens(visit(1, external_id="c-2", email="family@example.com"))
    complaint = an_event("spam", type=EventType.COMPLAINED, person=Person(email="family@example.com"))
    stack.happens(complaint)
    one = stack.people.load(key("id:c-1"))
    assert ([key("id:c-1")], [key("email:family@example.com")]) == (list(one.keys), list(one.conflicts))
    assert 1 == len(one.events)
    assert ["complained"] == [block.reason for block in one.blocks("email", "family@example.com")]
    address = stack.people.load(key("email:family@example.com"))
    assert ([key("email:family@example.com")], [complaint]) == (list(address.keys), list(address.events))


def test_two_customers_are_never_joined_by_way_of_a_third_key(stack):
    """The address is one customer's, the contact another's: whoever asks, two ids never share a view."""
    stack.happens(visit(0, external_id="c-1", email="ada@example.com"))
    stack.happens(visit(1, email="ada@example.com", source_contact_id="k-1"))
    stack.happens(visit(2, external_id="c-2", source_contact_id="k-1"))
    for asked in ("id:c-1", "id:c-2", "email:ada@example.com", "contact:segment/k-1"):
        assert len([known for known in stack.people.load(key(asked)).keys if known.kind == "id"]) <= 1


def test_a_stranger_is_an_empty_view(stack):
    """Nothing known is nothing, not an error."""
    view = stack.people.load(key("id:nobody"))
    assert ((key("id:nobody"),), (), (), {}) == (view.keys, view.events, view.runs, view.attributes)


def test_merging_again_changes_nothing(stack):
    """A redelivered event, also by another worker that remembers no link."""
    event = visit(0, external_id="c-1", email="ada@example.com")
    stack.happens(event)
    before = stack.people.load(key("id:c-1"))
    stack.happens(event)
    PeopleTable(stack.dynamodb, TABLE).merge(event)
    assert before == stack.people.load(key("id:c-1"))


def test_meeting_is_merging_and_then_loading(stack):
    """The event's keys, traits and place in the timeline are in the view and in the table, whoever wrote before."""
    stack.happens(visit(0, external_id="c-1", session_id="s-1"))
    said = behaviour(
        EventType.PROFILE_UPDATED,
        NOON,
        "x",
        properties={"tier": "gold"},
        person=Person(external_id="c-1", phone="+15550100"),
    )
    record = Recordable(said, encode(said), home_key(said, BEHAVIOUR_KEYS))
    stack.events.add([record], transport="tracking", expires_days=60)
    met = stack.people.meet(said, key("id:c-1"))
    assert met == stack.people.load(key("id:c-1")) == stack.people.meet(said, key("id:c-1"))
    assert ({key("id:c-1"), key("session:s-1"), key("phone:+15550100")}, "gold") == (
        set(met.keys),
        met.attributes["tier"],
    )


def test_a_profile_written_between_reading_and_meeting_is_read_again(stack):
    """The write is on condition: what another worker said in between stays."""
    first = behaviour(EventType.PROFILE_UPDATED, NOON, "a", properties={"tier": "gold"})
    second = behaviour(EventType.PROFILE_UPDATED, NOON, "b", properties={"town": "Oslo"})
    stack.happens(visit(0, external_id="P-1001"))
    read = stack.people._read

    def read_then_be_overtaken(asked: PersonKey) -> Any:
        found = read(asked)
        PeopleTable(stack.dynamodb, TABLE).merge(second)
        return found

    stack.people._read = read_then_be_overtaken
    stack.people.meet(first, key("id:P-1001"))
    stack.people._read = read
    assert {"gold", "Oslo"} <= set(stack.people.load(key("id:P-1001")).attributes.values())


def test_two_writers_of_one_profile_both_count(stack):
    """A merge that was overtaken reads again: neither trait is lost."""
    first = behaviour(EventType.PROFILE_UPDATED, NOON, "a", properties={"tier": "gold"})
    second = behaviour(EventType.PROFILE_UPDATED, NOON, "b", properties={"town": "Oslo"})
    stack.happens(visit(0, external_id="P-1001"))
    overtaken: list[bool] = []
    get = stack.people._table.get

    def get_then_be_overtaken(pk: str, sk: str) -> Any:
        found = get(pk, sk)
        if not overtaken:
            overtaken.append(True)
            PeopleTable(stack.dynamodb, TABLE).merge(second)
        return found

    stack.people._table.get = get_then_be_overtaken
    stack.people.merge(first)
    assert {"gold", "Oslo"} <= set(stack.people.load(key("id:P-1001")).attributes.values())


def test_a_view_holds_the_runs_of_every_key_but_no_decisions(stack):
    """What lies beside the events under the same keys."""
    stack.happens(visit(0, external_id="P-1001", session_id="s-1"))
    runs = [a_run(), replace(a_run(), person="session:s-1")]
    for run in runs:
        stack.runs.put(run, None)
        stack.decisions.record(run.person, Decision("skip", "stale"), run, now=NOON)
    assert runs == list(stack.people.load(key("id:P-1001")).runs)


def test_a_run_is_written_in_the_place_of_the_one_that_was_read(stack):
    """First writer wins; whoever read something else is told so."""
    run = a_run()
    newer = a_run(cart(at("10:30:00"), "hat"))
    assert None is stack.runs.get("id:P-1001", "cart", "77")
    assert stack.runs.put(run, None)
    assert not stack.runs.put(run, None)
    assert run == stack.runs.get("id:P-1001", "cart", "77")
    timed = replace(run, timer_at=run.due_at)
    assert stack.runs.put(timed, run)
    assert not stack.runs.put(newer, run)
    assert stack.runs.put(newer, timed)
    assert not stack.runs.put(timed, timed)
    assert newer == stack.runs.get("id:P-1001", "cart", "77")


def test_only_the_version_that_waits_is_ended(stack):
    """A newer version is not ended by an older one's message, and nothing ends in two ways."""
    run, newer = a_run(), a_run(cart(at("10:30:00"), "hat"))
    stack.runs.put(run, None)
    stack.runs.put(replace(newer, timer_at=newer.due_at), run)
    assert not stack.runs.finish(run, "sent", closed_at=NOON)
    newer = replace(newer, timer_at=newer.due_at)
    assert stack.runs.finish(newer, "exited", closed_at=NOON, reason="bought", ended_by="order")
    assert not stack.runs.finish(newer, "sent", closed_at=NOON)
    ended = stack.runs.get("id:P-1001", "cart", "77")
    assert ("exited", NOON, "bought", "order") == (ended.state, ended.closed_at, ended.reason, ended.ended_by)
    again = stack.runs.finish(newer, "exited", closed_at=NOON, reason="bought", ended_by="order")
    assert again, "whoever ended it like this, or did not hear that it had, goes on"


def test_decisions_keep_their_explanation(stack):
    """Newest first, each once, the first explanation of a repeated one kept."""
    run = a_run()
    why = Decision("skip", "stale", None, (Rule("freshness", 3600.5, verdict=False, detail="late"),))
    first = stack.decisions.record("id:P-1001", why, run, now=NOON)
    assert first == stack.decisions.record("id:P-1001", Decision("skip", "stale"), run, now=NOON + timedelta(seconds=1))
    later = replace(run, trigger="other")
    stack.decisions.record("id:P-1001", Decision("send", "all_rules_hold"), later, now=NOON + timedelta(seconds=2))
    found = stack.decisions.of_person("id:P-1001")
    assert [("other", "send"), ("cart", "skip")] == [(told.trigger, told.decision.outcome) for told in found]
    assert why == found[1].decision
    assert ["cart"] == [told.trigger for told in stack.decisions.of_person("id:P-1001", trigger="cart")]
    assert 1 == len(stack.decisions.of_person("id:P-1001", limit=1))


def test_a_long_timeline_is_read_to_its_end(stack):
    """More than one page of a Query."""
    for number in range(30):
        stack.happens(behaviour(EventType.CUSTOM, NOON, f"{number}", properties={"filler": "x" * 50_000}))
    assert 30 == len(stack.people.load(key("id:P-1001")).events)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ClientError({"Error": {"Code": "ProvisionedThroughputExceededException"}}, "Query"), TryAgain),
        (EndpointConnectionError(endpoint_url="http://192.0.2.1"), TryAgain),
        (ClientError({"Error": {"Code": "AccessDeniedException"}}, "Query"), ClientError),
    ],
)
def test_only_what_time_mends_is_tried_again(error, expected):
    """A throttle or outage is TryAgain; a missing permission is somebody's work."""

    class Away(MemoryTable):
        def query(self, **_: Any) -> dict[str, Any]:
            raise error

    with pytest.raises(expected):
        PeopleTable(Away(), TABLE).load(key("id:c-1"))


def test_of_too_many_events_the_newest_are_read_and_everything_else(stack, monkeypatch):
    """A key with more events than fit: profile, links and runs are whole, and what happened last is there."""
    monkeypatch.setattr("espial.stores.people_table.MOST_EVENTS", 3)
    times = [at(f"10:00:{second:02}") for second in range(6)]
    for when in times:
        stack.happens(cart(when, "lamp"))
    run = begin(a_trigger(), cart(times[0], "lamp"), "id:P-1001")
    assert run
    assert stack.runs.put(run, None)
    view = stack.people.load(key("id:P-1001"))
    assert times[3:] == [event.occurred_at for event in view.events]
    assert {"id:P-1001", "email:ada@example.com"} == {str(one) for one in view.keys}
    assert (run,) == view.runs
    assert "ada@example.com" == view.attributes["email"]
