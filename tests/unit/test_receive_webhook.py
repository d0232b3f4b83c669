"""The verdict on a webhook, with the real SendGrid scheme and keys made here."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from espial import sources
from espial.deliveries import Connection, Reply
from espial.errors import TryAgain
from espial.gateway import read
from espial.services import receive_webhook as module
from espial.services.receive_webhook import receive_webhook
from tests.fakes import FakeConnections, FakeDeliveryQueue, FakeOutside
from tests.http_events import REQUEST_ID, http_event

pytestmark = pytest.mark.disable_socket
NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
PUBLIC = "https://hooks.example.com"
BODY = b'[{"email":"ada@example.com","event":"open","sg_event_id":"1","timestamp":1768471200}]\r\n'
KEYS = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
PATH = "/in/sendgrid/main"
MAIN = Connection(name="main", platform="sendgrid", secrets=("secretsmanager:espial/main",))


def public(key):
    """The verification key as SendGrid shows it."""
    return b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def signed(body=BODY, key=KEYS[0], at=NOW, **event):
    """A request as SendGrid signs it."""
    stamp = str(int(at.timestamp()))
    signature = b64encode(key.sign(stamp.encode() + body, ec.ECDSA(SHA256()))).decode()
    headers = {
        "X-Twilio-Email-Event-Webhook-Signature": signature,
        "X-Twilio-Email-Event-Webhook-Timestamp": stamp,
        "Authorization": "Bearer never-kept",
    }
    return read(http_event(event.pop("path", PATH), body, headers, **event))


FIRST_KEY = (public(KEYS[0]),)


class World:
    """Connections, secrets and queue of one test."""

    def __init__(self, connection=MAIN, secrets=FIRST_KEY):
        self.connections = FakeConnections(connection, secrets={connection.name: secrets})
        self.queue = FakeDeliveryQueue()
        self.outside = FakeOutside()

    def receive(self, request):
        return receive_webhook(request, self.connections, self.queue, self.outside, public_url=PUBLIC, now=NOW)


def test_a_proven_delivery_is_queued_byte_for_byte_and_answered_200():
    """The bytes, the headers in lower case, the gateway's request id, the public URL with its query."""
    world = World()
    outcome = world.receive(signed(query="a=1&a=%202"))
    (kept,) = world.queue.deliveries
    assert (200, '{"accepted":true}', "accepted") == (outcome.reply.status, outcome.reply.body, outcome.reason)
    assert (BODY, REQUEST_ID, "webhook", NOW) == (kept.body, kept.delivery_id, kept.transport, kept.received_at)
    assert f"{PUBLIC}{PATH}?a=1&a=%202" == kept.url
    assert "x-twilio-email-event-webhook-signature" in kept.headers


def test_a_connections_own_url_wins():
    """Behind a proxy the platform signs another URL than ours."""
    world = World(replace(MAIN, public_url="https://proxy.example.org/hook"))
    world.receive(signed(query="k=v"))
    assert "https://proxy.example.org/hook?k=v" == world.queue.deliveries[0].url


def test_either_secret_is_accepted_while_one_is_being_rotated():
    """The new key and the old one both open the door."""
    world = World(secrets=(public(KEYS[1]), public(KEYS[0])))
    assert [200, 200] == [world.receive(signed(key=key)).reply.status for key in KEYS]


@pytest.mark.parametrize(
    "request_",
    [
        signed(key=KEYS[1]),
        signed()._replace(body=BODY + b" "),
        signed()._replace(headers={}),
        signed(at=NOW - timedelta(days=2)),
    ],
    ids=["other key", "changed body", "no signature", "stale"],
)
def test_what_is_not_proven_leaves_no_trace(request_):
    """401 with an empty body, nothing queued, counted under one reason."""
    world = World()
    outcome = world.receive(request_)
    assert (401, "", "bad_signature") == (outcome.reply.status, outcome.reply.body, outcome.reason)
    assert [] == world.queue.deliveries


def test_a_connection_may_set_how_old_a_signature_may_be():
    """`max_age_seconds` reaches the scheme."""
    request = signed(at=NOW - timedelta(seconds=90))
    verdicts = [
        World(replace(MAIN, settings={"max_age_seconds": age})).receive(request).reply.status for age in (60, 120)
    ]
    assert [401, 200] == verdicts


def test_an_unsigned_connection_takes_what_comes():
    """Only because its definition says so."""
    world = World(replace(MAIN, unsigned=True, secrets=()), secrets=())
    assert 200 == world.receive(signed()._replace(headers={})).reply.status


@pytest.mark.parametrize("path", ["/in/sendgrid/other", "/in/nobody/main", "/in/..%2Fos/main"])
def test_unknown_platforms_and_connections_are_404(path):
    """And what stood in the URL is not repeated in the log."""
    outcome = World().receive(signed(path=path))
    assert (404, "unknown_connection", "", "") == (
        outcome.reply.status,
        outcome.reason,
        outcome.platform,
        outcome.connection,
    )


