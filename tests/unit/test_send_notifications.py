"""From what waits to the receiver: payloads, proofs, retries, and every crash in between."""

from __future__ import annotations

import random
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from espial import events
from espial.answers import Answer
from espial.errors import AnswerLost, Refused, TryAgain
from espial.events import Campaign, Link, Person
from espial.notifications.definition import DestinationDefinition
from espial.notifications.facts import facts
from espial.notifications.outbox import Health, Notification
from espial.notifications.payloads import OTHERS, form
from espial.notifications.retries import BREAK, WAITS, Verdict, after, again_at, judged, masked
from espial.notifications.signatures import signed
from espial.notifications.triggers import TRIGGERS
from espial.services.send_notifications import Poster, off
from espial.sources import _pure360_fields as fields
from espial.vocabulary import EventType
from tests.builders import NOON, an_event
from tests.feeding import Killed
from tests.notifying import FakeConditions, FakeEvidence, FakeOutbox, a_notification

SECRETS = {
    "secretsmanager:espial/one": b"whsec_" + b64encode(bytes(range(32))),
    "secretsmanager:espial/two": b"whsec_" + b64encode(bytes(range(40, 72))) + b"\n",
    "secretsmanager:espial/ed": b"whsk_" + b64encode(bytes(range(1, 33))),
    "secretsmanager:espial/token": b"s3cret-token",
    "secretsmanager:espial/wrong": b"no-secret",
}
HTTP = {"url": "https://crm.example.com/events", "secrets": ["secretsmanager:espial/one"], "concurrency": 1}


def a_destination(name: str = "crm", **fields: Any) -> DestinationDefinition:
    http = {**HTTP, **fields.pop("http", {})}
    return DestinationDefinition.model_validate(
        {"name": name, "process": "http", "on": ["OPEN"], "http": http} | fields
    )


class Receiver:
    """The other side: what it got, and what it answers."""

    def __init__(self, answers: Callable[[str], Answer | Exception] = lambda _: Answer(200)) -> None:
        self.got: list[tuple[str, Mapping[str, str], bytes]] = []
        self.answers = answers
        self.trouble: Callable[[], None] = lambda: None

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b"", seconds: float = 10.0
    ) -> Answer:
        assert (method, seconds) == ("POST", 15.0)
        self.trouble()
        self.got.append((url, headers or {}, body))
        self.trouble()
        answer = self.answers((headers or {})["x-notification-id"])
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def ids(self) -> list[str]:
        return [headers["x-notification-id"] for _, headers, _ in self.got]


def secret(reference: str) -> bytes:
    if reference not in SECRETS:
        raise TryAgain(f"{reference} cannot be read")
    return SECRETS[reference]


class World:
    """A worker's ports. Time passes only where it is told to, and where the pace is kept."""

    def __init__(self, receiver: Receiver | None = None, count: int = 0) -> None:
        self.now = NOON
        self.trouble: Callable[[], None] = lambda: None
        self.left = 280.0
        self.slept = 0.0
        self._tokens = 0
        self.woken: list[tuple[Any, ...]] = []

        def call() -> None:
            self.trouble()

        self.receiver = receiver or Receiver()
        self.receiver.trouble = call
        self.outbox, self.evidence, self.conditions = FakeOutbox(call), FakeEvidence(call), FakeConditions(call)
        self.put = [a_notification(str(n), put_at=NOON + timedelta(milliseconds=n)) for n in range(count)]
        self.outbox.put(self.put)

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def token(self) -> str:
        self._tokens += 1
        return f"a{self._tokens}"

    def work(
        self, destination: DestinationDefinition | None = None, *, later: timedelta = timedelta(0)
    ) -> Counter[str]:
        self.now += later
        return Poster(
            outbox=self.outbox,
            evidence=self.evidence,
            conditions=self.conditions,
            http=self.receiver,
            secret=secret,
            clock=lambda: self.now,
            time_left=lambda: self.left,
            chance=lambda: 0.5,
            token=self.token,
            wake=lambda names, after: self.woken.append((*names, after)),
            sleep=self.sleep,
            monotonic=lambda: self.slept,
        ).work(destination or a_destination())

    @property
    def health(self) -> Health:
        return self.conditions.health("crm")

    def states(self) -> Counter[str]:
        return Counter(self.outbox.states("crm").values())


# -- proofs


