"""Sample values for tests: valid as they are, each field replaceable."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from espial import events
from espial.deliveries import Arrival, Connection, RawDelivery
from espial.events import BEHAVIOUR_KEYS, Event, Person
from espial.normalise import Recordable
from espial.vocabulary import EventType

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

CONTEXT = SimpleNamespace(
    function_name="function",
    function_version="1",
    invoked_function_arn="arn:aws:lambda:eu-west-1:000000000000:function:function",
    memory_limit_in_mb=128,
    aws_request_id="request-1",
    get_remaining_time_in_millis=lambda: 900_000,
)
"""What Lambda tells a handler of its invocation."""


def an_event(identity: str = "one", **fields: Any) -> Event:
    """A canonical event; the same `identity` and time give the same id."""
    occurred_at = fields.pop("occurred_at", NOON)
    return Event(
        **{
            "event_id": events.event_id(occurred_at, identity),
            "type": EventType.OPENED,
            "platform_type": "open",
            "channel": "email",
            "platform": "sendgrid",
            "connection": "main",
            "occurred_at": occurred_at,
            "received_at": NOON + timedelta(seconds=5),
            "person": Person(external_id="cust-1", email="ada@example.com"),
            "raw": "raw/2026/11/20/12/batch.ndjson.gz#0",
            **fields,
        }
    )


def a_record(identity: str = "one", **fields: Any) -> Recordable:
    """The event, ready to be inserted under its person's id."""
    event = an_event(identity, **fields)
    return Recordable(event, events.encode(event), events.home_key(event, BEHAVIOUR_KEYS))


def a_connection(**fields: Any) -> Connection:
    """A SendGrid connection."""
    return Connection(**{"name": "main", "platform": "sendgrid", "account": "shop", **fields})


def an_arrival(**fields: Any) -> Arrival:
    """A live webhook at noon."""
    return Arrival(**{"connection": a_connection(), "transport": "webhook", "received_at": NOON, **fields})


def an_item(number: int = 1, **fields: Any) -> dict[str, Any]:
    """A SendGrid delivery report in SendGrid's words; `number` tells one from another."""
    return {
        "email": f"person{number % 5}@example.com",
        "timestamp": int(NOON.timestamp()) + number,
        "event": "delivered",
        "sg_event_id": f"event-{number}",
        "sg_message_id": f"message-{number}.filter0001",
        **fields,
    }


def a_delivery(items: Any = None, **fields: Any) -> RawDelivery:
    """A SendGrid webhook call with these items; `body` replaces them."""
    return RawDelivery(
        **{
            "delivery_id": "delivery-1",
            "platform": "sendgrid",
            "connection": "main",
            "transport": "webhook",
            "body": json.dumps([an_item()] if items is None else items).encode(),
            "received_at": NOON,
            "headers": {"content-type": "application/json"},
            "url": "https://espial.example.com/in/sendgrid/main",
            **fields,
        }
    )
