"""From what waits to a mailbox: mails and digests, the daily cap, nothing that loops, and every crash in between."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from espial.definitions.load import load
from espial.errors import InvalidDefinition, OutcomeUnknown, Refused, TryAgain
from espial.events import Campaign
from espial.messages import Message, Receipt, is_notification, send_key
from espial.notifications.definition import DestinationDefinition
from espial.notifications.outbox import Health, Mails, Notification
from espial.notifications.payloads import LONGEST, digest, text
from espial.services.mail_notifications import MOST, Mailer, compose
from espial.services.route_notifications import Router
from espial.sources import ses
from espial.vocabulary import EventType
from tests.builders import NOON, an_event
from tests.feeding import Killed
from tests.notifying import FakeConditions, FakeEvidence, FakeFirsts, FakeOutbox, a_notification

PROVIDER = {"sender": "ses", "from": "Shop <hello@shop.example.com>", "reply_to": "help@shop.example.com"}
EMAIL = {"to": ["ops@example.com", "reports@example.com"], "provider": "ses"}
DAY = timedelta(days=1)


def a_destination(name: str = "ops", **fields: Any) -> DestinationDefinition:
    email = {**EMAIL, **fields.pop("email", {})}
    return DestinationDefinition.model_validate(
        {"name": name, "process": "email", "on": ["OPEN"], "email": email} | fields
    )


class Mailbox:
    """A provider: what it was handed, and what it answers."""

    name = "ses"
    features = frozenset({"headers", "tags", "reply_to", "also_to"})
    idempotent = False
    channel = "email"

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.trouble: Callable[[], None] = lambda: None
        self.answer: Callable[[Message], Exception | None] = lambda _: None

    def send(self, message: Message, *, idempotency_key: str) -> Receipt:
        assert idempotency_key == message.send_key
        self.trouble()
        error = self.answer(message)
        if error is None or isinstance(error, OutcomeUnknown):
            self.got.append(message)
            try:
                self.trouble()
            except TryAgain:  # it is taken, so the sender says nothing else
                error = OutcomeUnknown("lost")
        if error:
            raise error
        return Receipt(provider="ses", provider_message_id="m-1", at=NOON)

    def told(self, some: list[Notification]) -> Counter[str]:
        """How often each of these was mailed, by id."""
        return Counter({
            one.id: sum(one.id in (mail.headers["X-Notification-Id"], *mail.text.split()) for mail in self.got)
            for one in some
        })  # fmt: skip


class World:
    """A worker's ports. Time passes only where it is told to."""

    def __init__(self, count: int = 0) -> None:
        self.now = NOON
        self.trouble: Callable[[], None] = lambda: None
        self.left = 280.0
        self.woken: list[tuple[Any, ...]] = []
        self.provider: Callable[[str], dict[str, Any]] = lambda _: PROVIDER
        self._tokens = 0

        def call() -> None:
            self.trouble()

        self.mailbox = Mailbox()
        self.mailbox.trouble = call
        self.outbox, self.evidence, self.conditions = FakeOutbox(call), FakeEvidence(call), FakeConditions(call)
        self.put: list[Notification] = []
        self.happen(count)

    def happen(self, count: int) -> None:
        first = len(self.put)
        some = [
            a_notification(str(n), "ops", put_at=self.now + timedelta(milliseconds=n), due=self.now)
            for n in range(first, first + count)
        ]
        self.put += some
        self.outbox.put(some)

    def token(self) -> str:
        self._tokens += 1
        return f"a{self._tokens}"

    def work(
        self, destination: DestinationDefinition | None = None, *, later: timedelta = timedelta(0)
    ) -> Counter[str]:
        self.now += later
        return Mailer(
            outbox=self.outbox,
            evidence=self.evidence,
            conditions=self.conditions,
            provider=self.provider,
            sender=lambda _name, _settings: self.mailbox,
            clock=lambda: self.now,
            time_left=lambda: self.left,
            chance=lambda: 0.5,
            token=self.token,
            wake=lambda names, after: self.woken.append((*names, after)),
            monotonic=lambda: 0.0,
        ).work(destination or a_destination())

    def states(self) -> Counter[str]:
        return Counter(self.outbox.states("ops").values())


