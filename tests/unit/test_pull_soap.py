"""The SOAP interface as PureResponse's clients know it: the samples of the seed facts, parameters and refusals."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest
from defusedxml.ElementTree import fromstring

from espial import pulling
from espial.notifications.contexts import IDLE, LOCKED
from espial.notifications.pull import COLUMNS
from espial.services.pull_notifications import HELD
from espial.soap.values import BadField, read, write
from espial.sources import _pure360_fields
from tests.pulling import (
    OUTLET,
    PASSWORD,
    SHOP,
    SoapClient,
    World,
    a_request,
    csv_of,
    descend,
    plain_body,
    pure360,
    result_of,
)

LOGIN = """<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xmlns:m="http://xml.apache.org/xml-soap" xmlns:p="urn:localhost-paint">
 <SOAP-ENV:Body>
  <p:handleRequest SOAP-ENV:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">
   <contextId xsi:nil="true"/>
   <className xsi:type="xsd:string">bus_facade_context</className>
   <processName xsi:type="xsd:string">login</processName>
   <entityData xsi:type="m:Map">
    <item><key xsi:type="xsd:string">userName</key><value xsi:type="xsd:string">demo.sys</value></item>
    <item><key xsi:type="xsd:string">password</key><value xsi:type="xsd:string">open sesame</value></item>
   </entityData>
   <processData xsi:nil="true"/>
  </p:handleRequest>
 </SOAP-ENV:Body>
</SOAP-ENV:Envelope>"""

GET_BATCH = """<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" xmlns:p="urn:localhost-paint"
 xmlns:t="http://www.pure360.com/paint">
 <s:Body>
  <p:handleRequest>
   <contextId>%s</contextId>
   <className>bus_facade_eventNotification</className>
   <processName>getBatch</processName>
   <entityData/>
   <processData>
    <t:pairs><t:key>notificationTypes</t:key><t:value><t:str>OPEN,CLICK</t:str></t:value></t:pairs>
    <t:pairs><t:key>markAsReadInd</t:key><t:value><t:str>Y</t:str></t:value></t:pairs>
   </processData>
  </p:handleRequest>
 </s:Body>
</s:Envelope>"""

GOLDEN = (
    "T1BFTixhbm4ubGVlQGV4YW1wbGUudGVzdCxBdXR1bW4gT2ZmZXIsMTcwMDUxNTQwMCwxNzAwNTE5MTk2LDQ3MTEsLE1vYmlsZSxpT1MsU2FmYXJp"
    "CkNMSUNLLGFubi5sZWVAZXhhbXBsZS50ZXN0LEF1dHVtbiBPZmZlciwxNzAwNTE1NDAwLCJodHRwczovL3Nob3AuZXhhbXBsZS94P2E9MSwyIiwx"
    "NzAwNTE5MTAwLDQ3MTEsLE1vYmlsZSxpT1MsU2FmYXJpCg=="
)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def client(world) -> SoapClient:
    client = SoapClient(world.pull)
    client.login()
    assert "success" == client.ask("bus_facade_context", "switchRole", entity={"currentRoleKey": "shop"})[0]
    return client


def test_the_sample_of_a_login(world):
    """In the map form, answered in it: the context's id, and whose profile is read."""
    response = SoapClient(world.pull).send(LOGIN)
    assert 200 == response["statusCode"]
    assert "text/xml; charset=utf-8" == response["headers"]["content-type"]
    result, data = result_of(plain_body(response))
    assert "success" == result
    context = data["bus_entity_context"]
    assert {"currentRoleKey": "outlet", "profileName": "Outlet", "roleList": ["outlet", "shop"]} == {
        name: context[name] for name in ("currentRoleKey", "profileName", "roleList")
    }
    assert {"beanId", "userName"} < {*context}
    assert "demo.sys" == data["bus_entity_account_login"]["userName"]
    assert "Outlet" == data["bus_entity_account_identity"]["profileName"]
    assert b'<value xsi:type="m:Map">' in plain_body(response)


