"""From the link in a mail to the mail that is not sent: four functions, by their handlers, over one local cloud."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml

from espial import wiring
from espial.definitions.load import load
from espial.definitions.publish import bundle, publish
from espial.events import PersonKey
from espial.stores.definitions_bucket import DefinitionsBucket
from tests.builders import CONTEXT
from tests.contract.test_ports import a_bucket, events_table
from tests.functions.test_send_message import ROOT, abandoned, mails, own_events, records
from tests.http_events import http_event

pytestmark = pytest.mark.cloud
FORM = {"content-type": "application/x-www-form-urlencoded"}
PAGES = {
    "platform": "espial_pages",
    "secrets": ["secretsmanager:espial/pages"],
    "settings": {"topics": {"marketing": "Offers"}, "hosts": ["shop.example.com"]},
}


def definitions(folder: Path) -> Path:
    """The repository's own, with our page for the provider's, tracked, and without limits: they would stop it first."""
    copytree(ROOT / "definitions", folder)
    (folder / "connections/pages.yaml").write_text(yaml.safe_dump(PAGES))
    provider = folder / "providers/ses.yaml"
    provider.write_text(re.sub(r"(?m)^unsubscribe_url:.*\n", "", provider.read_text()))
    trigger = folder / "triggers/cart-abandoned.yaml"
    text = re.sub(r"(?m)^limits:\n(?:  .*\n)+", "", trigger.read_text())
    trigger.write_text(text.replace("  template: cart-reminder", "  template: cart-reminder\n  track: [links, opens]"))
    return folder


class Functions:
    """Each as Lambda would run it, over one queue, table and bucket."""

    def __init__(self, cloud: Any, load_app: Any, folder: Path) -> None:
        self.cloud, self._load_app = cloud, load_app
        a_bucket(cloud)
        for table in ("events", "catalogues"):
            events_table(cloud, table)
        cloud.client("sesv2").create_email_identity(EmailIdentity="shop.example.com")
        cloud.client("secretsmanager").create_secret(Name="espial/pages", SecretString="0123456789abcdef01234567")
        queues = {name: cloud.client("sqs").create_queue(QueueName=name)["QueueUrl"] for name in ("raw", "send")}
        self.raw = queues["raw"]
        bucket = DefinitionsBucket(cloud.client("s3"), "store")
        publish(bundle(load(definitions(folder))), bucket, datetime.now(UTC), replaces=None)
        self._environment = {
            "AWS_ENDPOINT_URL": cloud.url, "EVENTS_TABLE": "events", "STORE_BUCKET": "store",
            "SEND_QUEUE_URL": queues["send"], "SEND_QUEUE_ARN": "arn:aws:sqs:eu-west-1:000000000000:send",
            "SCHEDULE_GROUP": "waits", "SCHEDULE_ROLE_ARN": "arn:aws:iam::000000000000:role/waits",
            "SEND_DEAD_LETTER_ARN": "arn:aws:sqs:eu-west-1:000000000000:send-dead", "SHORT_WAIT_SECONDS": "900",
            "OUTGOING_NETWORK": "loopback", "PAGES_URL": "https://pages.example.com", "CATALOGUE_TABLE": "catalogues", "RAW_QUEUE_URL": self.raw,
        }  # fmt: skip

    def call(self, name: str, event: dict[str, Any]) -> Any:
        return self._load_app(name, **self._environment).handler(event, CONTEXT)

    def sends(self, cart_id: str) -> None:
        """A cart left alone for its hour."""
        app = self._load_app("send_message", **self._environment)
        assert {"batchItemFailures": []} == app.handler(records(abandoned(cart_id=cart_id)), CONTEXT)

    def records_what_came(self) -> int:
        """RawQueue by record_events, and what that inserted by people, as run_triggers does."""
        sqs = self.cloud.client("sqs")
        found = sqs.receive_message(QueueUrl=self.raw, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        messages = found.get("Messages", [])
        for message in messages:
            sqs.delete_message(QueueUrl=self.raw, ReceiptHandle=message["ReceiptHandle"])
        attributes = [
            {name: {"stringValue": value["StringValue"]} for name, value in message["MessageAttributes"].items()}
            for message in messages
        ]
        batch = [
            {"messageId": message["MessageId"], "body": message["Body"], "messageAttributes": said}
            for message, said in zip(messages, attributes, strict=True)
        ]
        assert {"batchItemFailures": []} == self.call("record_events", {"Records": batch})
        for event in wiring.events_table("events").events_of(PersonKey("email", "ada@example.com")):
            wiring.people("events").merge(event)
        return len(batch)


@pytest.fixture
def functions(cloud, load_app, tmp_path) -> Functions:
    return Functions(cloud, load_app, tmp_path / "definitions")


def test_whoever_clicks_once_gets_no_more(functions, cloud):
    """Mail, GETs that change nothing, one POST, and the next cart's mail is not sent, for want of consent."""
    functions.sends("cart-7")
    (mail,) = mails(cloud)
    (url,) = set(re.findall(r"https://pages\.example\.com(/u/[\w.-]+)", mail["BodyHtml"]))
    for _ in range(3):
        assert 200 == functions.call("serve_pages", http_event(url, "", method="GET"))["statusCode"]
    assert 0 == functions.records_what_came()
    answer = functions.call("serve_pages", http_event(url, b"List-Unsubscribe=One-Click", FORM))
    assert 200 == answer["statusCode"]
    assert 1 == functions.records_what_came()
    page = functions.call("serve_pages", http_event(url, "", method="GET"))["body"]
    assert "Subscribe again to Offers" in page
    functions.sends("cart-8")
    assert 1 == len(mails(cloud))
    assert [("message_requested", ""), ("message_skipped", "suppressed")] == sorted(own_events())


def test_a_click_of_the_mail_is_tied_to_it(functions, cloud):
    """The link leads to the cart, and the event has the send key of the mail."""
    functions.sends("cart-7")
    (mail,) = mails(cloud)
    url = re.findall(r"https://pages\.example\.com(/c/[\w.-]+)", mail["BodyHtml"])[0]
    assert "https://shop.example.com/cart/7" not in mail["BodyHtml"]
    answer = functions.call("serve_pages", http_event(url, "", {"user-agent": "Mozilla/5.0"}, method="GET"))
    assert (302, "https://shop.example.com/cart/7") == (answer["statusCode"], answer["headers"]["location"])
    assert 1 == functions.records_what_came()
    known = wiring.people("events").load(PersonKey("id", "cust-1")).events
    keys = {event.type.value: event.send_key for event in known if event.send_key}
    assert keys["message_requested"] == keys["clicked"]