# -- bodies


def test_a_mail_says_what_a_form_says_a_line_each():
    event = an_event(
        campaign=Campaign(id="4711", name="Autumn\r\nX-Evil: 1"),
        properties={"delivery_date": "2026-11-20T10:00:00Z", "traits": {"City": "Leeds", "x": 1}},
    )
    assert text(a_notification(event=event), "", "shop", ("City",)).splitlines() == [
        "type: OPEN",
        "Event_date: 1795176000 (2026-11-20T12:00:00Z)",
        "email: ada@example.com",
        "mobile:",
        "messageName: Autumn X-Evil: 1",
        "deliveryDate: 1795168800 (2026-11-20T10:00:00Z)",
        "device_type:",
        "device_OS:",
        "device_Browser:",
        "Delivery_ID: 4711",
        "City: Leeds",
        "notificationSubject: shop",
    ]


def test_lists_are_joined_and_dates_that_are_none_stay_as_they_are():
    said = {"lists": ["a", "b"], "start_date": "9" * 30}
    event = an_event(type=EventType.DELIVERY_COMPLETED, properties=said)
    lines = text(a_notification(event=event, trigger="DELIVERY"), "Shop", "", "*").splitlines()
    assert {"List_Names: a, b", f"Delivery_Start_Date: {'9' * 30}", "Profile: Shop"} <= {*lines}


def test_a_digest_has_a_section_for_each_and_none_is_endless():
    huge = a_notification(event=an_event(properties={"traits": {"x": "y" * 10 * LONGEST}}))
    one = a_notification("two")
    first, second = digest([huge, one], "", "", "*").split("\n\n")
    assert first.startswith(f"[1/2] {huge.id}\ntype: OPEN\n")
    assert second == f"[2/2] {one.id}\n{text(one, '', '', '*')}"
    assert len(first) < LONGEST + 100


WILD = st.text(max_size=60) | st.sampled_from(
    ["a\r\nBcc: eve@example.com", "x\n\n<html>", "\x0b\x85\u2028y", "\x7f\x9f"]
)


@settings(max_examples=300)
@given(WILD, WILD, WILD, st.sampled_from(["each", "digest"]))
def test_nothing_in_the_data_adds_a_header(profile, name, trigger, mode):
    """The mail as any library makes it of the parts, read again: only our headers are in it, each once."""
    said = {"profile": profile, "traits": {name: name}}
    some = [a_notification(event=an_event(campaign=Campaign(name=name), properties=said), trigger=trigger)]
    destination = a_destination(email={"mode": mode})
    assert destination.email
    message = compose(destination, destination.email, some, PROVIDER)
    made = EmailMessage()
    for header, value in {"Subject": message.subject, "To": message.to, **message.headers}.items():
        assert value.isprintable()
        made[header] = value  # refuses line breaks by itself
    made.set_content(message.text)
    read = message_from_bytes(made.as_bytes(), policy=policy.default)
    ours = ["Subject", "To", "X-Event-Type", "X-Notification-Id", "Auto-Submitted"]
    assert [header for header in read if not header.startswith(("Content-", "MIME-"))] == ours
    assert (read["To"], read["Auto-Submitted"]) == ("ops@example.com", "auto-generated")
    assert len(message.text.splitlines()) <= 13 + (mode == "digest") + (name not in message.text)


# -- mails


def test_each_is_a_mail_to_all():
    world = World(2)
    assert world.work() == {"delivered": 2, "given_up": 0}
    first, second = world.mailbox.got
    assert (first.to, first.also_to) == ("ops@example.com", ("reports@example.com",))
    assert (first.subject, first.html) == ("Event notification: OPEN - main", "")
    assert (first.from_, first.reply_to) == ("Shop <hello@shop.example.com>", "help@shop.example.com")
    assert first.headers == {
        "X-Event-Type": "OPEN",
        "X-Notification-Id": world.put[0].id,
        "Auto-Submitted": "auto-generated",
    }
    assert second.send_key != first.send_key
    assert world.work() == {}
    assert world.states() == {"delivered": 2}


