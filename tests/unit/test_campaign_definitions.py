"""Campaigns as files: what stands against going live, and the triggers that they become (C2, C15 to C23)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from espial.campaigns.checking import required
from espial.campaigns.compiled import CampaignTrigger, read
from espial.definitions.load import load
from espial.definitions.publish import bundle
from espial.errors import InvalidDefinition
from espial.events import Commerce, Order, PersonKey, Product
from espial.people import PersonView, Profile, Stamped
from espial.triggers.decision import begin
from espial.vocabulary import EventType
from tests.builders import NOON
from tests.campaigning import CAMPAIGN, PAYLOAD, WEBHOOK, write
from tests.simulation import behaviour

BEHAVIOUR = CAMPAIGN["behaviours"][0]


def problems(root: Any, **files: Any) -> list[str]:
    changes = {name.replace("__", "/").replace("_", "-") + ".yaml": fields for name, fields in files.items()}
    with pytest.raises(InvalidDefinition) as refused:
        load(write(root, changes))
    return [problem.removeprefix(f"{root}/") for problem in refused.value.problems]


def trigger(root: Any, **campaign: Any) -> CampaignTrigger:
    """The campaign's only trigger, as the functions read it."""
    active = bundle(load(write(root, {"campaigns/thanks.yaml": campaign}))).active
    (published,) = active["triggers"].values()
    found = read(published)
    assert isinstance(found, CampaignTrigger)
    return found


def bought(total: float | None = 25.0, *items: str, type_: EventType = EventType.TRANSACTION, **fields: Any) -> Any:
    order = Order(id="t-1", total=total, items=tuple(Product(id=item) for item in items))
    return behaviour(type_, NOON, "t-1", commerce=Commerce(order=order), **fields)


def custom(name: str, **properties: Any) -> Any:
    return msgspec.structs.replace(behaviour(EventType.CUSTOM, NOON, name, properties=properties), platform_type=name)


def starts(found: CampaignTrigger, event: Any) -> bool:
    return begin(found, event, "id:P-1001") is not None


def test_a_whole_campaign_is_a_trigger_and_a_provider(tmp_path):
    """What it listens for, when, to whom; the variant is a provider of its own that knows where to call."""
    active = bundle(load(write(tmp_path))).active
    assert ["thanks-bought-message"] == list(active["triggers"])
    assert {"esp", "esp-thanks"} == {*active["providers"]}
    called = active["providers"]["esp-thanks"]["settings"]
    assert ("https://api.acme.example.com", "/v3/mail/send") == (called["host"], called["call"]["endpoint"])
    assert PAYLOAD["body"] == called["call"]["body"]
    found = read(active["triggers"]["thanks-bought-message"])
    assert ["order_completed", "transaction"] == list(found.on)
    assert ("live", "esp-thanks", "person.email") == (found.status, found.send.provider, found.send.to)
    assert "email" == found.channel


def test_it_is_the_same_whenever_it_is_applied(tmp_path):
    """Equal files are one version."""
    once, again = bundle(load(write(tmp_path / "a"))), bundle(load(write(tmp_path / "b")))
    assert once.version == again.version


def test_a_purchase_of_enough_starts_it(tmp_path):
    """Either canonical type, from the value on; nothing outside the time frame."""
    found = trigger(tmp_path)
    assert starts(found, bought(5.0))
    assert starts(found, bought(5.0, type_=EventType.ORDER_COMPLETED))
    assert not starts(found, bought(4.99))
    assert not starts(found, bought(None))
    assert not starts(found, custom("bought"))
    late = msgspec.structs.replace(bought(), occurred_at=NOON.replace(year=2027))
    assert not starts(found, late)


