"""The published contract and the one that is enforced are the same (goal 16)."""

from __future__ import annotations

import copy
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from espial import events, schema
from espial.schema import SCHEMA_ID, CanonicalEvent, breaking_changes, json_schema, main
from espial.vocabulary import EventType
from tests.samples import cases

SNAPSHOT = Path(__file__).parents[2] / "docs" / "event.schema.json"
PAIRS = [
    (events.Event, CanonicalEvent),
    (events.Person, schema.PersonModel),
    (events.Campaign, schema.CampaignModel),
    (events.Link, schema.LinkModel),
    (events.Client, schema.ClientModel),
    (events.Failure, schema.FailureModel),
    (events.Product, schema.ProductModel),
    (events.Cart, schema.CartModel),
    (events.Order, schema.OrderModel),
    (events.Commerce, schema.CommerceModel),
]


@pytest.mark.parametrize(("ours", "published"), PAIRS, ids=lambda one: one.__name__)
def test_the_same_fields_in_the_same_order(ours: type[msgspec.Struct], published: type[BaseModel]) -> None:
    """A field added to one must be added to the other, and described."""
    names = [field.alias or name for name, field in published.model_fields.items()]
    assert [field.encode_name for field in msgspec.structs.fields(ours)] == names
    assert [field.required for field in msgspec.structs.fields(ours)] == [
        field.is_required() for field in published.model_fields.values()
    ]
    assert all(field.description for field in published.model_fields.values())


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


TEXT = st.text(max_size=8)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
INSTANT = st.datetimes(datetime(2000, 1, 2), datetime(2099, 1, 1), timezones=ZONES)
MONEY = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | MONEY | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def struct(kind: type[Any], **special: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = {name: special.get(name, optional(TEXT)) for name in kind.__struct_fields__}
    return st.builds(kind, **fields)


PRODUCT = struct(events.Product, price=optional(MONEY), quantity=optional(st.integers(-(2**31), 2**31)))
ITEMS = st.lists(PRODUCT, max_size=2).map(tuple)
COMMERCE = struct(
    events.Commerce,
    cart=optional(struct(events.Cart, total=optional(MONEY), items=ITEMS)),
    order=optional(struct(events.Order, total=optional(MONEY), items=ITEMS)),
    product=optional(PRODUCT),
)
EVENTS = struct(
    events.Event,
    event_id=TEXT,
    type=st.sampled_from(EventType),
    platform_type=TEXT,
    channel=st.sampled_from(["email", "sms", "push", "web", "app", "whatsapp", "inapp", "webhook", "pos", "none"]),
    platform=TEXT,
    connection=TEXT,
    occurred_at=INSTANT,
    received_at=INSTANT,
    person=struct(events.Person),
    campaign=optional(struct(events.Campaign, tags=st.lists(TEXT, max_size=2).map(tuple))),
    link=optional(struct(events.Link)),
    client=optional(struct(events.Client, machine=optional(st.booleans()))),
    failure=optional(struct(events.Failure)),
    commerce=optional(COMMERCE),
    properties=st.dictionaries(TEXT, JSON, max_size=3),
    time_uncertain=st.booleans(),
    mode=st.sampled_from(["live", "backfill", "replay"]),
)


@given(EVENTS)
def test_what_one_writes_the_other_reads(event: events.Event) -> None:
    """Both ways, without a loss."""
    published = CanonicalEvent.model_validate_json(events.encode(event))
    back = published.model_dump_json(by_alias=True, exclude_defaults=True)
    assert event == events.decode(back)


def verdicts(body: str) -> tuple[bool, bool]:
    try:
        events.decode(body)
    except msgspec.ValidationError:
        ours = False
    else:
        ours = True
    try:
        CanonicalEvent.model_validate_json(body)
    except ValidationError:
        published = False
    else:
        published = True
    return ours, published


WRONG = st.sampled_from(
    [None, True, 7, 2.0, 1.5, "text", [], ["a"], {}, {"a": 1}, {"email": 5}, [{"id": "x"}], {"items": 1}]
)


@given(EVENTS, st.data())
def test_both_accept_and_refuse_the_same(event: events.Event, data: st.DataObject) -> None:
    """With one field of another type, missing, or unknown, anywhere."""
    document = json.loads(events.encode(event))
    places = [
        document,
        *(value for name, value in document.items() if isinstance(value, dict) and name != "properties"),
    ]
    place = data.draw(st.sampled_from(places))
    names = [*place, "unheard_of", "type", "person", "occurred_at", "commerce", "tags", "price", "class", "class_"]
    name = data.draw(st.sampled_from(names))
    if data.draw(st.booleans()):
        place[name] = data.draw(WRONG)
    else:
        place.pop(name, None)
    ours, published = verdicts(json.dumps(document))
    assert ours == published


@pytest.mark.parametrize("case", cases(), ids=str)
def test_every_golden_keeps_to_the_published_contract(case: Any) -> None:
    """What the samples promise is what the schema describes."""
    for outcome in case.expected:
        if "event" in outcome:
            CanonicalEvent.model_validate_json(json.dumps(outcome["event"]))


def test_the_published_schema_is_the_current_one() -> None:
    """Written anew with `python -m espial.schema docs/event.schema.json`, which refuses to break it."""
    published = json.loads(SNAPSHOT.read_text())
    assert [] == breaking_changes(published, json_schema())
    assert published == json_schema()


ADDITIONS: dict[str, dict[str, Any]] = {
    "moved": {"person": {"$ref": "#/$defs/LinkModel"}},
    "added": {"weather": {"type": "string"}},
    "described": {"send_key": {**json_schema()["properties"]["send_key"], "description": "Better words."}},
}


def changed(edit: str) -> dict[str, Any]:
    found = copy.deepcopy(json_schema())
    fields = found["properties"]
    person = found["$defs"]["PersonModel"]["properties"]
    if edit == "removed":
        del fields["send_key"]
    elif edit == "removed deep":
        del person["email"]
    elif edit == "retyped":
        fields["time_uncertain"]["type"] = "string"
    elif edit == "retyped deep":
        found["$defs"]["ProductModel"]["properties"]["quantity"] = {"type": "string"}
    elif edit == "word gone":
        found["$defs"]["EventType"]["enum"].remove("opened")
    elif edit == "word added":
        found["$defs"]["EventType"]["enum"].append("sung")
    elif edit == "required":
        found["required"].append("raw")
    else:
        fields |= ADDITIONS[edit]
    return found


@pytest.mark.parametrize(
    "edit", ["removed", "removed deep", "retyped", "retyped deep", "word gone", "required", "moved"]
)
def test_a_change_that_breaks_consumers_is_found(edit: str) -> None:
    """Removed or retyped fields, removed words, and fields that became required."""
    assert len(breaking_changes(json_schema(), changed(edit))) == 1


@pytest.mark.parametrize("edit", ["added", "word added", "described"])
def test_a_change_that_only_adds_is_welcome(edit: str) -> None:
    """Consumers are told to expect new fields and words."""
    assert [] == breaking_changes(json_schema(), changed(edit))


def test_writing_over_a_broken_contract_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unless its number was raised, the file stays as it was and the field is named."""
    target = tmp_path / "event.schema.json"
    assert main([str(target)]) == 0
    more = changed("added")
    target.write_text(json.dumps(more))
    assert main([str(target)]) == 1
    assert "event.weather was removed" in capsys.readouterr().err
    assert more == json.loads(target.read_text())
    target.write_text(json.dumps({**more, "$id": SCHEMA_ID + "0"}))
    assert main([str(target)]) == 0
    assert json_schema() == json.loads(target.read_text())
