"""Pure360 PureResponse: eleven triggers in forms that spell the same thing in several ways."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import sources
from espial.errors import MalformedDelivery, MalformedItem, SignatureError
from espial.events import Event
from espial.normalise import normalise
from espial.people import of_event
from espial.sources import _pure360_fields as fields
from espial.sources._shared import MANY_FIELDS
from tests import samples

PURE360 = sources.load("pure360")
CASE = samples.case("pure360", "open")
OPEN = {
    "type": "OPEN",
    "Event_date": "1700519196",
    "email": "ann.lee@example.com",
    "mobile": "",
    "messageName": "Autumn Offer",
    "deliveryDate": "1700515400",
    "Delivery_ID": "4711",
}
RECIPIENTS = sorted(fields.TRIGGERS.keys() - fields.DELIVERIES)
Pairs = list[tuple[str, str]]


def items(pairs: Pairs | bytes) -> list[dict[str, Any]]:
    body = pairs if isinstance(pairs, bytes) else urlencode(pairs).encode()
    return PURE360.split(replace(CASE.delivery, body=body))


def read(**changes: str) -> Event:
    (item,) = items([*{**OPEN, **changes}.items()])
    return normalise(PURE360, item, replace(CASE.arrival, connection=samples.connection("pure360"))).event


def posted(trigger: str) -> Pairs:
    """A notification as the tables spell it, one custom field in its place."""
    values = {"type": trigger, "email": "ann.lee@example.com", "mobile": "+15550100100"}
    names = ("First Name" if name == fields.CUSTOM else name for name in fields.TRIGGERS[trigger])
    return [(name, values.get(name, "1700519196" if "ate" in name else "x")) for name in names]


def test_all_eleven_triggers_have_fields_and_a_meaning() -> None:
    """B4: what a writer spells is what the reader knows."""
    assert 11 == len(fields.TRIGGERS)
    assert set(PURE360.event_types) == set(fields.TRIGGERS)


@pytest.mark.parametrize("trigger", fields.TRIGGERS)
def test_whatever_the_tables_spell_is_read_as_its_own(trigger: str) -> None:
    """No field of ours ends up among the recipient's, and theirs stays theirs."""
    (item,) = items(posted(trigger))
    expected = {"First Name": "x"} if fields.CUSTOM in fields.TRIGGERS[trigger] else {}
    assert expected == item["custom"]
    assert {fields.plain(name) for name in fields.TRIGGERS[trigger] if name != fields.CUSTOM} == item.keys() - {
        "custom"
    }


@pytest.mark.parametrize("trigger", fields.TRIGGERS)
@given(chance=st.randoms(use_true_random=False))
def test_case_punctuation_and_order_of_fields_say_nothing(trigger: str, chance: random.Random) -> None:
    """The published samples spell one key in three ways, the FTP log in a fourth."""

    def misspelt(name: str) -> str:
        letters = name.lower().replace("_", " ") if chance.random() < 0.5 else name.upper()
        return name if name == "First Name" or name.endswith("[]") else letters

    pairs = posted(trigger)
    odd = [(misspelt(name), value) for name, value in pairs]
    chance.shuffle(odd)
    assert items(pairs) == items(odd)


@given(st.lists(st.sampled_from(list(OPEN)), max_size=8), st.text(max_size=8))
def test_a_repeated_field_counts_once(repeated: list[str], value: str) -> None:
    """A custom field named like one of PureResponse's own comes after it, and cannot take its place."""
    pairs = list(OPEN.items())
    assert items(pairs) == items([*pairs, *((name, value) for name in repeated)])


def test_a_custom_field_that_only_looks_like_their_own_stays_custom() -> None:
    """The spelling that is published wins; of an OPEN, whose fields are known, `user` is not one."""
    (item,) = items([("Email", "b@example.org"), *OPEN.items(), ("user", "vip")])
    assert ("ann.lee@example.com", {"Email": "b@example.org", "user": "vip"}) == (item["email"], item["custom"])


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("List_Names[]", "Buyers"), ("List_Names[]", "VIP, gold")], ["Buyers", "VIP, gold"]),
        ([("List_Names[0]", "Buyers"), ("List_Names[1]", "VIP, gold")], ["Buyers", "VIP, gold"]),
        ([("List_Names", "Buyers, News")], ["Buyers", "News"]),
        ([("List_Names", "Buyers"), ("List_Names", "News")], ["Buyers", "News"]),
        ([("list names", "Buyers,News")], ["Buyers", "News"]),
        ([("List_Names[]", "")], None),
        ([], None),
    ],
)
def test_lists_come_in_brackets_or_in_one_text(pairs: Pairs, expected: list[str] | None) -> None:
    """Only where there are no brackets do commas stand between names."""
    (item,) = items([("type", "DELIVERYSTART"), *pairs])
    assert expected == normalise(PURE360, item, CASE.arrival).event.properties.get("lists")


