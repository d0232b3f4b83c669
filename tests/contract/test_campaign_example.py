"""The example of docs/campaigns.md as it stands in definitions/, live, with both of its platforms on this machine."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from espial.campaigns import compiling
from espial.definitions.load import load
from espial.events import Commerce, Order, Person
from espial.simulation import world as simulated
from espial.simulation.report import report
from espial.vocabulary import EventType
from local.cloud import ROOT
from tests.builders import NOON
from tests.campaigning import World
from tests.docs.pages import blocks
from tests.loopback import Canned, loopback
from tests.simulation import behaviour

NAME = "points-for-purchases"


def live(root: Path, url: str) -> Path:
    """The definitions, with what is different on this machine laid over them as a stage does."""
    directory = shutil.copytree(ROOT / "definitions", root / "definitions")
    here: dict[str, Any] = {
        "campaigns": {NAME: {"status": "live"}},
        "providers": {"points-app": {"settings": {"host": f"{url}/{{{{tenant}}}}/api"}}},
        "webhooks": {
            "sendgrid-send": {"endpoint": f"{url}/v3/mail/send"},
            "points-app-push": {"auth": {"token_url": f"{url}/oauth/token"}},
        },
    }
    (directory / "stages/here.yaml").write_text(yaml.safe_dump(here))
    return directory


def test_the_example_runs(tmp_path):
    """A purchase: points and a tag, a mail over SendGrid's API, and ten minutes later a message in the app."""
    token = Canned(body=b'{"access_token": "t", "expires_in": 3600}')
    told = Canned(201, b'{"message": {"id": "m-2"}}')
    with loopback(Canned(202, headers={"X-Message-Id": "m-1"}), token, told) as platform:
        world = World(live(tmp_path, platform.url), stage="here")
        ann = Person(external_id="P-1", email="ann.lee@example.com")
        order = Commerce(order=Order(id="t-1", total=25.0))
        world.lives(behaviour(EventType.TRANSACTION, NOON, "t-1", person=ann, commerce=order), minutes=11)
        mail, asked, pushed = platform.seen
    said = json.loads(mail.body)["personalizations"][0]
    assert "ann.lee@example.com" == said["to"][0]["email"]
    assert {"points": 25, "line": "Hi there, +25", "total": 25.0} == said["dynamic_template_data"]
    assert mail.headers["idempotency-key"] == said["custom_args"]["send_key"]
    assert ("/oauth/token", "/acme/api/v1/members/P-1/messages") == (asked.path, pushed.path)
    assert "Bearer t" == pushed.headers["authorization"]
    assert {
        "title": "Thank you",
        "text": "You have 25 points more.",
        "points": 25,
        "tags": ["recent_buyer"],
    } == json.loads(pushed.body)
    own = world.own(EventType.MESSAGE_REQUESTED)
    assert ["m-1", "m-2"] == [one.properties["provider_message_id"] for one in own]


def test_the_page_shows_what_is_there():
    """Every file of the page is the one under definitions/."""
    shown = {
        block.words[1].removeprefix("file="): block.text
        for block in blocks(ROOT / "docs/campaigns.md")
        if block.words[:1] == ("yaml",)
    }
    assert 9 == len(shown)
    assert shown == {name: (ROOT / name).read_text() for name in shown}


def test_a_month_of_it_in_memory(tmp_path):
    """`espial simulate` sends what campaigns would, and counts what became of each entry once."""
    made = compiling.made(load(live(tmp_path, "http://127.0.0.1:9"), "here"))
    world = simulated.World([*made.triggers.values()], providers=made.providers, templates={}, now=NOON)
    for number in range(5):
        when = NOON + timedelta(hours=number)
        person = Person(external_id=f"P-{number}", email=f"p{number}@example.com")
        order = Commerce(order=Order(id=f"t-{number}", total=25.0))
        world.happens(behaviour(EventType.TRANSACTION, when, f"t-{number}", person=person, commerce=order))
    world.until(NOON + timedelta(days=1))
    assert ["points-mail", "points-push"] * 5 == [mail.tags["template"] for _, mail in world.outbox.taken]
    rows = report(world).plain()
    assert [(5, 5, {})] * 2 == [(row["entered"], row["sent"], row["skipped"]) for row in rows]
