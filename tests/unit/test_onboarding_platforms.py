"""Braze and the generic platform: what is said to them, and what their answers mean."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from espial import onboarding
from espial.answers import Answer
from espial.errors import Refused, TryAgain
from espial.exports.files import ExportFile
from espial.onboarding import Batch, Recipient, Refusal, braze, generic
from espial.onboarding.happened import Narrator
from espial.onboarding.state import Counts, Execution
from tests.onboarding import a_definition

NOW = datetime(2023, 11, 20, 20, 0, tzinfo=UTC)
ANN = Recipient(
    contact=700001,
    external_id="P-1001",
    email="ann.lee@example.com",
    attributes={"first_name": "Ann", "home_city": "Madrid", "dob": "1980-12-21", "loyalty_tier": "gold"},
    meta={"cell_code": "A"},
)
BOB = Recipient(contact=700002, external_id="P-1002", phone="+15550100")


def a_batch(*recipients: Recipient, **definition: Any) -> Batch:
    return Batch(a_definition(**definition), 9001, recipients or (ANN, BOB))


def body(request: onboarding.Request) -> Any:
    return json.loads(request.body)


def answer(status: int = 201, said: Any = None, **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(said).encode())


# -- Braze


def test_the_golden_record_s_body():
    """seed-systems 8.2: external id, profile fields, the object of the CDP and the four arrays that grow by one."""
    request = braze.request(a_batch(meta={}), "key-1")
    assert ("/users/track", "Bearer key-1") == (request.path, request.headers["Authorization"])
    assert {
        "external_id": "P-1001",
        "email": "ann.lee@example.com",
        "first_name": "Ann",
        "home_city": "Madrid",
        "dob": "1980-12-21",
        "output_name": "Welcome output",
        "rpi_cdp_attributes": {"system": "RPI", "cell_code": "A", "loyalty_tier": "gold"},
        "rpi_contact_ids": {"add": ["700001"]},
        "rpi_channel_exec_ids": {"add": ["9001"]},
        "rpi_audience_outputs": {"add": ["Welcome output"]},
        "rpi_offers": {"add": ["WELCOME10"]},
    } == body(request)["attributes"][0]


def test_the_golden_record_s_event():
    """Execution 9001, contact 700001, 2023-11-20 20:00:00, ONBOARD_BRAZE, the output's name: all a feed row needs."""
    of = a_definition(name="braze", meta={})
    file = ExportFile(bucket="b", key="k", etag="e", size=1, modified_at=NOW + timedelta(milliseconds=400))
    record = Narrator(of, Execution("braze", file, 9001, "running", NOW)).answered(ANN, None)
    event = record.event
    assert ("RPI", 9001, 700001, "Welcome output") == tuple(
        event.properties[name] for name in ("system", "execution", "contact", "output")
    )
    assert ("ONBOARD_BRAZE", NOW, "P#id:P-1001") == (event.campaign.id, event.occurred_at, record.home)
    coded = Narrator(of, Execution("braze", file, 9001, "running", NOW)).answered(
        ANN._replace(meta={"campaign_code": "W24", "campaign_name": "Welcome"}), Refusal("invalid_email", "no")
    )
    assert ("W24", "Welcome") == (coded.event.campaign.id, coded.event.campaign.name)
    assert ("invalid_email", "no") == (coded.event.properties["reason"], coded.event.properties["detail"])
    done = Narrator(of, Execution("braze", file, 9001, "running", NOW, Counts(5, 1, 2, 3))).completed().event
    assert (6, 5, 1, 2, 3) == tuple(
        done.properties[name] for name in ("targeted", "sent", "failed", "unchanged", "rejected_rows")
    )


def test_append_says_the_output_only_and_only_to_those_who_are_known():
    """Nobody is created."""
    said = body(braze.request(a_batch(mode="append"), "k"))
    assert {"external_id": "P-1001", "output_name": "Welcome output", "_update_existing_only": True} == (
        said["attributes"][0]
    )


def test_the_same_batch_gives_the_same_bytes():
    """So that it can be repeated."""
    assert braze.request(a_batch(), "k") == braze.request(a_batch(), "k")
    assert generic.request(a_batch(), "k") == generic.request(a_batch(), "k")


@pytest.mark.parametrize(
    "said",
    [
        {"message": "success", "attributes_processed": 2},
        {"message": "queued"},
        {"message": "success", "attributes_processed": 1},
        {"message": "success", "attributes_processed": 2, "errors": ["a note"]},
        None,
    ],
)
def test_an_acknowledgement_takes_everybody(said):
    """Also one that counts otherwise, or says nothing that can be read."""
    assert [None, None] == braze.verdicts(answer(201, said), a_batch(), NOW)


