"""Whatever a file holds and whatever a platform answers: an outcome, never a surprise."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.answers import Answer
from espial.errors import Refused, TryAgain
from espial.onboarding import Batch, Recipient, Refusal, braze, generic
from tests.onboarding import COLUMNS, KEY, World, a_definition, a_file

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
CELL = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", " ", "P-1", "p-1", "ann@example.com", "a@b", "+1 555 0100", "1980-12-21", "0000-00-00", "\x00"]
    ),
)
ROW = st.fixed_dictionaries(dict.fromkeys(COLUMNS, CELL))
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.dictionaries(st.sampled_from([*COLUMNS, "pid", "e-mail"]), VALUE, max_size=6)


def onboarded(content: bytes, key: str = KEY) -> World:
    """Every row has one outcome, whoever is sent was selected before, and every refusal has its entry."""
    world = World(unknown_columns="ignore")
    outcome = world.onboard(world.drop(content, key))
    assert outcome.outcome in ("done", "refused")
    if outcome.outcome == "refused":
        assert [outcome.reason] == world.reasons()
        assert [] == world.http.urls
        return world
    execution = world.execution(key)
    assert execution.rows == execution.counts.rows
    assert execution.counts.refused == len(world.quarantine.entries)
    assert execution.counts.sent == len(world.events("recipient_onboarded"))
    assert execution.counts.failed == len(world.events("recipient_rejected"))
    assert len(world.events("recipient_selected")) == execution.counts.sent + execution.counts.failed
    assert {event.person.external_id for event in world.events("recipient_onboarded")} == set(world.braze.users)
    return world


@given(st.lists(ROW, max_size=8))
def test_any_table_has_an_outcome_for_every_row(rows):
    """Blank lines, marks, controls, twins and all."""
    onboarded(a_file(rows))


@given(st.lists(FIELDS | VALUE, min_size=1, max_size=8))
def test_any_json_lines_have_an_outcome_for_every_row(values):
    """Whatever JSON value a line is."""
    onboarded(b"".join(json.dumps(value).encode() + b"\n" for value in values), KEY + ".ndjson")


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 40))
def test_any_damage_to_a_file_is_an_outcome(noise, at, gone):
    """Bytes put in, bytes taken away."""
    whole = a_file([dict.fromkeys(COLUMNS, f"x{number}") for number in range(6)])
    onboarded(whole[:at] + noise + whole[at + gone :])


ERROR = st.one_of(
    VALUE,
    st.fixed_dictionaries({"index": st.integers(-2, 4) | VALUE, "type": VALUE, "input_array": st.just("attributes")}),
)
SAID = st.fixed_dictionaries(
    {},
    optional={
        "message": VALUE,
        "attributes_processed": st.integers(-1, 4) | VALUE,
        "errors": st.lists(ERROR, max_size=4) | VALUE,
        "rejected": st.lists(ERROR, max_size=4) | VALUE,
        "reason": VALUE,
    },
)


@pytest.mark.parametrize("platform", [braze, generic])
@given(
    status=st.sampled_from([200, 201, 202, 302, 400, 401, 404, 408, 413, 422, 429, 500, 503, 599]),
    body=SAID.map(json.dumps).map(str.encode) | st.binary(max_size=40),
    after=st.text(max_size=12) | st.sampled_from(["7", "-1", "9" * 400, "Mon, 20 Nov 2023 20:02:00 GMT", "nan"]),
    count=st.integers(1, 3),
)
def test_any_answer_has_a_meaning(platform, status, body, after, count):
    """A verdict for each recipient, nobody's yet, later, or stop; a lone recipient is never left without one."""
    people = [Recipient(contact=number, external_id=f"P-{number}") for number in range(count)]
    headers = {"retry-after": after, "x-ratelimit-reset": after}
    found: object
    try:
        found = platform.verdicts(Answer(status, headers, body), Batch(a_definition(), 1, people), NOW)
    except (TryAgain, Refused) as exc:
        found = exc
    match found:
        case TryAgain():
            assert 1 <= found.after <= 900
        case Refused():
            assert found.reason in ("unauthorised", "endpoint_refused")
        case None:
            assert count > 1
        case list():
            assert count == len(found)
            refusals = [verdict for verdict in found if verdict is not None]
            assert all(isinstance(one, Refusal) and one.reason and "@" not in one.detail for one in refusals)
