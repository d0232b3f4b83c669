"""Ten thousand hostile deliveries of every platform, from the request to the record (`tests/fuzz.py`)."""

from __future__ import annotations

import os

import pytest

from espial import sources
from tests.fuzz import fuzz

INPUTS = 10_000 if os.environ.get("CI") else 500


@pytest.mark.parametrize("platform", sorted({*sources.NAMES} - {"segment"}))
def test_nothing_hostile_breaks_a_platform(platform: str) -> None:
    """No error without a status, nothing taken and lost, nothing slow, however odd the delivery. More: `make fuzz`."""
    found = fuzz(platform, INPUTS)
    assert [] == found.failures[:5]
    assert found.statuses[200] > INPUTS // 20, "hardly anything was accepted: the inputs prove little"