def test_braze_names_whom_it_refuses_by_place():
    """In a success, and in a failure where it took nobody."""
    error = {"type": "'email' is not valid: ann.lee@example.com", "input_array": "attributes", "index": 0}
    other = {"type": "'name' and 'time' are required", "input_array": "events", "index": 1}
    said = {"message": "success", "attributes_processed": 1, "errors": [error, other]}
    assert [Refusal("invalid_email", "'email' is not valid: …"), None] == braze.verdicts(
        answer(201, said), a_batch(), NOW
    )
    both = {"message": "bad", "errors": [{**error, "index": 0}, {**error, "index": 1}]}
    assert [("invalid_email")] * 2 == [one.reason for one in braze.verdicts(answer(400, both), a_batch(), NOW)]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, {"message": "Bad syntax"}),
        (400, {"message": "bad", "errors": [{"type": "x", "input_array": "attributes", "index": 1}]}),
        (413, None),
        (201, {"message": "success", "attributes_processed": 1, "errors": ["one of them is wrong"]}),
    ],
)
def test_a_refusal_that_names_nobody_is_nobody_s_yet(status, said):
    """The batch is sent in halves; of one alone it is clear whom it means."""
    assert braze.verdicts(answer(status, said), a_batch(), NOW) is None
    alone = {**said, "attributes_processed": 0} if said and "attributes_processed" in said else said
    verdicts = braze.verdicts(answer(status, alone), a_batch(ANN), NOW)
    assert ["refused_by_platform"] == [verdict.reason for verdict in verdicts or []]


def test_a_missing_identifier_is_said_as_such():
    """Braze's words, ours as the reason."""
    words = "'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required"
    said = {"message": "bad", "errors": [{"type": words, "input_array": "attributes", "index": 0}]}
    assert [Refusal("missing_identifier", words)] == braze.verdicts(answer(400, said), a_batch(ANN), NOW)


# -- any platform


@pytest.mark.parametrize("platform", [braze, generic])
@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (429, {"retry_after": "7"}, 7),
        (429, {"x_ratelimit_reset": str(int(NOW.timestamp()) + 30)}, 30),
        (503, {"retry_after": "Mon, 20 Nov 2023 20:02:00 GMT"}, 120),
        (500, {}, 1),
        (408, {"retry_after": "soon"}, 1),
        (429, {"retry_after": "86400"}, 900),
        (429, {"x_ratelimit_reset": "1"}, 1),
    ],
)
def test_what_passes_says_how_long(platform, status, headers, wait):
    """By its headers where they can be read, never longer than a queue can wait."""
    with pytest.raises(TryAgain) as again:
        platform.verdicts(answer(status, **headers), a_batch(), NOW)
    assert wait == again.value.after


@pytest.mark.parametrize("platform", [braze, generic])
@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "unauthorised"), (403, "unauthorised"), (404, "endpoint_refused"), (302, "endpoint_refused")],
)
def test_what_a_person_has_to_mend_stops(platform, status, reason):
    """No recipient is blamed for it."""
    with pytest.raises(Refused) as stopped:
        platform.verdicts(answer(status), a_batch(), NOW)
    assert reason == stopped.value.reason


def test_the_generic_platform_gets_the_same_content_under_an_idempotency_key():
    """The key is the batch's content: repeated, it is the same; with another contact, another."""
    request = generic.request(a_batch(platform="generic"), "k")
    said = body(request)
    assert request.headers["Idempotency-Key"] == said["batch_id"]
    assert ("", "upsert", "RPI", 9001) == (request.path, said["mode"], said["system"], said["execution"])
    assert {
        "contact": 700001,
        "external_id": "P-1001",
        "email": "ann.lee@example.com",
        "attributes": dict(ANN.attributes),
        "meta": {"cell_code": "A"},
    } == said["recipients"][0]
    other = generic.request(a_batch(ANN._replace(contact=800001), BOB, platform="generic"), "k")
    assert body(other)["batch_id"] != said["batch_id"]


def test_the_generic_platform_names_whom_it_refuses():
    """By place; its reason if it is one of ours in form."""
    rejected = [{"index": 1, "reason": "no_such_country"}, {"index": 9, "reason": "x"}, "?"]
    assert [None, Refusal("no_such_country")] == generic.verdicts(answer(200, {"rejected": rejected}), a_batch(), NOW)
    assert generic.verdicts(answer(422), a_batch(), NOW) is None
    said = {"reason": "No such country!", "detail": ""}
    assert [Refusal("refused_by_platform", "No such country!")] == generic.verdicts(
        answer(422, said), a_batch(ANN), NOW
    )


def test_platforms_are_exchangeable():
    """Each is found by its name and has both halves."""
    for name in ("braze", "generic"):
        platform = onboarding.load(name)
        assert callable(platform.request)
        assert callable(platform.verdicts)