def test_the_golden_open() -> None:
    """The delivery start and the open of seed B, with their values."""
    started = samples.case("pure360", "deliverystart").recordables[0].event
    opened = CASE.recordables[0].event
    assert "2023-11-20T21:23:20+00:00" == started.occurred_at.isoformat() == opened.properties["delivery_date"]
    assert ["Buyers", "VIP, gold"] == started.properties["lists"]
    assert "2023-11-20T22:26:36+00:00" == opened.occurred_at.isoformat()
    assert {"First Name": "Ann", "external_id": "P-1001"} == opened.properties["traits"]
    assert ("P-1001", "4711/ann.lee@example.com") == (opened.person.external_id, opened.send_key)
    assert ["OPEN", "", "4711", "", "ann.lee@example.com"] == PURE360.identity(CASE.items[0])


@pytest.mark.parametrize("trigger", RECIPIENTS)
def test_a_trigger_about_a_recipient_needs_an_address(trigger: str) -> None:
    """An opt-out of nobody is quarantined, where it can be looked at, never counted."""
    with pytest.raises(MalformedItem) as caught:
        read(type=trigger, email="", mobile="")
    assert ("missing_person", "email") == (caught.value.reason, caught.value.path)


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("1700519196", "2023-11-20T22:26:36+00:00"),
        ("1700519196000", "2023-11-20T22:26:36+00:00"),
        ("20/11/2023 22:26", "2023-11-20T22:26:00+00:00"),
        ("20/11/2023 22:26:36", "2023-11-20T22:26:36+00:00"),
    ],
)
def test_dates_are_unix_seconds_and_more(date: str, expected: str) -> None:
    """Thirteen digits are milliseconds; the SOAP interface writes the day first."""
    assert expected == read(Event_date=date).occurred_at.isoformat()


@pytest.mark.parametrize("date", ["", "Unix Timestamp", "143758140", "31/31/2023 10:00", "9" * 400, "nan"])
def test_a_date_that_cannot_be_read_is_the_receipts(date: str) -> None:
    """The published samples themselves print a date one digit short; the event is not lost for it."""
    event = read(Event_date=date)
    assert (CASE.received_at, True) == (event.occurred_at, event.time_uncertain)
    assert event.event_id == read(Event_date=date).event_id


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "email"),
        ({"mobile": "+15550100100"}, "email"),
        ({"email": "", "mobile": "+15550100100"}, "sms"),
        ({"type": "SMSFAILED", "mobile": "+15550100100"}, "sms"),
        ({"type": "SMSOPTOUT", "email": "", "mobile": "+15550100100"}, "sms"),
        ({"type": "DELIVERY", "Message_Type": "SMS"}, "sms"),
        ({"type": "DELIVERY", "Message_Type": "EMAIL"}, "email"),
    ],
)
def test_the_channel_is_the_one_the_report_is_about(changes: dict[str, str], expected: str) -> None:
    """An opt-out by text message must not silence the email, nor the other way round."""
    assert expected == read(**changes).channel


def test_an_opt_out_is_of_the_channel_and_an_sms_failure_blocks_nobody() -> None:
    """B14, B16, B17: what is known of the person afterwards."""
    assert ["email/"] == list(of_event(read(type="OPTOUT")).choices)
    assert ["sms/"] == list(of_event(read(type="SMSOPTOUT", mobile="+15550100100")).choices)
    assert {} == of_event(read(type="SMSFAILED", mobile="+15550100100")).blocks
    assert ["email/ann.lee@example.com"] == list(of_event(read(type="BOUNCE")).blocks)