def test_a_subject_of_one_s_own():
    world = World(1)
    world.work(a_destination(subject="Grüße"))
    assert world.mailbox.got[0].subject == "Grüße"


def test_a_digest_collects_for_as_long_as_it_is_told():
    world = World(3)
    destination = a_destination(email={"mode": "digest", "every": "30m"}, profile="Shop")
    assert world.work(destination) == {}
    world.now += timedelta(minutes=29)
    world.happen(1)
    assert world.work(destination) == {}
    assert world.work(destination, later=timedelta(minutes=1)) == {"delivered": 4, "given_up": 0}
    [mail] = world.mailbox.got
    assert mail.subject == "Event notifications: 4 - Shop"
    assert (mail.headers["X-Event-Type"], mail.headers["X-Notification-Id"][:7]) == ("OPEN", "digest-")
    assert [one.notifications for one in world.evidence.of("ops")] == [tuple(one.id for one in world.put)]
    world.happen(1)
    assert world.work(destination, later=timedelta(minutes=29)) == {}
    assert world.work(destination, later=timedelta(minutes=2))["delivered"] == 1


def test_what_is_too_much_for_a_digest_is_in_the_next():
    world = World(MOST + 5)
    destination = a_destination(email={"mode": "digest"})
    assert world.work(destination, later=timedelta(hours=2)) == {"delivered": MOST + 5, "given_up": 0}
    assert [mail.subject.split()[2] for mail in world.mailbox.got] == [str(MOST), "5"]


def test_beyond_the_cap_it_waits_and_goes_out_together_the_next_day():
    world = World(10)
    destination = a_destination(email={"daily_cap": 3})
    assert world.work(destination)["delivered"] == 3
    assert world.work(destination, later=timedelta(hours=11)) == {}
    assert world.work(destination, later=timedelta(hours=2)) == {"delivered": 7, "given_up": 0}
    assert [mail.subject for mail in world.mailbox.got][-1] == "Event notifications: 7 - main"
    world.happen(2)
    assert world.work(destination)["delivered"] == 2  # one by one again
    assert len(world.mailbox.got) == 6
    assert set(world.mailbox.told(world.put).values()) == {1}


def test_what_surely_did_not_go_is_no_mail_of_the_day():
    world = World(1)
    world.mailbox.answer = lambda _: TryAgain("throttled", after=2)
    destination = a_destination(email={"daily_cap": 2})
    for _ in range(5):
        assert world.work(destination, later=timedelta(hours=1))["failed"] == 1
    assert world.conditions.mails("ops") == Mails(destination="ops")
    world.mailbox.answer = lambda _: None
    assert world.work(destination, later=timedelta(hours=4))["delivered"] == 1
    assert world.conditions.mails("ops").count == 1


# -- answers


def test_a_refusal_of_one_holds_up_no_other():
    world = World(3)
    refused = world.put[1].id
    world.mailbox.answer = lambda mail: (
        Refused("message_rejected", "ada@example.com") if mail.headers["X-Notification-Id"] == refused else None
    )
    assert world.work() == {"delivered": 2, "refused": 1, "given_up": 1}
    assert world.outbox.states("ops")[refused] == "given_up"


def test_a_refusal_of_the_account_gives_nothing_up():
    world = World(30)
    world.mailbox.answer = lambda _: Refused("account_suspended")
    assert world.work() == {"failed": 10, "given_up": 0}
    assert (world.conditions.health("ops").state, world.conditions.mails("ops").count) == ("probing", 0)
    assert world.states() == {"waiting": 30}


def test_a_provider_that_is_busy_is_left_alone_and_served_later():
    world = World(2)
    world.mailbox.answer = lambda _: TryAgain("paused", after=300)
    assert world.work() == {"failed": 1, "given_up": 0}
    assert world.conditions.health("ops").probe_at == NOON + timedelta(seconds=300)
    assert world.work(later=timedelta(seconds=299)) == {}
    world.mailbox.answer = lambda _: None
    assert world.work(later=timedelta(seconds=2))["delivered"] == 2
    assert world.states() == {"delivered": 2}


