"""Resend: what its fields mean, and its signatures against three libraries."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resend import Webhooks
from standardwebhooks.webhooks import Webhook as StandardWebhook
from svix.webhooks import Webhook as SvixWebhook

from espial import signing, sources
from espial.deliveries import RawDelivery
from espial.errors import SignatureError
from espial.events import Event
from espial.normalise import normalise
from tests import samples

RESEND = sources.load("resend")
SAMPLE = samples.case("resend", "email-clicked")
SECRET = samples.secret("resend")
BODIES = st.text(st.characters(exclude_categories=["Cs"]), max_size=60).map(lambda text: json.dumps({"text": text}))


def delivery(body: bytes, headers: dict[str, str]) -> RawDelivery:
    return replace(SAMPLE.delivery, body=body, headers=headers)


def read(body: dict[str, Any], post: str = "msg_1") -> list[Event]:
    items = RESEND.split(delivery(orjson.dumps(body), {"svix-id": post}))
    return [normalise(RESEND, item, SAMPLE.arrival).event for item in items]


def mail(type_: str, **data: Any) -> dict[str, Any]:
    facts = {"email_id": "e-1", "to": ["ada@example.com"], "from": "shop@example.org", **data}
    return {"type": type_, "created_at": "2026-01-15T10:00:00.000Z", "data": facts}


@given(BODIES)
@settings(max_examples=50)
def test_what_the_libraries_sign_is_accepted(body: str) -> None:
    """Svix's and Standard Webhooks' own signers, under their own header names."""
    now = datetime.now(UTC)
    text = SECRET.signing.decode()
    for library, prefix in ((SvixWebhook(text), "svix"), (StandardWebhook(text), "webhook")):
        headers = {
            f"{prefix}-id": "msg_1",
            f"{prefix}-timestamp": str(int(now.timestamp())),
            f"{prefix}-signature": library.sign("msg_1", now, body),
        }
        RESEND.verify(delivery(body.encode(), headers), (SECRET.accepted,), now)
        with pytest.raises(SignatureError):
            RESEND.verify(delivery(body.encode() + b" ", headers), (SECRET.accepted,), now)


@given(BODIES)
@settings(max_examples=50)
def test_what_we_sign_is_accepted_by_the_libraries(body: str) -> None:
    """Resend's own, Svix's and Standard Webhooks'."""
    now = datetime.now(UTC)
    headers = signing.sign("resend", SECRET.signing, body.encode(), now)
    text = SECRET.accepted.decode()
    named = {name: headers[f"svix-{name}"] for name in ("id", "timestamp", "signature")}
    assert json.loads(body) == Webhooks.verify({"payload": body, "headers": named, "webhook_secret": text})  # type: ignore[typeddict-item]
    SvixWebhook(text).verify(body, headers)
    assert json.loads(body) == StandardWebhook(text).verify(body, {f"webhook-{name}": named[name] for name in named})


def test_svixs_published_vector_is_accepted() -> None:
    """The example of its documentation."""
    headers = {
        "svix-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "svix-timestamp": "1614265330",
        "svix-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    at = datetime.fromtimestamp(1614265330, UTC)
    secret = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    RESEND.verify(delivery(b'{"test": 2432232314}', headers), (secret,), at)


@pytest.mark.parametrize(
    ("bounce", "expected"),
    [
        ({"type": "Permanent", "subType": "General"}, "bounced"),
        ({"type": "Transient", "subType": "General"}, "soft_bounced"),
        ({"type": "Temporary", "subType": "MessageRejected"}, "soft_bounced"),
        ({"type": "Undetermined", "subType": "Undetermined"}, "bounced"),
        ({"type": "Permanent", "subType": "Suppressed"}, "dropped"),
        ({"type": "Permanent", "subType": "OnAccountSuppressionList"}, "dropped"),
        ({"message": "no such user"}, "bounced"),
        (None, "bounced"),
    ],
)
def test_a_bounce_is_told_by_its_types(bounce: Any, expected: str) -> None:
    """For good, for now, or not tried at all; older events say no type."""
    (event,) = read(mail("email.bounced", bounce=bounce))
    assert expected == event.type


def test_an_event_of_a_mail_to_several_names_nobody() -> None:
    """Whose bounce it was is not said, and the others must not be suppressed for it."""
    (event,) = read(mail("email.bounced", to=["ada@example.com", "bo@example.net"]))
    assert (None, None) == (event.person.email, event.send_key)
    assert ["ada@example.com", "bo@example.net"] == event.properties["recipients"]


def test_the_time_is_that_of_the_event_and_not_of_the_mail() -> None:
    """Both are called created_at."""
    (event,) = read(mail("email.opened", created_at="2026-01-01T00:00:00.000Z"))
    assert datetime(2026, 1, 15, 10, tzinfo=UTC) == event.occurred_at


def test_retries_are_one_event_and_different_posts_are_two() -> None:
    """Two opens within a millisecond differ by the post's id alone; the order of keys says nothing."""
    body = mail("email.opened")
    ids = [read(one, post)[0].event_id for one, post in ((body, "a"), (dict(reversed(body.items())), "a"), (body, "b"))]
    assert ids[0] == ids[1] != ids[2]


def test_without_an_id_of_the_post_the_content_tells_events_apart() -> None:
    """An unsigned connection may have lost the headers."""
    clicks = [mail("email.clicked", click={"link": f"https://shop.example.net/{page}"}) for page in "aab"]
    one, again, other = (RESEND.identity({**click, "_id": None}) for click in clicks)
    assert one == again
    assert one != other


def test_a_topic_that_is_left_is_not_all_of_them() -> None:
    """Each topic is an event of its own."""
    topics = [{"id": "t-1", "subscription": "opt_out"}, {"id": "t-2", "subscription": "opt_in"}]
    body = {
        "type": "contact.topics.updated",
        "created_at": "2026-01-15T10:00:00Z",
        "data": {"email": "ada@example.com"},
    }
    body["data"]["topics"] = topics  # type: ignore[index]
    left, joined = read(body)
    assert ("unsubscribed", "t-1", "subscribed", "t-2") == (
        left.type,
        left.properties["topic"],
        joined.type,
        joined.properties["topic"],
    )
    assert left.event_id != joined.event_id