@pytest.mark.parametrize(
    ("number", "settings", "expected"),
    [
        ("44555010010", {}, "44555010010"),
        ("15550100100", {"international_phones": True}, "+15550100100"),
        ("+1 555 0100 100", {"international_phones": True}, "+15550100100"),
        ("0555 0100", {"international_phones": True}, "0555 0100"),
    ],
)
def test_numbers_get_their_plus_only_where_the_connection_says_so(
    number: str, settings: dict[str, bool], expected: str
) -> None:
    """A national number that looks like an international one would be somebody else's."""
    (item,) = items([("type", "SMSOPTOUT"), ("mobile", number)])
    connection = replace(samples.connection("pure360"), settings=settings)
    event = normalise(PURE360, item, replace(CASE.arrival, connection=connection)).event
    assert expected == event.person.phone


RECORDS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["OPEN", "CLICK", "OPTOUT"]), "email": st.sampled_from(["a@example.com", ""])},
        optional={"First Name": st.text(max_size=5), "clickUrl": st.just("https://shop.example.com/?a=1&b=2")},
    ),
    min_size=1,
    max_size=12,
)


@given(RECORDS, st.randoms(use_true_random=False))
def test_arrays_with_indexes_give_each_event_what_is_its_own(
    records: list[dict[str, str]], chance: random.Random
) -> None:
    """Missing values, arrays of any length and fields in any order: a place is a place."""
    pairs = [(f"{name}[{place}]", value) for place, one in enumerate(records) for name, value in one.items()]
    chance.shuffle(pairs)
    expected = [items(list({**one, "Delivery_ID": "4711"}.items()))[0] for one in records]
    assert expected == items([*pairs, ("Delivery_ID", "4711")])


@given(st.lists(st.integers(0, 6), min_size=1, max_size=3), st.integers(1, 6))
def test_arrays_without_indexes_split_only_where_they_fit(lengths: list[int], events: int) -> None:
    """Whose event a value is, is never guessed: one too few or too many and all of it is quarantined."""
    columns = {"type": events, **{f"field {n}": length for n, length in enumerate(lengths)}}
    pairs = [(f"{name}[]", f"{name}{place}") for name, length in columns.items() for place in range(length)]
    if {*lengths} <= {0, events}:
        assert events == len(items(pairs))
        for place, item in enumerate(items(pairs)):
            assert all(f"{name}{place}" == value for name, value in item["custom"].items())
    else:
        with pytest.raises(MalformedDelivery) as caught:
            items(pairs)
        assert "unequal_arrays" == caught.value.reason


def test_numbered_and_unnumbered_arrays_do_not_mix() -> None:
    """The second event stands at place 5, so nobody knows whose the second address is."""
    with pytest.raises(MalformedDelivery):
        items([("type[0]", "OPEN"), ("type[5]", "OPTOUT"), ("email[]", "a@example.com"), ("email[]", "b@example.org")])


def test_a_post_of_ten_thousand_records_splits_in_time() -> None:
    """As many as a batch of the client pull may hold (B19), ten fields each, well under a second."""
    names = [*OPEN, "First Name", "clickUrl", "notificationSubject"]
    body = "&".join(
        f"{quote(name)}[{place}]={quote(OPEN.get(name, 'x'))}" for place in range(10_000) for name in names
    ).encode()
    before = time.process_time()
    found = items(body)
    assert 10_000 == len(found)
    assert {4 + 5} == {len(item) for item in found}
    assert time.process_time() - before < 5  # about 0.5 s; the rest is for a busy machine


def test_what_is_too_much_is_refused_before_it_grows() -> None:
    """Fields that hold for all of many events are not multiplied without end."""
    many = 2_000
    pairs = [(f"type[{place}]", "OPEN") for place in range(many)] + [(f"field {n}", "x") for n in range(many)]
    with pytest.raises(MalformedDelivery) as caught:
        items(pairs)
    assert "too_many_fields" == caught.value.reason
    for body in (b"a=&" * (MANY_FIELDS + 1), b"type[]=OPEN&" * 10_001):
        with pytest.raises(MalformedDelivery):
            items(body)


def test_the_answer_is_a_plain_ok() -> None:
    """What PureResponse's interfaces themselves answer, once it is durable."""
    assert PURE360.accepted is not None
    reply = PURE360.accepted(CASE.delivery)
    assert (200, "OK") == (reply.status, reply.body)


def test_only_the_url_can_show_the_secret() -> None:
    """No header can be set and nothing is signed."""
    delivery = replace(CASE.delivery, headers={}, url=f"{CASE.delivery.url}?key=a%2Bb")
    PURE360.verify(delivery, (b"a+b",), CASE.now)
    with pytest.raises(SignatureError):
        PURE360.verify(delivery, (b"a b",), CASE.now)