HEARD: list[tuple[str, list[dict[str, Any]], list[Any], list[Any]]] = [
    ("any", [{"class": "purchase", "items": ["a", "b"]}], [bought(1, "x", "b")], [bought(1, "x"), bought(1)]),
    ("any", [{"class": "purchase", "min_items": 2}], [bought(1, "x", "b")], [bought(1, "x")]),
    ("any", [{"class": "custom", "name": "Signed Up"}], [custom("Signed Up")], [custom("Signed Out"), bought()]),
    (
        "any",
        [{"class": "purchase", "min_value": 50}, {"class": "custom", "name": "Visited"}],
        [bought(50.0), custom("Visited")],
        [bought(49.0)],
    ),
    (
        "all",
        [{"class": "purchase", "min_value": 50}, {"class": "purchase", "items": ["a"]}],
        [bought(50.0, "a")],
        [bought(50.0), bought(49.0, "a")],
    ),
    (
        "any",
        [{"class": "custom", "name": "Visited", "filters": ['event.properties.place == "north"', "true"]}],
        [custom("Visited", place="north")],
        [custom("Visited", place="south"), custom("Visited")],
    ),
    ("any", [{"class": "custom", "type": "product_viewed"}], [behaviour(EventType.PRODUCT_VIEWED, NOON)], [bought()]),
    ("any", [{"class": "custom", "name": 'a"b\\c'}], [custom('a"b\\c')], [custom("a")]),
]


@pytest.mark.parametrize(("match", "heard", "met", "missed"), HEARD)
def test_behaviours(tmp_path, match, heard, met, missed):
    """Rules joined by any and all, whatever stands in names."""
    given = {"name": "did", "match": match, "rules": [{"events": [one]} for one in heard]}
    given["outcomes"] = [{"kind": "tag", "tag": "seen"}]
    found = trigger(tmp_path, behaviours=[given], messages=[])
    assert [True] * len(met) == [starts(found, event) for event in met]
    assert [False] * len(missed) == [starts(found, event) for event in missed]


def test_every_failing_item_is_told(tmp_path):
    """With file, line and field."""
    found = problems(
        tmp_path,
        campaigns__thanks={"start_at": None, "end_at": None, "audience": {"people": ["P-1"]}, "behaviours": []},
        variants__esp_thanks={"template": None},
        webhooks__esp_send={"auth": None, "error_map": None},
    )
    told = "\n".join(found)
    for item in (
        "time_frame: start_at is missing",
        "time_frame: end_at is missing",
        "audience.people: audience_too_small: an audience is more than one person",
        "behaviours: behaviours: are missing",
        "messages[0].variants[0]: template: variant 'esp-thanks' has none",
        "messages[0].variants[0]: webhook: 'esp-send' is incomplete: body, auth, error_map",
    ):
        assert item in told
    assert all(line.startswith("campaigns/thanks.yaml:") for line in found)


def test_what_is_not_live_may_be_half_said(tmp_path):
    """A draft is kept, and runs nothing."""
    draft = {"status": "draft", "start_at": None, "messages": [{"variants": ["not-there-yet"]}]}
    active = bundle(load(write(tmp_path, {"campaigns/thanks.yaml": draft}))).active
    assert ({}, {"thanks"}) == (active["triggers"], {*active["campaigns"]})
    assert {"esp"} == {*active["providers"]}


def test_an_attribute_that_no_event_tells(tmp_path):
    """A total where only a custom event is listened for; a default, or a static value, will do."""
    listens = {"behaviours": [{**BEHAVIOUR, "rules": [{"events": [{"class": "custom", "name": "x"}]}], "outcomes": []}]}
    body = {"total": "{{transaction.total}}", "offer": "{{offer.name|none}}", "who": "{{usr.email}}"}
    found = problems(tmp_path, campaigns__thanks=listens, payloads__thanks={"body": body})
    told = {line.partition("variants[0]: ")[2].partition(": variant")[0] for line in found}
    assert {"unobtainable_attribute:transaction.total", "unknown_placeholder:usr.email"} == told
    static = {"variants/esp-thanks.yaml": {"static_values": {"transaction.total": 0, "usr.email": ""}}}
    load(write(tmp_path, {**static, "campaigns/thanks.yaml": listens, "payloads/thanks.yaml": {"body": body}}))


def test_points_by_what_was_paid_need_a_purchase(tmp_path):
    """Not any event has a total."""
    listens = [{**BEHAVIOUR, "rules": [{"events": [{"class": "custom", "name": "x"}]}]}]
    found = problems(tmp_path, campaigns__thanks={"behaviours": listens})
    assert "behaviours[0].outcomes[4]: unobtainable_attribute:transaction.total" in found[0]


