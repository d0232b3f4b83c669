"""Campaigns from the behaviour to the platform, over real HTTP: awarded once, told once (C9 to C11)."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from espial.campaigns.outcomes import tags_of
from espial.events import Commerce, Event, Order, Person, PersonKey
from espial.notifications.triggers import trigger_of
from espial.ports import Walk
from espial.services.enter_people import Entrance, Segments
from espial.vocabulary import EventType
from tests.builders import NOON
from tests.campaigning import CAMPAIGN, World, write
from tests.fakes import FakeCatalogues
from tests.loopback import Canned, Loopback, loopback
from tests.simulation import agrees, behaviour
from tests.unit.test_enter_people import FakeWalks

ANN = Person(external_id="P-1", email="ann.lee@example.test")
BEHAVIOUR = CAMPAIGN["behaviours"][0]
AWARDS = (EventType.POINTS_AWARDED, EventType.OFFER_ISSUED, EventType.TAG_ADDED, EventType.CUSTOM)


def bought(total: float = 25.0, id: str = "t-1", **fields: Any) -> Event:
    fields = {"person": ANN, "commerce": Commerce(order=Order(id=id, total=total)), **fields}
    return behaviour(EventType.TRANSACTION, NOON, id, **fields)


def files(platform: Loopback, **campaign: Any) -> dict[str, Any]:
    """The example's, with the platform on this machine."""
    return {"providers/esp.yaml": {"settings": {"host": platform.url}}, "campaigns/thanks.yaml": campaign}


def a_world(root: Path, platform: Loopback, **campaign: Any) -> World:
    return World(write(root, files(platform, **campaign)))


def test_the_golden_purchase(tmp_path):
    """25.00 paid, a point a unit: awarded in order, then told, with the number a number."""
    with loopback(Canned(202, headers={"X-Message-Id": "m-1"})) as platform:
        world = a_world(tmp_path, platform)
        world.lives(bought())
    assert {
        "personalizations": [
            {"to": [{"email": "ann.lee@example.test"}], "dynamic_template_data": {"pts": 25, "line": "Hi there, +25"}}
        ],
        "template_id": "d-1",
    } == json.loads(platform.seen[0].body)
    assert ["sent"] == [outcome.what for outcome in world.outcomes]
    said = world.own()
    assert ["points", "offer", "tag", "promo_code", "Points Earned", "message_requested"] == [
        one.platform_type for one in said
    ]
    points, offer, tag, code, event, asked = said
    assert (25, "default") == (points.properties["amount"], points.properties["account"])
    assert "o-1" == offer.properties["offer_id"]
    assert ("vip", 3600) == (tag.properties["tag"], tag.properties["ttl_seconds"])
    assert code.properties["code"].startswith("SPRING-")
    assert (EventType.CUSTOM, 25, 1) == (event.type, event.properties["points"], event.properties["campaign_depth"])
    assert "m-1" == asked.properties["provider_message_id"]
    assert "thanks" == points.campaign.id


def test_the_same_transaction_again(tmp_path):
    """Delivered again, by bus and queue: no second point, no second message, one call."""
    with loopback(Canned(202)) as platform:
        world = a_world(tmp_path, platform)
        event = bought()
        for _ in range(3):
            world.lives(event)
        world.lives(bought(10.0, "t-2"))
        assert 2 == len(platform.seen)
    assert [25, 10] == [one.properties["amount"] for one in world.own(EventType.POINTS_AWARDED)]


@pytest.mark.parametrize("step", range(1, 8))
def test_a_crash_at_any_record_awards_once(tmp_path, step):
    """The function is gone after the n-th record; the queue delivers again."""
    with loopback(Canned(202)) as platform:
        world = a_world(tmp_path, platform)
        add, left = world.events.add, [step]

        def add_or_die(records: Any, **said: Any) -> Any:
            verdicts = add(records, **said)
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return verdicts

        world.happens(bought())
        world.events.add = add_or_die
        (_, _, message), *_ = world.pending
        world.pending.clear()
        for _ in range(2):
            try:
                world.fires(message)
            except KeyboardInterrupt:
                world.now += timedelta(minutes=3)
        world.until(world.now + timedelta(minutes=20))
        assert 1 == len(platform.seen)
    awarded = [one.platform_type for one in world.own(*AWARDS)]
    assert ["points", "offer", "tag", "promo_code", "Points Earned"] == awarded


def test_outside_the_time_frame_nothing_comes_of_it(tmp_path):
    """Neither points nor a message."""
    with loopback() as platform:
        world = a_world(tmp_path, platform, start_at="2026-12-01T00:00:00Z")
        world.lives(bought())
        assert ([], []) == (platform.seen, world.own())


