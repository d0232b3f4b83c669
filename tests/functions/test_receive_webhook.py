"""receive_webhook against the local cloud's real queue, bucket and secret stores."""

from __future__ import annotations

import json
import random
from base64 import b64encode
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from espial import wiring
from espial.stores.aws_http import AwsClient
from espial.stores.connections import MISS_SECONDS, RETRY_SECONDS, REVALIDATE_SECONDS, SECRET_SECONDS
from tests.cloud import MotoCloud
from tests.cloud import either_cloud as cloud  # noqa: F401  both clouds
from tests.functions.receivers import BUCKET, publish, receiver  # noqa: F401  a fixture
from tests.http_events import http_event

pytestmark = pytest.mark.cloud
BODY = b'[{"email":"ada@example.com","event":"open","sg_event_id":"1","timestamp":1768471200}]\r\n'
PATH = "/in/sendgrid/main"
NEW, OLD, FOREIGN = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
MAIN = {
    "platform": "sendgrid",
    "secrets": ["secretsmanager:espial/main", "ssm:/espial/main-old"],
    "account": "main",
}
NOWHERE = "http://127.0.0.1:9"


def public(key):
    """The verification key as SendGrid shows it."""
    return b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def signed(body=BODY, key=NEW, path=PATH, **more):
    """A request as SendGrid signs it, now."""
    stamp = str(int(datetime.now(UTC).timestamp()))
    signature = b64encode(key.sign(stamp.encode() + body, ec.ECDSA(SHA256()))).decode()
    headers = {
        "x-twilio-email-event-webhook-signature": signature,
        "x-twilio-email-event-webhook-timestamp": stamp,
        "content-type": "application/json",
        "authorization": "Bearer never-kept",
    }
    return http_event(path, body, headers, **more)


@pytest.fixture
def webhook(cloud, receiver):
    """The function, with one connection whose two keys lie in two stores."""
    cloud.client("secretsmanager").create_secret(Name="espial/main", SecretString=public(NEW) + "\n")
    cloud.client("ssm").put_parameter(Name="/espial/main-old", Value=public(OLD), Type="SecureString")
    publish(cloud, {"main": MAIN, "off": MAIN | {"enabled": False}})
    return receiver("receive_webhook")


def statuses(webhook, *events):
    """What each is answered."""
    return [webhook.post(event)["statusCode"] for event in events]


def test_an_accepted_delivery_is_on_the_queue_with_the_same_bytes(webhook):
    """200 and its body, one message, byte for byte, without the header that carries a secret."""
    answer = webhook.post(signed())
    (kept,) = webhook.queued()
    assert (200, {"accepted": True}) == (answer["statusCode"], json.loads(answer["body"]))
    assert (BODY, "sendgrid", "main") == (kept.body, kept.platform, kept.connection)
    assert "authorization" not in kept.headers
    assert ["webhook.accepted"] == [line["message"] for line in webhook.lines()]


def test_both_secrets_open_the_door_during_a_rotation(webhook):
    """One from Secrets Manager, one from the parameter store; a third party's key does not."""
    assert [200, 200, 401] == statuses(webhook, signed(), signed(key=OLD), signed(key=FOREIGN))
    assert 2 == len(webhook.queued())


def test_what_is_refused_leaves_nothing_but_a_count(webhook):
    """Each refusal with its status and its reason as the metric's dimension."""
    events = [signed(key=FOREIGN), signed(path="/in/sendgrid/none"), signed(path="/in/sendgrid/off")]
    events += [signed(path="/in/nobody/main"), signed(method="GET"), http_event(PATH, b"x" * 6_000_001)]
    assert [401, 404, 404, 404, 405, 413] == statuses(webhook, *events)
    assert [] == webhook.queued()
    refused = [(count["webhook.refused"], count["reason"]) for count in webhook.counted()]
    assert [
        ([1.0], "bad_signature"),
        ([1.0], "unknown_connection"),
        ([1.0], "unknown_connection"),
        ([1.0], "unknown_connection"),
        ([1.0], "method_not_allowed"),
        ([1.0], "too_large"),
    ] == refused


def test_an_accepted_delivery_is_counted_without_a_reason(webhook):
    """The dimension of a refusal does not stay for the next request."""
    statuses(webhook, signed(key=FOREIGN), signed())
    assert [True, False] == ["reason" in count for count in webhook.counted()]


