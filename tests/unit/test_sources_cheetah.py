"""Marigold: words in any case, over whatever mapping the settings give, and postbacks that are forms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import sources
from espial.deliveries import Connection
from espial.errors import MalformedDelivery, SignatureError
from espial.normalise import normalise
from tests import samples

CHEETAH = sources.load("cheetah")
CASE = samples.case("cheetah", "bounced")
WORDS = sorted(CHEETAH.event_types)


def shaped(**settings: Any) -> sources.Source:
    return sources.of(Connection(name="acme", platform="cheetah", settings=settings))


@given(st.sampled_from(WORDS), st.randoms(use_true_random=False))
def test_the_case_of_a_word_says_nothing(word: str, chance: Any) -> None:
    """The products spell the same words in different ways."""
    spelt = "".join(letter.upper() if chance.random() < 0.5 else letter for letter in word)
    kind, _, class_ = spelt.partition(".")
    item = {**CASE.items[0], "eventType": kind, "bounce": {"type": class_}}
    event = normalise(CHEETAH, item, CASE.arrival).event
    assert (CHEETAH.event_types[word], word) == (event.type, event.platform_type)


def test_a_mapping_adds_words_and_moves_fields() -> None:
    """What nobody could confirm is the user's to say; the vendor's own words still count."""
    source = shaped(fields={"type": "kind", "person.email": "to"}, types={"PARKED": "deferred"})
    item = {**CASE.items[0], "to": "ada@example.com", "bounce": None}
    found = [normalise(source, {**item, "kind": kind}, CASE.arrival).event for kind in ("PARKED", "HardBounce", "x")]
    assert ["deferred", "bounced", "unknown"] == [event.type for event in found]
    assert {"ada@example.com"} == {event.person.email for event in found}


def test_a_signature_can_be_chosen() -> None:
    """As for any sender by mapping."""
    source = shaped(signature={"scheme": "hmac", "header": "x-sig"})
    signed = source.verify.sign(b"key", CASE.delivery, CASE.now)
    source.verify(signed, (b"key",), CASE.now)
    with pytest.raises(SignatureError):
        source.verify(replace(signed, body=b"[]"), (b"key",), CASE.now)


@pytest.mark.parametrize("settings", [{"fields": {"nose": "x"}}, {"types": {"x": "nose"}}, {"signature": 1}])
def test_settings_that_do_not_do_are_named(settings: dict[str, Any]) -> None:
    """Before they are applied."""
    with pytest.raises(ValueError, match=next(iter(settings))):
        shaped(**settings)


def test_a_postback_keeps_no_proof() -> None:
    """Neither the key nor the signature of the vendor's becomes part of an event."""
    (item,) = CHEETAH.split(samples.case("cheetah", "postback-fields").delivery)
    assert {"eventType", "eventId", "recipient", "timestamp", "url"} == set(item)


@given(st.binary(max_size=60))
def test_any_form_splits_or_is_malformed(body: bytes) -> None:
    """Whatever its bytes."""
    form = replace(CASE.delivery, body=body, headers={"content-type": "application/x-www-form-urlencoded"})
    try:
        items = CHEETAH.split(form)
    except MalformedDelivery:
        return
    assert 1 == len(items)
