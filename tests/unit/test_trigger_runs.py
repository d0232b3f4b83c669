"""Runs from their first event to their end, under a simulated clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import permutations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.errors import TryAgain
from espial.events import Person, PersonKey
from espial.vocabulary import EventType
from tests.simulation import World, a_trigger, agrees, at, behaviour, cart, order


def a_world(**fields) -> World:
    """A live cart trigger and a shopper who agreed to be written to."""
    world = World(a_trigger(**fields), now=at("09:00:00"))
    world.happens(agrees())
    return world


def test_the_cart_vector():
    """Seed 8.7: sent once, not again after a restart, restarted by a change, ended by the order, late edits ignored."""
    world = a_world()
    first = cart(at("10:00:00"), "shoe")
    world.now = at("10:00:00")
    world.happens(first)
    world.until(at("10:59:59"))
    assert [] == world.sent
    world.until(at("11:00:00"))
    assert [(at("11:00:00"), first)] == world.sent

    world.now = at("11:00:02")
    world.fires({"person": "id:P-1001", "trigger": "cart", "key": "77"})
    assert 1 == len(world.sent)

    world.now = at("11:30:00")
    assert {("cart", "restarted"): 1} == world.happens(cart(at("11:30:00"), "shoe", "hat"))
    world.now = at("12:29:58")
    assert {("cart", "bought"): 1} == world.happens(order(at("12:29:58")))
    world.until(at("12:40:00"))
    before = world.runs.get("id:P-1001", "cart", "77")
    assert {("cart", "over"): 1} == world.happens(cart(at("12:20:00"), "late"))
    assert before == world.runs.get("id:P-1001", "cart", "77")

    world.now = at("10:00:00", day=21)
    world.happens(first)
    world.until(at("23:00:00", day=21))
    assert 1 == len(world.sent)
    assert ["bought"] == world.skipped()


def test_an_anonymous_cart_without_an_address_is_skipped():
    """Seed 8.7, anonymous: there is nobody to write to, and the reason says so."""
    world = a_world()
    world.now = at("10:00:00")
    world.happens(cart(at("10:00:00"), "shoe", person=Person(session_id="s-1")))
    world.until(at("11:00:00"))
    assert [] == world.sent
    assert ["no_address"] == world.skipped()


def test_an_anonymous_cart_is_sent_once_its_session_is_known():
    """Seed 8.7, anonymous: linked to P-1001 before it is due, the mail goes out."""
    world = a_world()
    world.now = at("10:00:00")
    world.happens(cart(at("10:00:00"), "shoe", person=Person(session_id="s-1")))
    who = Person(external_id="P-1001", session_id="s-1")
    world.happens(behaviour(EventType.PROFILE_UPDATED, at("10:20:00"), person=who))
    world.until(at("11:00:00"))
    assert [at("11:00:00")] == [when for when, _ in world.sent]


def test_one_cart_begun_under_two_keys_sends_once():
    """The session's run and the customer's turn out to be one person's: only the newer one speaks."""
    world = a_world()
    world.now = at("10:00:00")
    world.happens(cart(at("10:00:00"), "shoe", person=Person(session_id="s-1")))
    world.happens(cart(at("10:05:00"), "shoe", "hat"))
    who = Person(external_id="P-1001", session_id="s-1")
    world.happens(behaviour(EventType.PROFILE_UPDATED, at("10:20:00"), person=who))
    world.until(at("13:00:00"))
    assert [(at("11:05:00"), 2)] == [(when, len(event.commerce.cart.items)) for when, event in world.sent]
    assert ["superseded"] == world.skipped()


def test_five_edits_send_one_mail_with_the_last_contents():
    """Goal 34: at the last edit plus the wait, and no timer for each edit."""
    world = a_world()
    for number in range(5):
        moment = at("10:00:00") + timedelta(minutes=40 * number)
        world.until(moment)
        world.happens(cart(moment, *(f"item-{n}" for n in range(number + 1))))
    world.until(at("23:00:00"))
    assert [(at("13:40:00"), 5)] == [(when, len(event.commerce.cart.items)) for when, event in world.sent]


def test_edits_ahead_of_a_pending_timer_set_none():
    """An edit only moves the due time: the timer that is pending earlier fires and is set again."""
    world = a_world()
    for second in range(30):
        world.now = at(f"10:00:{second:02}")
        world.happens(cart(world.now, f"item-{second}"))
    assert [at("11:00:00")] == world.set
    world.until(at("12:00:00"))
    assert [at("11:00:29")] == [when for when, _ in world.sent]


