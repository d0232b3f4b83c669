"""`espial template`: previews of people, and one test mail that belongs to nobody's run."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from espial import events
from espial.cli.app import app
from espial.events import Cart, Commerce, Event, Person, Product
from espial.services.load_catalogue import load as load_catalogue
from espial.stores.catalogue_table import CatalogueTable
from espial.stores.people_table import PeopleTable
from espial.vocabulary import EventType
from tests.cloud import either_cloud as cloud  # noqa: F401  both clouds
from tests.contract.test_ports import events_table
from tests.loopback import Canned, loopback
from tests.unit.test_definitions_load import write

PAGES = "connections/pages.yaml"
MARKETING = {
    PAGES: "platform: espial_pages\nsecrets:\n  - secretsmanager:espial/pages\n",
    "templates/hello/template.yaml": (
        'subject: "{{ person.first_name }}, hello"\nvariables:\n  person.first_name: {fallback: you}\n'
        "  cart.items: {}\nrecommendations: {catalogue: shop, count: 1}\n"
    ),
    "templates/hello/body.html": (
        '<html><head><meta name="color-scheme" content="light dark"></head><body>{{ cart.items[0].name }}'
        "{% for one in recommendations %} or {{ one.name }} at {{ one.price }}{% endfor %}"
        '<a href="{{ unsubscribe_url }}">leave</a></body></html>\n'
    ),
    "templates/hello/sample.json": '{"cart": {"items": [{"name": "Fern"}]}}',
    "triggers/hello.yaml": (
        "on: [cart_updated]\nkey: event.commerce.cart.id\nconsent: {channel: email}\n"
        "send:\n  provider: ses\n  template: hello\n"
    ),
}


@pytest.fixture
def espial(tmp_path, monkeypatch) -> Any:
    """Runs the command in a folder with a marketing template and a provider that has no page of its own."""
    write(tmp_path / "definitions", MARKETING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ESPIAL_STACK_FILE", str(tmp_path / "stack.json"))
    for name in ("ESPIAL_STACK", "AWS_ENDPOINT_URL"):
        monkeypatch.setenv(name, "")
    return lambda *words: CliRunner().invoke(app, list(words))


def stack_at(url: str, **outputs: str) -> None:
    Path("stack.json").write_text(json.dumps({"Endpoint": url, "EventsTable": "events", **outputs}))


def test_a_preview_is_a_mail_that_opens_without_a_network(espial):
    """HTML, text and headers; the way out leads nowhere, so that trying it unsubscribes nobody."""
    done = espial("template", "preview", "hello", "--out", "out/hello.html")
    assert 0 == done.exit_code, done.output
    mail = message_from_bytes(Path("out/hello.eml").read_bytes(), policy=policy.default)
    assert ("you, hello", "<https://unsubscribe.invalid/>") == (mail["Subject"], mail["List-Unsubscribe"])
    assert ["text/plain", "text/html"] == [part.get_content_type() for part in mail.iter_parts()]
    assert Path("out/hello.html").read_text().strip() == mail.get_body(("html",)).get_content().strip()
    assert "Fern" in Path("out/hello.txt").read_text()


def test_a_test_mail_is_marked_and_sent_once(espial):
    """Its key is no run's, its way out leads nowhere; that is all that is asked of the provider."""
    with loopback(Canned(200, b'{"MessageId": "m-1"}')) as ses:
        stack_at(ses.url)
        done = espial("template", "send-test", "hello", "--to", "grace@example.com", "--provider", "ses")
        assert (0, "sent by ses: m-1\n") == (done.exit_code, done.stdout)
        (asked,) = ses.seen
    said = json.loads(asked.body)
    assert ["grace@example.com"] == said["Destination"]["ToAddresses"]
    content = said["Content"]["Simple"]
    assert "[Test] you, hello" == content["Subject"]["Data"]
    headers = {one["Name"]: one["Value"] for one in content["Headers"]}
    assert "true" == headers["X-Espial-Test"]
    assert headers["X-Espial-Send-Key"].startswith("t-")
    assert "List-Unsubscribe" not in headers


def test_a_test_mail_without_an_answer_is_not_sent_again(espial):
    """Nobody knows whether it went out; once is enough."""
    with loopback(Canned(drop=True)) as ses:
        stack_at(ses.url)
        done = espial("template", "send-test", "hello", "--to", "grace@example.com", "--provider", "ses")
        assert 1 == done.exit_code
        assert 1 == len(ses.seen)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "grace@example.com, x@example.com", "--provider", "ses"), "espial: address_invalid"),
        (("--to", "grace@example.com", "--provider", "sos"), "espial: no provider 'sos' under definitions/providers"),
        (("--to", "grace@example.com", "--provider", "ses", "--data", "a", "--person", "b"), "espial: fill it with"),
    ],
)
def test_what_cannot_be_sent_is_not(espial, words, said):
    """The provider is not called."""
    with loopback(Canned()) as ses:
        stack_at(ses.url)
        done = espial("template", "send-test", "hello", *words)
        assert 1 == done.exit_code
        assert said in done.stderr
        assert [] == ses.seen


@pytest.mark.cloud
def test_a_preview_of_a_person_shows_their_own(espial, cloud):
    """Newest fitting event, attributes, and what would be recommended now; nothing is written."""
    now = datetime.now(UTC)
    for table in ("events", "catalogues"):
        events_table(cloud, table)
    stack_at(cloud.url, CatalogueTable="catalogues")
    dynamodb = cloud.client("dynamodb")
    product = {"id": "p-1", "name": "Pine", "price": 7.5, "url": "https://shop.example.com/1"}
    load_catalogue("shop", [product], CatalogueTable(dynamodb, "catalogues"), as_of=now, now=now)
    at = now - timedelta(hours=1)
    event = Event(
        event_id=events.event_id(at, "cart"),
        type=EventType.CART_UPDATED,
        platform_type="Cart Updated",
        channel="web",
        platform="segment",
        connection="shop",
        occurred_at=at,
        received_at=at,
        person=Person(external_id="cust-1"),
        commerce=Commerce(cart=Cart(id="c", items=(Product(id="p-2", name="Juniper"),))),
        properties={"traits": {"firstName": "Ada"}},
    )
    body = {"S": events.encode(event).decode()}
    item = {"pk": {"S": "P#id:cust-1"}, "sk": {"S": f"E#{event.event_id}"}, "body": body}
    dynamodb.put_item(TableName="events", Item=item)
    PeopleTable(dynamodb, "events").merge(event)
    before = dynamodb.scan(TableName="events")["Count"]
    done = espial("template", "preview", "hello", "--person", "id:cust-1", "--out", "out/hello.html")
    assert 0 == done.exit_code, done.output
    assert "Subject: Ada, hello" in done.output
    assert "Juniper or Pine at 7.5" in Path("out/hello.html").read_text()
    assert before == dynamodb.scan(TableName="events")["Count"]
    nobody = espial("template", "preview", "hello", "--person", "id:cust-2")
    assert "nothing is recorded of this person that the template could be about (cart_updated)" in nobody.stderr