@settings(max_examples=1000)
@given(st.text(max_size=200), st.uuids())
def test_the_reference_library_verifies_what_is_signed(text, known):
    """With each secret of an overlap, and with none that is not of it."""
    overlap = [SECRETS[f"secretsmanager:espial/{name}"].decode() for name in ("one", "two", "ed")]
    body = msgspec.json.encode({"a": text})
    headers = dict(signed(str(known), int(time.time()), body, overlap))
    for secret in overlap[:2]:
        assert Webhook(secret.strip()).verify(body.decode(), headers) == {"a": text}
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + b64encode(bytes(32)).decode()).verify(body.decode(), headers)


def test_an_ed25519_signature_is_of_id_time_and_body():
    from base64 import b64decode

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    headers = signed("msg-1", 1_700_000_000, b'{"a":1}', [SECRETS["secretsmanager:espial/ed"].decode()])
    kind, _, mark = headers["webhook-signature"].partition(",")
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))).public_key()
    key.verify(b64decode(mark), b'msg-1.1700000000.{"a":1}')
    assert kind == "v1a"


@pytest.mark.parametrize("secret", ["s3cret", "whsec_", "whsec_%%%", "whsec_" + "YQ==", "whsk_" + "YQ=="])
def test_what_is_no_secret_signs_nothing(secret):
    with pytest.raises(Refused, match="bad_secret"):
        signed("m", 1, b"", [secret])


# -- payloads


def test_an_open_as_pureresponse_posts_it():
    """The published order of keys; dates are Unix seconds, custom fields under their own names."""
    event = an_event(
        campaign=Campaign(id="4711", name="Autumn Offer"),
        properties={
            "delivery_date": "2026-11-20T10:00:00Z",
            "device": {"os": "iOS"},
            "traits": {"City": "Leeds", "x": 1},
        },
    )
    pairs = parse_qsl(form(a_notification(event=event), "", "shop", ("City",)).decode(), keep_blank_values=True)
    assert pairs == [
        ("type", "OPEN"),
        ("Event_date", "1795176000"),
        ("email", "ada@example.com"),
        ("mobile", ""),
        ("messageName", "Autumn Offer"),
        ("deliveryDate", "1795168800"),
        ("device_type", ""),
        ("device_OS", "iOS"),
        ("device_Browser", ""),
        ("Delivery_ID", "4711"),
        ("City", "Leeds"),
        ("notificationSubject", "shop"),
    ]


def test_a_delivery_lists_its_lists():
    event = an_event(type=EventType.DELIVERY_COMPLETED, properties={"lists": ["a", "b"], "messages_sent": 7})
    pairs = parse_qsl(
        form(a_notification(event=event, trigger="DELIVERY"), "Shop", "", "*").decode(), keep_blank_values=True
    )
    assert [value for name, value in pairs if name == "List_Names[]"] == ["a", "b"]
    assert {("Profile", "Shop"), ("Emails_Sent_/_Credits_Used", "7")} <= {*pairs}


def test_every_trigger_has_its_fields_and_every_field_a_fact():
    known = {*facts(a_notification(), "p"), "notificationsubject"}
    assert set(fields.TRIGGERS) == set(TRIGGERS)
    named = {name for names in (*fields.TRIGGERS.values(), OTHERS) for name in names} - {fields.CUSTOM}
    assert {fields.plain(name) for name in named} <= known


def test_our_own_listener_reads_what_is_posted():
    """PureResponse's notifications are a source of ours: what we post comes back as the same event."""
    from espial import sources
    from espial.normalise import normalise
    from espial.sources.pure360 import report
    from tests.builders import an_arrival

    event = an_event(
        type=EventType.CLICKED,
        campaign=Campaign(id="4711", name="Autumn"),
        link=Link(url="https://shop.example.com/a?b=1"),
    )
    posted = parse_qsl(form(a_notification(event=event, trigger="CLICK"), "Shop", "", "*").decode())
    read = normalise(sources.load("pure360"), report(posted), an_arrival()).event
    assert (read.type, read.person.email, read.link, read.occurred_at) == (
        event.type,
        event.person.email,
        event.link,
        event.occurred_at,
    )


