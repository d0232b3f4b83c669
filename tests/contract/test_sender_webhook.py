"""The webhook sender over real HTTP: what it sends, who it says it is, and what each answer means (C27 to C30)."""

from __future__ import annotations

import hmac
import json
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs

import pytest

from espial.campaigns.webhook import RateLimit
from espial.errors import OutcomeUnknown, Refused, Suppressed, TryAgain
from espial.messages import Message
from espial.senders import Ways, load
from espial.senders.webhook import Bucket
from espial.stores.guarded_http import GuardedHttp
from tests.loopback import Canned, Loopback, loopback

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
KEY = "s-" + "0" * 32
SECRET = "ann:s3cret-of-the-platform"
REFERENCE = "secretsmanager:espial/provider/esp"
PAYLOAD = {"to": "{{user.email}}", "pts": "{{points.amount}}", "id": "{{$guid}}"}
MESSAGE = Message(
    channel="email",
    to="ada@example.com",
    from_="",
    subject="",
    html="",
    text="",
    send_key=KEY,
    facts={"user": {"email": "ada@example.com", "id": "a/b?c"}, "points": {"amount": 25}},
)


class World:
    """A clock that stands until it is moved, and a sender on one platform."""

    def __init__(self, platform: Loopback, **call: Any) -> None:
        self.now = NOON
        self.platform = platform
        said = {"endpoint": "/v1/send", "body": PAYLOAD, "auth": {"type": "none"}, **call}
        settings = {"host": platform.url, "call": said}
        http = GuardedHttp("loopback")
        ways = Ways(lambda _: None, http, http.dial, lambda _: SECRET.encode(), lambda: self.now)
        self.sender = load("webhook").open("esp-variant", {"settings": settings}, ways)

    def send(self) -> str:
        return self.sender.send(MESSAGE, idempotency_key=KEY).provider_message_id


def answered(*answers: Canned, **call: Any) -> Exception:
    """What sending raises where the platform answers so."""
    with loopback(*answers) as platform:
        try:
            World(platform, **call).send()
        except (Refused, TryAgain, OutcomeUnknown) as exc:
            return exc
    raise AssertionError("it was taken")


def test_a_json_body_with_its_types_and_key():
    """Number stays number; the send key is the idempotency key; a repeat says the very same."""
    with loopback(Canned(202)) as platform:
        world = World(platform, headers={"X-About": "{{user.id}}"})
        world.send()
        world.send()
    first, second = platform.seen
    assert ("POST", "/v1/send", KEY) == (first.method, first.path, first.headers["idempotency-key"])
    assert ("application/json", "a/b?c") == (first.headers["content-type"], first.headers["x-about"])
    assert {"to": "ada@example.com", "pts": 25} == {k: v for k, v in json.loads(first.body).items() if k != "id"}
    assert first.body == second.body


def test_a_form_and_a_path_from_facts():
    """What a person is called cannot leave its segment of the path."""
    with loopback() as platform:
        World(
            platform,
            method="PUT",
            endpoint="/users/{{user.id}}/points?for={{user.email}}",
            content_type="application/x-www-form-urlencoded",
            body={"points": "{{points.amount}}", "tags": ["a"]},
        ).send()
    seen = platform.seen[0]
    assert ("PUT", "/users/a%2Fb%3Fc/points?for=ada%40example.com") == (seen.method, seen.path)
    assert {"points": ["25"], "tags": ['["a"]']} == parse_qs(seen.body.decode())


@pytest.mark.parametrize(
    ("auth", "header", "shown"),
    [
        ({"type": "basic"}, "authorization", f"Basic {b64encode(SECRET.encode()).decode()}"),
        ({"type": "bearer"}, "authorization", f"Bearer {SECRET}"),
        ({"type": "api_key_header", "header": "X-Api-Key"}, "x-api-key", SECRET),
    ],
)
def test_who_we_are(auth, header, shown):
    """By a secret that is read from its reference for each call."""
    with loopback() as platform:
        World(platform, auth={**auth, "secret": REFERENCE}).send()
    assert shown == platform.seen[0].headers[header]