def test_a_body_over_the_limit_is_413(monkeypatch):
    """Before any signature is computed over it; one byte less is read."""
    monkeypatch.setattr(module, "MAX_BODY", len(BODY) - 1)
    world = World()
    assert (413, []) == (world.receive(signed()).reply.status, world.queue.deliveries)
    monkeypatch.setattr(module, "MAX_BODY", len(BODY))
    assert 200 == world.receive(signed()).reply.status


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_other_methods_are_405(method):
    """With the method that would do."""
    world = World()
    outcome = world.receive(signed(method=method))
    assert (405, {"allow": "POST"}, []) == (outcome.reply.status, outcome.reply.headers, world.queue.deliveries)


def test_a_platforms_probe_gets_the_answer_its_source_gives(monkeypatch):
    """The handshake comes before the method check, is given the secrets, and queues nothing."""
    source = replace(
        sources.load("sendgrid"),
        configured=None,
        handshake=lambda delivery, secrets: Reply(body=f"{delivery.method} {len(secrets)}"),
    )
    monkeypatch.setattr(sources, "load", lambda _: source)
    world = World()
    outcome = world.receive(signed(method="GET"))
    assert ("handshake", "GET 1", []) == (outcome.reason, outcome.reply.body, world.queue.deliveries)


def test_a_queue_that_is_away_is_503_with_a_time():
    """Never 200 for what is not durable."""
    world = World()
    world.queue.away = True
    outcome = world.receive(signed())
    assert (503, "1", "try_again") == (outcome.reply.status, outcome.reply.headers["retry-after"], outcome.reason)


@pytest.mark.parametrize("call", ["find", "secrets"])
def test_connections_or_secrets_that_are_away_are_503(monkeypatch, call):
    """A 401 or 404 would make the platform throw the events away."""
    world = World()

    def away(*_):
        raise TryAgain("away", after=4.2)

    monkeypatch.setattr(world.connections, call, away)
    outcome = world.receive(signed())
    assert (503, "5") == (outcome.reply.status, outcome.reply.headers["retry-after"])


def test_a_log_line_holds_neither_address_nor_secret():
    """Platform, connection, size, status and reason; nothing of body, headers or keys."""
    for request in (signed(), signed()._replace(body=BODY + b"!"), signed(path="/in/sendgrid/ada@example.com")):
        fields = World().receive(request).log_fields()
        line = json.dumps(fields)
        assert {"reason", "size", "status"} <= fields.keys()
        assert not any(word in line for word in ("example.com", "never-kept", public(KEYS[0]).decode()))


def test_text_and_base64_bodies_are_the_same_bytes():
    """API Gateway passes JSON as text and the rest as base64."""
    assert [BODY, BODY] == [read(http_event(PATH, body)).body for body in (BODY, BODY.decode())]


# -- platforms that name their keys, and subscriptions that ask to be confirmed

TOPIC = "arn:aws:sns:eu-west-1:111122223333:ses-events"
CERTIFICATE = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem"
SUBSCRIBE = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=t"
SES = Connection(name="main", platform="ses", settings={"topics": [TOPIC]})
SNS_KEY = rsa.generate_private_key(65537, 2048)


def certificate(last=NOW + timedelta(days=1)):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.example.com")])
    builder = x509.CertificateBuilder(name, name, SNS_KEY.public_key(), 1, NOW - timedelta(days=9), last)
    return builder.sign(SNS_KEY, SHA256()).public_bytes(Encoding.PEM)


def sns(kind="Notification", topic=TOPIC, **fields):
    """A request as SNS signs it."""
    whole = {
        "Message": "{}",
        "MessageId": "1",
        "Timestamp": "2026-01-15T09:59:00.000Z",
        "TopicArn": topic,
        "Type": kind,
    }
    whole |= {"SubscribeURL": SUBSCRIBE, "Token": "t"} if kind != "Notification" else {}
    whole |= fields
    signed = "".join(f"{name}\n{whole[name]}\n" for name in sorted(whole))
    code = b64encode(SNS_KEY.sign(signed.encode(), padding.PKCS1v15(), SHA256())).decode()
    shown = {"SignatureVersion": "2", "Signature": code, "SigningCertURL": CERTIFICATE}
    return read(http_event("/in/ses/main", json.dumps({**whole, **shown}).encode()))


class SesWorld(World):
    """SNS posts to a connection that holds no key of its own; the certificate lies where it says."""

    def __init__(self, connection=SES, secrets=(), **documents):
        super().__init__(connection, secrets)
        self.outside = FakeOutside(**{CERTIFICATE: certificate(), SUBSCRIBE: b"<ok/>", **documents})


def test_a_key_that_a_delivery_names_is_fetched_and_proves_it():
    """The platform's key is not configured, and the delivery is queued like any other."""
    world = SesWorld()
    outcome = world.receive(sns())
    assert (200, "accepted", [CERTIFICATE]) == (outcome.reply.status, outcome.reason, world.outside.asked)
    assert 1 == len(world.queue.deliveries)