def test_what_is_posted_as_json_is_the_event_and_verifies():
    world = World(count=1)
    destination = a_destination(
        subject="hello", http={"token": "secretsmanager:espial/token", "headers": {"X-Team": "crm"}}
    )
    assert world.work(destination) == {"delivered": 1, "given_up": 0}
    [(url, headers, body)] = world.receiver.got
    assert url == "https://crm.example.com/events"
    assert headers["authorization"] == "Bearer s3cret-token"
    assert (headers["X-Team"], headers["webhook-id"]) == ("crm", world.put[0].id)
    content = msgspec.json.decode(body)
    assert (content["id"], content["type"], content["subject"]) == (world.put[0].id, "OPEN", "hello")
    assert events.decode(msgspec.json.encode(content["data"])) == world.put[0].event


# -- answers


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((status, "delivered") for status in (200, 202, 204)),
        *((status, "refused") for status in (400, 413, 415, 422)),
        *((status, "failed") for status in (301, 302, 307, 401, 403, 404, 408, 425, 429, 500, 502, 503, 504)),
        (410, "gone"),
    ],
)
def test_what_an_answer_means(status, outcome):
    assert judged(Answer(status), NOON).outcome == outcome


def test_nobody_s_address_and_no_secret_is_kept_of_an_answer():
    shown = masked(
        b'{"to": "ada@example.com", "phone": "+1 555 0100 200", "key": "whsec_abc", "t": "aaaaaaaaaaaaaaaaaaaaaaaa",'
        b' "auth": "Bearer x.y"} too late' + b"x " * 5000
    )
    assert "too late" in shown
    assert len(shown) == 500
    for hidden in ("ada", "555", "whsec", "aaaa", "x.y"):
        assert hidden not in shown


@given(st.floats(0, 1), st.integers(0, 40), st.integers(60, 864_000))
def test_it_is_never_tried_early_nor_longer_than_is_set(chance, attempts, seconds):
    retry_for = timedelta(seconds=seconds)
    again = again_at(attempts, retry_for, NOON, 0.0, lambda: chance)
    waits = [WAITS[min(n, len(WAITS) - 1)] for n in range(attempts + 1)]
    if sum(waits, timedelta(0)) > retry_for:
        assert again is None
    else:
        assert again is not None
        assert waits[-1] <= again - NOON <= waits[-1] * 1.2 + timedelta(microseconds=1)


def test_retry_after_is_waited_for():
    world = World(Receiver(lambda _: Answer(429, {"retry-after": "120"})), count=2)
    assert world.work() == {"failed": 1, "given_up": 0}
    assert (world.health.state, world.health.probe_at) == ("probing", NOON + timedelta(seconds=120))
    assert world.work(later=timedelta(seconds=119)) == {}
    world.receiver.answers = lambda _: Answer(200)
    assert world.work(later=timedelta(seconds=1))["delivered"] == 2
    assert world.health == Health(destination="crm")


def test_what_fails_comes_again_when_its_plan_says():
    world = World(Receiver(lambda _: Answer(500)), count=1)
    gaps = []
    for _ in range(4):
        assert world.work()["failed"] == 1
        [attempt, *_] = world.evidence.of("crm")
        assert attempt.again_at
        gaps.append((attempt.again_at - world.now).total_seconds())
        assert world.work(later=timedelta(seconds=gaps[-1] - 1)) == {}
        world.now += timedelta(seconds=1)
    assert gaps == [5.5, 33, 132, 660]
    assert world.woken == [("crm", 5.5), ("crm", 33.0)]  # the rest is done by the clock
    assert world.states() == {"waiting": 1}


def test_a_plan_that_is_over_is_given_up_visibly_and_can_be_replayed():
    world = World(Receiver(lambda _: Answer(500)), count=1)
    destination = a_destination(http={"retry_for": "1m"})
    assert world.work(destination) == {"failed": 1, "given_up": 0}
    assert world.work(destination, later=timedelta(seconds=6)) == {"failed": 1, "given_up": 0}
    assert world.work(destination, later=timedelta(seconds=40)) == {"failed": 1, "given_up": 1}
    assert world.states() == {"given_up": 1}
    world.receiver.answers = lambda _: Answer(200)
    world.outbox.replay("crm", [world.put[0].id], now=world.now)
    world.outbox.replay("crm", [world.put[0].id], now=world.now)
    assert world.work(destination)["delivered"] == 1
    assert world.receiver.got[-1][1]["espial-replay"] == "2"
    assert [one.replay for one in world.evidence.of("crm")] == [True, False, False, False]
    assert len({one.id for one in world.evidence.of("crm")}) == 4


