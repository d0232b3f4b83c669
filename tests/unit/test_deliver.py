"""Sending exactly once: crashes, duplicates, unknown outcomes, purchases in the last instant (goals 35, 39, 40, 51)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espial import events
from espial.errors import EspialError, OutcomeUnknown, Refused, TryAgain
from espial.events import Cart, Commerce, Event, Order, Person, PersonKey, Product
from espial.mail_links import MailLinks, Reader, reader_of, unseal
from espial.messages import Message, Receipt
from espial.normalise import Recordable
from espial.people import NOTHING, PersonView, merge_profile, timeline
from espial.services.deliver import Deliverer, Occasion, Outcome
from espial.services.load_catalogue import load as load_catalogue
from espial.services.recommend_products import Recommender
from espial.simulation.memory import MemoryClaims
from espial.triggers.definition import Trigger
from espial.triggers.run import Run, message
from espial.vocabulary import EventType
from tests.fakes import FakeCatalogues, FakeEventStore

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
TRIGGER: dict[str, Any] = {
    "name": "cart-abandonment",
    "status": "live",
    "on": ["cart_updated"],
    "key": "event.commerce.cart.id",
    "wait": "1h",
    "restart": True,
    "exit_on": [{"name": "purchased", "event": "order_completed"}],
    "stale_after": "7d",
    "send": {"provider": "mail", "template": "reminder"},
}
TEMPLATE: dict[str, Any] = {
    "name": "reminder",
    "category": "marketing",
    "subject": "{{ person.first_name }}, your cart",
    "from_name": "The shop",
    "html": "<p>{{ cart.items[0].name }}</p><a href='{{ unsubscribe_url }}'>x</a>",
    "text": "{{ cart.items[0].name }} {{ unsubscribe_url }}",
    "variables": {"person.first_name": {"fallback": "Hello"}},
    "sha": "reminder-1",
}
PROVIDER = {
    "name": "mail",
    "sender": "fake",
    "from": "Shop <shop@example.com>",
    "reply_to": "help@example.com",
    "unsubscribe_url": "https://shop.example.com/u?m={message}",
}


class Crash(BaseException):
    """The function is gone, with everything it had not written."""


def cart(number: int, at: datetime, *, version: int = 1, name: str = "Shoe") -> Event:
    return Event(
        event_id=events.event_id(at, f"cart-{number}-{version}"),
        type=EventType.CART_UPDATED,
        platform_type="Cart Updated",
        channel="web",
        platform="segment",
        connection="shop",
        occurred_at=at,
        received_at=at,
        person=Person(external_id=f"c-{number}", email=f"c{number}@example.com"),
        commerce=Commerce(cart=Cart(id="cart", items=(Product(name=name),))),
    )


def order(number: int, at: datetime) -> Event:
    return msgspec.structs.replace(
        cart(number, at),
        event_id=events.event_id(at, f"order-{number}"),
        type=EventType.ORDER_COMPLETED,
        commerce=Commerce(order=Order(id="o-1", cart_id="cart")),
    )


@dataclass
class Provider:
    """A provider as unreliable as `mood` says; `accepted` is the truth, its events come if it is `talkative`."""

    world: World
    mood: Callable[[], str] = lambda: "ok"
    talkative: Callable[[], bool] = lambda: False
    idempotent: bool = False
    channel: str = "email"
    name: str = "mail"
    features: frozenset[str] = frozenset({"headers", "tags", "reply_to"})
    accepted: list[Message] = field(default_factory=list)
    calls: int = 0

    def send(self, message: Message, *, idempotency_key: str) -> Receipt:
        self.calls += 1
        mood = self.mood()
        if mood == "busy":
            raise TryAgain("too many requests", after=5)
        if mood == "refuses":
            raise Refused("message_rejected")
        if mood == "lost":
            raise OutcomeUnknown("read time-out")
        if not (self.idempotent and any(message.send_key == known.send_key for known in self.accepted)):
            self.accepted.append(message)
        if self.talkative():
            self.world.report(message)
        if mood == "accepts in silence":
            raise OutcomeUnknown("read time-out")
        if mood == "dies":
            raise Crash
        return Receipt(provider="mail", provider_message_id=f"m-{self.calls}", at=self.world.now)


class World:
    """Every port in memory, a clock, and a queue that delivers at least once."""

    def __init__(self, trigger: Mapping[str, Any] = TRIGGER) -> None:
        self.now = START
        self.definition = Trigger.model_validate(trigger)
        self.store = FakeEventStore()
        self.claims = MemoryClaims()
        self.booked: dict[tuple[str, ...], Run] = {}
        self.decided: list[tuple[str, str]] = []
        self.due: list[tuple[datetime, Mapping[str, Any]]] = []
        self.provider = Provider(self)
        self.settings: Mapping[str, Any] = PROVIDER
        self.compiled: Mapping[str, Any] = TEMPLATE
        self.links: MailLinks | None = None
        self.catalogues = FakeCatalogues()
        self.on_step: Callable[[str], None] = lambda _name: None

    # ports

    def load(self, key: PersonKey) -> PersonView:
        known = timeline(self.store.events_of(key))
        profile = NOTHING
        for event in known:
            profile = merge_profile(profile, event)
        runs = tuple(run for run in self.booked.values() if run.person == str(key))
        return PersonView(key=key, keys=(key,), profile=profile, events=known, runs=runs)

    def get(self, person: str, trigger: str, key: str) -> Run | None:
        return self.booked.get((person, trigger, key))

    def put(self, run: Run, previous: Run | None) -> bool:
        if self.get(run.person, run.trigger, run.key) != previous:
            return False
        self.booked[run.person, run.trigger, run.key] = run
        return True

    def finish(self, run: Run, state: Any, *, closed_at: datetime, reason: str = "", ended_by: str = "") -> bool:
        stored = self.get(run.person, run.trigger, run.key)
        if stored is None or stored.version != run.version or stored.state != "waiting":
            return False
        return self.put(replace(stored, state=state, closed_at=closed_at, reason=reason, ended_by=ended_by), stored)

    def record(self, person: str, decision: Any, run: Run, *, now: datetime) -> str:
        if (decision.outcome, decision.reason) not in self.decided:
            self.decided.append((decision.outcome, decision.reason))
        return f"{run.version}/{decision.outcome}/{decision.reason}"

    def at(self, due_at: datetime, message: Mapping[str, Any], key: str, *, now: datetime) -> None:
        if (due_at, message) not in self.due:
            self.due.append((due_at, message))

    def trigger(self, name: str) -> Trigger | None:
        return self.definition if name == self.definition.name else None

    def template(self, name: str) -> Mapping[str, Any]:
        return self.compiled

    def sender(self, name: str, settings: Mapping[str, Any]) -> Provider:
        return self.provider

    # the story

    def happens(self, event: Event) -> None:
        self.store.add([Recordable(event, events.encode(event), f"P#id:{event.person.external_id}")],
                       transport="tracking", expires_days=60)  # fmt: skip

    def report(self, sent: Message) -> None:
        """The provider's own event of a message it took."""
        number = int(sent.to.partition("@")[0].removeprefix("c"))
        self.happens(
            msgspec.structs.replace(
                cart(number, self.now), event_id=events.event_id(self.now, f"delivered-{sent.send_key}"),
                type=EventType.DELIVERED, platform="ses", channel="email", commerce=None,
                send_key=sent.send_key, message_id="m-seen",
            )
        )  # fmt: skip

    def abandons(self, number: int, *, version: int = 1, name: str = "Shoe") -> dict[str, Any]:
        """A cart left alone for its hour; returns the SendQueue message."""
        event = cart(number, self.now - timedelta(hours=1), version=version, name=name)
        self.happens(event)
        person = f"id:c-{number}"
        run = Run(
            trigger="cart-abandonment", person=person, key="cart", version=event.event_id,
            started_at=event.occurred_at, due_at=event.occurred_at + timedelta(hours=1), event=event,
        )  # fmt: skip
        self.booked[person, "cart-abandonment", "cart"] = run
        return message(run)

    def deliverer(self) -> Deliverer:
        def step(port: Any, name: str) -> Any:
            return _Stepping(port, name, self.on_step)

        return Deliverer(
            people=step(self, "people"), runs=step(self, "runs"), decisions=step(self, "decisions"),
            timers=step(self, "timers"), claims=step(self.claims, "claims"), events=step(self.store, "events"),
            published=_Published(self), sender=self.sender, clock=lambda: self.now, links=lambda: self.links,
            recommender=Recommender(self.catalogues),
        )  # fmt: skip

    def deliver(self, request: Mapping[str, Any]) -> Outcome:
        return self.deliverer().deliver(request)

    def drain(self, requests: list[Mapping[str, Any]], *, rng: random.Random | None = None, hours: int = 12) -> None:
        """Deliver until nothing is left: what crashed comes again, and with `rng` some come twice."""
        self.due += [(self.now, request) for request in requests]
        for _ in range(5_000):
            if not self.due:
                return
            self.due.sort(key=lambda entry: entry[0])
            due_at, request = self.due.pop(0)
            self.now = max(self.now, due_at)
            assert self.now < START + timedelta(hours=hours), "never comes to an end"
            if rng and rng.random() < 0.2:
                self.due.append((self.now + timedelta(seconds=rng.randrange(300)), request))
            try:
                self.deliver(request)
            except (Crash, EspialError):
                self.due.append((self.now + timedelta(seconds=60), request))
        pytest.fail("never comes to an end")

    # what came of it

    def mails(self) -> Counter[str]:
        return Counter(mail.to for mail in self.provider.accepted)

    def own(self, number: int = 1) -> list[tuple[str, str]]:
        found = self.store.events_of(PersonKey("id", f"c-{number}"))
        return sorted(
            (event.type.value, event.properties.get("reason", "")) for event in found if event.platform == "espial"
        )

    def state(self, number: int = 1) -> str:
        return self.booked[f"id:c-{number}", "cart-abandonment", "cart"].state


