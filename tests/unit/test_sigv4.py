"""Signatures AWS accepts: its published test vectors, and agreement with botocore."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import botocore.auth
import botocore.credentials
import pytest
from botocore.awsrequest import AWSRequest
from hypothesis import given
from hypothesis import strategies as st

from espial.stores.sigv4 import Credentials, sign

pytestmark = pytest.mark.disable_socket

# The published AWS Signature Version 4 test suite: one key, one instant, one host for every vector.
KEY = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
AT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
VECTORS: dict[str, tuple[dict[str, Any], str, str]] = {
    "get-vanilla": (
        {"method": "GET"},
        "host;x-amz-date",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "get-vanilla-query-order-key": (
        {"method": "GET", "query": "Param1=value2&Param1=Value1"},
        "host;x-amz-date",
        "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1",
    ),
    "get-vanilla-query-order-key-case": (
        {"method": "GET", "query": "Param2=value2&Param1=value1"},
        "host;x-amz-date",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "get-vanilla-query-order-value": (
        {"method": "GET", "query": "Param1=value2&Param1=value1"},
        "host;x-amz-date",
        "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
    ),
    "post-vanilla": (
        {"method": "POST"},
        "host;x-amz-date",
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    ),
    "post-x-www-form-urlencoded": (
        {
            "method": "POST",
            "headers": {"Content-Type": "application/x-www-form-urlencoded"},
            "body": b"Param1=value1",
        },
        "content-type;host;x-amz-date",
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_published_vectors(name):
    """Each vector's authorization header, letter for letter."""
    request, signed, signature = VECTORS[name]
    headers = {"Host": "example.amazonaws.com", **request.get("headers", {})}
    sent = sign(
        path="/", credentials=KEY, service="service", region="us-east-1", now=AT, **(request | {"headers": headers})
    )
    assert (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={signed}, Signature={signature}"
    ) == sent["authorization"]


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
names = st.from_regex(r"\Ax-[a-z]{1,8}\Z")
values = st.from_regex(r"\A[!-~]([ -~]{0,10}[!-~])?\Z")
segments = st.lists(words.filter(lambda word: word not in (".", "..", "")), max_size=3)


@given(
    method=st.sampled_from(["GET", "POST", "PUT"]),
    segments=segments,
    pairs=st.lists(st.tuples(words.filter(bool), words), max_size=4),
    headers=st.dictionaries(names, values, max_size=3),
    body=st.binary(max_size=200),
    token=st.sampled_from(["", "session/token+with=signs"]),
    service=st.sampled_from(["sqs", "s3"]),
    now=st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1)),
)
def test_agrees_with_botocore(*, method, segments, pairs, headers, body, token, service, now):
    """Any request gets the signature that botocore gives it, session token included."""
    path = "/" + "/".join(quote(segment, safe="~") for segment in segments)
    query = "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in pairs)
    now = now.replace(microsecond=0, tzinfo=UTC)
    host = "example.amazonaws.com"
    request = AWSRequest(method, f"https://{host}{path}" + (f"?{query}" if query else ""), dict(headers), body)
    signer = (botocore.auth.S3SigV4Auth if service == "s3" else botocore.auth.SigV4Auth)(
        botocore.credentials.Credentials("AKIDEXAMPLE", "secret", token or None), service, "eu-west-1"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda remove_tzinfo=True: now.replace(tzinfo=None))
        signer.add_auth(request)
    sent = sign(
        method=method,
        path=path,
        query=query,
        headers={"host": host, **headers},
        body=body,
        credentials=Credentials("AKIDEXAMPLE", "secret", token),
        service=service,
        region="eu-west-1",
        now=now,
    )
    assert request.headers["Authorization"] == sent["authorization"]


def test_another_day_has_another_key():
    """The cached signing key is the day's: the same request a day later is signed differently, and right."""
    request, _, signature = VECTORS["get-vanilla"]
    common: dict[str, Any] = {"path": "/", "credentials": KEY, "service": "service", "region": "us-east-1"}
    common |= {"headers": {"host": "example.amazonaws.com"}, **request}
    sign(now=datetime(2015, 8, 31, 12, 36, tzinfo=UTC), **common)
    assert sign(now=AT, **common)["authorization"].endswith(signature)
