"""Every source against every sample: the contract of DESIGN 4."""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from espial import signing, sources
from espial.errors import Malformed, MalformedItem, SignatureError
from espial.events import decode, encode
from espial.exports import Row
from espial.normalise import normalise
from tests import samples
from tests.samples import Case, cases

CASES = cases()
ACCEPTED = [case for case in CASES if "refused" not in (case.expected or [{}])[0]]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_sample_comes_out_as_promised(case: Case) -> None:
    """What we promise for each delivery, field by field; goldens change only on purpose."""
    assert case.expected == case.outcome()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_sample_says_where_it_comes_from(case: Case) -> None:
    """A mapping rests on a document or a capture that can be looked up."""
    assert case.meta["provenance"] in {"captured", "vendor-docs", "synthetic"}
    assert case.meta["doc"].startswith("https://")
    assert case.meta["title"]


@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_a_changed_secret_is_refused(case: Case) -> None:
    """Nothing is accepted without proof: neither with another tenant's secret nor with none configured."""
    verify, settings = case.source.verify, case.connection.settings
    other = signing.new_secret(case.platform, b"another tenant's").accepted
    for secrets in ((other,), (), (b"",)):
        with pytest.raises(SignatureError):
            verify(case.delivery, secrets, case.now, settings=settings)


@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_an_old_secret_stays_valid_while_it_is_rotated(case: Case) -> None:
    """Secrets are plural: any of them opens, in any place."""
    other = signing.new_secret(case.platform, b"the next").accepted
    verify, settings = case.source.verify, case.connection.settings
    verify(case.delivery, (other, *case.secrets), case.now, settings=settings)
    verify(case.delivery, (*case.secrets, other), case.now, settings=settings)


@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_a_redelivery_gives_the_same_events(case: Case) -> None:
    """Id, home and content stay what they were when a platform posts again, minutes later and in another order."""
    source = case.source
    later = replace(case.arrival, received_at=case.received_at + timedelta(minutes=17))
    bad = sum("quarantined" in outcome for outcome in case.expected)
    again = []
    for item in reversed(case.items):
        try:
            again.append(normalise(source, item, later))
        except MalformedItem:
            bad -= 1
    if case.items:
        assert bad == 0
    for before, after in zip(case.recordables, reversed(again), strict=True):
        assert (before.home, before.event.event_id) == (after.home, after.event.event_id)


@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_events_survive_their_json(case: Case) -> None:
    """Canonical JSON read back is the same event."""
    for record in case.recordables:
        assert record.event == decode(record.body)
        assert record.body == encode(decode(record.body))


@pytest.mark.parametrize("platform", sources.NAMES)
def test_every_declared_type_has_a_sample(platform: str) -> None:
    """A mapping that nobody has seen in a payload is a guess."""
    sampled = {record.event.platform_type for case in cases(platform) for record in case.recordables}
    assert sampled >= set(sources.load(platform).event_types)


@pytest.mark.parametrize("platform", sources.NAMES)
def test_only_declared_types_are_known(platform: str) -> None:
    """What is not in the table is `unknown` (or `custom`, where the platform lets people name their events)."""
    undeclared = {
        record.event.type.value
        for case in cases(platform)
        for record in case.recordables
        if record.event.platform_type not in case.source.event_types
    }
    assert undeclared <= {"unknown", "custom", "cart_updated"}


@pytest.mark.parametrize("platform", sources.NAMES)
def test_different_events_have_different_ids(platform: str) -> None:
    """No two sampled events fall together, but where a sample repeats one on purpose."""
    seen: dict[str, str] = {}
    for case in cases(platform):
        if case.name in {"repeated-in-batch", "test-button"}:
            continue
        for record in case.recordables:
            event = record.event
            at = "" if event.time_uncertain else event.occurred_at
            content = f"{event.platform_type} {at} {event.person} {event.send_key} {event.properties}"
            assert content == seen.setdefault(event.event_id, content)


@pytest.mark.parametrize("platform", sources.NAMES)
def test_a_source_tells_how_to_connect_it(platform: str) -> None:
    """Its page is generated from this."""
    source = sources.load(platform)
    assert platform == source.name
    assert source.docs.url.startswith("https://")
    assert source.docs.setup
    assert source.docs.secret


EMAIL = re.compile(r"[\w.+%-]+@([\w.-]+\.\w+)")
IPV4 = re.compile(r"(?<![\w.-])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)")
PHONE = re.compile(r"\+[1-9][\d ()-]{7,}\d")
DOCUMENTATION = [ipaddress.ip_network(net) for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")]
EXPORTS = samples.EVENTS / "exports"
FILES = sorted(
    path
    for path in samples.EVENTS.rglob("*")
    if path.is_file() and (path.suffix in {".body", ".json", ".toml"} or EXPORTS in path.parents)
)


def readable(path: Path) -> str:
    """What a file says; of an export file its rows, as far as it can be read without settings, else its bytes."""
    if EXPORTS not in path.parents:
        return path.read_text("utf-8")
    try:
        rows = [row.data for _, row, _ in samples.rows(path) if isinstance(row, Row)]
    except Malformed:
        rows = []
    return json.dumps(rows, ensure_ascii=False, default=str) if rows else path.read_text("latin-1")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_samples_hold_nobodys_data(path: Path) -> None:
    """Addresses of example domains, documentation networks and fictional numbers only."""
    text = readable(path)
    domains = {domain.lower() for domain in EMAIL.findall(text)}
    assert not {
        one
        for one in domains
        if not re.search(r"(^|\.)example\.(com|org|net)$|^geopod-ismtpd|^placeholder\.email$", one)
    }
    addresses = [ipaddress.ip_address(one) for one in IPV4.findall(text) if all(int(n) < 256 for n in one.split("."))]
    assert [] == [one for one in addresses if not any(one in network for network in DOCUMENTATION)]
    numbers = [re.sub(r"\D", "", one) for one in PHONE.findall(text)]
    assert [] == [one for one in numbers if not one.startswith("1555")]