class _Published:
    version = ""

    def __init__(self, world: World) -> None:
        self.trigger = lambda name, version="": world.trigger(name)
        self.template = lambda name, version="": world.template(name)
        self.triggers, self.version = lambda: [world.definition], ""
        self.provider = lambda _name: world.settings


class _Stepping:
    """A port that tells the story before and after every call."""

    def __init__(self, port: Any, name: str, on_step: Callable[[str], None]) -> None:
        self._port, self._name, self._on_step = port, name, on_step

    def __getattr__(self, method: str) -> Any:
        def call(*args: Any, **kw: Any) -> Any:
            self._on_step(f"before {self._name}.{method}")
            answer = getattr(self._port, method)(*args, **kw)
            self._on_step(f"after {self._name}.{method}")
            return answer

        return call


def steps_of(tell: Callable[[World], None]) -> list[str]:
    """The steps that one whole delivery takes."""
    world = World()
    steps: list[str] = []
    world.on_step = steps.append
    tell(world)
    return steps


def one_mail(world: World) -> None:
    world.deliver(world.abandons(1))


STEPS = steps_of(one_mail)


def test_one_mail_and_its_books():
    """The person gets it, the event and the decision say so, the run is over."""
    world = World()
    assert Outcome("sent", "sent", "cart-abandonment") == world.deliver(world.abandons(1))
    assert {"c1@example.com": 1} == world.mails()
    assert [("message_requested", "")] == world.own()
    assert [("send", "all_rules_hold")] == world.decided
    assert "sent" == world.state()


