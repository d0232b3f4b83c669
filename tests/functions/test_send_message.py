"""send_message on the local cloud: a queue message in, one mail out, books written."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from espial import events, wiring
from espial.definitions.load import load
from espial.definitions.models import ProviderDefinition
from espial.definitions.publish import bundle, publish
from espial.events import Cart, Commerce, Event, Person, PersonKey, Product
from espial.normalise import Recordable
from espial.stores.definitions_bucket import DefinitionsBucket
from espial.triggers.run import Run, message
from espial.vocabulary import EventType
from local.cloud import Cloud
from tests.builders import CONTEXT
from tests.contract.test_ports import a_bucket, events_table
from tests.contract.test_senders import SECRET, _running

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.cloud


@pytest.fixture
def app(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The function, imported afresh with its environment, over an empty table and the repository's own definitions."""
    a_bucket(cloud)
    cloud.client("sesv2").create_email_identity(EmailIdentity="shop.example.com")
    queue = cloud.client("sqs").create_queue(QueueName="send")["QueueUrl"]
    events_table(cloud, "events")
    publish(
        bundle(load(ROOT / "definitions")),
        DefinitionsBucket(cloud.client("s3"), "store"),
        datetime.now(UTC),
        replaces=None,
    )
    environment = {
        "AWS_ENDPOINT_URL": cloud.url, "EVENTS_TABLE": "events", "STORE_BUCKET": "store", "SEND_QUEUE_URL": queue,
        "SEND_QUEUE_ARN": "arn:aws:sqs:eu-west-1:000000000000:send", "SCHEDULE_GROUP": "waits",
        "SCHEDULE_ROLE_ARN": "arn:aws:iam::000000000000:role/waits", "SHORT_WAIT_SECONDS": "900",
        "SEND_DEAD_LETTER_ARN": "arn:aws:sqs:eu-west-1:000000000000:send-dead", "OUTGOING_NETWORK": "loopback",
        "PAGES_URL": "https://pages.example.com", "CATALOGUE_TABLE": "catalogues",
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(ROOT / "functions/send_message"))
    _forget()
    yield import_module("app")
    wiring.aws("dynamodb").close()
    _forget()


def _forget() -> None:
    sys.modules.pop("app", None)
    for made in vars(wiring).values():
        if hasattr(made, "cache_clear"):
            made.cache_clear()


def abandoned(*, buys: bool = False, cart_id: str = "cart-7") -> dict[str, Any]:
    """A shopper with consent whose cart's wait has just run out; returns the SendQueue message."""
    now = datetime.now(UTC)
    trigger = wiring.published("store").trigger("cart-abandoned")
    assert trigger is not None
    at = now - trigger.wait - timedelta(seconds=1)
    cart = Cart(
        id=cart_id, currency="EUR", total=12.5, url="https://shop.example.com/cart/7",
        items=(Product(id="p-1", name="Socks", price=12.5, quantity=1),),
    )  # fmt: skip
    identity = events.event_id(at, cart_id)
    updated = _event(EventType.CART_UPDATED, at, event_id=identity, commerce=Commerce(cart=cart))
    happened = [_event(EventType.SUBSCRIBED, at - timedelta(days=1), channel="email"), updated]
    if buys:
        order = events.Order(id="o-1", cart_id=cart_id)
        happened.append(_event(EventType.ORDER_COMPLETED, now, commerce=Commerce(order=order)))
    for event in happened:
        wiring.people("events").merge(event)
        wiring.events_table("events").add(
            [Recordable(event, events.encode(event), "P#id:cust-1")], transport="tracking", expires_days=60
        )
    run = Run(
        trigger="cart-abandoned", person="id:cust-1", key=cart_id, version=updated.event_id,
        started_at=at, due_at=at + trigger.wait, event=updated,
    )  # fmt: skip
    assert wiring.runs("events").put(run, None)
    return message(run)


