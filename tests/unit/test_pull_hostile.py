"""Whatever somebody sends to the pull gets an answer: nothing is resolved, nothing costs much, nobody gets in."""

from __future__ import annotations

import gzip
import json
from xml.sax.saxutils import escape

import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import given
from hypothesis import strategies as st

from espial import pulling
from espial.soap import envelope
from tests.pulling import SoapClient, World, a_request, descend, map_form, plain_body, result_of

HEAD = '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body><handleRequest>'
TAIL = "</handleRequest></e:Body></e:Envelope>"
CALL = f"{HEAD}<className>bus_facade_context</className>%s{TAIL}"
ENTITY = "<className>&x;</className>"
LAUGHS = "".join(f'<!ENTITY x{n} "{f"&x{n - 1};" * 10}">' for n in range(1, 10))

ATTACKS = {
    "a DOCTYPE": f"<!DOCTYPE e>{HEAD}{TAIL}",
    "an internal entity": f'<!DOCTYPE e [<!ENTITY x "y">]>{HEAD}{ENTITY}{TAIL}',
    "a billion laughs": f'<!DOCTYPE e [<!ENTITY x0 "ha">{LAUGHS}]>{HEAD}<className>&x9;</className>{TAIL}',
    "a long entity, often": f'<!DOCTYPE e [<!ENTITY x "{"a" * 50_000}">]>{HEAD}<key>{"&x;" * 50_000}</key>{TAIL}',
    "a file": f'<!DOCTYPE e [<!ENTITY x SYSTEM "file:///etc/passwd">]>{HEAD}{ENTITY}{TAIL}',
    "an address": f'<!DOCTYPE e [<!ENTITY x SYSTEM "http://192.0.2.1/x">]>{HEAD}{ENTITY}{TAIL}',
    "a parameter entity": f'<!DOCTYPE e [<!ENTITY % x SYSTEM "http://192.0.2.1/x.dtd">%x;]>{HEAD}{TAIL}',
    "an external DTD": f'<!DOCTYPE e SYSTEM "http://192.0.2.1/x.dtd">{HEAD}{TAIL}',
    "an unknown entity": f"{HEAD}{ENTITY}{TAIL}",
    "elements too deep": HEAD + "<a>" * 30 + "</a>" * 30 + TAIL,
    "too many elements": HEAD + "<a/>" * 200_000 + TAIL,
    "elements far too deep": "<a>" * 100_000,
    "a reference": f'{HEAD}<entityData href="#1"/>{TAIL}',
    "no end": HEAD,
    "two roots": f"{HEAD}{TAIL}<a/>",
    "a prefix from nowhere": "<a:b/>",
    "another operation": HEAD.replace("handleRequest", "dropAll") + TAIL.replace("handleRequest", "dropAll"),
    "no body": '<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"/>',
    "no envelope": "<handleRequest/>",
    "JSON": '{"a": 1}',
    "nothing": "",
    "an encoding that there is not": f'<?xml version="1.0" encoding="utf-99"?>{HEAD}{TAIL}',
    "an encoding that is another": '<?xml version="1.0" encoding="utf-16"?><a/>',
    "a control character": f"{HEAD}<className>\x00</className>{TAIL}",
    "too much": f"{HEAD}<className>{'a' * envelope.LARGEST}</className>{TAIL}",
}


def faulted(world: World, body: bytes, **headers: str) -> str:
    """The fault's words."""
    response = SoapClient(world.pull, **headers).send(body)
    assert 500 == response["statusCode"]
    fault = descend(fromstring(plain_body(response)), "Body", "Fault")
    assert "SOAP-ENV:Client" == descend(fault, "faultcode").text
    return descend(fault, "faultstring").text or ""


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_what_is_no_call_is_a_fault(attack):
    """The client's, with words that say what is wrong; and no socket was opened (none can be, here)."""
    assert faulted(World(), attack.encode())


@pytest.mark.parametrize("attack", [text for name, text in ATTACKS.items() if "entity" in name or "DOCTYPE" in name])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_another_encoding_is_no_way_in(attack, encoding):
    """Nor is one with a mark in front."""
    assert faulted(World(), attack.encode(encoding))