def test_a_refusal_of_one_holds_up_no_other():
    world = World(count=3)
    refused = world.put[1].id
    world.receiver.answers = lambda known: Answer(422) if known == refused else Answer(200)
    assert world.work() == {"delivered": 2, "refused": 1, "given_up": 1}
    assert world.outbox.states("crm")[refused] == "given_up"
    assert world.health.state == "open"


def test_a_receiver_that_is_gone_is_switched_off_and_what_waits_stays():
    world = World(Receiver(lambda _: Answer(410)), count=5)
    assert world.work() == {"gone": 1, "given_up": 0}
    assert (world.health.state, len(world.receiver.got)) == ("off", 1)
    assert world.work(later=timedelta(days=2)) == {}
    assert world.states() == {"waiting": 5}
    world.conditions.change(world.health, Health(destination="crm"))
    world.receiver.answers = lambda _: Answer(200)
    assert world.work()["delivered"] == 5


def test_a_dead_receiver_is_probed_once_a_minute_and_served_in_order_of_age_when_it_is_well():
    world = World(Receiver(lambda _: TryAgain("refused")), count=50)
    assert world.work()["failed"] == BREAK
    assert world.health.state == "probing"
    calls = len(world.receiver.got)
    for _ in range(60 * 6):
        world.work(later=timedelta(seconds=10))
    assert len(world.receiver.got) - calls <= 60
    assert world.states() == {"waiting": 50}
    world.receiver.answers = lambda _: Answer(200)
    before = len(world.receiver.got)
    world.work(later=timedelta(seconds=61))
    ids = world.receiver.ids[before:]
    untried = [one.id for one in world.put if one.id not in {*world.receiver.ids[:before]}]
    assert [known for known in ids if known in untried] == untried


def test_a_call_that_nobody_may_make_is_a_failure():
    world = World(Receiver(lambda _: Refused("address_not_public", "crm.example.com")), count=1)
    assert world.work()["failed"] == 1
    assert next(world.evidence.of("crm")).reason == "address_not_public"


def test_a_secret_that_cannot_be_read_calls_nobody():
    world = World(count=1)
    assert world.work(a_destination(http={"token": "secretsmanager:espial/away"})) == {}
    assert (world.health.state, world.health.why) == ("probing", "secret_unreadable")
    destination = a_destination(http={"secrets": ["secretsmanager:espial/wrong"]})
    world.now += timedelta(minutes=10)
    assert world.work(destination)["failed"] == 1
    assert world.receiver.got == []
    assert next(world.evidence.of("crm")).reason == "bad_secret"


def test_the_pace_is_kept():
    world = World(count=100)
    world.work(a_destination(http={"rate_limit": 20}))
    assert world.slept == pytest.approx(99 / 20)


def test_time_that_runs_out_gives_back_what_is_left():
    world = World(count=40)
    posted = []

    def answer(known: str) -> Answer:
        posted.append(known)
        world.left -= 10 if len(posted) == 7 else 0
        if len(posted) == 7:
            world.left = 20
        return Answer(200)

    world.receiver.answers = answer
    assert world.work()["delivered"] == 7
    rest = world.outbox.look("crm", 100, now=world.now).notifications
    assert (len(rest), {one.attempts for one in rest}) == (33, {0})


def test_one_worker_at_a_time():
    world = World(count=1)
    holder = world.conditions.enter("crm", now=NOON, until=NOON + timedelta(minutes=5))
    assert world.work() == {"busy": 1}
    world.conditions.leave("crm", holder)
    assert world.work()["delivered"] == 1


