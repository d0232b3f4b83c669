"""The owner's API on a deployed stack: from a call of a site to a row in a person's timeline."""

from __future__ import annotations

from functools import partial
from urllib.parse import quote

import httpx
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.cloud import REGION
from tests.local.world import World


def asked(world: World, person: str, query: str = "") -> httpx.Response:
    """The API's answer to a request that says who asks."""
    request = AWSRequest("GET", f"{world.stack.outputs['AdminUrl']}/timeline/{quote(person, safe='')}{query}")
    SigV4Auth(Credentials("test", "test"), "execute-api", REGION).add_auth(request)
    return world.http.get(request.url, headers=dict(request.headers.items()))


def is_known_by(world: World, key: str, *keys: str) -> bool:
    """Whether the person behind the key is known by all the keys."""
    return {*keys} <= {*asked(world, key).json().get("keys", ())}


def test_who_does_not_say_who_asks_is_told_nothing(world: World) -> None:
    """IAM decides at the gateway: the function is not even called."""
    answer = world.http.get(f"{world.stack.outputs['AdminUrl']}/timeline/cust-1001")
    assert 403 == answer.status_code
    assert "rows" not in answer.text


def test_what_was_recorded_is_in_the_timeline_under_every_key(world: World) -> None:
    """From two calls of a site to the person's rows, as JSON and as a page."""
    keys = ("id:tl-ada", "email:tl-ada@example.com")
    world.shopper("tl-ada")
    world.cart("tl-ada", "tl-cart", {"product_id": "p-9", "name": "Teapot", "price": 30.0, "quantity": 1})
    for key in keys:
        world.until("both are known as one person's", partial(is_known_by, world, key, *keys))
        rows = asked(world, key).json()["rows"]
        assert ["Profile updated", "Cart updated"] == [row["activity"] for row in rows if row["origin"] == "site"]
        assert {"shop, by tracking call"} == {row["logged"] for row in rows if row["origin"] == "site"}
    page = asked(world, keys[0], "?format=html")
    assert "text/html; charset=utf-8" == page.headers["content-type"]
    assert "Cart updated" in page.text