def test_who_gets_no_message_is_awarded_all_the_same(tmp_path):
    """Without consent; while somebody who is not in the audience gets nothing at all."""
    with loopback() as platform:
        consent = {"channel": "email", "topic": "offers"}
        world = a_world(tmp_path, platform, consent=consent)
        world.lives(bought())
        assert [] == platform.seen
        assert ["no_consent"] == world.skipped()
        assert 1 == len(world.own(EventType.POINTS_AWARDED))
        other = a_world(tmp_path, platform, audience={"people": ["P-2", "P-3"]})
        other.lives(bought())
        assert (["condition:audience"], []) == (other.skipped(), other.own(*AWARDS))


def test_consent_and_audience_hold(tmp_path):
    """Then it is sent."""
    with loopback(Canned(202)) as platform:
        consent = {"channel": "email", "topic": "marketing"}
        world = a_world(tmp_path, platform, consent=consent, audience={"people": ["P-1", "P-3"]})
        world.happens(agrees(person=ANN))
        world.lives(bought())
        assert 1 == len(platform.seen)


def test_a_campaign_without_a_message(tmp_path):
    """Awards to somebody without any address, and is over."""
    with loopback() as platform:
        world = a_world(tmp_path, platform, messages=[])
        world.lives(bought(person=Person(external_id="P-9")))
        assert [] == platform.seen
    assert ["awarded"] == [outcome.what for outcome in world.outcomes]
    assert 1 == len(world.own(EventType.POINTS_AWARDED))
    assert "sent" == world.people.load(PersonKey("id", "P-9")).runs[0].state


def test_awards_alone_are_limited_too(tmp_path):
    """Twice a week, counted by what was awarded, and again when the week is over."""
    limits = {"per_customer_per_period": [{"count": 2, "within": "7d"}]}
    with loopback() as platform:
        world = a_world(tmp_path, platform, messages=[], limits=limits)
        for number in range(4):
            world.lives(bought(id=f"t-{number}"))
        assert ["awarded", "awarded", "skipped", "skipped"] == [outcome.what for outcome in world.outcomes]
        assert ["limit:per_customer_7d"] * 2 == world.skipped()
        later = NOON + timedelta(days=7, minutes=5)
        world.lives(msgspec.structs.replace(bought(id="t-9"), occurred_at=later, received_at=later))
    assert 3 == len(world.own(EventType.POINTS_AWARDED))


def test_an_event_of_a_campaign_starts_another_at_most_three_deep(tmp_path):
    """A campaign that answers its own event ends, and says why."""
    again = {
        "name": "loops",
        "rules": [{"events": [{"class": "custom", "name": "Ping"}]}],
        "outcomes": [{"kind": "event", "name": "Ping", "payload": {"from": "{{event.name}}"}}],
    }
    with loopback() as platform:
        world = a_world(tmp_path, platform, behaviours=[again], messages=[])
        ping = behaviour(EventType.CUSTOM, NOON, "ping", person=ANN, properties={"campaign_depth": 3})
        world.lives(msgspec.structs.replace(ping, platform_type="Ping"))
    assert [1, 2, 3] == [one.properties["campaign_depth"] for one in world.own(EventType.CUSTOM)]
    assert ["campaigns_too_deep"] == world.skipped()


def test_somebody_known_by_a_platforms_id_alone(tmp_path):
    """An event of ours about them is about them."""
    answers = {
        "name": "earned",
        "rules": [{"events": [{"class": "custom", "name": "Points Earned"}]}],
        "outcomes": [{"kind": "tag", "tag": "earner"}],
    }
    with loopback() as platform:
        world = a_world(tmp_path, platform, behaviours=[BEHAVIOUR, answers], messages=[])
        world.lives(msgspec.structs.replace(bought(person=Person(source_contact_id="u-7")), platform="sessionm"))
    known = world.people.load(PersonKey("contact", "sessionm/u-7")).events
    assert ["earner", "vip"] == tags_of(known, NOON)


def test_once_ever_and_so_often(tmp_path):
    """Total and per period."""
    with loopback(Canned(202)) as platform:
        world = a_world(tmp_path, platform, limits={"per_customer_total": 1})
        for number in range(3):
            world.lives(bought(id=f"t-{number}"))
        assert 1 == len(platform.seen)
        limits = {"per_customer_per_period": [{"count": 2, "within": "7d"}]}
        world = a_world(tmp_path, platform, limits=limits)
        for number in range(4):
            world.lives(bought(id=f"t-{number}"))
        assert 3 == len(platform.seen)
        assert 2 == len(world.own(EventType.POINTS_AWARDED))


