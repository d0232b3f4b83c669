"""Platforms without a source of their own: a mapping in the settings, a scheme chosen by name."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from espial import signing, sources
from espial.definitions.models import ConnectionDefinition
from espial.deliveries import Arrival, Connection, RawDelivery
from espial.errors import MalformedDelivery, SignatureError
from espial.normalise import normalise
from tests.samples import case

NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
BODY = b'{"type":"opened","id":"1","email":"ada@example.com","occurred_at":1768471200}'


def connection(**settings: Any) -> Connection:
    return Connection(name="acme", platform="custom_json", account="acme", settings=settings)


def delivery(body: bytes = BODY, platform: str = "custom_json", **facts: Any) -> RawDelivery:
    return RawDelivery(
        delivery_id="d-1",
        platform=platform,
        connection="acme",
        transport="webhook",
        body=body,
        received_at=NOW,
        **{"url": "https://hooks.example.com/in/custom_json/acme", **facts},
    )


def accepted(scheme: dict[str, Any], given_: RawDelivery, secret: bytes, now: datetime = NOW) -> bool:
    try:
        sources.of(connection(signature=scheme)).verify(given_, (secret,), now)
    except SignatureError:
        return False
    return True


SCHEMES: dict[str, dict[str, Any]] = {
    "shared secret": {"scheme": "shared_secret"},
    "bearer": {"scheme": "bearer_token"},
    "standard": {"scheme": "standard_webhooks"},
    "hex of the body": {"scheme": "hmac", "header": "X-Sig"},
    "base64 with a prefix": {"scheme": "hmac", "header": "x-sig", "encoding": "base64", "prefix": "sha512="},
    "sha1": {"scheme": "hmac", "header": "x-sig", "algorithm": "sha1"},
    "url and method": {"scheme": "hmac", "header": "x-sig", "signed": "{method}\n{url}\n{body}"},
    "time and id": {
        "scheme": "hmac",
        "header": "x-sig",
        "signed": "v0:{id}:{timestamp}:{body}",
        "timestamp_header": "x-time",
        "id_header": "x-id",
    },
    "ed25519": {"scheme": "ed25519", "header": "x-sig"},
    "rsa": {"scheme": "rsa", "header": "x-sig"},
    "ecdsa": {"scheme": "ecdsa", "header": "x-sig"},
}


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=list(SCHEMES))
def test_a_chosen_scheme_proves_what_it_signed_and_nothing_else(scheme: dict[str, Any]) -> None:
    """Both sides of every scheme that a connection can name; another tenant's secret opens nothing."""
    made = sources.of(connection(signature=scheme)).verify
    mine, other = made.new_secret(b"a" * 32), made.new_secret(b"b" * 32)
    signed = signing.signed(mine.signing, delivery(), NOW, {"signature": scheme})
    assert accepted(scheme, signed, mine.accepted)
    assert not accepted(scheme, signed, other.accepted)
    assert not accepted(scheme, delivery(), mine.accepted)
    if scheme["scheme"] not in ("shared_secret", "bearer_token"):
        assert not accepted(scheme, replace(signed, body=BODY + b" "), mine.accepted)


@pytest.mark.parametrize(
    ("scheme", "change"),
    [
        ("url and method", {"url": "https://hooks.example.com/in/custom_json/acme?x=1"}),
        ("url and method", {"method": "PUT"}),
        ("time and id", {"headers": {"x-time": "1768471201"}}),
        ("time and id", {"headers": {"x-id": "another"}}),
    ],
)
def test_every_signed_part_counts(scheme: str, change: dict[str, Any]) -> None:
    """What the template names is covered by the code."""
    options = SCHEMES[scheme]
    signed = signing.signed(b"k", delivery(), NOW, {"signature": options})
    headers = {**signed.headers, **change.get("headers", {})}
    assert accepted(options, signed, b"k")
    assert not accepted(options, replace(signed, **{**change, "headers": headers}), b"k")


@pytest.mark.parametrize(("age", "expected"), [(299, True), (301, False), (-301, False)])
def test_a_signed_time_must_be_near(age: int, expected: bool) -> None:
    """Five minutes, each way."""
    options = SCHEMES["time and id"]
    signed = signing.signed(b"k", delivery(), NOW, {"signature": options})
    assert expected == accepted(options, signed, b"k", NOW + timedelta(seconds=age))


@given(
    st.dictionaries(st.sampled_from(["x-sig", "x-time", "x-id", "authorization", "webhook-signature"]), st.text()),
    st.binary(max_size=50),
    st.sampled_from(list(SCHEMES)),
)
def test_hostile_headers_are_a_refusal(headers: dict[str, str], body: bytes, name: str) -> None:
    """Whatever arrives, SignatureError is the only way to fail."""
    made = sources.of(connection(signature=SCHEMES[name])).verify
    assert not accepted(SCHEMES[name], delivery(body, headers=headers), made.new_secret(b"a" * 32).accepted)


