"""A delivery survives the way through the queue, within the queue's limits, and without its secrets."""

from __future__ import annotations

import zlib
from base64 import b64encode
from datetime import UTC, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.deliveries import RawDelivery
from espial.envelope import DROPPED_HEADERS, LIMIT, pack, point_to, unpack
from espial.errors import MalformedDelivery
from tests.builders import a_delivery

pytestmark = pytest.mark.disable_socket

text = st.text(max_size=40)
deliveries = st.builds(
    RawDelivery,
    delivery_id=text,
    platform=text,
    connection=text,
    transport=st.sampled_from(["webhook", "tracking"]),
    body=st.binary(max_size=2000),
    received_at=st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-5))])),
    headers=st.dictionaries(text.filter(lambda name: name not in DROPPED_HEADERS), text, max_size=5),
    method=text,
    url=text,
    mode=text,
)


def nowhere(pointer):
    """There is no pointer to follow."""
    raise AssertionError(pointer)


@given(deliveries)
def test_what_is_unpacked_is_what_was_packed(delivery):
    """Every field and every byte, whatever they hold."""
    packed = pack(delivery)
    assert delivery == unpack(packed.body, packed.attributes, nowhere)


@given(deliveries)
def test_a_spilled_body_comes_back_through_its_pointer(delivery):
    """The same, when the body lies in the store and the message only says where."""
    message, content = point_to(pack(delivery), "spill/k")
    stored = {"spill/k": content}
    assert delivery == unpack(message.body, message.attributes, stored.__getitem__)


@given(deliveries)
def test_a_message_is_what_sqs_takes(delivery):
    """Not empty, printable ASCII only, and its size is that of everything SQS counts."""
    for packed in (pack(delivery), point_to(pack(delivery), "spill/k")[0]):
        parts = [packed.body, *packed.attributes.values()]
        assert all(part and part.isascii() and part.isprintable() for part in parts)
        counted = len(packed.body) + sum(len(n + "String" + v) for n, v in packed.attributes.items())
        assert counted == packed.size


@given(st.binary(max_size=50_000))
def test_packing_never_grows_a_body_by_more_than_base64_does(body):
    """Incompressible bytes cost a third more, headers of the container and of each 64 KB block included."""
    delivery = a_delivery(body=body)
    assert (len(body) + 64) * 4 / 3 + 4 >= len(pack(delivery).body)


def test_the_headers_of_the_largest_request_leave_room_for_the_body():
    """API Gateway takes 10,240 bytes of headers; even if each became an escape they stay under a tenth."""
    delivery = a_delivery(
        body=b"",
        headers={"x": "\u00e9" * 10_240},
    )
    assert LIMIT / 10 > pack(delivery).size


def test_headers_that_carry_secrets_are_left_out():
    """Authorization, cookie and API key never reach queue or archive."""
    headers = {"authorization": "Bearer s3cret", "cookie": "s3cret", "x-api-key": "s3cret", "content-type": "a/b"}
    packed = pack(a_delivery(body=b"", headers=headers))
    assert {"content-type": "a/b"} == unpack(packed.body, packed.attributes, nowhere).headers
    assert "s3cret" not in packed.attributes["delivery"]


WHOLE = pack(a_delivery(body=b"x" * 100))


@pytest.mark.parametrize(
    ("body", "change"),
    [
        ("%%%", {}),
        (b64encode(b"plain").decode(), {}),
        (b64encode(zlib.compress(b"x" * 100)[:-6]).decode(), {}),
        (WHOLE.body, {"delivery": "{"}),
        (WHOLE.body, {"delivery": "[]"}),
        (WHOLE.body, {"delivery": "{}"}),
        (WHOLE.body, {"delivery": '{"received_at":"yesterday"}'}),
        (WHOLE.body, {"delivery": '{"received_at":"2026-01-15T00:00:00+00:00","more":1}'}),
        (WHOLE.body, {"encoding": "s3"}),
    ],
)
def test_a_message_that_is_none_of_ours_says_so(body, change):
    """One error, whatever is wrong with it."""
    with pytest.raises(MalformedDelivery, match="unreadable_message"):
        unpack(body, WHOLE.attributes | change, nowhere)
