"""What is peculiar to text message and engagement platforms, each against its simulator."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from liquid import Environment

from espial import senders, sources
from espial.cli.simulate import SENDING, Simulated
from espial.cli.simulators import senders as simulated
from espial.cli.simulators.braze import Reply
from espial.deliveries import Arrival, Connection, RawDelivery
from espial.errors import Refused, TryAgain
from espial.normalise import normalise
from espial.senders import Ways
from espial.senders._campaigns import liquid
from espial.services.deliver import evidence
from tests.contract import engagement
from tests.contract.test_senders import EMAIL, KEY, NOON, SECRET, SMS, World, _running, ways

READ = Environment()


@given(st.text())
@example("{{ person.secret }} {% assign x = 1 %}{{{% raw %}{%- endraw -%}")
@example("{{ '{' }}{{")
def test_data_are_no_instructions_where_the_platform_reads_liquid(text):
    """Whatever a template or a customer's data hold is printed as it is."""
    assert text == READ.from_string(liquid(text)).render()


def test_braze_prints_what_was_sent_and_marks_it():
    """Braces of ours reach the reader; the tag with the send key stands in front, and only once."""
    html = "<p>{{ ${first_name} }} {% message_extras :key send_key :value s-0 %}</p>"
    with _running("braze") as world:
        world.send(html=html)
        [told] = world.taken
    mark, body = told["messages"]["email"]["body"].split("%}", 1)
    assert f"{{% message_extras :key send_key :value {KEY} " == mark
    assert html == READ.from_string(body).render()


@pytest.mark.parametrize("settings", [{}, {"mode": "campaign", "campaign": "c-1"}])
def test_braze_knows_people_by_external_id_else_by_alias_or_address(settings):
    """A message needs one of the two; a campaign finds the profile that was updated last."""
    with _running("braze") as world:
        sender, nobody = world.sender(**settings), replace(EMAIL, external_id="")
        if not settings:
            with pytest.raises(Refused, match="no_external_id"):
                sender.send(nobody, idempotency_key=KEY)
            sender = world.sender(alias_label="email")
        sender.send(nobody, idempotency_key=KEY)
        [told] = world.taken
    if settings:
        [recipient] = told["recipients"]
        assert ("ada@example.com", ["most_recently_updated"]) == (recipient["email"], recipient["prioritization"])
    else:
        assert [{"alias_name": "ada@example.com", "alias_label": "email"}] == told["user_aliases"]


def test_a_template_has_a_campaign_of_its_own():
    """By its name, else the provider's; without either nothing is sent."""
    campaigns = {"cart reminder, v2": "900002"}
    with _running("iterable") as world:
        for tags in (EMAIL.tags, {}):
            sender = world.sender(campaigns=campaigns)
            sender.send(replace(EMAIL, tags=tags), idempotency_key=KEY)
        with pytest.raises(Refused, match="no_campaign"):
            world.sender(campaign="", campaigns=campaigns).send(replace(EMAIL, tags={}), idempotency_key=KEY)
        assert [900002, 900001] == [told["campaignId"] for told in world.taken]


@pytest.mark.parametrize(
    ("name", "settings", "blamed"),
    [
        ("klaviyo", {}, "settings: campaign is missing"),
        ("braze", {"instance": "iad-01"}, "settings: app_id is missing"),
        ("braze", {"instance": "https://x", "app_id": "a"}, "settings.instance"),
        ("customerio", {"mode": "campaign"}, "settings: campaign is missing"),
        ("klaviyo", {"mode": "message", "campaign": "x"}, "settings.mode"),
        ("iterable", {"campaign": "x"}, "settings.campaign"),
        ("twilio", {"account_sid": "AC1"}, "settings.account_sid"),
        ("twilio", {"account_sid": engagement.ACCOUNT, "status_callback": "http://x.org"}, "settings.status_callback"),
        ("cheetah", {}, "settings: base_url is missing"),
    ],
)
def test_settings_that_do_not_do_are_blamed(name, settings, blamed):
    """When they are applied, not when a message is due."""
    kind = senders.load(name)
    secrets = dict.fromkeys(kind.secrets, "secretsmanager:espial/x")
    assert senders.problem(kind, secrets, settings).startswith(blamed)


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_status_of_twilio_carries_the_send_key_in_its_signed_address(method):
    """Whoever changes the key breaks the signature."""
    with _running("twilio") as world:
        world.send()
        [told] = world.taken
    url = told["StatusCallback"][0].partition("#")[0]
    assert f"https://api.example.com/webhooks/twilio/main?x=1&send_key={KEY}" == url
    body = b"MessageSid=SM1&MessageStatus=sent&To=%2B15550100123"
    delivery = RawDelivery(
        platform="twilio",
        connection="main",
        delivery_id="d-1",
        received_at=NOON,
        transport="webhook",
        method=method,
        url=url if method == "POST" else f"{url}&{body.decode()}",
        headers={"content-type": "application/x-www-form-urlencoded"},
        body=body if method == "POST" else b"",
    )
    source = sources.load("twilio")
    signed = source.verify.sign(b"token", delivery, NOON)
    source.verify.verify(signed, [b"token"], NOON)
    [item] = source.split(signed)
    connection = Connection(name="main", platform="twilio", secrets=(), account="main")
    arrival = Arrival(connection=connection, received_at=NOON, transport="webhook")
    assert KEY == normalise(source, item, arrival).event.send_key