@pytest.mark.parametrize("size", [400_000, 1_500_000], ids=["over the queue's setting", "over SQS's limit"])
def test_a_body_the_queue_does_not_take_travels_as_a_pointer(webhook, cloud, size):
    """Incompressible: in the bucket first, then a message that says where. The first queue takes 256 KiB."""
    if size < 1_000_000:
        small = {"MaximumMessageSize": "262144"}
        cloud.client("sqs").set_queue_attributes(QueueUrl=webhook.queue_url, Attributes=small)
    body = random.Random(1).randbytes(size)
    assert [200] == statuses(webhook, signed(body))
    (key,) = [o["Key"] for o in cloud.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="spill/")["Contents"]]
    (kept,) = webhook.queued()
    assert body == kept.body
    assert f"spill/{kept.received_at:%Y-%m-%d}/JKJaXmPLvHcESHA%3D" == key


def test_a_body_that_fits_needs_no_bucket(webhook, cloud):
    """Compressed it is small enough, though it came with 5 MB."""
    body = b"[" + b",".join([BODY.strip()[1:-1]] * 60_000) + b"]"
    assert [200] == statuses(webhook, signed(body))
    assert "Contents" not in cloud.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="spill/")
    assert [body] == [kept.body for kept in webhook.queued()]


def test_a_spill_that_fails_sends_no_pointer(webhook, cloud):
    """The bucket is gone: an error for the platform, and no message that points to nothing."""
    statuses(webhook, signed())
    webhook.queued()
    s3 = cloud.client("s3")
    s3.delete_object(Bucket=BUCKET, Key="definitions/active.json")
    s3.delete_bucket(Bucket=BUCKET)
    assert [500] == statuses(webhook, signed(random.Random(1).randbytes(1_500_000)))
    assert [] == webhook.queued()


def test_a_lost_queue_is_an_error_the_platform_repeats(webhook, cloud):
    """Never 200: the queue does not exist."""
    cloud.client("sqs").delete_queue(QueueUrl=webhook.queue_url)
    assert [500] == statuses(webhook, signed())


class Clock:
    """Monotonic seconds that the test moves."""

    now = 1000.0

    def __call__(self):
        return self.now


class Switch:
    """Clients of the local cloud, or of nothing at all while `away`."""

    def __init__(self, cloud):
        self.cloud, self.away, self.made, self.calls = cloud, False, [], 0

    def __call__(self, service):
        self.calls += 1
        client = AwsClient(service, "eu-west-1", NOWHERE if self.away else self.cloud.url, sleep=lambda _: None)
        self.made.append(client)
        return client


@pytest.fixture
def outage(webhook, cloud, monkeypatch):
    """The function's connections read through a switch and a clock of the test's."""
    from espial.stores.connections import PublishedConnections

    switch, clock = Switch(cloud), Clock()
    monkeypatch.setattr(webhook.app, "connections", PublishedConnections(switch, BUCKET, clock))
    yield switch, clock
    for client in switch.made:
        client.close()


def test_stores_that_are_away_from_the_start_are_503(webhook, outage):
    """Nothing was ever read, so nothing can be told apart; once they are back the same process serves."""
    switch, _ = outage
    switch.away = True
    answer = webhook.post(signed())
    assert (503, "1") == (answer["statusCode"], answer["headers"]["retry-after"])
    switch.away = False
    assert [200] == statuses(webhook, signed())


def test_secrets_that_were_never_read_are_503_not_401(webhook, outage, cloud):
    """The connections are known, their secrets are not: a 401 would lose the events."""
    switch, _ = outage
    assert [404] == statuses(webhook, signed(path="/in/sendgrid/none"))
    switch.away = True
    assert [503] == statuses(webhook, signed())


def test_stale_copies_serve_while_the_stores_are_away(webhook, outage):
    """Hours after the last success it still verifies, and asks for news only now and then."""
    switch, clock = outage
    assert [200] == statuses(webhook, signed())
    switch.away = True
    clock.now += SECRET_SECONDS + REVALIDATE_SECONDS
    assert [200, 401] == statuses(webhook, signed(), signed(key=FOREIGN))
    calls = switch.calls
    assert [200] == statuses(webhook, signed())
    assert calls == switch.calls
    clock.now += RETRY_SECONDS
    assert [200] == statuses(webhook, signed())
    assert calls < switch.calls


def test_a_new_connection_is_not_called_unknown_for_long(webhook, outage, cloud):
    """A 404 loses events at some platforms: an unknown name is looked up again, though not for every request."""
    switch, clock = outage
    path = "/in/sendgrid/late"
    assert [404] == statuses(webhook, signed(path=path))
    publish(cloud, {"main": MAIN, "late": MAIN})
    calls = switch.calls
    assert [404, 404] == statuses(webhook, signed(path=path), signed(path=path))
    assert calls == switch.calls
    clock.now += MISS_SECONDS
    assert [200] == statuses(webhook, signed(path=path))


