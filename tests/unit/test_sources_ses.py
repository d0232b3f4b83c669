"""Amazon SES: one normaliser behind three ways of delivery, and the proof of each."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from sns_message_validator import SNSMessageValidator  # type: ignore[import-untyped]

from espial import sources
from espial.deliveries import RawDelivery
from espial.errors import MalformedDelivery, MalformedItem, SignatureError
from espial.events import Event, PersonKey
from espial.messages import Message, send_key
from espial.normalise import normalise
from espial.people import PersonView
from espial.senders.ses import SesSender
from espial.services.deliver import evidence
from espial.sources import _sns, ses
from tests import samples

pytestmark = pytest.mark.disable_socket
SES = sources.load("ses")
TOPIC = "arn:aws:sns:eu-west-1:111122223333:ses-events"
ALLOWED = {"topics": [TOPIC]}
CERTIFICATE_URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem"
NOW = datetime(2026, 1, 15, 10, 5, tzinfo=UTC)
ARRIVAL = samples.case("ses", "sns-own-mail").arrival
ACCESS_KEY = b"an access key"
PRIVATE = generate_private_key(65537, 2048)
VALIDATOR = SNSMessageValidator()


def certificate(first: datetime = NOW - timedelta(days=1), last: datetime = NOW + timedelta(days=1)) -> bytes:
    """What lies at a SigningCertURL."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.example.com")])
    builder = x509.CertificateBuilder(name, name, PRIVATE.public_key(), 1, first, last)
    return builder.sign(PRIVATE, SHA256()).public_bytes(Encoding.PEM)


CERTIFICATE = certificate()


def delivery(body: Any, **headers: str) -> RawDelivery:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return replace(samples.case("ses", "sns-own-mail").delivery, body=raw, headers=named)