@pytest.mark.parametrize(
    ("text", "kind"), [("Grüße: 3 € {x}", "text"), ("Привет", "unicode"), ("Shoe 👟", "unicode"), ("ç", "unicode")]
)
def test_vonage_is_told_which_alphabet_a_text_needs(text, kind):
    """What the default alphabet lacks would be lost."""
    with _running("vonage") as world:
        world.send(text=text)
        assert [(text, kind)] == [(told["text"][0], told["type"][0]) for told in world.taken]


def test_a_long_text_of_which_vonage_took_a_part_was_taken():
    """Sending it again would repeat that part."""
    parts = [{"status": "1", "error-text": "Throughput"}, {"status": "0", "message-id": "0A2"}]
    with _running("vonage") as world:
        answers = {"part": Reply(200, {"message-count": "2", "messages": parts})}
        world.platform.plug = replace(world.platform.plug, answers=answers)
        world.platform.order("part")
        assert "0A2" == world.send().provider_message_id


TOKENS = ("sfmc", "adobe")


class Clock:
    """One that is set."""

    now = NOON

    def __call__(self) -> datetime:
        return self.now


def _with_clock(world: World, clock: Clock, secret: bytes = SECRET.encode(), **settings: Any) -> Any:
    known = ways(secret)
    said = {**world.needed, "base_url": world.server.url, **settings}
    references = {name: f"secretsmanager:espial/provider/{name}" for name in world.kind.secrets}
    by = Ways(known.client, known.http, known.dial, known.secret, clock)
    return world.kind.open("shop-mail", {"secrets": references, "settings": said}, by)


def _asked(world: World) -> list[str]:
    """Every path that was called, those for tokens too."""
    paths: list[str] = []
    answer = world.platform.answer

    def noted(method: str, target: str, *rest: Any) -> Reply:
        paths.append("token" if target.endswith(("/v2/token", "/ims/token/v3")) else method)
        return answer(method, target, *rest)

    world.server.platform = type("Noted", (), {"answer": staticmethod(noted)})()
    return paths


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_is_kept_until_shortly_before_it_ends(name):
    """Then there is a new one."""
    with _running(name) as world:
        paths, clock = _asked(world), Clock()
        sender = _with_clock(world, clock)
        for number in range(4):
            clock.now = NOON + timedelta(seconds=500 * number)
            sender.send(replace(EMAIL, send_key=f"s-{number:032x}"), idempotency_key=f"s-{number:032x}")
        assert ["token", "POST", "POST", "POST", "token", "POST"] == paths


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_that_was_taken_back_is_asked_for_anew(name):
    """The message was not taken; only if the new token does not do either the secret is blamed."""
    with _running(name) as world:
        sender = _with_clock(world, Clock())
        sender.send(EMAIL, idempotency_key=KEY)
        second = replace(EMAIL, send_key="s-" + "2" * 32)
        world.platform.order("unauthorised")
        with pytest.raises(TryAgain):
            sender.send(second, idempotency_key=second.send_key)
        world.platform.order("unauthorised")
        with pytest.raises(Refused, match="unauthorised"):
            sender.send(second, idempotency_key=second.send_key)
        sender.send(second, idempotency_key=second.send_key)
        assert 2 == len(world.taken)


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("reply", [Reply(0, trouble="drop"), Reply(503), Reply(429), Reply(200, "<html>")])
def test_nothing_is_unknown_of_a_message_whose_token_did_not_come(name, reply):
    """It was never sent."""
    with _running(name) as world:
        world.platform.plug = replace(world.platform.plug, besides=lambda *_: reply)
        with pytest.raises(TryAgain):
            world.send()
        assert not world.taken