def test_an_answer_that_is_lost_is_a_mail_and_comes_again():
    world = World(1)
    world.mailbox.answer = lambda _: OutcomeUnknown("ada@example.com")
    assert world.work()["failed"] == 1
    assert world.conditions.mails("ops").count == 1
    assert world.woken == [("ops", 5.5)]
    world.mailbox.answer = lambda _: None
    assert world.work(later=timedelta(seconds=6))["delivered"] == 1
    assert len({mail.send_key for mail in world.mailbox.got}) == 1


def test_what_fails_for_days_is_given_up_and_can_be_replayed():
    world = World(1)
    world.mailbox.answer = lambda _: TryAgain("away")
    for _ in range(30):
        world.work(later=timedelta(hours=10))
    assert world.states() == {"given_up": 1}
    world.mailbox.answer = lambda _: None
    world.outbox.replay("ops", [world.put[0].id], now=world.now)
    assert world.work(later=timedelta(hours=1))["delivered"] == 1


def test_a_provider_that_there_is_not_calls_nobody():
    world = World(1)

    def unknown(name: str) -> dict[str, Any]:
        raise Refused("unknown_provider", name)

    world.provider = unknown
    assert world.work() == {}
    assert (world.conditions.health("ops").why, world.mailbox.got) == ("unknown_provider", [])
    world.provider = lambda _: PROVIDER
    assert world.work(later=timedelta(minutes=2))["delivered"] == 1


def test_off_disabled_busy_and_out_of_time():
    world = World(1)
    assert world.work(a_destination(enabled=False)) == {}
    world.left = 20
    assert world.work() == {}
    world.left = 280
    holder = world.conditions.enter("ops", now=NOON, until=NOON + timedelta(minutes=5))
    assert world.work() == {"busy": 1}
    world.conditions.leave("ops", holder)
    world.conditions.change(world.conditions.health("ops"), Health(destination="ops", state="off"))
    assert world.work() == {}
    assert world.states() == {"waiting": 1}


def test_no_address_is_in_the_evidence():
    world = World(3)
    answers = iter([Refused("message_rejected", "ada@example.com"), OutcomeUnknown("ada@example.com"), None])
    world.mailbox.answer = lambda _: next(answers)
    world.work()
    kept = repr(list(world.evidence.of("ops")))
    assert len(world.evidence.kept) == 3
    assert "@" not in kept


@settings(max_examples=150)
@given(st.integers(0, 100_000))
def test_killed_anywhere_each_is_mailed_and_settled(seed):
    """At least once, whatever the mode and the cap; and never more mails a day than the cap."""
    rng = random.Random(seed)
    world = World(rng.randint(1, 15))
    left = [rng.randint(0, 8)]

    def trouble() -> None:
        if left[0] and rng.random() < 0.05:
            left[0] -= 1
            raise Killed if rng.random() < 0.6 else TryAgain("away")

    def answer(_: Message) -> Exception | None:
        said = rng.random()
        if said < 0.75 or not left[0]:
            return None
        return TryAgain("throttled") if said < 0.9 else OutcomeUnknown("lost")

    world.trouble = trouble
    world.mailbox.answer = answer
    cap = rng.randint(1, 20)
    destination = a_destination(email={"mode": rng.choice(["each", "digest"]), "daily_cap": cap})
    days: Counter[str] = Counter()
    for _ in range(400):
        before = len(world.mailbox.got)
        try:
            world.work(destination, later=timedelta(minutes=rng.choice([1, 11, 300])))
        except (Killed, TryAgain):
            continue
        finally:
            days[f"{world.now:%Y-%m-%d}"] += len(world.mailbox.got) - before
        if not left[0] and world.states() == {"delivered": len(world.put)}:
            break
    assert world.states() == {"delivered": len(world.put)}
    assert min(world.mailbox.told(world.put).values()) >= 1
    assert max(days.values()) <= cap