def test_other_encodings_are_read():
    """A call in UTF-16 is a call."""
    world = World()
    for encoding in ("utf-16", "utf-8-sig"):
        body = map_form("bus_facade_context", "logout").encode(encoding)
        assert "bean_exception_security" == result_of(plain_body(SoapClient(world.pull).send(body)))[0]


def test_a_packed_bomb_stays_small():
    """And what is no gzip is a fault, too; a packed call is a call."""
    world = World()
    packed = {"content-encoding": "gzip"}
    assert faulted(world, gzip.compress(b" " * (200 << 20)), **packed)
    assert faulted(world, b"no gzip", **packed)
    body = gzip.compress(map_form("bus_facade_context", "logout").encode())
    assert "bean_exception_security" == result_of(plain_body(SoapClient(world.pull, **packed).send(body)))[0]


def test_what_xml_cannot_hold_does_not_break_an_answer():
    """A control character, read as plain text."""
    world = World()
    world.destinations.pop("outlet")
    client = SoapClient(world.pull)
    client.login()
    world.wait("one", trigger="a\x01b]]>\r\n")
    batch = client.batch(encoding="plain")
    assert "1" == batch["eventCount"]
    assert "a\ufffdb]]>\r\n" in batch["eventData"]


@given(st.binary(max_size=400))
def test_any_bytes_get_an_answer(body):
    """That is XML, whatever they are."""
    response = SoapClient(World().pull).send(body)
    assert response["statusCode"] in (200, 500)
    fromstring(plain_body(response))


NAMES = st.sampled_from(["item", "pairs", "key", "value", "str", "arr", "Struct", "entityData", "processData", "x"])
TEXTS = st.sampled_from(["", "userName", "password", "0", "1", "a_base64", "####", "notificationTypes"]) | st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=8
)
TREES = st.recursive(
    st.builds(lambda name, text: f"<{name}>{escape(text)}</{name}>", NAMES, TEXTS),
    lambda inner: st.builds(
        lambda name, parts, text: f"<{name}>{''.join(parts)}{escape(text)}</{name}>",
        NAMES,
        st.lists(inner, max_size=4),
        TEXTS,
    ),
    max_leaves=12,
)


@given(
    st.lists(TREES, max_size=3), st.sampled_from(["login", "getBatch", "processBatchReport", "switchRole", "logout"])
)
def test_any_shape_gets_an_answer(parts, process):
    """A bean or a fault; nobody is let in, and nothing is taken."""
    world = World()
    world.wait("one")
    class_name = (
        "bus_facade_context" if process in ("login", "switchRole", "logout") else "bus_facade_eventNotification"
    )
    client = SoapClient(world.pull)
    client.login()
    names = f"<className>{class_name}</className><processName>{process}</processName>"
    body = f"<contextId>{client.context_id}</contextId>{names}"
    opened = len(world.contexts.open_ones)
    response = client.send(f"{HEAD}{body}{''.join(parts)}{TAIL}")
    result, _ = result_of(plain_body(response))
    assert 200 == response["statusCode"]
    assert result == "success" or result.startswith("bean_exception_")
    assert len(world.contexts.open_ones) <= opened
    assert ["waiting"] == [*world.outbox.states("shop").values()]


@given(
    st.sampled_from(["GET", "POST", "PUT", "HEAD"]),
    st.sampled_from(["/pull/shop", "/pull/shop/ack", "/pull/shop/replay", "/pull/", "/pull/%2e%2e/shop", "/pull"]),
    st.text(max_size=30),
    st.binary(max_size=100) | st.sampled_from([b'{"lease": "1"}', b'{"lease": "1", "ids": []}', b"[]", b"null"]),
    st.text(max_size=20),
)
def test_any_rest_call_gets_an_answer(method, path, query, body, authorization):
    """Without the token it opens nothing."""
    world = World()
    world.wait("one")
    request = a_request(method, "", body, {"authorization": authorization})._replace(query=query)
    response = pulling.respond(request, path, world.pull, "")
    assert response["statusCode"] in (401, 404)
    assert json.loads(plain_body(response))["reason"]
    assert {} == world.outbox.leases