def test_a_count_of_purchases(tmp_path):
    """The third in a month, not the first two."""
    rules = [{"events": [{"class": "purchase", "min_count": 3, "within": "30d"}]}]
    with loopback(Canned(202)) as platform:
        world = a_world(tmp_path, platform, behaviours=[{**BEHAVIOUR, "rules": rules}])
        for number in range(3):
            world.lives(bought(id=f"t-{number}"))
        assert 1 == len(platform.seen)


def test_a_busy_platform_gets_the_same_key_later(tmp_path):
    """429 with `Retry-After: 70`: not before, and with the same Idempotency-Key and body."""
    with loopback(Canned(429, headers={"retry-after": "70"}), Canned(202)) as platform:
        world = a_world(tmp_path, platform)
        world.lives(bought())
        assert 1 == len(platform.seen)
        world.until(world.now + timedelta(seconds=15))
        first, second = platform.seen
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body
    assert 1 == len(world.own(EventType.POINTS_AWARDED))


def test_a_customer_whom_the_platform_refuses_is_suppressed(tmp_path):
    """Points go on; nobody is called any more."""
    errors = [{"status": 422, "action": "suppress_customer", "code": "unsubscribed_there"}]
    given = {"webhooks/esp-send.yaml": {"error_map": errors}}
    with loopback(Canned(422)) as platform:
        world = World(write(tmp_path, {**files(platform), **given}))
        world.lives(bought())
        assert ["unsubscribed_there"] == world.skipped()
        assert ["bounced"] == [one.type for one in world.own(EventType.BOUNCED)]
        world.lives(bought(id="t-2"))
        assert 1 == len(platform.seen)
    assert ["unsubscribed_there", "suppressed"] == world.skipped()
    assert 2 == len(world.own(EventType.POINTS_AWARDED))


def test_who_left_an_app_has_opted_out_of_it(tmp_path):
    """There is no address that could be blocked: the channel is."""
    given: dict[str, Any] = {
        "webhooks/esp-send.yaml": {
            "error_map": [{"status": 410, "action": "suppress_customer", "code": "app_removed"}]
        },
        "payloads/thanks.yaml": {"channel": "push", "body": {"points": "{{points.amount}}"}},
    }
    consent = {"channel": "push", "opt_in": False}
    with loopback(Canned(410)) as platform:
        world = World(write(tmp_path, {**files(platform, consent=consent), **given}))
        world.lives(bought())
        world.lives(bought(id="t-2"))
        assert 1 == len(platform.seen)
    assert ["app_removed", "suppressed"] == world.skipped()


def test_quiet_hours_put_off_what_is_told(tmp_path):
    """At noon nothing goes out until three, and the awards come with it."""
    quiet = {"from": "11:00", "to": "15:00", "zone": "UTC"}
    with loopback(Canned(202)) as platform:
        world = a_world(tmp_path, platform, messages=[{"variants": ["esp-thanks"], "quiet_hours": quiet}])
        world.lives(bought(), minutes=179)
        assert ([], []) == (platform.seen, world.own(*AWARDS))
        world.until(world.now + timedelta(minutes=2))
        assert 1 == len(platform.seen)
    assert 1 == len(world.own(EventType.POINTS_AWARDED))


def test_a_missing_attribute_is_the_reason(tmp_path):
    """And what is missing is not what somebody is called."""
    given = {"payloads/thanks.yaml": {"body": {"city": "{{user.city}}"}}}
    with loopback() as platform:
        world = World(write(tmp_path, {**files(platform), **given}))
        world.lives(bought())
        assert [] == platform.seen
    assert ["missing_attribute"] == world.skipped()


def test_a_second_message_after_a_delay(tmp_path):
    """It says what was awarded, and awards nothing."""
    messages = [{"variants": ["esp-thanks"]}, {"id": "reminder", "variants": ["esp-thanks"], "delay": "2d"}]
    with loopback(Canned(202)) as platform:
        world = a_world(tmp_path, platform, messages=messages)
        world.lives(bought(), minutes=60 * 49)
        first, second = (json.loads(seen.body) for seen in platform.seen)
    assert first == second
    assert 1 == len(world.own(EventType.POINTS_AWARDED))


def test_an_own_template_may_print_what_was_awarded(tmp_path):
    """A variant without a webhook is sent by its provider, here SendGrid's API."""
    template: dict[str, Any] = {
        "templates/points/template.yaml": {
            "subject": "{{ points.amount }} points",
            "category": "transactional",
            "variables": {"points.amount": {"fallback": "no"}},
        },
        "variants/esp-thanks.yaml": {"provider": "grid", "template": "points", "webhook": None},
    }
    with loopback(Canned(202)) as platform:
        grid = {
            "sender": "sendgrid",
            "from": "Shop <shop@example.com>",
            "secrets": {"api_key": "secretsmanager:espial/provider/grid"},
            "settings": {"base_url": platform.url},
        }
        root = write(tmp_path, {**files(platform), **template, "providers/grid.yaml": grid})
        (root / "templates/points/body.html").write_text("<html><body><p>{{ points.amount }}</p></body></html>")
        world = World(root)
        world.lives(bought())
        said = json.loads(platform.seen[0].body)
    assert "25 points" == said["subject"]