def test_a_named_key_proves_only_what_it_signed():
    """A changed message is refused although its certificate is the platform's."""
    world = SesWorld()
    request = sns()
    outcome = world.receive(request._replace(body=request.body.replace(b'"{}"', b'"[]"')))
    assert (401, "bad_signature", []) == (outcome.reply.status, outcome.reason, world.queue.deliveries)


def test_secrets_of_the_connections_own_pin_the_keys():
    """Nothing is fetched then, and what the delivery names counts for nothing."""
    public_key = SNS_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    statuses = []
    for pinned in (public_key, public(KEYS[0])):
        world = SesWorld(replace(SES, secrets=("secretsmanager:espial/main",)), (pinned,))
        statuses.append(world.receive(sns()).reply.status)
        assert [] == world.outside.asked
    assert [200, 401] == statuses


def test_a_certificate_that_ran_out_proves_nothing():
    """By the clock of the receipt, whoever still serves it."""
    world = SesWorld(**{CERTIFICATE: certificate(last=NOW - timedelta(seconds=1))})
    assert (401, []) == (world.receive(sns()).reply.status, world.queue.deliveries)


def test_a_key_that_cannot_be_had_now_is_503():
    """A refusal would lose the delivery."""
    world = SesWorld()
    del world.outside.documents[CERTIFICATE]
    outcome = world.receive(sns())
    assert (503, "try_again", []) == (outcome.reply.status, outcome.reason, world.queue.deliveries)


@pytest.mark.parametrize(
    "url", ["https://sns.eu-west-1.amazonaws.com.example.net/x.pem", "http://localhost/x.pem", None]
)
def test_a_key_from_elsewhere_is_not_even_fetched(url):
    """Whoever names the key would sign everything."""
    world = SesWorld(**({url: certificate()} if url else {}))
    request = sns()
    body = json.dumps({**json.loads(request.body), "SigningCertURL": url}).encode()
    assert (401, []) == (world.receive(request._replace(body=body)).reply.status, world.outside.asked)


def test_a_subscription_is_confirmed_and_not_recorded():
    """By fetching the address that it names, once it is proven."""
    world = SesWorld()
    outcome = world.receive(sns("SubscriptionConfirmation"))
    assert (200, "confirmed", []) == (outcome.reply.status, outcome.reason, world.queue.deliveries)
    assert [CERTIFICATE, SUBSCRIBE] == world.outside.asked


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("SubscriptionConfirmation", {"topic": "arn:aws:sns:eu-west-1:444455556666:somebody-elses"}),
        ("SubscriptionConfirmation", {"SubscribeURL": "https://sns.eu-west-1.amazonaws.com.example.net/"}),
        ("UnsubscribeConfirmation", {}),
    ],
    ids=["foreign topic", "look-alike host", "end of a subscription"],
)
def test_nothing_else_is_confirmed(kind, fields):
    """However rightly it is signed, and though an address stands in it."""
    world = SesWorld()
    world.receive(sns(kind, **fields))
    assert [CERTIFICATE] == world.outside.asked


def test_a_confirmation_that_fails_is_asked_for_again():
    """Else the subscription would wait for ever."""
    world = SesWorld()
    del world.outside.documents[SUBSCRIBE]
    assert 503 == world.receive(sns("SubscriptionConfirmation")).reply.status


def test_an_unsigned_connection_fetches_and_confirms_nothing():
    """Nobody has proven that the addresses are the platform's."""
    world = SesWorld(replace(SES, unsigned=True))
    assert [200, 200] == [
        world.receive(sns(kind)).reply.status for kind in ("Notification", "SubscriptionConfirmation")
    ]
    assert [] == world.outside.asked


def test_a_platform_is_answered_in_its_own_words_once_it_is_durable():
    """Firehose takes its request id for yes and anything else for no."""
    connection = replace(SES, secrets=("secretsmanager:espial/main",))
    headers = {"X-Amz-Firehose-Access-Key": "an access key", "X-Amz-Firehose-Request-Id": "r-1"}
    request = read(http_event("/in/ses/main", b'{"records":[]}', headers))
    world = SesWorld(connection, (b"an access key",))
    told = json.loads(world.receive(request).reply.body)
    assert {"requestId": "r-1", "timestamp": int(NOW.timestamp() * 1000)} == told
    world.queue.away = True
    outcome = world.receive(request)
    assert (503, "") == (outcome.reply.status, outcome.reply.body)


def test_a_platform_that_takes_401_for_the_end_gets_another_status():
    """Nothing is kept all the same."""
    world = World(Connection(name="main", platform="mailpace", secrets=("secretsmanager:espial/main",)))
    outcome = world.receive(read(http_event("/in/mailpace/main", b"{}")))
    assert (202, "bad_signature", []) == (outcome.reply.status, outcome.reason, world.queue.deliveries)