def test_the_sample_of_a_batch(world, client):
    """In the literal form, answered in it; newest first, with the comma in quotation marks."""
    world.outbox.put(
        [pure360("c", "CLICK", 1700519100, url="https://shop.example/x?a=1,2"), pure360("o", "OPEN", 1700519196)]
    )
    response = client.send(GET_BATCH % client.context_id)
    assert b"<t:pairs><t:key>resultData</t:key><t:value><t:arr>" in plain_body(response)
    result, data = result_of(plain_body(response))
    batch = data["bus_entity_eventNotificationBatch"]
    assert ("success", "2", "N", GOLDEN) == (result, batch["eventCount"], batch["moreInd"], batch["eventData"])
    assert {"OPEN": ",".join(COLUMNS["OPEN"]), "CLICK": ",".join(COLUMNS["CLICK"])} == batch["eventMeta"]
    again = result_of(plain_body(client.send(GET_BATCH % client.context_id)))[1]["bus_entity_eventNotificationBatch"]
    assert ("0", [""]) == (again["eventCount"], [again["eventData"]])


def test_columns_are_published_ones_and_all_triggers_have_some():
    """What an OPEN and a CLICK begin with, as PureResponse's reference shows it (B.b)."""
    assert _pure360_fields.TRIGGERS.keys() == COLUMNS.keys()
    assert "type,email,Message Name,Delivery Date,Click Url,Click Date" == ",".join(COLUMNS["CLICK"][:6])
    assert "type,email,messageName,deliveryDate" == ",".join(COLUMNS["OPEN"][:4])


@pytest.mark.parametrize("trigger", [*COLUMNS, "delivered"])
def test_every_trigger_has_a_row(world, client, trigger):
    """As wide as its meta says; and it can be asked for by its name."""
    world.wait("one", trigger=trigger)
    batch = client.batch(notificationTypes=trigger, encoding="plain")
    assert {trigger} == {*batch["eventMeta"]}
    assert batch["eventData"].startswith(f"{trigger},")
    assert batch["eventData"].endswith("\n")
    assert batch["eventData"].count(",") == batch["eventMeta"][trigger].count(",")


def test_the_same_call_again_after_reading(world, client):
    """Nothing is left, and nil stands for it; each is evident as delivered."""
    put = world.wait("one", "two")
    assert "2" == client.batch()["eventCount"]
    empty = client.batch()
    assert ("0", None, "N") == (empty["eventCount"], empty["eventData"], empty["moreInd"])
    assert {"delivered"} == {*world.outbox.states("shop").values()}
    noted = [one for attempt in world.evidence.of("shop") for one in attempt.notifications]
    assert sorted(one.id for one in put) == sorted(noted)


def test_looking_takes_nothing(world, client):
    """`markAsReadInd` N, then N: the same rows both times (B21)."""
    world.wait("one", "two", "three")
    first = client.batch(markAsReadInd="N")
    assert first == client.batch(markAsReadInd="N")
    assert "3" == first["eventCount"]
    assert csv_of(first) == csv_of(client.batch())


def test_twelve_thousand_come_in_two_batches(world, client):
    """10,000, then 2,000, then none; together every one once (B19)."""
    world.wait(*map(str, range(12_000)))
    batches = [client.batch(customFieldNames=None, maxNotifications=None) for _ in range(3)]
    assert ["10000", "2000", "0"] == [batch["eventCount"] for batch in batches]
    assert ["Y", "N", "N"] == [batch["moreInd"] for batch in batches]
    assert 12_000 == sum(csv_of(batch).count("\n") for batch in batches)
    assert {"delivered": 12_000} == {"delivered": list(world.outbox.states("shop").values()).count("delivered")}


@pytest.mark.parametrize(
    ("asked", "count"),
    [("1", 1), (" 3 ", 3), ("4", 4), ("10001", 5), ("00000000002", 2), ("99999999999", 5)],
)
def test_as_many_as_asked_for(world, client, asked, count):
    """And never more than 10,000."""
    world.wait(*"abcde")
    batch = client.batch(maxNotifications=asked)
    assert (str(count), "Y" if count < 5 else "N") == (batch["eventCount"], batch["moreInd"])