def test_a_tag_is_gone_after_its_life(tmp_path):
    """`vip;;3600` is there for an hour."""
    with loopback(Canned(202)) as platform:
        world = a_world(tmp_path, platform)
        world.lives(bought())
    known = world.people.load(PersonKey("id", "P-1")).events
    assert ["vip"] == tags_of(known, NOON + timedelta(seconds=3599))
    assert [] == tags_of(known, NOON + timedelta(seconds=3600))


SCHEDULED: dict[str, Any] = {
    "mode": "scheduled",
    "schedule": {"cron": "0 15 * * *"},
    "audience": {"segment": 'person.attributes.tier == "gold"'},
    "behaviours": None,
    "outcomes": [{"kind": "points", "amount": 5}],
}


def members(world: World, tiers: str) -> None:
    """People of these tiers, by initial."""
    for number, tier in enumerate(tiers):
        who = Person(external_id=f"P-{number}", email=f"p{number}@example.com")
        traits = {"tier": {"g": "gold", "s": "silver"}[tier]}
        told = behaviour(EventType.PROFILE_UPDATED, NOON, f"member-{number}", person=who, properties={"traits": traits})
        world.happens(told)


def enters(world: World, walks: FakeWalks, left: float = 600.0) -> None:
    """A minute's look at everybody, and what comes of it by the bus."""
    segments = Segments(people=world.people, members=world.people, walks=walks, events=world.events)
    before = len(world.events.added)
    Entrance(
        segments=segments,
        catalogues=FakeCatalogues(),
        runner=world.runner,
        clock=lambda: world.now,
        time_left=lambda: left,
    ).enter(world.triggers, world.published.version)
    for event in world.events.added[before:]:
        world.handles(event)
    world.until(world.now + timedelta(minutes=1))


def deliveries(world: World) -> list[str]:
    return [one.type.value for one in world.own(EventType.DELIVERY_STARTED, EventType.DELIVERY_COMPLETED)]


def test_a_scheduled_campaign(tmp_path):
    """Its audience, once a time; its beginning and end are told once each, as DELIVERYSTART and DELIVERY."""
    with loopback(Canned(202)) as platform:
        world, walks = a_world(tmp_path, platform, **SCHEDULED), FakeWalks()
        members(world, "gsgsg")
        world.now = NOON.replace(hour=14, minute=59)
        walks.known["thanks-message", "2026-11-19T15:00:00Z"] = (Walk(done=True), world.now)
        enters(world, walks)
        assert ([], []) == (platform.seen, deliveries(world))
        for _ in range(3):
            enters(world, walks)
        told = sorted(json.loads(seen.body)["personalizations"][0]["to"][0]["email"] for seen in platform.seen)
    assert ["p0@example.com", "p2@example.com", "p4@example.com"] == told
    assert ["delivery_started", "delivery_completed"] == deliveries(world)
    assert [5, 5, 5] == [one.properties["amount"] for one in world.own(EventType.POINTS_AWARDED)]
    started = world.own(EventType.DELIVERY_STARTED)[0]
    assert ("thanks", "DELIVERYSTART") == (started.campaign and started.campaign.id, trigger_of(started))
    assert NOON.replace(hour=15) == started.occurred_at


def test_a_walk_that_is_cut_off_is_told_of_once(tmp_path):
    """Begun again and again, its beginning is one event; its end comes when it is over."""
    with loopback(Canned(202)) as platform:
        world, walks = a_world(tmp_path, platform, **SCHEDULED), FakeWalks()
        members(world, "gg")
        world.now = NOON.replace(hour=15, minute=1)
        enters(world, walks, left=1.0)
        enters(world, walks, left=1.0)
        assert ["delivery_started"] == deliveries(world)
        enters(world, walks)
        assert ["delivery_started", "delivery_completed"] == deliveries(world)
        assert 2 == len(platform.seen)


def test_a_schedule_outside_the_time_frame_is_silent(tmp_path):
    """Nobody enters, and nothing is told."""
    with loopback() as platform:
        world, walks = a_world(tmp_path, platform, **SCHEDULED, end_at="2026-11-20T14:00:00Z"), FakeWalks()
        members(world, "gg")
        world.now = NOON.replace(hour=15, minute=1)
        walks.known["thanks-message", "2026-11-19T15:00:00Z"] = (Walk(done=True), world.now)
        enters(world, walks)
        assert ([], [], []) == (platform.seen, deliveries(world), world.own(*AWARDS))