@settings(max_examples=150)
@given(st.integers(0, 100_000))
def test_killed_anywhere_each_arrives_and_is_settled_once(seed):
    """At least once, always under the same id; what the receiver took more than once was taken around a crash."""
    rng = random.Random(seed)
    world = World(count=rng.randint(1, 25))
    left = [rng.randint(0, 8)]

    def trouble() -> None:
        if left[0] and rng.random() < 0.04:
            left[0] -= 1
            raise Killed if rng.random() < 0.6 else TryAgain("away")

    def answer(_: str) -> Answer | Exception:
        said = rng.random()
        if said < 0.75 or not left[0]:
            return Answer(200)
        return Answer(rng.choice([500, 503, 429])) if said < 0.9 else AnswerLost("reset")

    world.trouble = trouble
    world.receiver.answers = answer
    destination = a_destination(http={"concurrency": rng.choice([1, 3]), "batch": rng.choice([1, 4])})
    for _ in range(400):
        try:
            world.work(destination, later=timedelta(minutes=rng.choice([1, 3, 11])))
        except (Killed, TryAgain):
            continue
        if not left[0] and world.states() == {"delivered": len(world.put)}:
            break
    assert world.states() == {"delivered": len(world.put)}
    got = [msgspec.json.decode(body) for _, _, body in world.receiver.got]
    arrived = {item["id"] for some in got for item in (some if isinstance(some, list) else [some])}
    assert arrived == {one.id for one in world.put}


# -- definitions


@pytest.mark.parametrize(
    ("http", "problem"),
    [
        ({"url": "http://crm.example.com/"}, "must be an https:// address"),
        ({"url": "https://10.0.0.7/"}, "must be a public address"),
        ({"url": "https://[fd00::1]/"}, "must be a public address"),
        ({"url": "https://169.254.169.254/latest"}, "must be a public address"),
        ({"url": "https://2130706433/"}, "in the usual form"),
        ({"url": "https://0x7f.1/"}, "in the usual form"),
        ({"url": "https://user@crm.example.com/"}, "plain https"),
        ({"secrets": []}, "at least one is needed"),
        ({"secrets": ["whsec_abc"]}, "never the secret itself"),
        ({"retry_for": "11d"}, "to 10 days"),
        ({"timeout": "1m"}, "to 30 seconds"),
        ({"headers": {"Authorization": "x"}}, "filled in by Espial"),
        ({"headers": {"X": "a\nb"}}, "pattern"),
    ],
)
def test_wrong_settings_are_refused(http, problem):
    with pytest.raises(ValidationError) as refused:
        a_destination(http=http)
    assert problem in str(refused.value)


def test_a_form_needs_no_secret():
    assert a_destination(http={"format": "form", "secrets": []}).http.format == "form"


def test_health_by_hand():
    assert off(Health(destination="crm", failures=3), "by hand") == Health(
        destination="crm", state="off", why="by hand"
    )
    assert after(Health(destination="crm", state="off"), [Verdict("delivered", 200)], NOON).state == "off"


# -- batches


BATCHED = {"batch": 50, "concurrency": 2}


def test_a_batch_is_one_call_and_of_it_only_what_was_not_taken_comes_again():
    """The receiver tells three of fifty apart: two to be tried again, one refused."""
    world = World(count=50)
    ids = [one.id for one in world.put]
    said = {ids[3]: 503, ids[9]: 500, ids[20]: 422, "unknown": 500}
    results = {"results": [{"id": known, "status": status} for known, status in said.items()]}
    world.receiver.answers = lambda _: Answer(200, body=msgspec.json.encode(results))
    assert world.work(a_destination(http=BATCHED)) == {"delivered": 47, "failed": 2, "refused": 1, "given_up": 1}
    [(_, headers, body)] = world.receiver.got
    assert [one["id"] for one in msgspec.json.decode(body)] == ids
    secret = SECRETS["secretsmanager:espial/one"].decode()
    assert (
        headers["webhook-signature"]
        == signed(headers["webhook-id"], int(NOON.timestamp()), body, [secret])["webhook-signature"]
    )
    assert len({one.id for one in world.evidence.of("crm")}) == 50
    world.receiver.answers = lambda _: Answer(200, body=b"thanks")
    assert world.work(a_destination(http=BATCHED), later=timedelta(minutes=1)) == {"delivered": 2, "given_up": 0}
    assert [one["id"] for one in msgspec.json.decode(world.receiver.got[-1][2])] == [ids[3], ids[9]]
    assert world.states() == {"delivered": 49, "given_up": 1}


def test_of_a_batch_that_is_refused_each_goes_by_itself():
    world = World(count=5)
    bad = world.put[2].id
    world.receiver.answers = lambda known: Answer(400 if known == bad or known.startswith("batch-") else 200)
    assert world.work(a_destination(http=BATCHED)) == {"delivered": 4, "refused": 1, "given_up": 1}
    assert len(world.receiver.got) == 6