def test_two_carts_are_independent():
    """Goal 33: buying one ends only its own run."""
    world = a_world()
    world.now = at("10:00:00")
    world.happens(cart(at("10:00:00"), "shoe"))
    world.happens(cart(at("10:00:00"), "hat", id="78"))
    world.now = at("10:30:00")
    world.happens(order(at("10:30:00"), cart_id="78"))
    world.until(at("12:00:00"))
    assert ["77"] == [event.commerce.cart.id for _, event in world.sent]


def test_an_order_that_names_no_cart_ends_every_cart():
    """A shop that does not say which cart was bought: no mail about any."""
    world = a_world()
    world.now = at("10:00:00")
    world.happens(cart(at("10:00:00"), "shoe"))
    world.happens(cart(at("10:00:00"), "hat", id="78"))
    world.happens(order(at("10:30:00"), cart_id=None))
    world.until(at("12:00:00"))
    assert ([], ["bought", "bought"]) == (world.sent, world.skipped())


def test_a_purchase_recorded_in_the_last_instant_stops_the_mail():
    """Goal 35: recorded is enough, whether or not run_triggers has seen it."""
    world = a_world()
    world.now = at("10:00:00")
    world.happens(cart(at("10:00:00"), "shoe"))
    bought = order(at("11:00:00") - timedelta(milliseconds=1))
    world.records(bought)
    world.until(at("11:00:00"))
    world.handles(bought)
    assert ([], ["bought"]) == (world.sent, world.skipped())


RECORDED_FIRST = [
    work for work in permutations(["record", "handle", "fire"]) if work.index("record") < work.index("handle")
]


@pytest.mark.parametrize("order_of_work", RECORDED_FIRST)
def test_no_interleaving_mails_after_a_recorded_purchase(order_of_work):
    """Goal 35: in all interleavings of recording, handling and firing, a mail only goes before the recording."""
    world = a_world()
    world.now = at("10:00:00")
    world.happens(cart(at("10:00:00"), "shoe"))
    world.now = at("11:00:00")
    bought = order(at("11:00:00"))
    steps = {
        "record": lambda: world.records(bought),
        "handle": lambda: world.handles(bought),
        "fire": lambda: world.until(at("11:00:00")),
    }
    for step in order_of_work:
        steps[step]()
    assert (1 if order_of_work[0] == "fire" else 0) == len(world.sent)
    assert 1 == len(world.sent) + len(world.skipped())


def test_an_edit_recorded_but_not_handled_is_never_mailed_over():
    """Goal 34: the old contents wait for the new version, which is then what is sent."""
    world = a_world()
    world.now = at("10:00:00")
    world.happens(cart(at("10:00:00"), "shoe"))
    edit = cart(at("10:59:59"), "shoe", "hat")
    world.records(edit)
    world.until(at("11:00:00"))
    assert [] == world.sent
    world.handles(edit)
    world.until(at("12:30:00"))
    assert [(at("11:59:59"), 2)] == [(when, len(event.commerce.cart.items)) for when, event in world.sent]


def test_an_emptied_cart_ends_the_run_and_a_filled_one_begins_anew():
    """Emptied is over; what is put in afterwards is a new run."""
    world = a_world()
    for moment, items in (("10:00:00", ["shoe"]), ("10:10:00", []), ("10:20:00", ["hat"])):
        world.now = at(moment)
        world.happens(cart(at(moment), *items))
    world.until(at("12:00:00"))
    assert ["cart_emptied"] == world.skipped()
    assert [at("11:20:00")] == [when for when, _ in world.sent]


def test_an_emptied_cart_starts_nothing():
    """A cart that was never filled is nothing to remind of."""
    world = a_world()
    assert {} == world.happens(cart(at("10:00:00")))
    assert None is world.runs.get("id:P-1001", "cart", "77")


def test_a_late_event_changes_nothing():
    """An older edit that arrives after a newer one."""
    world = a_world()
    world.now = at("10:30:00")
    world.happens(cart(at("10:30:00"), "new"))
    before = world.runs.get("id:P-1001", "cart", "77")
    assert {("cart", "late"): 1} == world.happens(cart(at("10:00:00"), "old"))
    assert before == world.runs.get("id:P-1001", "cart", "77")


