"""Claims: the table and what stands for it in memory keep the same rules (goals 39 and 40)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from espial.errors import TryAgain
from espial.messages import Receipt
from espial.ports import AlreadyRefused, AlreadySent, Claim, InProgress, Unsettled
from espial.simulation.memory import MemoryClaims
from espial.stores.aws_http import AwsClient
from espial.stores.claims_table import ClaimsTable
from espial.stores.light_sdk import LightClient

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


@pytest.fixture(params=["memory", *(pytest.param(name, marks=pytest.mark.cloud) for name in ("sdk", "light"))])
def claims(request):
    if request.param == "memory":
        yield MemoryClaims()
        return
    cloud = request.getfixturevalue("cloud")
    sdk, http = table(cloud), AwsClient("dynamodb", "eu-west-1", cloud.url)
    yield sdk if request.param == "sdk" else ClaimsTable(LightClient(http, lambda: None), "events")
    http.close()


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


def test_who_lost_the_claim_can_change_nothing(claims):
    """Who gave it back cannot settle its successor's, and giving back again takes nothing from it."""
    first = taken(claims)
    claims.release(first)
    second = taken(claims)
    assert Claim(*WHO, 2) == second
    for step in (
        lambda: claims.sent(first, RECEIPT),
        lambda: claims.refused(first, "x"),
        lambda: claims.unknown(first),
    ):
        with pytest.raises(TryAgain):
            step()
    claims.release(first)
    assert InProgress(LATER) == claims.look(*WHO, now=NOW)
    claims.sent(second, RECEIPT)


def test_a_call_that_never_ended_is_unsettled(claims):
    """Not before its lease is over, and never free for the taking."""
    claim = taken(claims)
    assert InProgress(LATER) == claims.claim(*WHO, now=NOW, lease=LEASE)
    assert Unsettled(claim, NOW) == claims.claim(*WHO, now=LATER, lease=LEASE)
    assert Unsettled(claim, NOW) == claims.look(*WHO, now=LATER)


def test_an_unknown_outcome_is_unsettled_at_once(claims):
    """Who knows that nobody knows need not wait for the lease."""
    claim = taken(claims)
    claims.unknown(claim)
    assert Unsettled(claim, NOW) == claims.look(*WHO, now=NOW)


@pytest.mark.parametrize("unknown", [False, True])
def test_sent_is_for_ever(claims, unknown):
    """Marked by the answer or by later evidence, twice or once: nobody claims it again."""
    claim = taken(claims)
    if unknown:
        claims.unknown(claim)
    claims.sent(claim, RECEIPT)
    claims.sent(claim, RECEIPT)
    assert AlreadySent("ses", "m-1", NOW) == claims.claim(*WHO, now=NOW + timedelta(days=50), lease=LEASE)
    claims.release(claim)
    assert AlreadySent("ses", "m-1", NOW) == claims.look(*WHO, now=NOW)


def test_refused_is_settled(claims):
    """The reason stays to be booked again after a crash."""
    claim = taken(claims)
    claims.refused(claim, "message_rejected")
    assert AlreadyRefused("message_rejected") == claims.claim(*WHO, now=LATER, lease=LEASE)


def test_released_is_free_at_once(claims):
    """What surely was not sent need not wait for a lease."""
    claim = taken(claims)
    claims.release(claim)
    assert Claim(*WHO, 1) == claims.look(*WHO, now=NOW)
    assert Claim(*WHO, 2) == claims.claim(*WHO, now=NOW, lease=LEASE)


@pytest.mark.cloud
def test_of_sixteen_at_once_one_gets_it(cloud):
    """The condition is the table's: exactly one claim is granted, at first and once it was given back."""
    claims = table(cloud)
    for _ in range(2):
        with ThreadPoolExecutor(16) as pool:
            standings = list(pool.map(lambda _: claims.claim(*WHO, now=NOW, lease=LEASE), range(16)))
        [granted] = [standing for standing in standings if isinstance(standing, Claim)]
        claims.release(granted)


@pytest.mark.cloud
def test_a_claim_whose_answer_was_lost_is_still_the_callers(cloud):
    """The client tries again by itself, and the second try must not take the first for somebody else."""
    claims = table(cloud)
    update = claims._dynamodb.update_item

    def unheard(**request: Any) -> Any:
        update(**request)
        return update(**request)

    claims._dynamodb = SimpleNamespace(update_item=unheard, get_item=claims._dynamodb.get_item)
    assert Claim(*WHO, 1) == claims.claim(*WHO, now=NOW, lease=LEASE)
    assert InProgress(LATER) == claims.claim(*WHO, now=NOW, lease=LEASE), "another one's is not"


@pytest.mark.cloud
def test_a_claim_outlives_every_event_that_could_repeat_it(cloud):
    """Kept for 90 days, longer than the 60 days in which a duplicate is recognised."""
    claims = table(cloud)
    taken(claims)
    item = cloud.client("dynamodb").scan(TableName="events")["Items"][0]
    assert ("P#id:cust-1", "S#s-1") == (item["pk"]["S"], item["sk"]["S"])
    assert int((NOW + timedelta(days=90)).timestamp()) == int(item["ttl"]["N"])