def test_a_signature_over_time_and_body():
    """A receiver can check it with the secret, the two headers and the exact body."""
    with loopback() as platform:
        World(platform, auth={"type": "hmac", "secret": REFERENCE}).send()
    seen = platform.seen[0]
    signed = f"{seen.headers['x-timestamp']}.".encode() + seen.body
    assert f"sha256={hmac.new(SECRET.encode(), signed, sha256).hexdigest()}" == seen.headers["x-signature"]
    assert str(int(NOON.timestamp())) == seen.headers["x-timestamp"]


def oauth(platform: Loopback, **more: Any) -> dict[str, Any]:
    return {"type": "oauth2_client_credentials", "token_url": f"{platform.url}/token", "secret": REFERENCE, **more}


def token(name: str, life: int = 3600) -> Canned:
    return Canned(body=json.dumps({"access_token": name, "expires_in": life}).encode())


@pytest.mark.parametrize("shown", ["basic", "body"])
def test_a_token_is_kept_until_it_ends(shown):
    """One token for two messages, another after its end."""
    with loopback(token("t1"), Canned(202), Canned(202), token("t2"), Canned(202)) as platform:
        world = World(platform, auth=oauth(platform, shown=shown, scope="send"))
        world.send()
        world.send()
        world.now += timedelta(hours=1)
        world.send()
    assert ["/token", "/v1/send", "/v1/send", "/token", "/v1/send"] == [seen.path for seen in platform.seen]
    shown_tokens = [seen.headers["authorization"] for seen in platform.seen if seen.path == "/v1/send"]
    assert ["Bearer t1", "Bearer t1", "Bearer t2"] == shown_tokens
    form = parse_qs(platform.seen[0].body.decode())
    assert (["client_credentials"], ["send"]) == (form["grant_type"], form["scope"])
    assert ("authorization" in platform.seen[0].headers) == (shown == "basic")
    assert form.get("client_secret", ["s3cret-of-the-platform"]) == ["s3cret-of-the-platform"]


def test_a_refused_token_is_renewed_once_then_it_fails():
    """401: a new token and one more attempt, not a third."""
    with loopback(token("t1"), Canned(401), token("t2"), Canned(202)) as platform:
        World(platform, auth=oauth(platform)).send()
    assert 4 == len(platform.seen)
    with loopback(token("t1"), Canned(401), token("t2"), Canned(401)) as platform:
        with pytest.raises(Refused) as refused:
            World(platform, auth=oauth(platform)).send()
        assert 4 == len(platform.seen)
    assert "unauthorised" == refused.value.reason


def test_without_a_token_nothing_was_handed_over():
    """So it is tried again later, or refused where the client is."""
    with loopback(Canned(503, headers={"retry-after": "90"})) as platform, pytest.raises(TryAgain) as later:
        World(platform, auth=oauth(platform)).send()
    assert 90 == later.value.after
    with loopback(Canned(drop=True)) as platform, pytest.raises(TryAgain):
        World(platform, auth=oauth(platform)).send()
    with loopback(Canned(400)) as platform, pytest.raises(Refused):
        World(platform, auth=oauth(platform)).send()


def test_too_fast_waits():
    """The third call in a second waits for its turn, and nothing is posted for it."""
    with loopback() as platform:
        world = World(platform, rate_limit={"requests": 2, "per": "1s"})
        world.send()
        world.send()
        with pytest.raises(TryAgain) as later:
            world.send()
        assert 2 == len(platform.seen)
        world.now += timedelta(seconds=later.value.after)
        world.send()
        assert 3 == len(platform.seen)


def test_a_bucket_never_gives_more_than_its_pace():
    """Over any time: burst plus what has been filled in."""
    bucket = Bucket(RateLimit.model_validate({"requests": 5, "per": "1s", "burst": 2}))
    taken = sum(bucket.take(number / 50) == 0 for number in range(500))
    assert 2 + 10 * 5 - 2 <= taken <= 2 + 10 * 5