def test_an_edit_made_before_the_mail_but_told_after_it_sends_no_second():
    """The mail went at 11:00; what happened at 10:50 is no change since."""
    world = a_world()
    world.now = at("10:00:00")
    world.happens(cart(at("10:00:00"), "shoe"))
    world.until(at("11:00:01"))
    world.happens(cart(at("10:50:00"), "shoe", "hat"))
    world.until(at("15:00:00"))
    assert 1 == len(world.sent)


@pytest.mark.parametrize("mode", ["backfill", "replay"])
def test_history_starts_nothing(mode):
    """Goal 14: a backfilled or replayed event is known, but mails nobody."""
    world = a_world()
    world.now = at("10:00:00")
    event = msgspec.structs.replace(cart(at("10:00:00"), "shoe"), mode=mode)
    assert {} == world.happens(event)
    world.until(at("15:00:00"))
    assert ([], []) == (world.sent, world.skipped())


def test_without_restart_a_run_happens_once():
    """The first event counts, later ones neither move it nor begin it again."""
    world = a_world(restart=False)
    world.now = at("10:00:00")
    world.happens(cart(at("10:00:00"), "shoe"))
    world.now = at("10:30:00")
    assert {("cart", "unchanged"): 1} == world.happens(cart(at("10:30:00"), "hat"))
    world.until(at("11:30:00"))
    world.happens(cart(at("11:30:00"), "coat"))
    world.until(at("15:00:00"))
    assert [at("11:00:00")] == [when for when, _ in world.sent]


def away(*_args, **_named):
    raise TryAgain("away")


def test_a_crash_before_the_timer_is_mended_by_the_redelivery(monkeypatch):
    """The run is written, the timer is not: the same event again makes it."""
    world = a_world()
    world.now = at("10:00:00")
    event = cart(at("10:00:00"), "shoe")
    with monkeypatch.context() as crash:
        crash.setattr(world, "at", away)
        with pytest.raises(TryAgain):
            world.happens(event)
    world.handles(event)
    world.until(at("11:00:00"))
    assert 1 == len(world.sent)


def test_a_crash_before_the_books_is_mended_by_the_redelivery():
    """The run is ended, its message_skipped is not written: the same event again writes it, once."""
    world = a_world()
    world.now = at("10:00:00")
    world.happens(cart(at("10:00:00"), "shoe"))
    bought = order(at("10:30:00"))
    world.records(bought)
    add, world.events.add = world.events.add, lambda records, **_: [TryAgain("away")]
    with pytest.raises(TryAgain):
        world.handles(bought)
    world.events.add = add
    world.handles(bought)
    world.handles(bought)
    assert ["bought"] == world.skipped()
    explained = world.decisions.of_person("id:P-1001")
    assert [("skip", "bought")] == [(d.decision.outcome, d.decision.reason) for d in explained]
    assert explained[0].decision.rules


def test_an_order_that_overtook_its_cart_leaves_what_it_would_have_left():
    """Guarantee 6: the run is there, ended by the order, with its decision and one message_skipped."""
    usual, overtaken = a_world(), a_world()
    filled, bought = cart(at("10:00:00"), "shoe"), order(at("10:00:01"))
    for world, arrival in ((usual, (filled, bought)), (overtaken, (bought, filled))):
        world.now = at("10:00:02")
        for event in arrival:
            world.happens(event)
        world.until(at("15:00:00"))
    before, after = (world.runs.get("id:P-1001", "cart", "77") for world in (usual, overtaken))
    assert before == replace(after, timer_at=before.timer_at)
    assert ("exited", "bought", bought.event_id) == (after.state, after.reason, after.ended_by)
    assert ["bought"] == usual.skipped() == overtaken.skipped()
    assert usual.events.added[-1] == overtaken.events.added[-1]
    told = [[(d.id, d.decision) for d in world.decisions.of_person("id:P-1001")] for world in (usual, overtaken)]
    assert told[0] == told[1] != []
    assert [] == overtaken.set, "a run that is over needs no timer"


class Crash(Exception):
    """The function is gone."""


@given(st.lists(st.integers(0, 8), min_size=1, max_size=3, unique=True), st.data())
def test_a_cart_and_its_order_leave_one_skip_however_they_arrive(minutes, data):
    """Guarantees 2, 3 and 6: recorded and handled in any order, some twice, with crashes at any write."""
    edits = [cart(at(f"10:0{minute}:00"), f"item-{minute}") for minute in minutes]
    bought = order(at("10:09:00"))
    world = a_world()
    world.now = at("10:10:00")
    known = [*edits, bought]
    again = data.draw(st.lists(st.sampled_from(known), max_size=3))
    for event in data.draw(st.permutations(known + again)):
        world.records(event)
        world.records(data.draw(st.sampled_from(known)))  # whose own turn may be much later
        crashing(world, event, data.draw(st.integers(0, 12)))
        world.handles(event)
    world.until(at("15:00:00"))
    assert ([], ["bought"]) == (world.sent, world.skipped())
    run = world.runs.get("id:P-1001", "cart", "77")
    assert ("exited", bought.event_id) == (run.state, run.ended_by)
    assert ["bought"] == [told.decision.reason for told in world.decisions.of_person("id:P-1001")]