# -- no loop


@pytest.mark.parametrize("where", ["tags", "headers"])
def test_what_is_reported_of_a_notification_mail_makes_no_notification(where):
    """SES says our own key back, by tag or by header; a person's message has another look, and is told of."""
    world = World(1)
    world.work()
    [mail] = world.mailbox.got
    person = send_key(trigger="cart", person="id:1", key="c", version="1")
    assert (is_notification(mail.send_key), is_notification(person), is_notification(None)) == (True, False, False)
    put = []
    for key in (mail.send_key, person):
        said = {"tags": {"send_key": [key]}, "headers": [{"name": "X-Espial-Send-Key", "value": key}]}
        bounced = an_event(
            key,
            type=EventType.BOUNCED,
            platform="ses",
            send_key=ses.send_key({"eventType": "Bounce", "mail": {where: said[where]}}),
        )
        outbox = FakeOutbox()
        router = Router(outbox=outbox, firsts=FakeFirsts())
        router.route([bounced], [a_destination(on=["BOUNCE", "bounced", "OPEN"])], NOON)
        put.append(len(outbox.held))
    assert put == [0, 2]


def test_a_worker_is_told_of_mails_at_once_and_of_digests_by_the_clock():
    told: list[str] = []
    router = Router(outbox=FakeOutbox(), firsts=FakeFirsts(), poke=lambda names, _: told.extend(names))
    router.route([an_event()], [a_destination(), a_destination("daily", email={"mode": "digest"})], NOON)
    assert told == ["ops"]


# -- definitions


@pytest.mark.parametrize(
    ("email", "problem"),
    [
        ({"to": []}, "at least 1 item"),
        ({"to": [f"a{n}@example.com" for n in range(11)]}, "at most 10 items"),
        ({"to": ["ops"]}, "must be a plain address"),
        ({"to": ["Ops <ops@example.com>"]}, "must be a plain address"),
        ({"to": ["ops@example.com\r\nBcc: eve@example.com"]}, "must be a plain address"),
        ({"to": ["ops@example.com", "Ops@example.com"]}, "names an address twice"),
        ({"provider": None}, "email.provider"),
        ({"mode": "weekly"}, "email.mode"),
        ({"every": "1m"}, "every: must be from 5 minutes to a day"),
        ({"every": "25h"}, "every: must be from 5 minutes to a day"),
        ({"daily_cap": 0}, "email.daily_cap"),
        ({"cc": "x@example.com"}, "email.cc"),
    ],
)
def test_wrong_settings_are_refused(email, problem):
    with pytest.raises(ValidationError) as refused:
        a_destination(email=email)
    assert problem in str(refused.value)


def test_the_block_is_needed_and_belongs_to_its_process():
    for fields, problem in (({"email": None}, "email: is missing"), ({"process": "http"}, "email: belongs to another")):
        with pytest.raises(ValidationError, match=problem):
            DestinationDefinition.model_validate(
                {"name": "ops", "process": "email", "on": ["OPEN"], "email": EMAIL} | fields
            )


def test_what_was_published_is_read_again():
    destination = a_destination(email={"mode": "digest", "every": "2h"})
    assert DestinationDefinition.model_validate(destination.published()) == destination


def test_a_provider_that_is_not_defined_is_refused_when_applied(tmp_path):
    for folder in ("destinations", "providers"):
        (tmp_path / folder).mkdir()
    file = tmp_path / "destinations" / "ops.yaml"
    file.write_text("process: email\non: [OPEN]\nemail:\n  to: [ops@example.com]\n  provider: see\n")
    (tmp_path / "providers" / "ses.yaml").write_text("sender: ses\nfrom: hello@shop.example.com\n")
    with pytest.raises(InvalidDefinition) as refused:
        load(tmp_path)
    assert refused.value.problems == [f"{file}:5: email.provider: no provider named 'see' (did you mean ses?)"]
    file.write_text(file.read_text().replace("see", "ses"))
    assert [*load(tmp_path).destinations] == ["ops"]