def test_the_mail_itself():
    """Last contents, header-safe addresses, one-click unsubscribe with the occasion's own link."""
    world = World()
    request = world.abandons(1, name="Blue <shoe>")
    world.deliver(request)
    mail = world.provider.accepted[0]
    key = Occasion("id:c-1", "cart-abandonment", "cart", request["version"]).send_key
    link = f"https://shop.example.com/u?m={key}"
    assert "Hello, your cart" == mail.subject
    assert "The shop <shop@example.com>" == mail.from_
    assert "help@example.com" == mail.reply_to
    assert f"<p>Blue &lt;shoe&gt;</p><a href='{link}'>x</a>" == mail.html
    assert f"Blue <shoe> {link}" == mail.text
    assert {"List-Unsubscribe": f"<{link}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"} == mail.headers
    assert key == mail.send_key
    assert {"trigger": "cart-abandonment", "template": "reminder"} == mail.tags


def test_transactional_mail_carries_no_unsubscribe():
    """RFC 8058 headers are for marketing only (goal 58)."""
    world = World()
    world.compiled = {**TEMPLATE, "category": "transactional", "sha": "reminder-2"}
    world.deliver(world.abandons(1))
    assert {} == world.provider.accepted[0].headers


def test_the_same_message_twice_is_one_mail():
    """Queues deliver at least once."""
    world = World()
    request = world.abandons(1)
    world.deliver(request)
    assert "sent" == world.deliver(request).what, "the claim answers for the first"
    assert {"c1@example.com": 1} == world.mails()
    assert [("message_requested", "")] == world.own()


