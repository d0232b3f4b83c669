"""Triggers on the use-cases of production, in the memory of `espial.simulation`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from espial.events import PersonKey
from espial.simulation.world import World
from espial.vocabulary import EventType
from tests.simulation import a_trigger, agrees, at

PROVIDER = {"name": "ses", "sender": "ses", "from": "Shop <shop@example.com>", "unsubscribe_url": "https://x/{message}"}
ADA_KEY = PersonKey("id", "P-1001")
CART_STAGES = [
    {"after": "1h", "template": "first", "guest_template": "first-guest"},
    {"after": "24h", "template": "second"},
    {"after": "72h"},
]


def a_template(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "category": "transactional",
        "subject": name,
        "from_name": "",
        "html": "<p>x</p>",
        "text": "x",
        "variables": {},
        "sha": name,
    }


def a_world(*triggers: Any, **fields: Any) -> World:
    """A stack with the cart trigger, or others, and a shopper who agreed to be written to."""
    names = ("cart-reminder", "first", "first-guest", "second", "a", "b", "c")
    templates = {name: a_template(name) for name in names}
    known = triggers or (a_trigger(**{"wait": "0s", "stages": CART_STAGES, **fields}),)
    world = World(known, providers={"ses": PROVIDER}, templates=templates, now=at("09:00:00", day=1))
    world.happens(agrees(at("09:00:00", day=1)))
    return world


def mails(world: World) -> list[tuple[datetime, str]]:
    return [(when, mail.subject) for when, mail in world.outbox.taken]


def skips(world: World) -> list[str]:
    return [event.properties["reason"] for event in world.people.own if event.type is EventType.MESSAGE_SKIPPED]