def crashing(world, event, writes):
    """The event is handled by a function that dies once it has written this often."""
    left = iter(range(writes))
    put = world.table.put_item

    def dying(**request):
        if next(left, None) is None:
            raise Crash
        return put(**request)

    world.table.put_item = dying
    try:
        world.handles(event)
    except Crash:
        pass
    finally:
        del world.table.put_item


def test_what_never_had_a_run_and_never_will_leaves_nothing():
    """An emptied cart, an order without a cart, an older edit of a run that is over."""
    world = a_world()
    world.now = at("10:30:00")
    assert {} == world.happens(cart(at("10:00:00")))
    assert {} == world.happens(order(at("10:20:00")))
    world.happens(cart(at("10:10:00"), "newer"))
    run = world.runs.get("id:P-1001", "cart", "77")
    assert {("cart", "over"): 1} == world.happens(cart(at("10:05:00"), "older"))
    assert run == world.runs.get("id:P-1001", "cart", "77")
    assert ["bought"] == world.skipped()


def test_a_cart_emptied_before_anybody_looked_is_explained_too():
    """Told in the wrong order, it ends as in the right one."""
    world = a_world()
    world.now = at("10:30:00")
    world.happens(cart(at("10:10:00")))
    world.happens(cart(at("10:00:00"), "shoe"))
    assert ["cart_emptied"] == world.skipped()


def test_an_ended_version_never_takes_the_place_of_a_run_that_is_due():
    """A message of the older version may be on its way: the sender alone may book it as skipped."""
    world = a_world()
    world.now = at("10:00:00")
    world.happens(cart(at("10:00:00"), "shoe"))
    world.now = at("11:00:00")
    world.records(order(at("10:50:00")))
    assert {("cart", "over"): 1} == world.happens(cart(at("10:40:00"), "shoe", "hat"))
    assert ("waiting", []) == (world.runs.get("id:P-1001", "cart", "77").state, world.skipped())
    world.until(at("11:00:00"))
    assert ([], ["bought"]) == (world.sent, world.skipped())


@given(
    st.lists(st.tuples(st.sampled_from(["edit", "empty", "order"]), st.integers(0, 9)), max_size=6, unique=True),
    st.data(),
)
def test_any_order_of_arrival_sends_the_same(steps, data):
    """Guarantee 3: events before the first mail is due, in any order and some twice, end in the same mails."""
    events = []
    for kind, minute in steps:
        moment = at(f"10:0{minute}:00")
        events.append(
            order(moment) if kind == "order" else cart(moment, *([f"item-{minute}"] if kind == "edit" else []))
        )
    events.sort(key=lambda event: (event.occurred_at, event.event_id))
    shuffled = data.draw(
        st.permutations(events + data.draw(st.lists(st.sampled_from(events), max_size=3) if events else st.just([])))
    )
    outcomes = []
    for arrival in (events, shuffled):
        world = a_world()
        world.now = at("10:10:00")
        for event in arrival:
            world.happens(event)
        world.until(at("15:00:00"))
        outcomes.append([(when, event.event_id) for when, event in world.sent])
    assert outcomes[0] == outcomes[1]


def test_waits_from_a_second_to_a_year_fire_on_time():
    """Goal 36."""
    for wait, length in (("1s", timedelta(seconds=1)), ("4m", timedelta(minutes=4)), ("365d", timedelta(days=365))):
        world = a_world(wait=wait)
        world.now = at("10:00:00")
        world.happens(cart(at("10:00:00"), "shoe"))
        world.until(at("10:00:00") + timedelta(days=366))
        assert [at("10:00:00") + length] == [when for when, _ in world.sent]


def test_no_wait_goes_straight_to_the_send_queue():
    """A trigger without a wait is due when it happens."""
    world = a_world(wait="0s")
    world.now = at("10:00:01")
    world.happens(cart(at("10:00:00"), "shoe"))
    world.until(at("10:00:01"))
    assert [at("10:00:01")] == [when for when, _ in world.sent]