@pytest.mark.parametrize(
    ("parameters", "fields"),
    [
        ({"notificationTypes": "OPEN,FOO"}, {"notificationTypes"}),
        ({"notificationTypes": {"a": {"b": "OPEN"}}}, {"notificationTypes"}),
        ({"maxNotifications": "0"}, {"maxNotifications"}),
        ({"maxNotifications": "-1"}, {"maxNotifications"}),
        ({"maxNotifications": "many"}, {"maxNotifications"}),
        ({"maxNotifications": {"a": "1"}}, {"maxNotifications"}),
        ({"clientType": "EMAIL"}, {"clientType"}),
        ({"markAsReadInd": "maybe"}, {"markAsReadInd"}),
        ({"markAsProcessingInd": "1", "encoding": "hex", "order": "up"}, {"markAsProcessingInd", "encoding", "order"}),
        ({"notificationTypes_base64": "!"}, {"notificationTypes"}),
    ],
)
def test_wrong_parameters_are_named(world, client, parameters, fields):
    """All of them, each under its key; nothing is taken."""
    world.wait("one")
    result, data = client.ask("bus_facade_eventNotification", "getBatch", process=parameters)
    assert ("bean_exception_validation", fields) == (result, {*data})
    assert ["waiting"] == [*world.outbox.states("shop").values()]
    assert {} == world.outbox.leases


def test_fields_that_do_not_go_out_cannot_be_asked_for(world, client):
    """Where the destination lists those that do."""
    world.destinations["shop"] = SHOP._replace(custom_fields=("First Name",))
    world.outbox.put([pure360("o", "OPEN", 1700519196)])
    ask = client.ask("bus_facade_eventNotification", "getBatch", process={"customFieldNames": "first name,external_id"})
    assert ("bean_exception_validation", {"customFieldNames": "not given out: external_id"}) == ask
    batch = client.batch(customFieldNames="first name")
    assert csv_of(batch).endswith(",Safari,Ann\n")
    assert batch["eventMeta"]["OPEN"].endswith(",deviceBrowser,first name")


@pytest.mark.parametrize(
    "parameters",
    [
        {"notificationTypes": "OPEN, SIGNUP"},
        {"notificationTypes": "open,optin"},
        {"notificationTypes": ["OPEN", "OPTIN"]},
        {"notificationTypes": {"first": "OPEN", "second": "OPTIN"}},
        {" notificationTypes": "OPEN,OPTIN"},
        {"notificationTypes_base64": base64.b64encode(b"OPEN,OPTIN").decode()},
    ],
)
@pytest.mark.parametrize("where", ["process", "entity"])
def test_ways_to_ask_for_types(world, client, parameters, where):
    """A comma-separated text, a list, a map, in either place; with blanks, aliases and base64 (B.b)."""
    for trigger in ("OPEN", "OPTIN", "CLICK"):
        world.wait(trigger, trigger=trigger)
    _, data = client.ask("bus_facade_eventNotification", "getBatch", **{where: parameters})
    batch = data["bus_entity_eventNotificationBatch"]
    assert ("2", {"OPEN", "OPTIN"}) == (batch["eventCount"], {*batch["eventMeta"]})
    assert "1" == client.batch()["eventCount"]


def test_process_data_counts_first(world, client):
    """Where both say something."""
    world.wait(*"abc")
    _, data = client.ask(
        "bus_facade_eventNotification", "getBatch", process={"maxNotifications": 1}, entity={"maxNotifications": 2}
    )
    assert "1" == data["bus_entity_eventNotificationBatch"]["eventCount"]


def test_order_can_be_turned(world, client):
    """Newest first is what PureResponse does."""
    put = world.wait(*"abc")
    ids = [one.event.event_id for one in put]
    assert len({*ids}) == 3
    world.outbox.held.clear()
    for number, trigger in enumerate(("OPEN", "CLICK", "BOUNCE")):
        world.outbox.put([one := pure360(trigger, "OPEN", 1700519196 + number)])
        world.outbox.held["shop", one.id].notification = one
    newest = csv_of(client.batch(markAsReadInd="N")).splitlines()
    assert newest[::-1] == csv_of(client.batch(markAsReadInd="N", order="asc")).splitlines()
    assert "1700519198" == newest[0].split(",")[4]


def test_a_batch_in_processing_is_hidden(world, client):
    """Under its id, until it is confirmed (for good) or a quarter of an hour is over (then it comes again)."""
    world.wait("one", "two")
    held = client.batch(markAsProcessingInd="Y", maxNotifications=1)
    assert held["batchId"]
    other = client.batch(markAsProcessingInd="Y")
    assert ("1", "0") == (other["eventCount"], client.batch()["eventCount"])
    assert ("success", "") == client.report(held["batchId"])
    assert ("success", "") == client.report(held["batchId"])
    world.now += HELD + timedelta(seconds=1)
    client.login()
    client.ask("bus_facade_context", "switchRole", entity={"currentRoleKey": "shop"})
    assert csv_of(other) == csv_of(client.batch())
    result, data = client.report(other["batchId"])
    assert ("bean_exception_validation", {"batchId"}) == (result, {*data})


