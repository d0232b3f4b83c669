"""From a platform's webhook to a client that collects: the whole stack, over its own HTTP API."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.local.world import World, sendgrid_events
from tests.pulling import csv_of, map_form, result_of

TOKEN = "a-long-random-token"
EVENTS = 40


@pytest.fixture(scope="module", autouse=True)
def _token(world: World) -> None:
    world.stack.cloud.client("ssm").put_parameter(
        Name="/espial/collected", Value=TOKEN, Type="SecureString", Overwrite=True
    )


def asked(world: World, method: str, path: str, **more: Any) -> httpx.Response:
    return world.http.request(
        method, f"{world.stack.outputs['PullUrl']}{path}", headers={"authorization": f"Bearer {TOKEN}"}, **more
    )


def soap(world: World, context_id: str, class_name: str, process_name: str, **data: Any) -> tuple[str, Any]:
    body = map_form(class_name, process_name, context_id, **data)
    answer = world.http.post(
        f"{world.stack.outputs['PullUrl']}/_bus/request.soap",
        content=body.encode(),
        headers={"content-type": "text/xml; charset=utf-8", "soapaction": ""},
    )
    assert 200 == answer.status_code
    assert "text/xml; charset=utf-8" == answer.headers["content-type"]
    return result_of(answer.content)


def test_who_does_not_say_who_asks_is_told_nothing(world: World) -> None:
    """The gateway lets everybody through, the function nobody."""
    answer = world.http.get(f"{world.stack.outputs['PullUrl']}/pull/collected")
    assert (401, "unauthorised") == (answer.status_code, answer.json()["reason"])
    login = {"userName": "local.sys", "password": "guess"}
    assert "bean_exception_security" == soap(world, "", "bus_facade_context", "login", entity=login)[0]


def test_events_are_collected_once(world: World) -> None:
    """Posted twice, they wait once; some are taken by REST, and the rest over SOAP."""
    opened = [{**one, "event": "open"} for one in sendgrid_events("collected", EVENTS)]
    for _ in range(2):
        assert 200 == world.sendgrid(opened, "collected")
    taken: list[str] = []

    def collect() -> bool:
        found = asked(world, "GET", "/pull/collected?limit=15&wait=2").json()
        if found["events"]:
            taken.extend(one["event"]["event_id"] for one in found["events"])
            answer = asked(world, "POST", "/pull/collected/ack", json={"lease": found["lease"]})
            assert {"acknowledged": len(found["events"])} == answer.json()
        return len(taken) >= EVENTS // 2

    world.until("half are collected", collect)
    _, data = soap(world, "", "bus_facade_context", "login", entity={"userName": "local.sys", "password": TOKEN})
    context_id = data["bus_entity_context"]["beanId"]
    lines: list[str] = []

    def read() -> bool:
        _, data = soap(world, context_id, "bus_facade_eventNotification", "getBatch", process={"maxNotifications": 15})
        lines.extend(csv_of(data["bus_entity_eventNotificationBatch"]).splitlines())
        return len(taken) + len(lines) >= EVENTS

    world.until("the rest is collected", read)
    recorded = {event["event_id"]: event["person"]["email"] for event in world.events_of("collected@")}
    assert len({*taken}) == len(taken)
    addresses = [recorded[known] for known in taken] + [line.split(",")[1] for line in lines]
    assert sorted(recorded.values()) == sorted(addresses)
    assert EVENTS == len(addresses)
    assert [] == asked(world, "GET", "/pull/collected?wait=1").json()["events"]


def test_descriptions_are_served(world: World) -> None:
    """Packed, as the client takes it, and unpacked by it."""
    for path in ("/ctrlPaint.wsdl", "/ctrlPaintLiteral.wsdl", "/_bus/request.soap?wsdl"):
        answer = asked(world, "GET", path)
        assert 200 == answer.status_code
        assert "gzip" == answer.headers["content-encoding"]
        assert "/_bus/request.soap" in answer.text