def test_a_batch_that_fails_is_one_failure():
    world = World(Receiver(lambda _: Answer(500)), count=100)
    world.work(a_destination(http=BATCHED))
    assert (world.health.failures, world.health.state, len(world.receiver.got)) == (2, "open", 2)
    assert world.states() == {"waiting": 100}


def test_a_form_holds_one():
    with pytest.raises(ValidationError, match="only json"):
        a_destination(http={"format": "form", "batch": 2})


# -- order


def in_order(**http: Any) -> DestinationDefinition:
    return a_destination(http={"order": "person", "concurrency": 4, "retry_for": "10d", **http})


def happened(count: int, people: int) -> list[Notification]:
    """One a second, of so many people in turn; reported in another order, within the time that is waited for."""
    return [
        a_notification(
            str(number),
            event=an_event(
                str(number),
                occurred_at=NOON + number * timedelta(seconds=1),
                person=Person(email=f"{number % people}@example.com"),
            ),
            due=NOON + number * timedelta(seconds=1),
            put_at=NOON + timedelta(seconds=count, milliseconds=97 * number % 100),
        )
        for number in range(count)
    ]


def test_a_failure_holds_back_its_persons_others_and_nobody_elses():
    world = World()
    world.put = happened(9, people=3)
    world.outbox.put(world.put)
    bad = world.put[0].id
    world.receiver.answers = lambda known: Answer(500 if known == bad else 200)
    world.now = NOON + timedelta(minutes=1)
    world.work(in_order())
    assert sorted(world.receiver.ids) == sorted([bad, *(one.id for n, one in enumerate(world.put) if n % 3)])
    assert world.states() == {"delivered": 6, "waiting": 3}
    world.receiver.answers = lambda _: Answer(200)
    world.receiver.got.clear()
    world.work(in_order(), later=timedelta(minutes=1))
    assert world.receiver.ids == [world.put[number].id for number in (0, 3, 6)]


def test_what_was_given_up_holds_back_nobody():
    world = World()
    world.put = happened(2, people=1)
    world.outbox.put(world.put)
    bad = world.put[0].id
    world.receiver.answers = lambda known: Answer(422 if known == bad else 200)
    world.work(in_order(), later=timedelta(minutes=1))
    assert world.receiver.ids == [one.id for one in world.put]
    assert world.states() == {"delivered": 1, "given_up": 1}


def test_what_happened_before_may_be_reported_a_little_after():
    world = World()
    late, early = (
        a_notification(name, event=an_event(name, person=Person(email="a@example.com")), due=NOON - ago, put_at=put)
        for name, ago, put in (
            ("late", timedelta(seconds=1), NOON),
            ("early", timedelta(seconds=9), NOON + timedelta(seconds=3)),
        )
    )
    world.outbox.put([late])
    assert not world.work(in_order(), later=timedelta(seconds=4))
    world.outbox.put([early])
    assert not world.work(in_order(), later=timedelta(seconds=2))
    world.work(in_order(), later=timedelta(seconds=3))
    assert world.receiver.ids == [early.id, late.id]


@pytest.mark.parametrize("seed", range(200))
def test_the_order_of_each_person_whatever_fails_or_crashes(seed):
    """The first delivery of each is in the order in which they happened; nothing is lost."""
    chance = random.Random(seed)
    world = World()
    world.put = happened(40, people=5)
    world.outbox.put(chance.sample(world.put, 40))
    world.now = NOON + timedelta(minutes=2)

    def trouble() -> None:
        if chance.random() < 0.004:
            raise Killed

    world.trouble = trouble
    taken: dict[str, None] = {}

    def answer(known: str) -> Answer | Exception:
        fate = chance.random()
        if fate < 0.05:
            return AnswerLost("lost")
        if fate < 0.15:
            return Answer(500)
        taken.setdefault(known)
        return Answer(200)

    world.receiver.answers = answer
    for _ in range(2000):
        try:
            world.work(in_order(), later=timedelta(minutes=20))
        except Killed:
            continue
        if set(world.states()) == {"delivered"}:
            break
    assert set(world.states()) == {"delivered"}
    for person in range(5):
        mine = [one.id for number, one in enumerate(world.put) if number % 5 == person]
        assert [known for known in taken if known in mine] == mine


def test_order_and_batches_contradict_each_other():
    with pytest.raises(ValidationError, match="order: only with"):
        in_order(batch=5)