@given(st.binary(max_size=200))
def test_standard_webhooks_own_library_agrees(body: bytes) -> None:
    """Its signer is accepted here, ours is accepted there, a changed body by neither."""
    scheme = sources.load("standard_webhooks").verify
    secret = scheme.new_secret(b"s" * 32)
    theirs = Webhook(secret.accepted.decode())
    text = body.hex()
    stamp = str(int(NOW.timestamp()))
    headers = {"webhook-id": "m-1", "webhook-timestamp": stamp, "webhook-signature": theirs.sign("m-1", NOW, text)}
    scheme(delivery(text.encode(), "standard_webhooks", headers=headers), (secret.accepted,), NOW)
    now = datetime.now(UTC)
    ours = scheme.sign(secret.signing, delivery(b'{"a":"%b"}' % text.encode(), "standard_webhooks"), now)
    assert {"a": text} == theirs.verify(ours.body, dict(ours.headers))
    with pytest.raises(WebhookVerificationError):
        theirs.verify(ours.body + b" ", dict(ours.headers))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fields": {"person.emial": "a"}}, "fields.person.emial: no such field"),
        ({"fields": {"person.email": "a..b"}}, "fields.person.email: must be a path"),
        ({"fields": ["type"]}, "fields: must be a mapping"),
        ({"items": 7}, "items: must be a path"),
        ({"types": {"open": "opend"}}, "types.open: no such type 'opend'"),
        ({"channel": "fax"}, "channel: must be one of"),
        ({"signature": {"scheme": "md5"}}, "signature.scheme: must be one of"),
        ({"signature": {"scheme": "hmac"}}, "signature.header: is missing"),
        ({"signature": {"scheme": "hmac", "header": "x", "signed": "{timestamp}"}}, "signature.signed: must hold"),
        ({"signature": {"scheme": "hmac", "header": "x", "signed": "{timestamp}{body}"}}, "signature.timestamp_header"),
        ({"signature": {"scheme": "hmac", "header": "x", "timestamp_header": "y"}}, "must hold {timestamp}"),
        ({"signature": {"scheme": "hmac", "header": "x", "encoding": "base32"}}, "signature.encoding: must be one of"),
        ({"signature": {"scheme": "hmac", "heder": "x"}}, "signature.heder: no such option"),
        ({"signature": "hmac"}, "signature: must be a mapping"),
    ],
)
def test_settings_that_do_not_do_are_named(settings: dict[str, Any], message: str) -> None:
    """When applied, with the setting to blame; nothing is left to be found out by the first delivery."""
    with pytest.raises(ValueError, match="settings") as found:
        ConnectionDefinition.model_validate(
            {"name": "acme", "platform": "custom_json", "secrets": ["secretsmanager:espial/acme"], "settings": settings}
        )
    assert "settings: " in str(found.value)
    assert message in str(found.value)


def test_settings_are_read_once() -> None:
    """A warm receiver makes no source anew."""
    settings = {"channel": "sms", "types": {"open": "opened"}}
    assert sources.of(connection(**settings)) is sources.of(connection(**settings))


def test_a_retry_under_another_time_stamp_is_the_same_event() -> None:
    """The message id of Standard Webhooks stays over retries, whatever else is signed anew."""
    one = case("standard_webhooks", "one-report")
    again = replace(one.delivery, headers={**one.delivery.headers, "webhook-timestamp": "1768475000"})
    arrival = Arrival(connection=one.connection, transport="webhook", received_at=NOW)
    first, second = (normalise(one.source, one.source.split(by)[0], arrival) for by in (one.delivery, again))
    assert first.event.event_id == second.event.event_id


def test_cloudevents_grants_who_asks_and_promises_nothing() -> None:
    """The web hook's handshake names the origin that asked; a post is no handshake."""
    handshake = sources.load("cloudevents").handshake
    assert handshake is not None
    asked = delivery(b"", "cloudevents", method="OPTIONS", headers={"webhook-request-origin": "events.example.com"})
    reply = handshake(asked, ())
    assert reply is not None
    assert (200, "events.example.com", "*") == (
        reply.status,
        reply.headers["webhook-allowed-origin"],
        reply.headers["webhook-allowed-rate"],
    )
    odd = handshake(replace(asked, headers={"webhook-request-origin": "a\r\nb"}), ())
    assert odd is not None
    assert "webhook-allowed-origin" not in odd.headers
    assert handshake(delivery(BODY, "cloudevents"), ()) is None


def test_a_report_that_the_mapping_does_not_reach_is_quarantined_whole() -> None:
    """The place that was looked at is named."""
    source = sources.of(connection(items="data.events"))
    with pytest.raises(MalformedDelivery, match=r"data\.events is neither") as found:
        source.split(delivery(b'{"data":{}}'))
    assert "data.events" == found.value.path
