"""The events that `make invoke` feeds to functions are the sample library's."""

from __future__ import annotations

import json

import pytest

from local import invoke_events
from local.cloud import ROOT


def test_invoke_events_are_fresh():
    """What is committed under events/invoke/ is what the samples give; `make samples` writes it anew."""
    found = {path: path.read_text() for path in invoke_events.FOLDER.glob("*/*.json")}
    assert invoke_events.rendered() == found


def test_every_function_can_be_invoked():
    """Each function has at least one event to try it with."""
    functions = {path.parent.name for path in (ROOT / "functions").glob("*/app.py")}
    assert functions == {path.parent.name for path in invoke_events.rendered()}


@pytest.mark.parametrize("path", sorted(invoke_events.rendered()), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_an_event_is_json(path):
    """SAM reads it as it is."""
    assert isinstance(json.loads(path.read_text()), dict)