def test_a_batch_that_failed_waits_again(world, client):
    """At once, all of it."""
    world.wait("one", "two")
    held = client.batch(markAsProcessingInd="Y")
    assert ("success", "") == client.report(held["batchId"], failed=1)
    assert csv_of(held) == csv_of(client.batch())
    for batch_id in (held["batchId"], "nobody's", ""):
        assert "bean_exception_validation" == client.report(batch_id, failed=1)[0]


def test_a_report_that_cannot_be_read(world, client):
    """Is refused with the field."""
    for report in ({}, {"batchReport": "x"}, {"batchReport": {"batchId": "1", "summary": {"failed": "some"}}}):
        result, data = client.ask("bus_facade_eventNotification", "processBatchReport", process=report)
        assert "bean_exception_validation" == result
        assert data


@pytest.mark.parametrize(
    ("user", "password"), [("demo.sys", "guess"), ("nobody", PASSWORD), ("demo.sys", PASSWORD + " ")]
)
def test_wrong_passwords_open_nothing(world, user, password):
    """No fault, and no word of which of the two was wrong."""
    assert ("bean_exception_security", "login refused") == SoapClient(world.pull).login(user, password)


def test_a_user_or_password_that_is_missing(world):
    """Is a question of form."""
    for entity in ({}, {"userName": "demo.sys"}, {"userName": "", "password": "x"}):
        result, data = SoapClient(world.pull).ask("bus_facade_context", "login", entity=entity)
        assert "bean_exception_validation" == result
        assert {*data} <= {"userName", "password"}


def test_five_wrong_passwords_lock_even_the_right_one(world):
    """For a quarter of an hour, with the same words; the other user goes in."""
    client = SoapClient(world.pull)
    for _ in range(5):
        assert "bean_exception_security" == client.login(password="guess")[0]
    assert ("bean_exception_security", "login refused") == client.login()
    assert "success" == client.login("ops.sys", "another")[0]
    world.now += LOCKED
    assert "success" == client.login()[0]


def test_a_secret_that_is_away_is_nobodys_fault(world):
    """It is no wrong password, and does not lock; where another opens, what it opens is open."""
    del world.secrets["secretsmanager:espial/demo"]
    client = SoapClient(world.pull)
    for _ in range(8):
        assert "bean_exception_system" == client.login()[0]
    world.destinations["outlet"] = OUTLET._replace(users=(("demo.sys", "secretsmanager:espial/other"),))
    result, data = client.login(password="another")
    assert ("success", ["outlet"]) == (result, data["bus_entity_context"]["roleList"])


def test_without_a_context_nothing_goes(world, client):
    """Unknown, idle for too long, logged out, or of a user that is no longer listed."""
    refused = ("bean_exception_security", "not logged in")
    stranger = SoapClient(world.pull)
    for process in ("getBatch", "processBatchReport", "anything"):
        assert refused == stranger.ask("bus_facade_eventNotification", process)
    world.destinations["shop"] = SHOP._replace(users=SHOP.users[1:])
    assert refused == client.ask("bus_facade_eventNotification", "getBatch")
    world.destinations["shop"] = SHOP
    assert "0" == client.batch()["eventCount"]
    world.now += IDLE
    assert refused == client.ask("bus_facade_eventNotification", "getBatch")
    client.login()
    assert ("success", "") == client.ask("bus_facade_context", "logout")
    assert refused == client.ask("bus_facade_context", "logout")


def test_roles_are_those_that_the_password_opens(world, client):
    """And each reads its own destination."""
    world.wait("one")
    assert "1" == client.batch(markAsReadInd="N")["eventCount"]
    result, data = client.ask("bus_facade_context", "switchRole", entity={"currentRoleKey": "outlet"})
    assert ("success", "Outlet") == (result, data["bus_entity_context"]["profileName"])
    assert "0" == client.batch()["eventCount"]
    other = SoapClient(world.pull)
    other.login("ops.sys", "another")
    refused = other.ask("bus_facade_context", "switchRole", entity={"currentRoleKey": "outlet"})
    assert ("bean_exception_security", "no such role") == refused


def test_another_destinations_batch_cannot_be_confirmed(world, client):
    """Whoever knows its id."""
    world.wait("one")
    held = client.batch(markAsProcessingInd="Y")
    client.ask("bus_facade_context", "switchRole", entity={"currentRoleKey": "outlet"})
    assert "bean_exception_validation" == client.report(held["batchId"])[0]
    assert ["waiting"] == [*world.outbox.states("shop").values()]