def test_429_waits_as_long_as_it_says():
    """`Retry-After: 7` is not before 7 s; without it as long as the definition says."""
    again = answered(Canned(429, headers={"retry-after": "7"}), retry={"after": "5s"})
    assert isinstance(again, TryAgain)
    assert 7 == again.after
    again = answered(Canned(429), retry={"after": "5s"})
    assert isinstance(again, TryAgain)
    assert 5 == again.after


ERRORS = [
    {"status": 400, "body_path": "errors.0.code", "equals": "again", "action": "retry"},
    {"status": 400, "body_path": "errors.0.code", "equals": "gone", "action": "suppress_customer", "code": "left"},
    {"status": 400, "body_path": "errors.0.code", "action": "drop", "code": "opted_out_there"},
    {"status": "5xx", "action": "fail", "code": "broken_there"},
    {"status": 200, "body_path": "ok", "equals": False, "action": "fail", "code": "said_no"},
]


def coded(status: int, code: str) -> Canned:
    return Canned(status, json.dumps({"errors": [{"code": code, "text": "ada@example.com"}]}).encode())


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        (coded(400, "again"), TryAgain, ""),
        (coded(400, "gone"), Suppressed, "left"),
        (coded(400, "else"), Refused, "opted_out_there"),
        (Canned(400, b"no json"), Refused, "refused_by_platform"),
        (Canned(502), Refused, "broken_there"),
        (Canned(200, b'{"ok": false}'), Refused, "said_no"),
        (Canned(302), Refused, "refused_by_platform"),
    ],
)
def test_the_error_map(answer, kind, reason):
    """First rule that fits; also of an answer that would be a success. No address in the words."""
    exc = answered(answer, error_map=ERRORS)
    assert kind is type(exc)
    assert reason == getattr(exc, "reason", "")
    assert "ada@" not in f"{exc}{exc!r}"


@pytest.mark.parametrize("answer", [Canned(500), Canned(drop=True)])
def test_nobody_knows(answer):
    """A lost answer and a failure inside may both have been taken."""
    assert isinstance(answered(answer), OutcomeUnknown)


def test_what_is_success_and_what_it_tells():
    """By list; the platform's id from the JSON or a header."""
    with loopback(Canned(204), Canned(200)) as platform:
        World(platform, success=[204]).send()
        with pytest.raises(Refused):
            World(platform, success=[204]).send()
    with loopback(Canned(202, b'{"message": {"id": 7}}', {"X-Message-Id": "m-1"})) as platform:
        assert "7" == World(platform, response_capture={"message_id": "message.id"}).send()
        assert "m-1" == World(platform, response_capture={"header": "X-Message-Id"}).send()


def test_a_missing_attribute_calls_nobody():
    """The reason names what is missing."""
    with loopback() as platform:
        with pytest.raises(Refused) as refused:
            World(platform, body={"city": "{{user.city}}"}).send()
        assert [] == platform.seen
    assert ("missing_attribute", "user.city") == (refused.value.reason, refused.value.detail)


def test_a_value_cannot_add_a_header():
    """A line break in a name is refused, not sent."""
    with loopback() as platform:
        world = World(platform, headers={"X-Name": "{{user.name|a\r\nX-Evil: 1}}"})
        with pytest.raises(Refused):
            world.send()
        assert [] == platform.seen


def test_a_value_cannot_go_up_the_path():
    """Somebody whose id is two dots gets nothing."""
    with loopback() as platform:
        world = World(platform, endpoint="/users/{{user.up}}/send")
        message = replace(MESSAGE, facts={**MESSAGE.facts, "user": {**MESSAGE.facts["user"], "up": ".."}})
        with pytest.raises(Refused) as refused:
            world.sender.send(message, idempotency_key=KEY)
        assert [] == platform.seen
    assert "bad_address" == refused.value.reason