@pytest.mark.parametrize("step", range(len(STEPS)), ids=[f"{i} {name}" for i, name in enumerate(STEPS)])
def test_a_crash_at_any_step_ends_the_same(step):
    """Exactly one mail and one set of books, unless the crash hid whether the provider was called."""
    world = World()
    request = world.abandons(1)
    left = iter(range(len(STEPS)))

    def crash(_name: str) -> None:
        if next(left, None) == step:
            raise Crash

    world.on_step = crash
    world.drain([request])
    claimed = STEPS.index("after claims.claim")
    hidden = claimed <= step < STEPS.index("after claims.sent")
    if hidden and not world.provider.accepted:
        assert [("message_skipped", "outcome_unknown")] == world.own()
        assert "skipped" == world.state()
    elif hidden:
        assert {"c1@example.com": 1} == world.mails()
        assert [("message_skipped", "outcome_unknown")] == world.own()
    else:
        assert {"c1@example.com": 1} == world.mails()
        assert [("message_requested", "")] == world.own()
        assert "sent" == world.state()
    later = world.abandons(1, version=2)
    world.on_step = lambda _name: None
    before = sum(world.mails().values())
    world.drain([later], hours=24)
    assert before + 1 == sum(world.mails().values()), "a crash muted the person"


STAGED = {**TRIGGER, "wait": "0s", "stages": [{"after": "1h"}, {"after": "2h"}, {"after": "5h"}]}


def a_series(world: World) -> None:
    world.provider.idempotent = True
    world.drain([world.abandons(1)])


def steps_of_a_series() -> list[str]:
    world = World(STAGED)
    steps: list[str] = []
    world.on_step = steps.append
    a_series(world)
    return steps


@pytest.mark.parametrize("step", range(len(steps_of_a_series())))
def test_a_crash_at_any_step_of_a_series_sends_each_stage_once(step):
    """No stage is lost, none is sent twice, and they keep their times but for the minute of the retry."""
    world = World(STAGED)
    left = iter(range(step + 1))

    def crash(_name: str) -> None:
        if next(left, None) == step:
            raise Crash

    world.on_step = crash
    a_series(world)
    own = [event for event in world.store.events_of(PersonKey("id", "c-1")) if event.platform == "espial"]
    assert [EventType.MESSAGE_REQUESTED] * 3 == [event.type for event in own]
    assert [0, 1, 2] == [event.properties.get("stage", 0) for event in own]
    assert {"c1@example.com": 3} == world.mails()
    assert 3 == len({mail.send_key for mail in world.provider.accepted})
    for hours, event in zip((0, 1, 4), own, strict=True):
        assert timedelta(0) <= event.occurred_at - START - timedelta(hours=hours) <= timedelta(minutes=4)
    assert "sent" == world.state()


@pytest.mark.parametrize("step", range(len(STEPS)), ids=[f"{i} {name}" for i, name in enumerate(STEPS)])
def test_a_purchase_recorded_before_hand_off_stops_the_mail(step):
    """Wherever it lands: no mail after a recorded purchase, and the reason is on record."""
    world = World()
    request = world.abandons(1)
    left = iter(range(len(STEPS)))
    handed_over = STEPS.index("before claims.sent")

    def buy(_name: str) -> None:
        if next(left, None) == step:
            world.happens(order(1, world.now))

    world.on_step = buy
    world.drain([request])
    last_look = max(index for index, name in enumerate(STEPS[:handed_over]) if name == "before people.load")
    if step <= last_look:
        assert {} == world.mails()
        assert [("message_skipped", "purchased")] == world.own()
        assert "exited" == world.state()
    else:
        assert {"c1@example.com": 1} == world.mails()
        assert ("message_requested", "") in world.own()


def test_the_last_thing_before_hand_off_is_the_look_at_the_person():
    """Nothing that takes time stands between the decision and the call."""
    assert "after people.load" == STEPS[STEPS.index("before claims.sent") - 1]