def test_a_run_another_worker_moved_is_looked_at_again():
    """Two workers, two edits: the newer one stays, whoever writes last."""
    world = a_world()
    world.now = at("10:00:00")
    newer = cart(at("10:00:02"), "newer")
    put = world.runs.put
    interrupted: list[bool] = []

    def put_after_the_other(run, previous):
        if not interrupted:
            interrupted.append(True)
            world.happens(newer)
        return put(run, previous)

    world.runs.put = put_after_the_other
    world.happens(cart(at("10:00:00"), "older"))
    run = world.runs.get("id:P-1001", "cart", "77")
    assert newer.event_id == run.version


def test_our_own_events_and_those_of_nobody_are_passed_over():
    """Nothing to merge, nothing to start."""
    world = a_world()
    nobody = cart(at("10:00:00"), "shoe", person=Person())
    asked = cart(at("10:00:00"), "shoe")
    ours = msgspec.structs.replace(asked, platform="espial", type=EventType.MESSAGE_REQUESTED)
    before = dict(world.table.items)
    assert ({}, {}) == (world.handles(nobody), world.handles(ours))
    assert before == world.table.items


@pytest.mark.parametrize("status", ["draft", "paused"])
def test_a_trigger_that_is_not_live_starts_nothing(status):
    """Only live and staging triggers look at events."""
    world = a_world(status=status)
    assert {} == world.happens(cart(at("10:00:00"), "shoe"))


def test_staging_goes_all_the_way_but_the_last_step():
    """The decision says that it would have been sent."""
    world = a_world(status="staging")
    world.now = at("10:00:00")
    world.happens(cart(at("10:00:00"), "shoe"))
    world.until(at("11:00:00"))
    assert ([], ["staging"]) == (world.sent, world.skipped())


def test_a_cap_holds_over_two_carts():
    """One mail a day, whichever cart it is about; the other is skipped by name."""
    world = a_world(limits=[{"name": "daily", "count": 1, "within": "24h", "scope": "person"}])
    world.now = at("10:00:00")
    world.happens(cart(at("10:00:00"), "shoe"))
    world.happens(cart(at("10:00:30"), "hat", id="78"))
    world.until(at("12:00:00"))
    assert (1, ["limit:daily"]) == (len(world.sent), world.skipped())


def test_every_entry_ends_in_a_send_or_a_skip():
    """Goal 51: sends + skips = entries."""
    world = a_world()
    world.now = at("10:00:00")
    for number in range(6):
        world.happens(cart(at("10:00:00"), "shoe", id=f"c-{number}"))
    for number in range(3):
        world.happens(order(at("10:30:00"), cart_id=f"c-{number}"))
    world.until(at("12:00:00"))
    assert (3, ["bought"] * 3) == (len(world.sent), world.skipped())


def test_a_run_is_found_under_whichever_key_began_it():
    """A cart begun in a session is ended by the order of the customer it turned out to be."""
    world = a_world()
    world.now = at("10:00:00")
    world.happens(cart(at("10:00:00"), "shoe", person=Person(session_id="s-1")))
    world.happens(order(at("10:30:00"), person=Person(external_id="P-1001", session_id="s-1")))
    run = world.runs.get("session:s-1", "cart", "77")
    assert ("exited", "bought") == (run.state, run.reason)
    assert {PersonKey("session", "s-1"), PersonKey("id", "P-1001"), PersonKey("email", "ada@example.com")} == set(
        world.people.load(PersonKey("session", "s-1")).keys
    )


def test_a_run_survives_its_storage():
    """Encoding keeps every field."""
    world = a_world()
    world.happens(cart(at("10:00:00"), "shoe"))
    run = world.runs.get("id:P-1001", "cart", "77")
    again = replace(run, state="exited", closed_at=at("10:30:00"), reason="bought", ended_by="x")
    assert world.runs.put(again, run)
    assert again == world.runs.get("id:P-1001", "cart", "77")


def test_a_run_that_is_due_is_left_to_the_sender():
    """Only send_message knows whether a mail is on its way: run_triggers must not book it as skipped."""
    world = a_world()
    world.now = at("10:00:00")
    world.happens(cart(at("10:00:00"), "shoe"))
    world.now = at("11:00:00")
    assert {} == world.happens(order(at("10:59:59")))
    assert [] == world.skipped()
    world.until(at("11:00:00"))
    assert ([], ["bought"]) == (world.sent, world.skipped())
