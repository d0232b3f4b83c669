"""One event over two transports is one event: SessionM's return data and batch files."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from espial import sources
from espial.deliveries import Connection
from espial.events import content_hash
from espial.sources import Export, Layout
from espial.sources.sessionm import from_csv, from_json, identity, layout, normalise, split
from tests import samples
from tests.builders import a_delivery, an_arrival
from tests.rows import events, items

FILES = {path.name.partition("_")[0]: path for path in samples.exports("sessionm")}
ARRIVAL = an_arrival(transport="tracking")
POSTED = {
    record.event.event_id: record
    for name in ("outcomes", "message-events", "events", "transaction", "user")
    for record in samples.case("sessionm", name).recordables
}


def test_a_line_of_json_is_a_body() -> None:
    """Equal id, home, send key and content; the same number of them."""
    copies = events(FILES["return"])
    assert POSTED.keys() == {copy.event.event_id for copy in copies}
    for copy in copies:
        twin = POSTED[copy.event.event_id]
        assert (twin.home, twin.event.send_key) == (copy.home, copy.event.send_key)
        assert content_hash(twin.event) == content_hash(copy.event)


@pytest.mark.parametrize(("name", "expected"), [("messages", 3), ("transactions", 1)])
def test_a_line_of_text_is_a_row_of_a_section(name: str, expected: int) -> None:
    """Equal id, home and send key by the row's own id, or a transaction's request."""
    copies = events(FILES[name])
    assert expected == len(copies)
    for copy in copies:
        twin = POSTED[copy.event.event_id]
        assert (twin.home, twin.event.send_key) == (copy.home, copy.event.send_key)
        assert (twin.event.type, twin.event.occurred_at) == (copy.event.type, copy.event.occurred_at)
        assert (twin.event.campaign, twin.event.link) == (copy.event.campaign, copy.event.link)


def test_what_was_bought_is_json_in_a_column() -> None:
    """Items and payments, of which the sum is the total."""
    (bought,) = [one.event for one in events(FILES["transactions"])]
    (posted,) = [one.event for one in POSTED.values() if one.event.type == "transaction"]
    assert posted.commerce == bought.commerce


def test_a_line_may_say_its_section_itself() -> None:
    """One that is none is left alone; columns of one's own keep their names."""
    points, offer, tag = [one.event for one in events(FILES["outcomes"])]
    assert ["points_awarded", "offer_issued", "tag_added"] == [points.type, offer.type, tag.type]
    assert {"account": "Rewards", "amount": "25"} == points.properties
    assert {"tag": "vip", "ttl_seconds": 3600} == tag.properties
    assert "Main Street" == items(FILES["outcomes"])[2]["row"]["Store Name"]


def test_users_are_profiles() -> None:
    """With what is known of them."""
    (user,) = [one.event for one in events(FILES["users"])]
    assert ("profile_updated", {"traits": {"first_name": "Ann"}}) == (user.type, user.properties)
    assert "ann.lee@example.com" == user.person.email


@pytest.mark.parametrize(
    ("record_name", "key", "expected"),
    [
        ("offers_1.csv", "x/batch.zip", "offer"),
        ("", "exports/sessionm/points/tags_20260115.csv", "tag"),
        ("", "exports/sessionm/points/20260115.csv", None),
    ],
)
def test_a_files_name_says_what_its_lines_are(record_name: str, key: str, expected: str | None) -> None:
    """The member's, else the file's; never the connection's."""
    item = from_csv({"userid": "1"}, Export(bucket="b", key=key, etag="e", record_name=record_name))
    assert expected == (item and item["kind"])


@pytest.mark.parametrize("value", ["{", "[1,", "{a}"])
def test_what_only_looks_like_json_stays_text(value: str) -> None:
    """A name may begin with a bracket."""
    item = from_csv({"name": value}, Export(bucket="b", key="events.csv", etag="e"))
    assert item is not None
    assert value == item["row"]["name"]


def test_how_files_are_written() -> None:
    """By settings, which are checked."""
    settings: dict[str, Any] = {"delimiter": "|", "encoding": "latin-1", "header": ["a"]}
    assert Layout(delimiter="|", encoding="latin-1", columns=("a",)) == layout("k", settings)
    with pytest.raises(ValueError, match="delimiter"):
        sources.of(Connection(name="a", platform="sessionm", settings={"delimiter": "tab"}))


def test_a_batch_file_and_the_rest_call_are_one_event() -> None:
    """`events_*.csv`, `customers_*.csv` and `transactions_*.ndjson` say what a call of the API does."""

    def called(path: str, body: dict[str, Any]) -> Any:
        delivery = a_delivery(body=orjson.dumps(body), platform="sessionm", url=f"https://hooks.example.com{path}")
        return split(delivery)[0]

    def file(name: str) -> Export:
        return Export(bucket="b", key=f"exports/sessionm/loyalty/{name}", etag="e")

    event = {"name": "Clicked", "timestamp": "2026-01-15T09:00:00Z", "event_id": "e-1", "payload": {"id": "buy"}}
    row = {"externalid": "P-1", "name": "Clicked", "timestamp": "2026-01-15T09:00:00Z", "eventid": "e-1"}
    line = from_csv({**row, "payloadjson": '{"id": "buy"}'}, file("events_20260115.csv"))
    assert line
    posted = called("/priv/v1/apps/-/external/users/P-1/events", {"events": [event]})
    assert identity(line) == identity(posted)
    assert normalise(line, ARRIVAL) == normalise(posted, ARRIVAL)

    customer = from_csv({"externalid": "P-1", "city": "Leeds"}, file("customers_20260115.csv"))
    assert customer
    changed = called("/priv/v1/apps/-/external/users/P-1", {"user": {"city": "Leeds"}})
    assert normalise(customer, ARRIVAL)["properties"] == normalise(changed, ARRIVAL)["properties"]
    assert "P-1" == normalise(changed, ARRIVAL)["person"]["external_id"]

    payments = [{"user_id": "P-1", "user_id_type": "external_id", "amount": 25.0}]
    bought = {"request_id": "r-1", "request_payload": {"transaction_id": "t-1", "payments": payments}}
    (line,) = from_json(bought, file("transactions_20260115.ndjson"))
    posted = called("/api/2.0/send_transaction", bought)
    assert (identity(line), "P-1") == (identity(posted), normalise(line, ARRIVAL)["person"]["external_id"])