def simulate(seed: int, *, trigger: Mapping[str, Any] = TRIGGER, idempotent: bool = False, people: int = 4) -> World:
    """People, crashes, duplicates and an unreliable provider, by the seed."""
    rng = random.Random(seed)
    moods = ["ok", "ok", "busy", "lost", "accepts in silence", "dies"]
    world = World(trigger)
    world.provider = Provider(
        world, mood=lambda: rng.choice(moods), talkative=lambda: rng.random() < 0.7, idempotent=idempotent
    )
    rate = rng.choice([0.0, 0.01, 0.05])

    def crash(_name: str) -> None:
        if rng.random() < rate:
            raise Crash

    world.on_step = crash
    world.drain([world.abandons(number) for number in range(people)], rng=rng)
    return world


@given(st.integers(0, 2**32))
@settings(max_examples=200)
def test_never_two_and_never_a_silent_none(seed):
    """Whatever crashes, repeats or stays silent: one mail, or none with the reason."""
    world = simulate(seed)
    for number in range(4):
        mails = world.mails()[f"c{number}@example.com"]
        own = world.own(number)
        assert mails <= 1
        reported = any(event.platform == "ses" for event in world.store.events_of(PersonKey("id", f"c-{number}")))
        if mails and reported:
            assert [("message_requested", "")] == own, "the provider's own event shows that it was sent"
        elif mails == 0:
            assert [("message_skipped", "outcome_unknown")] == own
        else:
            assert own in ([("message_requested", "")], [("message_skipped", "outcome_unknown")])
        assert world.state(number) in ("sent", "skipped")


@given(st.integers(0, 2**32))
@settings(max_examples=60)
def test_with_an_idempotent_provider_everybody_gets_exactly_one(seed):
    """The vendor's own key makes an unknown outcome a matter of asking again."""
    world = simulate(seed, idempotent=True)
    for number in range(4):
        assert 1 == world.mails()[f"c{number}@example.com"]
        assert [("message_requested", "")] == world.own(number)


@given(st.integers(0, 2**32))
@settings(max_examples=60)
def test_resending_reaches_everybody(seed):
    """A trigger that may rather send twice than not at all: at most as many as attempts, never for ever."""
    world = simulate(seed, trigger={**TRIGGER, "send": {**TRIGGER["send"], "unknown_outcome": "resend"}})
    for number in range(4):
        assert world.mails()[f"c{number}@example.com"] <= 3
        assert world.own(number)


@given(st.integers(0, 2**32))
@settings(max_examples=50)
def test_nobody_is_muted_by_what_went_wrong_before(seed):
    """The next cart that is left alone is reminded of, whatever became of the last."""
    world = simulate(seed)
    before = world.mails()
    world.provider.mood, world.on_step = (lambda: "ok"), (lambda _name: None)
    world.now += timedelta(hours=1)
    world.drain([world.abandons(number, version=2) for number in range(4)], hours=48)
    for number in range(4):
        assert before[f"c{number}@example.com"] + 1 == world.mails()[f"c{number}@example.com"]


def test_the_providers_own_event_settles_an_unknown_outcome():
    """Evidence is looked for before anything is given up, and the receipt is the provider's."""
    world = World()
    world.provider = Provider(world, mood=lambda: "accepts in silence", talkative=lambda: True)
    assert "sent" == world.deliver(world.abandons(1)).what
    requested = [e for e in world.store.events_of(PersonKey("id", "c-1")) if e.type == "message_requested"]
    assert ["m-seen"] == [event.properties["provider_message_id"] for event in requested]


def test_without_evidence_it_is_given_up_after_the_window():
    """Asked again each minute for fifteen, then skipped, with the reason, and never sent again."""
    world = World()
    world.provider = Provider(world, mood=lambda: "lost")
    world.drain([world.abandons(1)])
    assert 1 == world.provider.calls
    assert START + timedelta(minutes=15) == world.now
    assert [("message_skipped", "outcome_unknown")] == world.own()


@pytest.mark.parametrize("accepted", [True, False])
def test_what_may_have_gone_is_not_booked_as_skipped_because_of_what_came_after(accepted):
    """A call is lost, then the person buys: it is not repeated, nor booked by the purchase; events may tell yet."""
    world = World()
    moods = iter(["accepts in silence" if accepted else "lost"])
    world.provider = Provider(world, mood=lambda: next(moods), idempotent=True)
    request = world.abandons(1)
    assert "repeating_with_the_same_key" == world.deliver(request).reason
    world.happens(order(1, world.now))
    if accepted:
        world.report(world.provider.accepted[0])
    world.drain([])
    assert 1 == world.provider.calls
    assert [("message_requested", "") if accepted else ("message_skipped", "outcome_unknown")] == world.own()


