"""serve_pages against the cloud: a link as compose makes it, from the page to the report that is recorded."""

from __future__ import annotations

import json

import pytest

from espial import wiring
from espial.mail_links import PLATFORM, MailLinks, Reader
from tests.cloud import either_cloud as cloud  # noqa: F401  both clouds
from tests.contract.test_ports import events_table
from tests.functions.receivers import BUCKET, publish, receiver  # noqa: F401  a fixture
from tests.http_events import http_event

pytestmark = pytest.mark.cloud
READER = Reader("id:cust-1", "ada@example.com", "s-1", "email", "offers")
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
def pages(cloud, receiver, monkeypatch):
    """The function, with a connection of its platform, and an empty table."""
    events_table(cloud, "events")
    monkeypatch.setenv("EVENTS_TABLE", "events")
    cloud.client("secretsmanager").create_secret(Name="espial/pages", SecretString="0123456789abcdef0123456789abcdef")
    topics = {"offers": "Offers and sales"}
    connection = {"platform": PLATFORM, "secrets": ["secretsmanager:espial/pages"], "settings": {"topics": topics}}
    publish(cloud, {"pages": connection})
    yield receiver("serve_pages")
    wiring.aws("dynamodb").close()


@pytest.fixture
def links(pages) -> MailLinks:
    """As send_message makes them, with the published connection's secret."""
    found = wiring.mail_links(BUCKET, "https://pages.example.com")
    assert found is not None
    return found.to(READER)


def path(url: str) -> str:
    return url.removeprefix("https://pages.example.com")


def test_one_click_is_on_the_queue(pages, links):
    """GETs before it leave nothing; the POST is durable before it is answered."""
    url = path(links.unsubscribe())
    shown = [pages.post(http_event(url, "", method="GET")) for _ in range(5)]
    assert [200] * 5 == [answer["statusCode"] for answer in shown]
    assert "Unsubscribe from Offers and sales" in shown[0]["body"]
    assert [] == pages.queued()
    assert 200 == pages.post(http_event(url, b"List-Unsubscribe=One-Click", FORM))["statusCode"]
    (kept,) = pages.queued()
    (report,) = json.loads(kept.body)["reports"]
    assert (PLATFORM, "pages", "unsubscribed", "offers") == (
        kept.platform,
        kept.connection,
        report["type"],
        report["topic"],
    )


def test_what_is_logged_names_nobody(pages, links):
    """No address, no token."""
    pages.post(http_event(path(links.unsubscribe()), b"List-Unsubscribe=One-Click", FORM))
    pages.post(http_event(path(links.unsubscribe())[:-1], "", method="GET"))
    assert ["unsubscribed", "bad_token"] == [line["reason"] for line in pages.lines() if "reason" in line]
    log = pages.log.getvalue()
    assert "ada" not in log
    assert path(links.unsubscribe())[5:40] not in log


def test_a_click_leads_on(pages, links):
    """By API Gateway's own event."""
    answer = pages.post(http_event(path(links.click("https://shop.example.com/x")), "", method="GET"))
    assert (302, "https://shop.example.com/x") == (answer["statusCode"], answer["headers"]["location"])
    assert ["clicked"] == [json.loads(one.body)["reports"][0]["type"] for one in pages.queued()]