def test_marketing_cloud_refuses_a_repeat_of_a_message_that_it_has():
    """Then that is as good as taking it; a refusal of any other message stays one."""
    with _running("sfmc") as world:
        paths = _asked(world)
        assert KEY == world.send().provider_message_id
        assert KEY == world.send().provider_message_id
        assert 1 == len(world.taken)
        assert ["token", "POST", "token", "POST", "GET"] == paths
        other = "s-" + "3" * 32
        with pytest.raises(Refused, match="request_invalid"):
            world.sender().send(replace(EMAIL, to="nobody", send_key=other), idempotency_key=other)


@pytest.mark.parametrize("shape", [dict, json.dumps, lambda said: [{"name": n, "value": v} for n, v in said.items()]])
def test_customer_ios_reports_carry_headers_in_any_shape(shape):
    """The documents do not say in which."""
    with _running("customerio") as world:
        world.send()
        [(known, told)] = world.platform.messages
        item = world.platform.plug.event(told, known)
    item["data"]["headers"] = shape(item["data"]["headers"])
    connection = Connection(name="main", platform="customerio", secrets=(), account="main")
    arrival = Arrival(connection=connection, received_at=NOON, transport="webhook")
    found = normalise(sources.load("customerio"), item, arrival).event
    assert KEY == found.properties["own_key"]
    assert known == found.send_key  # by which its opens are tied to it
    view: Any = SimpleNamespace(events=(found,))
    settled = evidence(view, KEY)
    assert settled is not None
    assert known == settled.provider_message_id
    assert evidence(view, "s-" + "0" * 32) is None


def test_mparticle_takes_no_long_attributes():
    """HTML goes along only if it is asked for, and then has to fit."""
    with _running("mparticle") as world:
        world.send(html="x" * 5000)
        assert "html" not in world.taken[0]["events"][0]["data"]["custom_attributes"]
        with pytest.raises(Refused, match="message_too_large"):
            world.sender(content=True).send(replace(EMAIL, html="x" * 5000), idempotency_key=KEY)


def test_marigold_is_spoken_to_in_the_words_of_the_settings():
    """Nothing of it is confirmed, so everything can be said otherwise."""
    names = {"to": "profile.keys.email", "text": "", "headers": "", "subject": "vars.subject"}
    with _running("cheetah") as world:
        world.platform.plug = replace(
            world.platform.plug,
            proven=lambda told, secrets: told.headers["x-api-token"] == secrets["token"],
            rules=(),
            took=lambda _told, known: Reply(200, {"send": {"id": known}}),
        )
        sender = world.sender(path="/v2/send?wait=1", header="X-Api-Token", scheme="", names=names, id="send.id")
        receipt = sender.send(EMAIL, idempotency_key=KEY)
        [(known, told)] = world.platform.messages
    assert known == receipt.provider_message_id
    assert "/v2/send" == told.path
    assert {"keys": {"email": "ada@example.com"}} == told.said["profile"]
    assert {"subject": "Grüße, Ada"} == told.said["vars"]
    assert not {"recipient", "text", "headers"} & told.said.keys()


def test_each_simulator_can_be_started_by_name():
    """Braze has two: one that sends, and a workspace to onboard people into."""
    assert {*simulated.NAMES} == {*SENDING.values()}
    assert {"braze", "braze-messages", "twilio"} < {str(one) for one in Simulated}


def test_a_text_message_says_nothing_but_its_text():
    """No subject, no address, no header."""
    for name in ("twilio", "vonage"):
        with _running(name) as world:
            world.send()
            [told] = world.taken
        assert SMS.text in (told.get("Body") or told.get("text"))
        assert "example.com" not in str({**told, "StatusCallback": ""})