def test_a_busy_provider_is_asked_again():
    """A throttle costs time, not the mail."""
    world = World()
    moods = iter(["busy", "busy", "ok"])
    world.provider = Provider(world, mood=lambda: next(moods))
    assert "provider_busy" == world.deliver(world.abandons(1)).reason
    world.drain([])
    assert {"c1@example.com": 1} == world.mails()
    assert [("message_requested", "")] == world.own()


def test_a_refusal_is_an_event_with_its_reason_and_no_storm():
    """The provider's no is final: one call, one skipped event."""
    world = World()
    world.provider = Provider(world, mood=lambda: "refuses")
    request = world.abandons(1)
    world.drain([request, request])
    assert 1 == world.provider.calls
    assert [("message_skipped", "message_rejected")] == world.own()
    assert ("skip", "message_rejected") in world.decided


def _no_name(world: World) -> None:
    world.compiled = {**TEMPLATE, "subject": "{{ person.shoe_size }}", "sha": "reminder-3"}


def _no_way_out(world: World) -> None:
    world.settings = {name: value for name, value in PROVIDER.items() if name != "unsubscribe_url"}


def _no_headers(world: World) -> None:
    world.provider.features = frozenset()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_no_name, "template_variable_missing"),
        (_no_way_out, "no_unsubscribe_url"),
        (_no_headers, "provider_lacks_feature"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_skipped_with_the_reason(spoil, reason):
    """No half mail leaves, and the provider is not called."""
    world = World()
    spoil(world)
    world.drain([world.abandons(1)])
    assert 0 == world.provider.calls
    assert [("message_skipped", reason)] == world.own()


PAGES = MailLinks("https://pages.example.com", b"0123456789abcdef")


def test_a_provider_without_a_page_uses_ours():
    """The header and the body hold one link, which names the person, the mail and the trigger's topic."""
    world = World({**TRIGGER, "consent": {"channel": "email", "topic": "offers", "opt_in": False}})
    _no_way_out(world)
    world.links = PAGES
    world.drain([world.abandons(1)])
    (mail,) = world.provider.accepted
    url = mail.headers["List-Unsubscribe"].strip("<>")
    assert url in mail.html
    assert url in mail.text
    said = unseal("u", url.removeprefix("https://pages.example.com/u/"), (PAGES.secret,))
    assert (Reader("id:c-1", "c1@example.com", mail.send_key, "email", "offers"), "") == reader_of("u", said)


def test_an_address_that_the_event_alone_names_is_not_tied_to_the_person():
    """A friend who unsubscribes says nothing of whose address is whose."""
    world = World({**TRIGGER, "send": {**TRIGGER["send"], "to": "'friend@example.com'"}})
    _no_way_out(world)
    world.links = PAGES
    world.drain([world.abandons(1)])
    url = (
        world.provider.accepted[0].headers["List-Unsubscribe"].strip("<>").removeprefix("https://pages.example.com/u/")
    )
    assert ["id:c-1", ""] == unseal("u", url, (PAGES.secret,))[:2]


def test_links_are_tracked_only_where_the_trigger_asks():
    """And lead to where they led; what is not asked for stays."""
    html = "<a href='https://shop.example.com/?a=1&amp;b=2'>x</a><a href='{{ unsubscribe_url }}'>y</a>"
    for track, found in (((), 0), (("opens",), 0), (("links",), 1), (("links", "opens"), 1)):
        world = World({**TRIGGER, "send": {**TRIGGER["send"], "track": track}})
        world.compiled = {**TEMPLATE, "html": html, "sha": "tracked-1"}
        world.links = PAGES
        world.drain([world.abandons(1)])
        (mail,) = world.provider.accepted
        assert found == mail.html.count("https://pages.example.com/c/")
        assert ("opens" in track) == ("https://pages.example.com/o/" in mail.html)
        assert f"https://shop.example.com/u?m={mail.send_key}" in mail.html


@pytest.mark.parametrize("said", [{"consent": {"tracking": False}}, {"do_not_track": True}])
def test_whoever_refuses_is_not_tracked(said):
    """By consent or by an attribute of theirs."""
    world = World({**TRIGGER, "send": {**TRIGGER["send"], "track": ["links", "opens"]}})
    world.compiled = {
        **TEMPLATE,
        "html": "<a href='https://shop.example.com/'>x</a>{{ unsubscribe_url }}",
        "sha": "t-2",
    }
    world.links = PAGES
    request = world.abandons(1)
    world.happens(
        msgspec.structs.replace(
            cart(1, world.now - timedelta(hours=2)), event_id=events.event_id(world.now, "said"), commerce=None,
            type=EventType.PROFILE_UPDATED, properties={"traits": said},
        )
    )  # fmt: skip
    world.drain([request])
    assert "pages.example.com" not in world.provider.accepted[0].html


@pytest.mark.parametrize("required", [True, False])
def test_a_mail_without_recommendations_is_skipped_or_shows_its_own_block(required):
    """As the template says; with a catalogue it shows what is sold, at the price of the moment."""
    html = "{% for one in recommendations %}{{ one.name }} {{ one.price }}{% else %}nothing{% endfor %}"
    wanted = {"catalogue": "shop", "count": 1, "fallback": [], "max_age": "1d", "required": required}
    for loads in (False, True):
        world = World()
        world.compiled = {**TEMPLATE, "html": html, "recommendations": wanted, "sha": "recommending-1"}
        if loads:
            row = {"id": "p-1", "name": "Laces", "price": "2.50", "url": "https://shop.example.com/p-1"}
            load_catalogue("shop", [row], world.catalogues, as_of=START, now=START)
        world.drain([world.abandons(1)])
        if required and not loads:
            assert [("message_skipped", "no_recommendations")] == world.own()
        else:
            assert ("Laces 2.5" if loads else "nothing") in world.provider.accepted[0].html


def test_a_message_that_comes_early_is_set_again():
    """A timer left over from before the cart was edited fires early: the run moves its timer on."""
    world = World()
    request = world.abandons(1)
    world.now -= timedelta(minutes=30)
    assert Outcome("waiting", "not_due", "cart-abandonment") == world.deliver(request)
    assert [START] == [due for due, _ in world.due]
    assert START == world.booked["id:c-1", "cart-abandonment", "cart"].timer_at
    world.drain([])
    assert {"c1@example.com": 1} == world.mails()


def test_an_old_timer_serves_the_newer_version():
    """An edited cart's mail shows its last contents, whichever timer fires."""
    world = World()
    old = world.abandons(1, name="Old")
    world.now += timedelta(minutes=10)
    world.abandons(1, version=2, name="New")
    world.drain([old, old])
    assert ["<p>New</p>"] == [mail.html.partition("<a")[0] for mail in world.provider.accepted]


def test_a_mail_that_went_out_is_booked_although_the_cart_was_edited_meanwhile():
    """A crash between sending and booking does not lose the books, nor the newer version's own mail."""
    world = World()
    world.provider.mood = iter(["dies", "ok"]).__next__
    world.provider.talkative = lambda: True
    request = world.abandons(1)
    with pytest.raises(Crash):
        world.deliver(request)
    world.now += timedelta(minutes=5)
    world.abandons(1, version=2)
    world.drain([request])
    assert [("message_requested", "")] * 2 == world.own()
    assert {"c1@example.com": 2} == world.mails()


def test_an_old_message_does_not_book_a_newer_mail_on_its_way_as_skipped():
    """The newer version's call died with its answer; then the person buys, and the older version's message comes."""
    world = World()
    old = world.abandons(1)
    world.now += timedelta(minutes=10)
    new = world.abandons(1, version=2)
    world.provider.mood = lambda: "dies"
    with pytest.raises(Crash):
        world.deliver(new)
    world.happens(order(1, world.now))
    assert Outcome("waiting", "in_progress", "cart-abandonment") == world.deliver(old)
    assert [] == world.own()
    assert "waiting" == world.state()


@pytest.mark.parametrize("what", ["run", "trigger"])
def test_what_is_gone_asks_for_nothing(what):
    """A message of a run or trigger that no longer exists is done with."""
    world = World()
    request = world.abandons(1)
    if what == "run":
        world.booked.clear()
    else:
        request = {**request, "trigger": "removed"}
    assert "nothing" == world.deliver(request).what
    assert 0 == world.provider.calls


def test_a_removed_trigger_says_so_of_every_run_it_leaves():
    """Nobody is skipped in silence (guarantee 6): one event with the reason, and the run is over."""
    world = World()
    request = world.abandons(1)
    world.definition = Trigger.model_validate({**TRIGGER, "name": "another"})
    outcomes = [world.deliver(request) for _ in range(2)]
    assert [("skipped", "trigger_removed"), ("nothing", "trigger_removed")] == [(o.what, o.reason) for o in outcomes]
    assert [("message_skipped", "trigger_removed")] == world.own()
    assert "skipped" == world.state()


def test_a_removed_trigger_does_not_call_a_mail_on_its_way_skipped():
    """The claim knows better than the definitions."""
    world = World()
    world.provider.mood = lambda: "lost"
    request = world.abandons(1)
    world.deliver(request)
    world.definition = Trigger.model_validate({**TRIGGER, "name": "another"})
    assert "nothing" == world.deliver(request).what
    assert [] == world.own()


def test_a_skip_is_told_with_the_same_time_however_often_it_is_told():
    """A crash between the event and the end of the run, then a retry by another clock: the same event to the letter."""
    told = []
    for delay in (timedelta(0), timedelta(minutes=3)):
        world = World()
        world.provider.mood = lambda: "refuses"
        request = world.abandons(1)
        world.now += delay
        world.deliver(request)
        found = world.store.events_of(PersonKey("id", "c-1"))
        told.append([events.encode(event) for event in found if event.platform == "espial"])
    assert 1 == len(told[0])
    assert told[0] == told[1]


@pytest.mark.parametrize("release_too", [False, True])
def test_an_outage_of_the_store_before_the_call_frees_the_claim(release_too):
    """Nothing was handed over, so nobody waits for a lease, not even if the claim cannot be given back at once."""
    world = World()
    request = world.abandons(1)
    loads = iter([False, True])

    def away(name: str) -> None:
        if (name == "before people.load" and next(loads, False)) or (name == "before claims.release" and release_too):
            raise TryAgain("throttled", after=1)

    world.on_step = away
    assert Outcome("waiting", "person_unreadable", "cart-abandonment") == world.deliver(request)
    assert [1] * release_too == [message["unsent"] for _, message in world.due if "unsent" in message]
    world.on_step = lambda _name: None
    world.drain([])
    assert {"c1@example.com": 1} == world.mails()
    assert START + timedelta(seconds=1) == world.now


def test_what_was_given_back_by_way_of_the_queue_is_given_back_once():
    """The message that says so is delivered again, after the mail: nothing is sent twice."""
    world = World()
    request = world.abandons(1)
    given_back = {**request, "unsent": 1}
    world.claims.claim("id:c-1", Occasion("id:c-1", "cart-abandonment", "cart", request["version"]).send_key,
                       now=world.now, lease=timedelta(minutes=2))  # fmt: skip
    assert ["sent", "sent", "sent"] == [world.deliver(given_back).what for _ in range(3)]
    assert {"c1@example.com": 1} == world.mails()


@given(st.integers(0, 2**32))
@settings(max_examples=200)
def test_throttles_before_the_call_cost_time_and_no_mail(seed):
    """Whichever calls the table refuses, everybody gets their mail: no claim is left to nobody."""
    rng = random.Random(seed)
    world = World()
    rate = rng.choice([0.1, 0.3, 0.5])

    def throttled(name: str) -> None:
        table = name.startswith("before ") and name not in ("before timers.at", "before claims.sent")
        if table and world.now < START + timedelta(minutes=30) and rng.random() < rate:
            raise TryAgain("throttled")

    world.on_step = throttled
    world.drain([world.abandons(number) for number in range(3)])
    for number in range(3):
        assert 1 == world.mails()[f"c{number}@example.com"]
        assert [("message_requested", "")] == world.own(number)
        assert "sent" == world.state(number)


def test_a_copy_that_skips_never_meets_a_copy_that_sends():
    """A purchase between two deliveries of one message: never a mail and a skip."""
    for copies in range(len(STEPS)):
        world = World()
        request = world.abandons(1)
        left = iter(range(len(STEPS)))

        def beside(_name: str, world=world, request=request, left=left, copies=copies) -> None:
            if next(left, None) == copies:
                world.happens(order(1, world.now))
                world.deliver(request)

        world.on_step = beside
        world.drain([request])
        reasons = {kind for kind, _ in world.own()}
        assert 1 == len(reasons), f"both at {STEPS[copies]}"
        assert ("message_requested" in reasons) == bool(world.mails())


def test_log_fields_name_nobody():
    """No address and no person in a log line."""
    fields = World().deliver(World().abandons(1)).log_fields()
    assert {"outcome", "reason", "trigger"} == set(fields)
