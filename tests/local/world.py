"""The deployed stack as the outside world sees it: what is done to it, and what comes of it."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import yaml

from local.cloud import ROOT, free_port
from local.demo.report import Report
from local.demo.world import Demo, tap_the_bus
from local.stack import NAME, Stack

STAGE = "tests"
PATIENCE = 60.0
UNCAPPED = "SEK"
"""Carts in this currency are the business of `cart-uncapped`, all others of `cart-abandoned`."""

SCHEDULED = datetime(2035, 6, 1, 9, 0, tzinfo=UTC)
"""When people of Leeds enter `leeds`."""
WELCOME = """<mjml><mj-body><mj-section><mj-column>
<mj-text>Welcome. <a href="{{ unsubscribe_url }}">No more of these</a></mj-text>
</mj-column></mj-section></mj-body></mjml>
"""

MUG = {"product_id": "p-1", "name": "Stoneware mug", "price": 14.5, "quantity": 2}
LAMP = {"product_id": "p-2", "name": "Reading lamp", "price": 79.0, "quantity": 1}


def definitions(folder: Path) -> Path:
    """The repository's definitions with a stage that does not wait long, and a trigger without limits beside it."""
    copy = Path(shutil.copytree(ROOT / "definitions", folder / "definitions"))
    cart = yaml.safe_load((copy / "triggers/cart-abandoned.yaml").read_text())
    # YAML 1.1 reads the key `on` as true, Espial's reader does not
    on = cart.pop(True, None) or cart.pop("on")
    uncapped = {**cart, "on": on, "name": "cart-uncapped", "limits": [], "conditions": [], "wait": "1s"}
    uncapped["where"] = f'event.commerce.cart.currency == "{UNCAPPED}"'
    write(copy / "triggers/cart-uncapped.yaml", uncapped)
    mine = {"wait": "3s", "where": f'event.commerce.cart.currency != "{UNCAPPED}"'}
    write(copy / "connections/rotating.yaml", {"platform": "braze", "secrets": ["secretsmanager:espial/rotating-a"]})
    write(copy / "connections/newcomer.yaml", {"platform": "braze", "secrets": ["secretsmanager:espial/newcomer"]})
    write(copy / "connections/feeding.yaml", {"platform": "braze", "secrets": ["secretsmanager:espial/feeding"]})
    write(copy / "feeds/killed.yaml", {"connections": ["feeding"], "rotate": {"after": "0s"}})
    collected = {"process": "pull", "on": ["OPEN", "CLICK"], "connections": ["collected"], "profile": "Local"}
    who = {"users": [{"name": "local.sys", "secret": "ssm:/espial/collected"}], "tokens": ["ssm:/espial/collected"]}
    write(copy / "connections/collected.yaml", {"platform": "sendgrid", "secrets": ["secretsmanager:espial/collected"]})
    write(copy / "destinations/collected.yaml", {**collected, "pull": who})
    posted = {"url": f"http://127.0.0.1:{free_port()}/hook", "secrets": ["ssm:/espial/posted"]}
    write(copy / "connections/posted.yaml", {"platform": "sendgrid", "secrets": ["secretsmanager:espial/posted"]})
    told = {"process": "http", "connections": ["posted"]}
    write(copy / "destinations/posted.yaml", {**told, "on": ["OPEN"], "http": posted})
    hung = {**posted, "url": f"http://127.0.0.1:{free_port()}/hook", "timeout": "30s"}
    write(copy / "destinations/hung.yaml", {**told, "on": ["CLICK"], "http": hung})
    welcome = copy / "templates/welcome"
    welcome.mkdir()
    write(welcome / "template.yaml", {"subject": "Welcome", "category": "marketing"})
    (welcome / "body.mjml").write_text(WELCOME)
    entering = {"status": "live", "consent": {"topic": "marketing"}, "send": {"provider": "ses", "template": "welcome"}}
    gold = {"segment": {"when": 'person.attributes.tier == "gold"'}}
    write(copy / "triggers/gold.yaml", {**entering, "entry": gold})
    leeds = {"schedule": {"at": SCHEDULED.isoformat(), "audience": 'person.attributes.city == "Leeds"'}}
    write(copy / "triggers/leeds.yaml", {**entering, "entry": leeds})
    write(copy / f"stages/{STAGE}.yaml", {"triggers": {"cart-abandoned": mine}})
    return copy


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a definition."""
    path.write_text(json.dumps(content, indent=2))  # JSON is YAML


class World(Demo):
    """One deployed stack that all tests share; each uses persons, connections and ids of its own."""

    folder: Path
    on_bus: Counter[str]

    @classmethod
    def of(cls, stack: Stack, folder: Path, http: httpx.Client) -> World:
        secrets = json.loads(stack.state_file.with_name("secrets.json").read_text())
        world = cls(stack, secrets, http, Report(), tap_the_bus(stack))
        world.folder, world.on_bus = folder, Counter()
        return world

    # ── what it holds ──

    def events_of(self, *values: str) -> list[dict[str, Any]]:
        """Recorded events with `via` that mention one of the values, whichever key they are under."""
        return [event for event in self.events() if any(value in json.dumps(event) for value in values)]

    def mails_to(self, address: str) -> list[dict[str, Any]]:
        return [mail for mail in self.mails() if address in mail["To"]]

    def skips(self, person: str) -> list[str]:
        """The reasons of the person's message_skipped events."""
        pk = {"S": f"P#{person}"}
        return [
            event["properties"]["reason"]
            for item in self.items()
            if item["pk"] == pk and item["sk"]["S"].startswith("E#")
            if (event := json.loads(item["body"]["S"]))["type"] == "message_skipped"
        ]

    def decisions(self, person: str, trigger: str = "cart-abandoned") -> list[tuple[str, str]]:
        """What `espial explain` says: outcome and reason, oldest first."""
        said = self.stack.espial("explain", person, trigger, "--json").stdout
        found = [json.loads(line) for line in said.splitlines() if line.strip()]
        return [(one["outcome"], one["reason"]) for one in found if one["about"] == "decided"]

    def runs(self, person: str) -> set[str]:
        """The keys that triggers have begun a run for, whatever became of it."""
        pk = {"S": f"P#{person}"}
        found = (item["sk"]["S"] for item in self.items() if item["pk"] == pk)
        return {sk.split("#")[-1] for sk in found if sk.startswith("R#")}

    def profiles(self) -> set[str]:
        """The partitions of those of whom something is known."""
        return {item["pk"]["S"] for item in self.items() if item["sk"]["S"] == "PROFILE"}

    def triggers(self, person: str) -> set[str]:
        """The triggers that have begun a run for them."""
        found = (item["sk"]["S"] for item in self.items() if item["pk"]["S"] == f"P#{person}")
        return {sk.split("#")[1] for sk in found if sk.startswith("R#")}

    def published(self) -> Counter[str]:
        """Event id -> how often the bus has carried it."""
        self.on_bus.update(message["detail"]["event_id"] for message in self.on_the_bus())
        return self.on_bus

    # ── what an operator does ──

    @cached_property
    def resources(self) -> dict[str, str]:
        """Logical id of everything in the template -> its name, or a queue's URL."""
        found = self.stack.cloud.client("cloudformation").describe_stack_resources(StackName=NAME)["StackResources"]
        return {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in found}

    def environment_of(self, function: str) -> dict[str, str]:
        name = self.resources[function]
        configuration = self.stack.cloud.client("lambda").get_function_configuration(FunctionName=name)
        found: dict[str, str] = configuration["Environment"]["Variables"]
        return found

    def configure(self, function: str, **variables: str) -> None:
        """Change a function's environment, as `aws lambda update-function-configuration` does: it starts anew."""
        variables = self.environment_of(function) | variables
        self.stack.cloud.client("lambda").update_function_configuration(
            FunctionName=self.resources[function], Environment={"Variables": variables}
        )

    @contextmanager
    def paused(self, function: str) -> Iterator[Callable[[], None]]:
        """The function is given nothing from its queue meanwhile, or until what this gives is called."""
        client = self.stack.cloud.client("lambda")
        mappings = client.list_event_source_mappings(FunctionName=self.resources[function])["EventSourceMappings"]

        def switch(enabled: bool) -> None:
            for mapping in mappings:
                client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=enabled)

        switch(False)
        try:
            yield lambda: switch(True)
        finally:
            switch(True)

    def waiting(self, queue: str) -> int:
        """Messages in a queue, in the air included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.stack.cloud.client("sqs").get_queue_attributes(
            QueueUrl=self.resources[queue], AttributeNames=names
        )
        return sum(int(number) for number in found["Attributes"].values())

    def apply(self) -> None:
        """Put what `folder` holds in force."""
        self.stack.espial("apply", str(self.folder), "--stage", STAGE)

    # ── time ──

    def until(self, what: str, done: Callable[[], Any], patience: float = PATIENCE) -> None:
        """Wait for it. Fails with what was waited for and what still lies in queues."""
        deadline = time.monotonic() + patience
        while not done():
            if time.monotonic() > deadline:
                queues = [name for name, where in self.resources.items() if where.startswith("http")]
                left = {name: number for name in queues if (number := self.waiting(name))}
                raise AssertionError(f"not within {patience:.0f} s: {what}; in queues: {left}")
            time.sleep(0.2)

    def becomes(self, expected: Any, found: Callable[[], Any], patience: float = PATIENCE) -> None:
        """Wait until what is found is as expected, and assert that it is."""
        deadline = time.monotonic() + patience
        while (now := found()) != expected and time.monotonic() < deadline:
            time.sleep(0.2)
        assert expected == now

    # ── shoppers ──

    def shopper(self, name: str, **traits: Any) -> str:
        """Somebody who said who they are and agreed to mails; their address."""
        address = f"{name}@example.com"
        traits = {"email": address, "firstName": name.title(), "consent": {"email": True}, **traits}
        assert self.track("identify", messageId=f"{name}-who", userId=name, traits=traits) == 200
        return address

    def cart(self, name: str, cart: str, *products: dict[str, Any], currency: str = "EUR", **call: Any) -> int:
        """A `Cart Updated` call of theirs."""
        properties = {
            "cart_id": cart,
            "products": list(products),
            "total": sum(product["price"] * product["quantity"] for product in products),
            "currency": currency,
            "cart_url": "https://shop.example.com/cart",
        }
        call = {"messageId": f"{name}-{cart}-{time.monotonic_ns()}", **call}
        return self.track("track", userId=name, event="Cart Updated", properties=properties, **call)

    def order(self, name: str, cart: str, *products: dict[str, Any]) -> int:
        """An `Order Completed` call of theirs."""
        properties = {
            "order_id": f"o-{cart}",
            "cart_id": cart,
            "total": 1.0,
            "products": list(products),
            "currency": "EUR",
        }
        return self.track(
            "track", messageId=f"{name}-{cart}-order", userId=name, event="Order Completed", properties=properties
        )

    def sendgrid(self, events: list[dict[str, Any]], connection: str = "sendgrid-main") -> int:
        """One SendGrid request."""
        return self.post(connection, "sendgrid", json.dumps(events).encode(), now=datetime.now(UTC))


def sendgrid_events(name: str, count: int) -> list[dict[str, Any]]:
    """SendGrid events of `<n>.<name>@example.com`, each of another message."""
    kinds = ("processed", "delivered", "open", "click")
    return [
        {
            "email": f"{number}.{name}@example.com",
            "timestamp": int(time.time()) - 60,
            "event": kinds[number % len(kinds)],
            "sg_event_id": f"{name}-{number:04}",
            "sg_message_id": f"{name}{number:04}.recvd-1",
            **({"url": "https://shop.example.com/"} if number % len(kinds) == 3 else {}),
        }
        for number in range(count)
    ]