@pytest.mark.parametrize(
    ("class_name", "process_name"),
    [("bus_facade_campaign_email", "create"), ("bus_facade_context", "remove"), ("", "")],
)
def test_what_is_not_offered(client, class_name, process_name):
    """Is refused as PureResponse does."""
    assert ("bean_exception_security", "action not allowed") == client.ask(class_name, process_name)


def test_the_form_of_the_login_where_a_call_has_none(world):
    """`logout` has no arrays."""
    client = SoapClient(world.pull)
    literal = LOGIN.replace("item>", "pairs>").replace("<value ", "<value><str ").replace("</value>", "</str></value>")
    answer = plain_body(client.send(literal))
    assert b"<t:pairs>" in answer
    client.context_id = result_of(answer)[1]["bus_entity_context"]["beanId"]
    bare = LOGIN[: LOGIN.index("<entityData")] + LOGIN[LOGIN.index("<processData") :]
    bare = bare.replace(">login<", ">logout<").replace(
        '<contextId xsi:nil="true"/>', f"<contextId>{client.context_id}</contextId>"
    )
    answer = plain_body(client.send(bare))
    assert b"<t:pairs>" in answer
    assert "success" == result_of(answer)[0]


def test_what_cannot_be_decoded_is_refused_in_the_callers_form(client):
    """Before anything else is looked at."""
    body = (GET_BATCH % client.context_id).replace("notificationTypes", "notificationTypes_base64")
    answer = plain_body(client.send(body))
    assert b"<t:pairs>" in answer
    result, data = result_of(answer)
    assert ("bean_exception_validation", {"notificationTypes"}) == (result, {*data})


def test_what_is_our_fault_is_not_explained_to_the_caller(world, client, monkeypatch):
    """It is an answer that SOAP clients read, and nothing is taken."""
    world.wait("one")
    monkeypatch.setattr(world.outbox, "take", lambda *_, **__: 1 / 0)
    result, data = client.ask("bus_facade_eventNotification", "getBatch")
    assert ("bean_exception_system", False) == (result, "Zero" in data)
    monkeypatch.undo()
    assert "1" == client.batch()["eventCount"]


@pytest.mark.parametrize("form", ["map", "literal"])
@pytest.mark.parametrize(
    "value",
    [{"a": "1", "b": {"c": "<&>\"'", "d": ["x", "y"]}}, {"a": {}}, ["one", {"two": "2"}], {"é": "a\r\nb\t "}],
)
def test_what_is_written_is_read(form, value):
    """In either form, at any depth."""
    namespaces = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:t="urn:t"'
    found = read(fromstring(f"<x {namespaces}>{write('v', value, form)}</x>")[0])
    assert value == (found if found != {"a": ""} else {"a": {}})


def test_other_shapes_of_clients():
    """`Struct` round the pairs, arrays of bare items, nil, numbered keys in any order."""
    xsi = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    pair = "<pairs><key> a </key><value><str>1</str></value></pairs>"
    assert {"a": "1"} == read(fromstring(f"<d><Struct>{pair}</Struct></d>"))
    assert ["OPEN", "CLICK"] == read(fromstring("<d><item>OPEN</item><item>CLICK</item></d>"))
    assert ["b", "a"] == read(
        fromstring("<d><item><key>1</key><value>a</value></item><item><key>0</key><value>b</value></item></d>")
    )
    assert read(fromstring(f'<d {xsi} xsi:nil="1"/>')) is None
    with pytest.raises(BadField):
        read(fromstring("<d><item><key>a_base64</key><value>/w==</value></item></d>"))


def test_descriptions_are_served():
    """Under three addresses, and name the one to call."""
    world = World()
    for path, url, use in (
        ("/ctrlPaint.wsdl", "/", b'use="encoded"'),
        ("/ctrlPaintLiteral.wsdl", "/", b'use="literal"'),
        (pulling.SOAP, "/?WSDL", b'use="encoded"'),
    ):
        response = pulling.respond(a_request("GET", url), path, world.pull, "https://pull.example.com")
        body = plain_body(response)
        assert 200 == response["statusCode"]
        assert use in body
        assert b'location="https://pull.example.com/_bus/request.soap"' in body
        assert "paintService" == descend(fromstring(body), "service").get("name")