def test_a_change_is_seen_within_the_revalidation_time(webhook, outage, cloud):
    """A connection that was switched off is off once the copy is due."""
    _, clock = outage
    assert [200] == statuses(webhook, signed())
    publish(cloud, {"main": MAIN | {"enabled": False}})
    assert [200] == statuses(webhook, signed())
    clock.now += REVALIDATE_SECONDS
    assert [404] == statuses(webhook, signed())


def test_a_deleted_secret_no_longer_opens_the_door(webhook, outage, cloud):
    """The old key is removed after a rotation: its copy is forgotten, the other key goes on."""
    _, clock = outage
    assert [200] == statuses(webhook, signed(key=OLD))
    cloud.client("ssm").delete_parameter(Name="/espial/main-old")
    clock.now += SECRET_SECONDS
    assert [401, 200] == statuses(webhook, signed(key=OLD), signed())


def test_a_connection_whose_secrets_do_not_exist_is_503(webhook, outage, cloud):
    """A misspelt reference is mended in minutes; until then the platform keeps its events."""
    publish(cloud, {"main": MAIN | {"secrets": ["secretsmanager:espial/mian"]}})
    assert [503] == statuses(webhook, signed())


def test_before_anything_is_applied_platforms_are_asked_to_come_back(webhook, cloud):
    """A fresh stack answers 503: a 404 would lose the event at platforms that never retry one."""
    cloud.client("s3").delete_object(Bucket=BUCKET, Key="definitions/active.json")
    assert [503] == statuses(webhook, signed())


def test_one_unreadable_connection_does_not_take_the_others_away(webhook, cloud):
    """A field of another release's: that connection is unknown, its neighbour serves."""
    publish(cloud, {"main": MAIN, "odd": MAIN | {"field_of_tomorrow": 1}})
    assert [200, 404] == statuses(webhook, signed(), signed(path="/in/sendgrid/odd"))


def test_an_error_of_ours_is_500_and_names_no_one(webhook, monkeypatch):
    """Kind and place are logged; the message, which quotes an address here, is not."""

    def broken(*_, **__):
        raise KeyError("ada@example.com")

    monkeypatch.setattr(webhook.app, "receive_webhook", broken)
    answer = webhook.post(signed())
    (line,) = webhook.lines()
    assert (500, "") == (answer["statusCode"], answer["body"])
    assert ("internal_error", "ERROR") == (line["reason"], line["level"])
    assert line["detail"].startswith("KeyError < test_receive_webhook.py:")
    assert "example.com" not in webhook.log.getvalue()


def test_nothing_logged_holds_an_address_or_a_secret(webhook):
    """Over accepted, refused and unknown requests."""
    statuses(webhook, signed(), signed(key=FOREIGN), signed(path="/in/sendgrid/ada@example.com"))
    text = webhook.log.getvalue() + webhook.capture.readouterr().out
    assert not any(word in text for word in ("example.com", "never-kept", public(NEW)))
    assert {"platform", "connection", "size", "status", "reason"} <= webhook.lines()[0].keys()


def test_no_function_keeps_more_than_its_clients(webhook):
    """Warm requests open no further connection: one client a service serves them all (moto keeps none open)."""
    statuses(webhook, signed(), signed(), signed())
    assert wiring.aws("sqs") is wiring.aws("sqs")
    if not isinstance(webhook.cloud, MotoCloud):
        assert 1 == len(wiring.aws("sqs")._open)


def test_sessionms_rest_calls_come_here_too(cloud, receiver):
    """Queued under the account whose key and secret are shown; a request id stands for one body, in the bucket."""
    cloud.client("secretsmanager").create_secret(Name="espial/loyalty", SecretString="k1:s3cret")
    loyalty = {"platform": "sessionm", "secrets": ["secretsmanager:espial/loyalty"], "account": "loyalty"}
    publish(cloud, {"loyalty": loyalty})
    webhook = receiver("receive_webhook")
    headers = {"authorization": f"Basic {b64encode(b'k1:s3cret').decode()}"}

    def call(path, **content):
        return http_event(path, json.dumps(content).encode(), headers)

    payments = [{"user_id": "P-1", "user_id_type": "external_id", "amount": 25.0}]
    bought = {"request_id": "r-1", "request_payload": {"transaction_id": "t-1", "payments": payments}}
    other = {**bought, "store_id": "s-2"}
    tagged = call("/priv/v1/apps/k1/external/users/P-1/tags", tags=["vip"])
    asked = [call("/api/2.0/send_transaction", **body) for body in (bought, bought, other)]
    assert [202, 200, 200, 409] == statuses(webhook, tagged, *asked)
    assert [("sessionm", "loyalty", "tracking")] * 3 == [
        (kept.platform, kept.connection, kept.transport) for kept in webhook.queued()
    ]