def test_required_attributes_are_derived(tmp_path):
    """From everything that is rendered."""
    known = load(write(tmp_path, {"webhooks/esp-send.yaml": {"headers": {"X-Camp": "{{campaign.name}}"}}}))
    asked = required(known.variants["esp-thanks"], known)
    assert ["campaign.name", "user.email", "points.amount", "user.first_name"] == [one.path for one in asked]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"variants__esp_thanks": {"webhook": "esp-snd"}}, "no webhook named 'esp-snd'"),
        ({"variants__esp_thanks": {"provider": "eps"}}, "no provider named 'eps' (did you mean esp?)"),
        ({"variants__esp_thanks": {"status": "disabled"}}, "variant: 'esp-thanks' is disabled"),
        ({"variants__esp_thanks": {"webhook": None}}, "webhook: variant 'esp-thanks' has none"),
        ({"webhooks__esp_send": {"endpoint": "https://other.example.com/x"}}, "calls another host"),
        ({"webhooks__esp_send": {"endpoint": "https://{{user.host}}/x"}}, "the host must be fixed"),
        ({"webhooks__esp_send": {"endpoint": "http://api.acme.example.com/x"}}, "must be an https:// address"),
        ({"webhooks__esp_send": {"auth": {"type": "bearer", "secret": "SG.x"}}}, "must be a reference"),
        ({"webhooks__esp_send": {"success": ["ok"]}}, "must be a status such as 202"),
        ({"providers__esp": {"settings": {"host": "https://{{region}}.example.com"}}}, "unknown variable region"),
        ({"payloads__thanks": {"body": {"a": "{{user.name"}}}, "a placeholder is not closed"),
        ({"campaigns__thanks": {"end_at": "2025-01-01T00:00:00Z"}}, "end_at: must be later than start_at"),
        ({"campaigns__thanks": {"audience": {"segment": "person.age > 3"}}}, "unknown field person.age"),
        ({"campaigns__thanks": {"mode": "scheduled", "behaviours": []}}, "schedule: schedule: is missing"),
        ({"campaigns__" + "t" * 60: CAMPAIGN}, "name_too_long"),
        (
            {"campaigns__thanks": {"behaviours": [], "messages": []}},
            "messages: outcomes: it has neither messages nor outcomes",
        ),
    ],
)
def test_mistakes_are_named(tmp_path, files, told):
    """Each at its place."""
    assert told in "\n".join(problems(tmp_path, **files))


def test_no_secret_in_a_problem(tmp_path):
    """What stands where a reference should is not repeated."""
    key = "SG.secret-12345"
    found = problems(tmp_path, webhooks__esp_send={**WEBHOOK, "auth": {"type": "bearer", "secret": key}})
    assert key not in "\n".join(found)


def test_variants_by_language_then_weight(tmp_path):
    """The same one for a person for ever, and shares as they are weighted."""
    variants: dict[str, dict[str, Any]] = {
        "a": {"weight": 3, "locale": None},
        "b": {"weight": 1, "locale": None},
        "fr": {"weight": 1, "locale": "fr"},
    }
    base = {"provider": "esp", "template": "thanks", "webhook": "esp-send"}
    files = {f"variants/{name}.yaml": {**base, **said} for name, said in variants.items()}
    given = {"campaigns/thanks.yaml": {"messages": [{"variants": [*variants]}]}}
    active = bundle(load(write(tmp_path, {**files, **given}))).active
    found = read(active["triggers"]["thanks-bought-message"])
    assert isinstance(found, CampaignTrigger)
    people = [PersonView(key=PersonKey("id", f"c-{number}")) for number in range(2000)]
    given_to, again = ([share.variant for one in people if (share := found.share(one, "k"))] for _ in range(2))
    assert 2000 == len(given_to)
    assert given_to == again
    assert 0.72 < given_to.count("a") / 2000 < 0.78
    assert 0 == given_to.count("fr")
    paris = PersonView(key=PersonKey("id", "c"), profile=_speaking("fr-FR"))
    share = found.share(paris, "c")
    assert share
    assert "fr" == share.variant


def _speaking(locale: str) -> Profile:
    return Profile(attributes={"locale": Stamped(NOON, "e", locale)})


def test_the_conditions_of_an_audience(tmp_path):
    """Segment and list are decided in the instant before sending."""
    segment = trigger(tmp_path / "a", audience={"segment": 'person.attributes.tier == "gold"'})
    assert ['person.attributes.tier == "gold"'] == [one.when for one in segment.conditions]
    people = trigger(tmp_path / "b", audience={"people": ["P-1", 'P-"2']})
    assert ['has(person.external_id) && person.external_id in ["P-1", "P-\\"2"]'] == [
        one.when for one in people.conditions
    ]
