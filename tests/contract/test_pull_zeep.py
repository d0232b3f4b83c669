"""zeep, a SOAP client that is not ours, generated from each of our descriptions over loopback."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
import zeep

from tests.pulling import PASSWORD, World, serving


class Caller:
    """`handleRequest` through zeep, in terms of dicts."""

    def __init__(self, url: str) -> None:
        self._client = zeep.Client(url)
        self.context_id = ""

    def _array(self, data: Any) -> Any:
        raise NotImplementedError

    def _plain(self, answer: Any) -> Any:
        raise NotImplementedError

    def ask(self, class_name: str, process_name: str, entity: Any = None, process: Any = None) -> tuple[str, Any]:
        array = self._array
        answer = self._client.service.handleRequest(
            self.context_id, class_name, process_name, array(entity or {}), array(process or {})
        )
        found = self._plain(answer)
        return found["result"], found["resultData"]


class Literal(Caller):
    """By `paintArray`s."""

    def _array(self, data: Any) -> Any:
        return {"pairs": [{"key": key, "value": self._value(value)} for key, value in data.items()]}

    def _value(self, value: Any) -> Any:
        return {"arr": self._array(value)} if isinstance(value, dict) else {"str": str(value)}

    def _plain(self, answer: Any) -> Any:
        pairs = answer.pairs if hasattr(answer, "pairs") else answer
        return {pair.key: pair.value and self._said(pair.value) for pair in pairs or ()}

    def _said(self, value: Any) -> Any:
        return value.str if value.arr is None else self._plain(value.arr)


class Encoded(Caller):
    """By Apache SOAP's maps."""

    def _array(self, data: Any) -> Any:
        kind = self._client.get_type("{http://xml.apache.org/xml-soap}Map")
        pair = self._client.get_type("{http://xml.apache.org/xml-soap}mapItem")
        text = self._client.get_type("{http://www.w3.org/2001/XMLSchema}string")
        any_value = zeep.xsd.AnyObject
        return kind(
            item=[
                pair(
                    key=any_value(text, key),
                    value=any_value(kind, self._array(value))
                    if isinstance(value, dict)
                    else any_value(text, str(value)),
                )
                for key, value in data.items()
            ]
        )

    def _plain(self, answer: Any) -> Any:
        pairs = answer if isinstance(answer, list) else getattr(answer, "item", None)  # zeep unwraps the outermost
        return answer if pairs is None else {pair.key: self._plain(pair.value) for pair in pairs}


@pytest.fixture
def world() -> World:
    world = World()
    del world.destinations["outlet"]
    world.wait("one", "two", "three")
    return world


@pytest.fixture(params=[("/ctrlPaintLiteral.wsdl", Literal), ("/ctrlPaint.wsdl", Encoded)], ids=["literal", "encoded"])
def caller(request: pytest.FixtureRequest, world: World) -> Iterator[Caller]:
    path, kind = request.param
    with serving(world.pull) as url:
        yield kind(url + path)


def test_from_login_to_logout(world, caller):
    """Login, a batch, its report, what is left, logout."""
    result, data = caller.ask("bus_facade_context", "login", {"userName": "demo.sys", "password": PASSWORD})
    assert ("success", "Shop") == (result, data["bus_entity_context"]["profileName"])
    caller.context_id = data["bus_entity_context"]["beanId"]
    asked = {"notificationTypes": "OPEN,CLICK", "maxNotifications": "2", "markAsProcessingInd": "Y"}
    result, data = caller.ask("bus_facade_eventNotification", "getBatch", process=asked)
    batch = data["bus_entity_eventNotificationBatch"]
    assert ("success", 2, "Y") == (result, int(batch["eventCount"]), batch["moreInd"])
    assert 2 == base64.b64decode(batch["eventData"]).count(b"\n")
    report = {"batchReport": {"batchId": batch["batchId"], "summary": {"processed": "2", "failed": "0"}}}
    assert "success" == caller.ask("bus_facade_eventNotification", "processBatchReport", process=report)[0]
    result, data = caller.ask("bus_facade_eventNotification", "getBatch")
    assert 1 == int(data["bus_entity_eventNotificationBatch"]["eventCount"])
    result, data = caller.ask("bus_facade_eventNotification", "getBatch")
    batch = data["bus_entity_eventNotificationBatch"]
    assert (0, None) == (int(batch["eventCount"]), batch["eventData"])
    assert {"delivered"} == {*world.outbox.states("shop").values()}
    assert "success" == caller.ask("bus_facade_context", "logout")[0]
    refused = ("bean_exception_security", "not logged in")
    assert refused == caller.ask("bus_facade_eventNotification", "getBatch", process={"maxNotifications": "1"})


def test_what_is_refused(caller):
    """Is an answer, which zeep reads, and no fault."""
    refused = ("bean_exception_security", "login refused")
    assert refused == caller.ask("bus_facade_context", "login", {"userName": "demo.sys", "password": "guess"})


def test_a_batch_of_ten_thousand(world, caller):
    """Packed on its way, as zeep asks for it."""
    world.wait(*map(str, range(12_000)))
    _, data = caller.ask("bus_facade_context", "login", {"userName": "demo.sys", "password": PASSWORD})
    caller.context_id = data["bus_entity_context"]["beanId"]
    counts: list[int] = []
    while not counts or counts[-1]:
        _, data = caller.ask("bus_facade_eventNotification", "getBatch")
        counts.append(int(data["bus_entity_eventNotificationBatch"]["eventCount"]))
    assert [10_000, 2_003, 0] == counts