def _event(kind: EventType, at: datetime, **fields: Any) -> Event:
    return Event(
        **{
            "event_id": events.event_id(at, kind.value), "type": kind, "platform_type": kind.value, "channel": "web",
            "platform": "segment", "connection": "shop", "occurred_at": at, "received_at": at,
            "person": Person(external_id="cust-1", email="ada@example.com"), **fields,
        }
    )  # fmt: skip


def records(*bodies: Any) -> dict[str, Any]:
    return {
        "Records": [
            {"messageId": f"m-{index}", "body": body if isinstance(body, str) else json.dumps(body)}
            for index, body in enumerate(bodies)
        ]
    }


def mails(cloud: Cloud) -> list[dict[str, Any]]:
    shown = cloud.get("/_ministack/ses/messages")
    return [mail for account in shown["messages"].values() for mail in account] if shown.get("messages") else []


def own_events() -> list[tuple[str, str]]:
    found = wiring.events_table("events").events_of(PersonKey("id", "cust-1"))
    return [(event.type.value, event.properties.get("reason", "")) for event in found if event.platform == "espial"]


def test_a_message_becomes_one_mail(app, cloud):
    """Delivered twice in one batch and once more: the cart's products in one mail, and one event that says so."""
    request = abandoned()
    assert {"batchItemFailures": []} == app.handler(records(request, request), CONTEXT)
    assert {"batchItemFailures": []} == app.handler(records(request), CONTEXT)
    (mail,) = mails(cloud)
    assert ["ada@example.com"] == mail["To"]
    assert "Socks" in mail["BodyHtml"]
    assert "€12.50" in mail["BodyText"]
    assert [("message_requested", "")] == own_events()


def test_who_bought_gets_none(app, cloud):
    """The purchase is seen in the instant before sending; the skip is an event with its reason."""
    assert {"batchItemFailures": []} == app.handler(records(abandoned(buys=True)), CONTEXT)
    assert [] == mails(cloud)
    (skipped,) = own_events()
    assert "message_skipped" == skipped[0]


def test_another_platform_sends_by_the_providers_definition_alone(app, cloud):
    """Its secret from the parameter store, its address from the settings; no mail by SES."""
    cloud.client("ssm").put_parameter(Name="/espial/postmark", Value=SECRET, Type="SecureString", Overwrite=True)
    with _running("postmark") as world:
        definitions = load(ROOT / "definitions")
        said = definitions.providers["ses"].model_dump(by_alias=True, exclude_none=True) | {
            "sender": "postmark",
            "secrets": {"server_token": "ssm:/espial/postmark"},
            "settings": {"base_url": world.server.url, "message_stream": "broadcast"},
        }
        definitions.providers["ses"] = ProviderDefinition.model_validate(said)
        bucket = DefinitionsBucket(cloud.client("s3"), "store")
        publish(bundle(definitions), bucket, datetime.now(UTC), replaces=bucket.active())
        assert {"batchItemFailures": []} == app.handler(records(abandoned()), CONTEXT)
        [taken] = world.taken
    wiring.aws("ssm").close()
    assert ("ada@example.com", "broadcast") == (taken["To"], taken["MessageStream"])
    assert "€12.50" in taken["TextBody"]
    assert [] == mails(cloud)
    assert [("message_requested", "")] == own_events()


def test_one_bad_message_does_not_stop_the_rest(app, cloud):
    """Only what failed comes again."""
    answer = app.handler(records("not json", abandoned()), CONTEXT)
    assert {"batchItemFailures": [{"itemIdentifier": "m-0"}]} == answer
    assert 1 == len(mails(cloud))


def test_no_address_is_logged(app, cloud, capsys, monkeypatch):
    """Log lines and metrics name outcome, reason and trigger, nobody."""
    written = StringIO()
    monkeypatch.setattr(app.logger.registered_handler, "stream", written)
    app.handler(records(abandoned()), CONTEXT)
    told = written.getvalue() + capsys.readouterr().out
    assert "message.handled" in told
    assert "message.sent" in told
    assert "ada@example.com" not in told
    assert "cust-1" not in told
