"""What an onboarding's file may say, and how each mistake is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from espial.definitions.load import load
from espial.definitions.publish import bundle
from espial.onboarding.definition import OnboardingDefinition
from tests.unit.test_definitions_load import problems, write

GOOD = """platform: braze
endpoint: https://rest.braze.example.com/
secret: secretsmanager:espial/braze
key: PID
columns:
  E-Mail: email
  First Name: first_name
meta:
  campaign_code: W26
  cell_code: {column: Cell}
output: Welcome
"""
FILE = "onboardings/welcome.yaml"


def test_a_good_one_is_published_as_the_function_reads_it(tmp_path: Path) -> None:
    """Nothing is lost on the way, and the slash behind the endpoint is nothing."""
    loaded = load(write(tmp_path, {FILE: GOOD}))
    of = loaded.onboardings["welcome"]
    published = bundle(loaded).active["onboardings"]["welcome"]
    assert of == OnboardingDefinition.model_validate(published)
    assert ("https://rest.braze.example.com", "onboarding/welcome/") == (of.endpoint, of.prefix)
    assert {"pid": "external_id", "email": "email", "firstname": "first_name"} == of.attributes
    assert ({"cell_code": "cell"}, {"campaign_code": "W26"}) == (of.meta_columns, of.meta_texts)


def test_a_stage_may_name_another_endpoint(tmp_path: Path) -> None:
    """The local one a simulator's."""
    overlay = "onboardings:\n  welcome:\n    endpoint: http://127.0.0.1:4610\n"
    loaded = load(write(tmp_path, {FILE: GOOD, "stages/local.yaml": overlay}), "local")
    assert "http://127.0.0.1:4610" == loaded.onboardings["welcome"].endpoint


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("platform: braze", "platform: brise"), "1: platform: must be 'braze' or 'generic', not 'brise'"),
        (("https://rest", "http://rest"), "2: endpoint: must be an https:// address"),
        (("example.com/", "example.com/?a=b"), "2: endpoint: must be an address without user, query and fragment"),
        (("secretsmanager:espial/braze", "s3cr3t"), "3: secret: must be a reference"),
        (("key: PID\n", ""), "1: key: is missing"),
        (("E-Mail: email", "E-Mail: Email"), "6: columns.E-Mail: must be an attribute in snake_case"),
        (("E-Mail: email", "E-Mail: rpi_offers"), "6: columns.E-Mail: rpi_offers is filled in by Espial"),
        (("E-Mail: email", "E-Mail: external_id"), "6: columns.E-Mail: the external id is the column 'PID'"),
        (("E-Mail: email", "pid: email"), "6: columns.pid: the external id is the column 'PID'"),
        (("First Name: first_name", "email: first_name"), "7: columns.email: is the same column as 'E-Mail'"),
        (("First Name: first_name", "Mail: email"), "7: columns.Mail: 'E-Mail' is email already"),
        (("{column: Cell}", "{colum: Cell}"), "10: meta.cell_code"),
        (("output: Welcome", "batch_size: 51"), "11: batch_size: must be less than or equal to 50, not 51"),
        (("output: Welcome", "mode: append"), "output: is missing: it is all that append tells"),
        (("output: Welcome", "rate_limit: 0"), "11: rate_limit: must be greater than or equal to 1, not 0"),
        (("output: Welcome", "outptu: Welcome"), "11: outptu: unknown field (did you mean output?)"),
    ],
)
def test_each_mistake_names_file_line_and_field(tmp_path: Path, change: tuple[str, str], problem: str) -> None:
    """When it is applied, not when the first file comes; a secret that is written there is not repeated."""
    found = problems(tmp_path, {FILE: GOOD.replace(*change)})
    assert [] != [one for one in found if one.startswith(f"{FILE}:") and problem in one], found
    assert "s3cr3t" not in "".join(found)


def test_onboardings_for_one_system_have_ids_of_their_own(tmp_path: Path) -> None:
    """Else the offer history would have two executions under one id, and two recipients."""
    other = "onboardings/other.yaml"
    found = problems(tmp_path, {FILE: GOOD, other: GOOD})
    assert any(one.startswith(f"{FILE}:1: series: 'other' has series 0 of RPI: give this one another") for one in found)
    loaded = load(write(tmp_path, {FILE: GOOD + "series: 7\n", other: GOOD})).onboardings
    assert (7_000_001, 1) == (loaded["welcome"].channel_execution(1), loaded["other"].channel_execution(1))
    elsewhere = {FILE: GOOD + "system: CRM\n", other: GOOD}
    assert {"CRM", "RPI"} == {one.system for one in load(write(tmp_path, elsewhere)).onboardings.values()}
