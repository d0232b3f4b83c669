"""Claims: the table and its fake keep the same rules (goals 39 and 40)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from espial.errors import TryAgain
from espial.messages import Receipt
from espial.ports import AlreadyRefused, AlreadySent, Claim, InProgress, Unsettled
from espial.stores.claims_table import ClaimsTable
from tests.fakes import FakeClaims

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LEASE = timedelta(minutes=2)
LATER = NOW + LEASE
RECEIPT = Receipt(provider="ses", provider_message_id="m-1", at=NOW)
WHO = ("id:cust-1", "s-1")


def table(cloud: Any) -> ClaimsTable:
    dynamodb = cloud.client("dynamodb")
    keys = [("pk", "HASH"), ("sk", "RANGE")]
    dynamodb.create_table(
        TableName="events",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in keys],
    )
    return ClaimsTable(dynamodb, "events")


@pytest.fixture(params=["fake", pytest.param("dynamodb", marks=pytest.mark.cloud)])
def claims(request):
    return FakeClaims() if request.param == "fake" else table(request.getfixturevalue("cloud"))


def taken(claims, now=NOW) -> Claim:
    standing = claims.claim(*WHO, now=now, lease=LEASE)
    assert isinstance(standing, Claim)
    return standing


def test_one_holder_at_a_time(claims):
    """The second is told until when to wait, and nobody else's key is touched."""
    assert claims.look(*WHO, now=NOW) is None
    taken(claims)
    assert InProgress(LATER) == claims.claim(*WHO, now=NOW, lease=LEASE)
    assert InProgress(LATER) == claims.look(*WHO, now=NOW)
    assert isinstance(claims.claim("id:cust-2", "s-1", now=NOW, lease=LEASE), Claim)


def test_a_claim_that_died_before_the_call_lapses(claims):
    """A crash mutes nobody: after the lease the next one may send."""
    taken(claims)
    assert Claim(*WHO, 1) == claims.look(*WHO, now=LATER)
    assert Claim(*WHO, 2) == claims.claim(*WHO, now=LATER, lease=LEASE)


def test_who_lost_the_claim_can_change_nothing(claims):
    """A holder that slept through its lease cannot send beside its successor, nor settle its claim."""
    first = taken(claims)
    second = taken(claims, LATER)
    for step in (
        lambda: claims.calling(first, now=LATER, lease=LEASE),
        lambda: claims.sent(first, RECEIPT),
        lambda: claims.refused(first, "x"),
        lambda: claims.release(first),
    ):
        with pytest.raises(TryAgain):
            step()
    claims.calling(second, now=LATER, lease=LEASE)


def test_a_call_that_never_ended_is_unsettled(claims):
    """Not before its lease is over, and never free for the taking."""
    claim = taken(claims)
    claims.calling(claim, now=NOW, lease=LEASE)
    assert InProgress(LATER) == claims.claim(*WHO, now=NOW, lease=LEASE)
    assert Unsettled(claim, NOW) == claims.claim(*WHO, now=LATER, lease=LEASE)


def test_an_unknown_outcome_is_unsettled_at_once(claims):
    """Who knows that nobody knows need not wait for the lease."""
    claim = taken(claims)
    claims.calling(claim, now=NOW, lease=LEASE)
    claims.unknown(claim)
    assert Unsettled(claim, NOW) == claims.look(*WHO, now=NOW)


@pytest.mark.parametrize("unknown", [False, True])
def test_sent_is_for_ever(claims, unknown):
    """Marked by the answer or by later evidence, twice or once: nobody claims it again."""
    claim = taken(claims)
    claims.calling(claim, now=NOW, lease=LEASE)
    if unknown:
        claims.unknown(claim)
    claims.sent(claim, RECEIPT)
    claims.sent(claim, RECEIPT)
    assert AlreadySent("ses", "m-1", NOW) == claims.claim(*WHO, now=NOW + timedelta(days=50), lease=LEASE)
    with pytest.raises(TryAgain):
        claims.release(claim)


def test_refused_is_settled(claims):
    """The reason stays to be booked again after a crash."""
    claim = taken(claims)
    claims.refused(claim, "message_rejected")
    assert AlreadyRefused("message_rejected") == claims.claim(*WHO, now=LATER, lease=LEASE)


def test_released_is_free_at_once(claims):
    """What surely was not sent need not wait for a lease."""
    claim = taken(claims)
    claims.calling(claim, now=NOW, lease=LEASE)
    claims.release(claim)
    assert Claim(*WHO, 2) == claims.claim(*WHO, now=NOW, lease=LEASE)


@pytest.mark.cloud
def test_of_sixteen_at_once_one_gets_it(cloud):
    """The condition is the table's: exactly one claim is granted, before and after a lease ran out."""
    claims = table(cloud)
    for now in (NOW, LATER):
        with ThreadPoolExecutor(16) as pool:
            standings = list(pool.map(lambda _, now=now: claims.claim(*WHO, now=now, lease=LEASE), range(16)))
        assert 1 == sum(isinstance(standing, Claim) for standing in standings)


@pytest.mark.cloud
def test_a_claim_outlives_every_event_that_could_repeat_it(cloud):
    """Kept for 90 days, longer than the 60 days in which a duplicate is recognised."""
    claims = table(cloud)
    taken(claims)
    item = cloud.client("dynamodb").scan(TableName="events")["Items"][0]
    assert ("P#id:cust-1", "S#s-1") == (item["pk"]["S"], item["sk"]["S"])
    assert int((NOW + timedelta(days=90)).timestamp()) == int(item["ttl"]["N"])
