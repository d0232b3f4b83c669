"""SendGrid's Email Activity files: the webhook's events without their ids."""

from __future__ import annotations

from typing import Any

import pytest

from espial import sources
from espial.deliveries import Connection
from espial.errors import MalformedItem
from espial.normalise import normalise
from espial.sources import Export
from tests import samples

SENDGRID = sources.load("sendgrid")
CASE = samples.case("sendgrid", "all-types")
FILE = Export(bucket="exports", key="exports/sendgrid/prod/activity.csv.gz", etag="e")
ROW = {
    "processed": "2026-01-15 10:00:11",
    "messageid": "m11.recvd-other-1",
    "recvmessageid": "m11",
    "event": "click",
    "email": "Ada@example.com",
    "url": "https://shop.example.com/p?id=7&utm_source=mail",
    "useragent": "Mozilla/5.0",
    "categories": '["winter"]',
    "uniqueargs": '{"order_ref":"A-100"}',
    "reason": "",
}


def both() -> Any:
    return sources.of(Connection(name="x", platform="sendgrid", account="x", settings={"activity_files": True}))


def read(**changed: str) -> Any:
    return SENDGRID.exports["csv"]({**ROW, **changed}, FILE)


def test_a_row_says_what_the_webhook_says() -> None:
    """Category, custom arguments, link and client under the webhook's names."""
    event = normalise(SENDGRID, read(), CASE.arrival).event
    assert ("clicked", "click", "m11", "m11/ada@example.com") == (
        event.type,
        event.platform_type,
        event.message_id,
        event.send_key,
    )
    assert {"order_ref": "A-100"} == event.properties
    assert event.campaign is not None
    assert ["winter"] == list(event.campaign.tags)
    assert "Mozilla/5.0" == event.client.user_agent if event.client else False


def test_both_channels_are_one_event_only_where_the_connection_says_so() -> None:
    """The webhook's own id is the safer one, so it counts unless files come beside it."""
    clicked = next(item for item in CASE.items if item["event"] == "click")
    apart = [normalise(SENDGRID, one, CASE.arrival) for one in (clicked, read())]
    joined = [normalise(both(), one, CASE.arrival) for one in (clicked, read())]
    assert apart[0].event.event_id != apart[1].event.event_id
    assert joined[0].event.event_id == joined[1].event.event_id == apart[1].event.event_id
    assert joined[0].home == joined[1].home


@pytest.mark.parametrize(
    "changed",
    [
        {"messageid": "m12.recvd-1"},
        {"event": "open"},
        {"email": "bob@example.com"},
        {"url": "https://shop.example.com/q"},
        {"processed": "2026-01-15 10:00:12"},
    ],
)
def test_what_tells_two_rows_apart(changed: dict[str, str]) -> None:
    """Message, event, recipient, link and second, each of them."""
    one, other = (normalise(both(), row, CASE.arrival).event.event_id for row in (read(), read(**changed)))
    assert one != other


def test_what_is_about_no_message_keeps_its_id() -> None:
    """A change of the account's status has no message that could identify it."""
    one = {"event": "account_status_change", "sg_event_id": "a", "timestamp": 1768471216, "type": "active"}
    assert both().identity(one) != both().identity({**one, "sg_event_id": "b"})


@pytest.mark.parametrize(
    ("event", "kind", "reason", "expected"),
    [
        ("drop", "", "Bounced Address", "dropped"),
        ("dropped", "", "Spam Content", "rejected"),
        ("Bounce", "blocked", "550 5.7.1 no", "blocked"),
        ("bounce", "bounce", "550 5.1.1 no", "bounced"),
        ("deferred", "", "421 later", "deferred"),
        ("group_resubscribe", "", "", "subscribed"),
        ("something_new", "", "", "unknown"),
    ],
)
def test_events_are_named_nearly_as_by_webhook(event: str, kind: str, reason: str, expected: str) -> None:
    """`drop` is the webhook's `dropped`."""
    assert expected == normalise(SENDGRID, read(event=event, type=kind, reason=reason), CASE.arrival).event.type


@pytest.mark.parametrize("arguments", ["", "{}", "not json", "[1]", '{"event":"open","timestamp":1}'])
def test_odd_arguments_change_nothing_of_the_event(arguments: str) -> None:
    """Whatever a sender put into its custom arguments, the columns win."""
    event = normalise(SENDGRID, read(uniqueargs=arguments, categories="winter"), CASE.arrival).event
    assert ("clicked", 11) == (event.type, event.occurred_at.second)


@pytest.mark.parametrize("at", ["", "soon", "15/01/2026"])
def test_a_row_without_a_readable_time_is_refused(at: str) -> None:
    """By itself, with the column to blame."""
    with pytest.raises(MalformedItem) as found:
        read(processed=at)
    assert ("bad_timestamp", "processed") == (found.value.reason, found.value.path)


def test_the_setting_is_true_or_false() -> None:
    """Said when the connection is applied."""
    assert SENDGRID.configured is not None
    with pytest.raises(ValueError, match="activity_files"):
        SENDGRID.configured({"activity_files": "yes"})