def notice(message: Any = "{}", **changes: Any) -> dict[str, Any]:
    """An SNS message; what is None is left out."""
    fields = {
        "Type": "Notification",
        "MessageId": "11111111-2222-3333-4444-555555555555",
        "TopicArn": TOPIC,
        "Message": message if isinstance(message, str) else json.dumps(message) + "\n",
        "Timestamp": "2026-01-15T10:04:00.000Z",
        "SignatureVersion": "1",
        "SigningCertURL": CERTIFICATE_URL,
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def confirmation(kind: str = "SubscriptionConfirmation", **changes: Any) -> dict[str, Any]:
    url = f"https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=t"
    return notice("confirm", **{"Type": kind, "Token": "t", "SubscribeURL": url, **changes})


def signed(fields: dict[str, Any], version: str = "1") -> dict[str, Any]:
    """With the signature that SNS would give, made here and of what the vendor's validator says is signed."""
    covered = VALIDATOR._get_plaintext_to_sign(fields).encode()
    code = PRIVATE.sign(covered, PKCS1v15(), SHA1() if version == "1" else SHA256())
    return {**fields, "SignatureVersion": version, "Signature": b64encode(code).decode()}


def verify(fields: dict[str, Any] | RawDelivery, *secrets: bytes, **allowed: Any) -> None:
    given = fields if isinstance(fields, RawDelivery) else delivery(fields)
    SES.verify(given, secrets or (CERTIFICATE,), NOW, settings=allowed or ALLOWED)


# -- SNS: proof

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(TEXTS, st.none() | TEXTS.filter(bool), st.sampled_from(["1", "2"]))
@settings(max_examples=50)
def test_what_the_vendors_validator_says_is_signed_is_what_we_check(message: str, subject: str, version: str) -> None:
    """Any message, with and without a subject, under both versions; and nothing else is accepted for it."""
    whole = signed(notice(message, Subject=subject), version)
    verify(whole)
    with pytest.raises(SignatureError):
        verify({**whole, "Message": message + "!"})
    with pytest.raises(SignatureError):
        verify({**whole, "SignatureVersion": "2" if version == "1" else "1"})


class _Session:
    """The certificate, without the network."""

    content = CERTIFICATE

    def get(self, _url: str) -> _Session:
        return self


@given(TEXTS, st.sampled_from(sorted(_sns._SIGNED)))
@settings(max_examples=50)
def test_the_vendors_validator_accepts_what_we_sign(message: str, kind: str) -> None:
    """The string is ours; the validator knows version 1 alone, so the code is made here."""
    fields = notice(message, Subject="s") if kind == "Notification" else confirmation(kind, Message=message)
    code = PRIVATE.sign(_sns._string_to_sign(fields), PKCS1v15(), SHA1())
    validator = SNSMessageValidator()
    validator._cert_session = _Session()
    validator.validate_message({**fields, "Signature": b64encode(code).decode()})


@pytest.mark.parametrize(
    "changes",
    [
        {"TopicArn": "arn:aws:sns:eu-west-1:444455556666:somebody-elses"},
        {"TopicArn": TOPIC + "2"},
        {"TopicArn": [TOPIC]},
    ],
)
def test_a_topic_that_is_not_listed_is_refused_however_rightly_signed(changes: dict[str, Any]) -> None:
    """Anybody can point their own topic at the URL; its subscription is not even looked at."""
    for fields in (notice(**changes), confirmation(**changes)):
        with pytest.raises(SignatureError, match="topic"):
            verify(signed(fields))


@pytest.mark.parametrize("settings_", [{"topics": []}, {"other": 1}, {"topics": None}, {"topics": TOPIC}])
def test_without_a_list_of_topics_nothing_is_accepted(settings_: dict[str, Any]) -> None:
    """Not even a message without a topic: forgetting the setting must not open the door."""
    for fields in (notice(), notice() | {"TopicArn": None}):
        with pytest.raises(SignatureError, match="topic"):
            verify(signed(fields), **settings_)


@pytest.mark.parametrize(
    "url",
    [
        "https://sns.eu-west-1.amazonaws.com.evil.example/cert.pem",
        "http://sns.eu-west-1.amazonaws.com/cert.pem",
        "https://sns.eu-west-1.amazonaws.com@evil.example/cert.pem",
        "https://user@sns.eu-west-1.amazonaws.com/cert.pem",
        "https://sns.eu-west-1.amazonaws.com:8443/cert.pem",
        "https://evil.example/sns.eu-west-1.amazonaws.com/cert.pem",
        "https://evil.example#sns.eu-west-1.amazonaws.com/cert.pem",
        "https://evil-sns.eu-west-1.amazonaws.com/cert.pem",
        "https://sns.eu-west-1.amazonaws.com.cn.evil.example/cert.pem",
        "https://snsxeu-west-1xamazonaws.com/cert.pem",
        "https://sns.a.b.amazonaws.com/cert.pem",
        "https://sns.eu-west-1.amazonaws.com\\@evil.example/cert.pem",
        "https://sns.eu-w\u00e9st-1.amazonaws.com/cert.pem",
        "https://[sns.eu-west-1.amazonaws.com/cert.pem",
        "//sns.eu-west-1.amazonaws.com/cert.pem",
        "",
        None,
        7,
    ],
)
def test_look_alikes_of_the_vendors_host_are_fetched_neither_for_keys_nor_to_confirm(url: Any) -> None:
    """Whoever chose the address of the key would sign everything."""
    with pytest.raises(SignatureError):
        SES.verify.key_urls(delivery(notice() | {"SigningCertURL": url}))
    assert SES.confirm
    with pytest.raises(SignatureError):
        SES.confirm(delivery(confirmation() | {"SubscribeURL": url}), ALLOWED)


@pytest.mark.parametrize("end", ["/cert.pem?x=1", "/cert.pem#x", "/?x=cert.pem", "/#cert.pem", "/cert.crt", ""])
def test_a_key_is_a_file_at_the_vendors(end: str) -> None:
    """Nothing that the host computes, and could be made to echo."""
    with pytest.raises(SignatureError):
        SES.verify.key_urls(delivery(notice(SigningCertURL=f"https://sns.eu-west-1.amazonaws.com{end}")))


@pytest.mark.parametrize(
    "host", ["sns.eu-west-1.amazonaws.com", "sns.us-gov-west-1.amazonaws.com", "sns.cn-north-1.amazonaws.com.cn"]
)
def test_the_vendors_hosts_of_every_partition_are_known(host: str) -> None:
    """Regions, GovCloud and China."""
    url = f"https://{host}/SimpleNotificationService-0.pem"
    assert (url,) == SES.verify.key_urls(delivery(notice(SigningCertURL=url)))


def test_a_certificate_counts_between_its_dates_and_a_bare_key_always() -> None:
    """One that ran out proves nothing, whoever still serves it."""
    fields = signed(notice())
    day = timedelta(days=1)
    public = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    verify(fields, public)
    verify(fields, certificate(NOW, NOW))
    for dates in ((NOW - 2 * day, NOW - day), (NOW + day, NOW + 2 * day)):
        with pytest.raises(SignatureError):
            verify(fields, certificate(*dates))


@pytest.mark.parametrize(
    "changes",
    [
        {"SignatureVersion": "3"},
        {"SignatureVersion": 1},
        {"SignatureVersion": None},
        {"Signature": None},
        {"Signature": "%%%"},
        {"Signature": 5},
        {"Timestamp": "2026-01-13T10:04:00.000Z"},
        {"Timestamp": "soon"},
        {"Type": "Invitation"},
        {"Type": ["Notification"]},
        {"MessageId": {"a": 1}},
    ],
)
def test_whatever_is_not_as_it_was_signed_is_refused(changes: dict[str, Any]) -> None:
    """Unknown versions, odd types and a time too long ago."""
    with pytest.raises(SignatureError):
        verify({**signed(notice()), **changes})


def test_the_age_of_a_message_is_a_setting() -> None:
    """A day by default, since retries and redrives show the first time."""
    fields = signed(notice())
    verify(fields, topics=[TOPIC], max_age_seconds=61)
    with pytest.raises(SignatureError, match="timestamp"):
        verify(fields, topics=[TOPIC], max_age_seconds=59)


def test_a_subscription_is_confirmed_and_its_end_is_not() -> None:
    """The message that a subscription ended names the address that would take it up again."""
    assert SES.confirm
    asked = confirmation()
    assert asked["SubscribeURL"] == SES.confirm(delivery(asked), ALLOWED)
    assert SES.confirm(delivery(confirmation("UnsubscribeConfirmation")), ALLOWED) is None
    assert SES.confirm(delivery(notice()), ALLOWED) is None
    assert SES.confirm(delivery({"eventType": "Send"}), ALLOWED) is None
    for fields in (asked, confirmation("UnsubscribeConfirmation"), notice(Type="Invitation")):
        assert [] == SES.split(delivery(fields))


# -- EventBridge and Firehose: proof

EVENT: dict[str, Any] = {
    "eventType": "Delivery",
    "mail": {
        "timestamp": "2026-01-15T09:59:58.000Z",
        "messageId": "0102-m-1",
        "destination": ["ada@example.com"],
        "tags": {"ses:configuration-set": ["prod"], "order": ["A-100"]},
    },
    "delivery": {"timestamp": "2026-01-15T10:00:00.512Z", "recipients": ["ada@example.com"]},
}
BUS = {
    "id": "b-1",
    "detail-type": "Email Delivered",
    "source": "aws.ses",
    "time": "2026-01-15T10:00:01Z",
    "detail": EVENT,
}


def record(document: Any) -> dict[str, str]:
    return {"data": b64encode(orjson.dumps(document) + b"\n").decode()}


def test_a_shared_secret_opens_for_what_signs_nothing_and_for_that_alone() -> None:
    """Each shape has its own proof: a message of SNS that shows the secret has still to be signed."""
    shown = {"authorization": "Bearer an access key"}
    bodies: tuple[dict[str, Any], ...] = (BUS, EVENT, {"records": []})
    for body in bodies:
        verify(delivery(body, **shown), ACCESS_KEY)
        verify(delivery(body, x_amz_firehose_access_key="an access key"), ACCESS_KEY)
        with pytest.raises(SignatureError):
            verify(delivery(body, x_amz_firehose_access_key="another"), ACCESS_KEY)
        with pytest.raises(SignatureError):
            verify(delivery(body), ACCESS_KEY)
    with pytest.raises(SignatureError):
        verify(delivery(notice(EVENT), **shown), ACCESS_KEY)


@pytest.mark.parametrize("known", [CERTIFICATE, samples.secret("ses").accepted])
def test_a_pinned_key_is_no_shared_secret(known: bytes) -> None:
    """It is public: who shows it has proven nothing."""
    shown = known.decode().replace("\n", "")
    for header in ("authorization", "x_amz_firehose_access_key"):
        with pytest.raises(SignatureError):
            verify(delivery(BUS, **{header: shown}), known, shown.encode())


def test_what_shows_a_secret_names_no_keys() -> None:
    """Nothing is fetched for it; and an access key beside a message of SNS does not make it one."""
    for given_ in (delivery(BUS), delivery(b"\xff"), delivery(notice(), x_amz_firehose_access_key="x")):
        assert () == SES.verify.key_urls(given_)


def test_firehose_is_told_its_own_request_id() -> None:
    """It takes any other answer for a failure and delivers again; milliseconds, as it has them."""
    assert SES.accepted
    told = SES.accepted(delivery({"records": []}, x_amz_firehose_request_id="r-1"))
    assert (200, "application/json") == (told.status, told.headers["content-type"])
    assert {"requestId": "r-1", "timestamp": 1_768_471_500_000} == json.loads(told.body)
    assert {"accepted": True} == json.loads(SES.accepted(delivery(BUS)).body)


def test_firehose_may_compress() -> None:
    """The body inflates, within bounds; what does not is malformed."""
    body = orjson.dumps({"records": [record(EVENT), record(EVENT)]})
    assert 2 == len(SES.split(delivery(gzip.compress(body), content_encoding="gzip")))
    for damaged in (body, gzip.compress(body)[:-9], gzip.compress(b"0" * 40_000_000)):
        with pytest.raises(MalformedDelivery):
            SES.split(delivery(damaged, content_encoding="gzip"))


# -- items and events


def events(body: Any) -> list[Event]:
    return [normalise(SES, item, ARRIVAL).event for item in SES.split(delivery(body))]


def changed(event: dict[str, Any], place: str, **changes: Any) -> dict[str, Any]:
    copy = deepcopy(event)
    copy[place].update(changes)
    return copy


def test_one_event_over_every_way_is_one_event() -> None:
    """Also with another SNS message id, as every topic gives its own; the envelope adds nothing to the content."""
    ways = [
        notice(EVENT),
        notice(EVENT, MessageId="99999999-2222-3333-4444-555555555555", Timestamp="2026-01-15T10:09:00.000Z"),
        BUS,
        {**BUS, "id": "b-2", "time": "2026-01-15T10:02:01Z"},
        notice(BUS),
        {"records": [record(EVENT)]},
        {"records": [record(BUS)]},
        EVENT,
    ]
    (first,) = events(ways[0])
    assert [[first]] * len(ways) == [events(way) for way in ways]


def test_the_notification_of_a_published_bounce_is_the_same_event() -> None:
    """An identity may notify as well."""
    published = samples.case("ses", "sns-bounce-two-recipients").items[0]
    notified = {"notificationType": "Bounce", **{name: published[name] for name in published if name != "eventType"}}
    assert SES.identity(published) == SES.identity(notified)


def test_recipients_are_told_apart() -> None:
    """A bounce of two is two events, each with its own reason; the third recipient has none."""
    found = samples.case("ses", "sns-bounce-two-recipients").recordables
    assert ["ada@example.com", "bo@example.net"] == [one.event.person.email for one in found]
    assert 2 == len({one.event.event_id for one in found})


@pytest.mark.parametrize(("event", "expected"), [("Open", None), ("Click", None), ("Send", "ada@example.com")])
def test_nobody_is_named_who_may_not_have_done_it(event: str, expected: str | None) -> None:
    """Of a mail to two, SES does not say whose open it was."""
    two = changed(EVENT, "mail", destination=["ada@example.com", "bo@example.net"])
    of_two = {"eventType": event, "mail": two["mail"], event.lower(): {"timestamp": "2026-01-15T10:02:00Z"}}
    assert expected == events(of_two)[0].person.email
    of_one = {**of_two, "mail": EVENT["mail"]}
    assert ["ada@example.com"] == [one.person.email for one in events(of_one)]


@pytest.mark.parametrize(
    ("kind", "sub_type", "expected"),
    [
        ("Permanent", "General", "bounced"),
        ("Permanent", "OnAccountSuppressionList", "dropped"),
        ("Permanent", "Suppressed", "dropped"),
        ("Permanent", None, "bounced"),
        ("Transient", "MessageTooLarge", "soft_bounced"),
        ("Transient", "ContentRejected", "blocked"),
        ("Undetermined", "Undetermined", "soft_bounced"),
        (None, None, "bounced"),
    ],
)
def test_a_bounce_is_told_by_its_types(kind: str | None, sub_type: str | None, expected: str) -> None:
    """A transient one is final too, as SES has given up; it does not condemn the address."""
    facts = {"bounceType": kind, "bounceSubType": sub_type, "timestamp": "2026-01-15T10:00:00Z"}
    (event,) = events({"eventType": "Bounce", "mail": EVENT["mail"], "bounce": facts})
    assert expected == event.type


@pytest.mark.parametrize(
    ("before", "after", "everything", "expected", "topic"),
    [
        ({"news": "OptIn"}, {"news": "OptOut"}, False, "unsubscribed", "news"),
        ({"news": "OptIn"}, {"news": "OptOut"}, True, "unsubscribed", None),
        ({"news": "OptOut"}, {"news": "OptIn"}, False, "subscribed", "news"),
        ({"a": "OptIn", "b": "OptIn"}, {"a": "OptOut", "b": "OptOut"}, False, "unsubscribed", None),
        ({"a": "OptIn", "b": "OptOut"}, {"a": "OptOut", "b": "OptIn"}, False, "subscribed", None),
        ({}, {}, True, "unsubscribed", None),
        ({}, {}, False, "subscribed", None),
    ],
)
def test_a_change_of_preferences_is_about_all_topics_or_about_one(
    before: dict[str, str], after: dict[str, str], everything: bool, expected: str, topic: str | None
) -> None:
    """Who leaves one list has not left the others."""

    def listed(topics: dict[str, str]) -> list[dict[str, str]]:
        return [{"topicName": name, "subscriptionStatus": status} for name, status in topics.items()]

    facts = {
        "timestamp": "2026-01-15T10:04:00Z",
        "oldTopicPreferences": {"unsubscribeAll": False, "topicSubscriptionStatus": listed(before)},
        "newTopicPreferences": {"unsubscribeAll": everything, "topicSubscriptionStatus": listed(after)},
    }
    (event,) = events({"eventType": "Subscription", "mail": EVENT["mail"], "subscription": facts})
    assert (expected, topic) == (event.type, event.properties.get("topic"))


def test_two_clicks_are_two_and_a_retry_is_none() -> None:
    """By instant, link and address; the order of tags and what SNS adds say nothing."""
    click = {"timestamp": "2026-01-15T10:02:00.001Z", "link": "https://shop.example.net/a", "ipAddress": "203.0.113.7"}

    def id_of(**changes: Any) -> str:
        (event,) = events({"eventType": "Click", "mail": EVENT["mail"], "click": {**click, **changes}})
        return event.event_id

    others = {id_of(link="https://shop.example.net/b"), id_of(timestamp="2026-01-15T10:02:00.002Z")}
    others |= {id_of(ipAddress="203.0.113.8")}
    assert 3 == len(others - {id_of()})
    assert id_of() == id_of(linkTags={"a": ["b"]})


def test_words_of_set_up_are_no_events() -> None:
    """Text where an event would stand, when a topic becomes a destination of events or of notifications."""
    for message in (
        "Successfully validated SNS topic for Amazon SES event publishing.",
        {"notificationType": "AmazonSnsSubscriptionSucceeded", "message": "You have successfully subscribed"},
    ):
        assert [] == SES.split(delivery(notice(message)))
    (odd,) = SES.split(delivery(notice("Something else")))
    with pytest.raises(MalformedItem):
        normalise(SES, odd, ARRIVAL)


def test_envelopes_within_envelopes_do_not_go_on_for_ever() -> None:
    """One of each is opened; what is nested deeper is no event."""
    deep: Any = EVENT
    for _ in range(300):
        deep = {"detail-type": "x", "detail": deep}
    for body in (deep, notice(json.dumps(notice(EVENT)))):
        (item,) = SES.split(delivery(json.dumps(body).encode()))
        with pytest.raises(MalformedItem):
            normalise(SES, item, ARRIVAL)


# -- our own mails


def test_events_of_our_own_mails_are_evidence_of_an_unknown_outcome() -> None:
    """What the sender puts into a mail comes back with its events, published or notified, under the same send key."""
    key = send_key(trigger="abandoned-cart", person="id:cust-1", key="cart-1", version="01KF0HJ08")
    message = Message(
        to="ada@example.com",
        from_="shop@example.org",
        subject="Your cart",
        html="<p>Cart</p>",
        text="Cart",
        send_key=key,
        tags={"trigger": "abandoned-cart", "template": "cart-reminder"},
    )
    request = SesSender(None, name="ses-main").request(message)
    tags = {tag["Name"]: [tag["Value"]] for tag in request["EmailTags"]}
    headers = [{"name": one["Name"], "value": one["Value"]} for one in request["Content"]["Simple"]["Headers"]]
    published = changed(EVENT, "mail", tags=tags)
    notified = changed(EVENT, "mail", tags=None, headers=headers) | {"notificationType": "Delivery", "eventType": None}
    del notified["eventType"]
    for report in (published, notified):
        view = PersonView(key=PersonKey("email", "ada@example.com"), events=tuple(events(notice(report))))
        receipt = evidence(view, key)
        assert receipt is not None
        assert ("ses", "0102-m-1") == (receipt.provider, receipt.provider_message_id)
        assert evidence(view, send_key(trigger="other", person="id:cust-1", key="cart-1", version="1")) is None
    (event,) = events(published)
    assert {"trigger": "abandoned-cart", "template": "cart-reminder"} == event.properties


@pytest.mark.parametrize("tag", ["s-1", "S-" + "0" * 32, "x-" + "0" * 32, "s-" + "0" * 33, ""])
def test_a_tag_of_that_name_that_is_not_ours_ties_nothing(tag: str) -> None:
    """Somebody else's mails may carry a tag called send_key; theirs are tied by message and recipient."""
    (event,) = events(changed(EVENT, "mail", tags={"send_key": [tag]}))
    assert "0102-m-1/ada@example.com" == event.send_key


def test_what_is_received_is_a_persons_word_and_no_send() -> None:
    """Who wrote it is the person; the envelope's sender is a bounce address."""
    (found,) = samples.case("ses", "sns-received").recordables
    assert ("replied", "ada@example.com", None) == (found.event.type, found.event.person.email, found.event.send_key)


def test_every_type_of_the_table_is_read() -> None:
    """No reader without a type, no place without one."""
    assert set(ses.EVENT_TYPES) >= set(ses.PLACES) | set(ses._READERS)
