"""The feed writer: every response tied to its send, every event in exactly one file, in any order, whatever crashes."""

from __future__ import annotations

import contextlib
import random
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.errors import TryAgain
from espial.events import Campaign, Event
from espial.exports.files import ExportFile
from espial.feeds.definition import built_in
from espial.onboarding import Recipient
from espial.onboarding.definition import OnboardingDefinition
from espial.onboarding.happened import Narrator
from espial.onboarding.state import Counts, Execution
from espial.services.write_feed import batches
from espial.vocabulary import EventType
from tests.builders import NOON, an_event
from tests.feeding import Killed, Trouble, World, braze_events

SENT_AT = 1700515500
CAMPAIGN = "c0000000-0000-4000-8000-000000000001"
VARIATION = "d0000000-0000-4000-8000-000000000001"
DISPATCH = "e0000000000000000000000000000001"


def user(number=1001):
    return {"user_id": f"5f0000000000000000{number:06}", "external_user_id": f"P-{number}"}


def send(**properties):
    """Braze's send of the golden vector (seed systems 8.1)."""
    said = {
        "campaign_id": CAMPAIGN,
        "campaign_name": "Autumn Offer",
        "message_variation_id": VARIATION,
        "message_variation_name": "Variant 1",
        "dispatch_id": DISPATCH,
        "email_address": "Ann.Lee@example.com",
        "message_extras": '{"offer_code":"OFF10"}',
        **properties,
    }
    kept = {name: value for name, value in said.items() if value is not None and name not in ("time", "id", "person")}
    return {
        "event_type": "users.messages.email.Send",
        "id": said.get("id", "7c0f1a52-0001-4a6e-9d11-aaaaaaaaaaa1"),
        "time": said.get("time", SENT_AT),
        "user": user(said.get("person", 1001)),
        "properties": kept,
    }


def opened(**properties):
    """Its open."""
    said = {
        "campaign_id": CAMPAIGN,
        "campaign_name": "Autumn Offer",
        "message_variation_id": VARIATION,
        "machine_open": "false",
        "dispatch_id": DISPATCH,
        "email_address": "ann.lee@example.com",
        **properties,
    }
    kept = {name: value for name, value in said.items() if value is not None and name not in ("time", "id", "person")}
    return {
        "event_type": "users.messages.email.Open",
        "id": said.get("id", "7c0f1a52-0001-4a6e-9d11-aaaaaaaaaaa2"),
        "time": said.get("time", SENT_AT + 96),
        "user": user(said.get("person", 1001)),
        "properties": kept,
    }


def a_world(**fields):
    return World(**{"systems": {"braze-main": "Braze"}, "late_after": "366d", "profile": "strict12", **fields})


def fed(world, *said, **options):
    world.stream.insert(*braze_events(*said, **options))
    world.run()
    return world


def content_of(world, layout):
    (content,) = [content for file, content in world.files if file.layout == layout and file.kind == "data"]
    return content.decode()


# -- the golden vectors


def test_braze_send_and_open_as_the_golden_rows():
    world = a_world()
    sent, answered = braze_events(send(), opened())
    world.stream.insert(answered, sent)
    world.run()
    (row,) = world.rows("campaign_event_nonrpi")
    campaign_event_id = row["client_campaign_event_id"]
    assert content_of(world, "campaign_event_nonrpi") == (
        "sor_name,client_campaign_event_id,campaign_event_datetime,business_unit_code,creative_text,campaign_code,"
        "campaign_name,campaign_desc,campaign_start_date,campaign_end_date,cell_code,cell_name\n"
        f"Braze,{campaign_event_id},2023-11-20 21:25:00,,{VARIATION},{CAMPAIGN},"
        f"Autumn Offer,,,,{VARIATION},Variant 1\n"
    )
    assert content_of(world, "response_event") == (
        "sor_name,rp_contact_id,rp_event_id,client_campaign_event_id,client_response_event_id,response_event_datetime,"
        "channel_code,event_disposition_code,destination_url_address,referral_url_address,search_keyword_text,"
        "source_record_create_datetime\n"
        f"Braze,,,{campaign_event_id},{answered.event_id},2023-11-20 21:26:36,email,opened,,,,2023-11-20 21:26:36\n"
    )


def test_without_a_dispatch_the_documented_join_gives_the_sends_own_id():
    world = fed(a_world(profile="extended"), send(dispatch_id=None), opened(dispatch_id=None))
    (parent,), (child,) = world.rows("campaign_event_nonrpi"), world.rows("response_event")
    assert child["client_campaign_event_id"] == parent["client_campaign_event_id"]
    assert (child["match_method"], child["match_confidence"]) == ("campaign_email", "0.9")
    assert parent["offer_code"] == "OFF10"
    assert parent["email_address"] == "ann.lee@example.com"


def test_both_copies_of_a_platforms_events_give_equal_rows():
    """A file's row lies in the table under the same id, so that it is not inserted a second time."""
    world = fed(a_world(), send(), opened())
    again = fed(a_world(), send(), opened(), received_at=NOON + timedelta(days=1))
    assert [content for _, content in world.files] == [content for _, content in again.files]


def test_an_open_that_comes_first_waits_for_its_send():
    world = fed(a_world(), opened())
    assert not world.files
    assert world.book.kept[-1].counts == {"waiting": 1}
    world.run(later=timedelta(hours=3))
    fed(world, send())
    assert [file.layout for file, _ in world.files] == ["campaign_event_nonrpi", "response_event"]
    together = fed(a_world(), send(), opened())
    assert [content for _, content in world.files] == [content for _, content in together.files]


def test_an_open_without_a_send_ends_among_the_unmatched():
    world = fed(a_world(), opened())
    world.run(later=timedelta(hours=71))
    assert not world.files
    world.run(later=timedelta(hours=2))
    (row,) = world.rows("response_event", "unmatched")
    assert (row["reject_code"], row["client_campaign_event_id"]) == ("no_campaign_event", "")
    assert world.run(later=timedelta(hours=200)).outcome == "nothing"


def test_an_open_without_a_send_gets_a_stand_in_where_the_feed_says_so():
    world = fed(a_world(unmatched="synthesise", profile="extended"), opened())
    world.run(later=timedelta(hours=73))
    (parent,), (child,) = world.rows("campaign_event_nonrpi"), world.rows("response_event")
    assert parent["event_origin"] == "synthesised"
    assert child["client_campaign_event_id"] == parent["client_campaign_event_id"]
    fed(world, send())
    assert len(world.rows("campaign_event_nonrpi")) == 1
    assert world.book.kept[-1].counts["ignored:same_send"] == 1


def test_of_two_sends_the_latest_before_the_response_counts():
    day = 86_400
    events = braze_events(
        send(dispatch_id=None, id="s1"),
        send(dispatch_id=None, id="s3", time=SENT_AT + 2 * day),
        opened(dispatch_id=None, time=SENT_AT + 3 * day),
    )
    world = a_world(profile="extended")
    world.stream.insert(*events)
    world.run()
    (child,) = world.rows("response_event")
    assert child["client_campaign_event_id"] == events[1].event_id
    assert child["match_confidence"] == "0.7"


def test_an_open_ten_minutes_before_the_only_send_of_its_campaign_is_not_its():
    world = fed(a_world(), send(dispatch_id=None), opened(dispatch_id=None, time=SENT_AT - 600))
    assert not world.rows("response_event")
    assert world.book.kept[-1].counts == {"fed": 1, "waiting": 1}
    near = fed(a_world(), send(dispatch_id=None), opened(dispatch_id=None, time=SENT_AT - 299))
    assert near.rows("response_event")


def test_a_send_without_a_campaign_is_rejected_and_its_responses_with_it():
    world = fed(a_world(), send(campaign_id=None, campaign_name=None), opened())
    (row,) = world.rows("campaign_event_nonrpi", "rejects")
    assert row["reject_code"] == "missing_required:campaign_code"
    (orphan,) = world.rows("response_event", "rejects")
    assert orphan["reject_code"] == "parent_rejected"
    assert not [file for file, _ in world.files if file.kind == "data"]


def test_the_campaign_code_may_be_the_name():
    (row,) = fed(a_world(campaign_code_from="name"), send()).rows("campaign_event_nonrpi")
    assert (row["campaign_code"], row["creative_text"]) == ("Autumn Offer", CAMPAIGN)


# -- other roles


def test_a_push_to_two_devices_is_one_campaign_event():
    world = fed(a_world(), send(id="one"), send(id="two"))
    assert len(world.rows("campaign_event_nonrpi")) == 1
    assert world.book.kept[-1].counts == {"fed": 1, "ignored:same_send": 1}


def test_a_platform_without_sends_gets_them_from_its_first_responses():
    events = [
        an_event(name, platform="pure360", type=kind, send_key="d7/ada", campaign=Campaign(id="d7"), occurred_at=at)
        for name, kind, at in (
            ("click", EventType.CLICKED, NOON + timedelta(minutes=3)),
            ("open", EventType.OPENED, NOON + timedelta(minutes=2)),
        )
    ]
    world = a_world(profile="extended")
    world.stream.insert(*events)
    world.run()
    (parent,) = world.rows("campaign_event_nonrpi")
    assert (parent["event_origin"], parent["campaign_event_datetime"]) == ("synthesised", "2026-11-20 12:02:00")
    assert {row["client_campaign_event_id"] for row in world.rows("response_event")} == {
        parent["client_campaign_event_id"]
    }
    world.stream.insert(an_event("later", platform="pure360", type=EventType.CLICKED, send_key="d7/ada"))
    world.run()
    assert len(world.rows("campaign_event_nonrpi")) == 1


def test_machine_opens_are_flagged_kept_or_dropped():
    by_machine = opened(machine_open="true")
    (row,) = fed(a_world(profile="extended"), send(), by_machine).rows("response_event")
    assert row["machine_ind"] == "Y"
    (row,) = fed(a_world(profile="extended", machine="keep"), send(), by_machine).rows("response_event")
    assert row["machine_ind"] == ""
    dropped = fed(a_world(machine="drop"), send(), by_machine)
    assert not dropped.rows("response_event")
    assert dropped.book.kept[-1].counts == {"fed": 1, "ignored:machine": 1}


def test_an_opt_out_is_an_authorization_whether_it_belongs_to_a_campaign_or_not():
    world = a_world(layouts=["contact_authorization", "campaign_event_nonrpi", "response_event"])
    alone = an_event("page", platform="segment", type=EventType.UNSUBSCRIBED, campaign=None, send_key=None)
    world.stream.insert(alone, *braze_events(send()))
    world.run()
    (row,) = world.rows("contact_authorization")
    assert (row["authorization_code"], row["contact_level_type_code"], row["contact_level_value"]) == (
        "opt_out",
        "email",
        "ada@example.com",
    )
    assert not world.rows("response_event")


def test_other_codes_and_left_out_types():
    world = fed(a_world(dispositions={"opened": "email_open"}), send(), opened())
    assert world.rows("response_event")[0]["event_disposition_code"] == "email_open"
    silent = fed(a_world(dispositions={"opened": None}), send(), opened())
    assert silent.book.kept[-1].counts == {"fed": 1, "ignored:opened": 1}


def test_what_the_narrow_profile_leaves_out_goes_into_the_extension():
    fields = {"extensions": True, "extension_fields": ["properties.message_extras", "properties.is_amp"]}
    world = fed(a_world(**fields), send(), opened(is_amp=True))
    lines = world.rows("campaign_event_nonrpi_ext")
    by_name = {line["custom_field_name"]: line["custom_field_value"] for line in lines}
    assert by_name["offer_code"] == "OFF10"
    assert by_name["email_address"] == "ann.lee@example.com"
    assert by_name["properties.message_extras"] == '{"offer_code":"OFF10"}'
    answers = {line["custom_field_name"]: line["custom_field_value"] for line in world.rows("response_event_ext")}
    assert answers["properties.is_amp"] == "true"
    assert {line["client_campaign_event_id"] for line in lines} == {
        world.rows("campaign_event_nonrpi")[0]["client_campaign_event_id"]
    }


def test_a_late_event_is_in_a_correction_file_that_names_its_day():
    world = a_world(late_after="2d")
    late = int((NOON - timedelta(days=10)).timestamp())
    world.stream.insert(*braze_events(send(time=late), opened(time=int(NOON.timestamp()) - 60)))
    world.run()
    files = {file.layout: file for file, _ in world.files}
    assert files["campaign_event_nonrpi"].corrects == "2026-11-10"
    assert (
        files["campaign_event_nonrpi"].name == "campaign_event_nonrpi_braze_correction_20261110_20261120120600_0001.csv"
    )
    assert files["response_event"].corrects == ""
    assert [file.layout for file, _ in world.files] == ["campaign_event_nonrpi", "response_event"]


def test_only_the_feeds_connections_are_read():
    world = a_world(connections=["other"])
    assert fed(world, send(), opened()).run().outcome == "nothing"
    assert world.book.standing["cdp"].positions


def test_files_are_closed_by_rows_and_by_time():
    world = World(rotate={"rows": 3, "after": "5m"}, systems={"braze-main": "Braze"}, late_after="366d")
    assert fed(world, send()).book.kept[-1].number == 1
    world.stream.insert(*braze_events(*(send(id=f"s{n}", dispatch_id=f"d{n}") for n in range(2))))
    assert world.run(later=timedelta(minutes=1)).outcome == "early"
    world.stream.insert(*braze_events(*(send(id=f"t{n}", dispatch_id=f"e{n}") for n in range(5))))
    assert world.run(later=timedelta(minutes=1)).outcome == "committed"
    world.settle()
    files = [file for file, _ in world.files]
    assert sum(file.rows for file in files) == 8
    assert max(file.rows for file in files) == 3
    assert [file.sequence for file in files] == list(range(1, len(files) + 1))
    assert len({file.name for file in files}) == len(files)


# -- what goes wrong elsewhere


def test_one_value_that_is_no_date_stops_nothing():
    never = "9999-12-31T23:59:59-05:00"
    world = fed(a_world(profile="extended"), send(campaign_end_date=never), send(id="two", dispatch_id="two"))
    assert [row["campaign_end_date"] for row in world.rows("campaign_event_nonrpi")] == ["", ""]
    assert world.book.kept[-1].counts["values_blanked"] == 1


def test_a_response_that_outruns_its_own_send_is_not_tied_to_an_older_one():
    """Its id is computed, so it waits for that very send, in whichever order they come."""
    first, second = send(id="s1", dispatch_id="d1"), send(id="s2", dispatch_id="d2", time=SENT_AT + 60)
    answer = opened(dispatch_id="d2", time=SENT_AT + 120)
    world = fed(a_world(profile="extended"), first, answer)
    assert not world.rows("response_event")
    fed(world, second)
    (row,) = world.rows("response_event")
    assert row["match_method"] == "send_key"
    assert row["client_campaign_event_id"] == world.rows("campaign_event_nonrpi")[1]["client_campaign_event_id"]


def test_a_send_after_the_response_is_its_only_if_there_is_none_before():
    none = {"dispatch_id": None}
    before, behind = send(id="s1", **none), send(id="s2", time=SENT_AT + 3800, **none)
    world = fed(a_world(), before, behind, opened(time=SENT_AT + 3600, **none))
    (row,) = world.rows("response_event")
    assert row["client_campaign_event_id"] == braze_events(before)[0].event_id


EXPLICIT = "client_campaign_event_id"


def test_an_id_of_the_senders_own_is_the_sends_and_that_of_its_responses():
    said = {"message_extras": f'{{"{EXPLICIT}": "mine-1"}}'}
    with_it = fed(a_world(profile="extended"), send(**said), opened(**said))
    assert with_it.rows("campaign_event_nonrpi")[0][EXPLICIT] == "mine-1"
    assert with_it.rows("response_event")[0]["match_method"] == "explicit"
    on_the_send_alone = fed(a_world(profile="extended"), send(**said), opened())
    (row,) = on_the_send_alone.rows("response_event")
    assert (row[EXPLICIT], row["match_method"]) == ("mine-1", "send_key")


def test_an_id_that_several_recipients_have_ties_nobody_to_a_stranger():
    """Such as one that stands on the whole campaign."""
    said = {"message_extras": f'{{"{EXPLICIT}": "constant"}}'}
    people = [
        {"person": n, "email_address": f"reader.{n}@example.com", "dispatch_id": f"d{n}", **said} for n in range(5)
    ]
    sends = [send(id=f"s{n}", **who) for n, who in enumerate(people)]
    world = fed(a_world(profile="extended"), *sends, *(opened(id=f"o{n}", **who) for n, who in enumerate(people)))
    parents = {row[EXPLICIT]: row["email_address"] for row in world.rows("campaign_event_nonrpi")}
    assert len(parents) == 5
    assert all(parents[row[EXPLICIT]] == row["email_address"] for row in world.rows("response_event"))
    assert len(world.rows("response_event")) == 5
    elsewhere = fed(a_world(), send(**said), send(**said), connection="other")
    assert len(elsewhere.rows("campaign_event_nonrpi")) == 1


def test_a_stand_in_is_made_once_whatever_the_clock_says():
    """The first response that comes need not be the first that happened."""
    world = a_world(profile="extended")
    for days in (3, 0, 60):
        at = NOON + timedelta(days=days - 60)
        event = an_event(
            f"{days}", platform="mailchimp", type=EventType.BOUNCED, campaign=Campaign(id="c"), occurred_at=at
        )
        world.stream.insert(event)
        world.run()
    (parent,) = world.rows("campaign_event_nonrpi")
    assert {row[EXPLICIT] for row in world.rows("response_event")} == {parent[EXPLICIT]}
    assert len(world.rows("response_event")) == 3


def test_a_response_has_its_sends_name_of_the_system():
    """Two connections of one account report the same messages; in a CDP both rows are of one system."""
    world = a_world(systems={"web": "Braze", "bucket": "Braze export"})
    (sent,) = braze_events(send(), connection="web")
    (answered,) = braze_events(opened(), connection="bucket")
    world.account = lambda _: "one"
    world.stream.insert(sent, answered)
    world.run()
    assert world.rows("campaign_event_nonrpi")[0]["sor_name"] == world.rows("response_event")[0]["sor_name"] == "Braze"


@pytest.mark.parametrize(
    ("campaign", "code"),
    [
        (Campaign(name="Spring"), "Spring"),
        (Campaign(template_id="t-1"), "t-1"),
        (Campaign(tags=("welcome", "eu")), "welcome"),
        (None, "UNNAMED"),
    ],
)
def test_a_send_without_a_campaign_id_has_what_else_its_platform_tells(campaign, code):
    world = a_world(default_campaign_code="UNNAMED")
    world.stream.insert(an_event("s", platform="ses", type=EventType.SENT, send_key="m-1", campaign=campaign))
    world.run()
    assert [row["campaign_code"] for row in world.rows("campaign_event_nonrpi")] == [code]


def test_an_opt_out_is_authorised_at_once_though_its_send_is_not_known():
    world = a_world(layouts=["contact_authorization", "campaign_event_nonrpi", "response_event"])
    left = an_event("u", platform="braze", type=EventType.UNSUBSCRIBED, send_key="d/u", campaign=Campaign(id="c"))
    world.stream.insert(left)
    world.run()
    assert [row["authorization_code"] for row in world.rows("contact_authorization")] == ["opt_out"]
    world.run(later=timedelta(hours=80))
    assert len(world.rows("contact_authorization")) == 1


def test_one_address_with_very_many_messages_stays_within_what_an_item_holds():
    """A load test, or a mailbox that takes alarms."""
    count = 1200
    sends = (send(id=f"s{n}", dispatch_id=f"d{n}", time=SENT_AT + n) for n in range(count))
    world = fed(a_world(), *sends)
    assert len(world.rows("campaign_event_nonrpi")) == count
    waits = fed(a_world(), *(opened(id=f"o{n}", dispatch_id=f"x{n}", time=SENT_AT + n) for n in range(count)))
    assert waits.book.kept[-1].counts == {"waiting": 500, "unmatched": count - 500}
    assert {row["reject_code"] for row in waits.rows("response_event", "unmatched")} == {"too_many_waiting"}
    for made in (world, waits):
        assert max(len(msgspec.json.encode(entry)) for entry in made.index.held.values()) < 200_000


def test_what_a_run_that_was_never_committed_had_wait_is_fed_when_it_is_read_again():
    """Another shard fills the next run's file first: the response comes behind it, once."""
    sent, answered = braze_events(send(), opened())
    world = a_world(rotate={"rows": 1, "after": "0s"})
    world.stream.shards = {"one": [], "two": [answered]}
    calls = iter(range(1000))

    def die_at_the_commit():
        if next(calls) and world.index.waits:
            raise Killed

    world.trouble = die_at_the_commit
    with pytest.raises(Killed):
        world.run()
    assert world.index.waits
    world.trouble = lambda: None
    world.stream.shards["one"] = [sent]
    world.settle()
    assert len(world.rows("response_event")) == 1
    assert [file.layout for file, _ in world.files] == ["campaign_event_nonrpi", "response_event"]


def test_many_overdue_responses_are_given_up_batch_by_batch(monkeypatch):
    monkeypatch.setattr("espial.services.write_feed.MOST_OVERDUE", 4)
    world = fed(a_world(), *(opened(id=f"o{n}", dispatch_id=f"x{n}", person=n) for n in range(10)))
    world.run(later=timedelta(hours=80))
    assert len(world.rows("response_event", "unmatched")) == 4
    world.settle()
    assert len(world.rows("response_event", "unmatched")) == 10
    assert world.index.reminders == {}


def test_a_writer_goes_on_while_there_is_more_than_a_file_and_time():
    world = a_world(rotate={"rows": 5, "after": "5m"})
    world.stream.insert(*braze_events(*(send(id=f"s{n}", dispatch_id=f"d{n}", person=n) for n in range(40))))
    assert len(list(batches(world.writer(), lambda: 900_000))) > 3
    hurried = a_world(rotate={"rows": 5, "after": "5m"})
    hurried.stream.insert(*braze_events(*(send(id=f"s{n}", dispatch_id=f"d{n}", person=n) for n in range(40))))
    assert len(list(batches(hurried.writer(), lambda: 0))) == 1


# -- any order, any crash


def mixture(rng: random.Random) -> list[Event]:
    """Sends, responses with and without a tie, of several people, some without a send."""
    said = []
    for person in range(6):
        who = {"email_address": f"reader.{person}@example.com", "person": person}
        tied = rng.random() < 0.5
        dispatch = {"dispatch_id": f"dispatch-{person}" if tied else None}
        if person % 3 < 2:
            said.append(send(id=f"send-{person}", **dispatch, **who))
        said += [
            opened(id=f"open-{person}-{number}", time=SENT_AT + 60 + number, **dispatch, **who)
            for number in range(rng.randrange(1, 4))
        ]
    return braze_events(*said)


def outcome(world: World) -> dict[str, list[list[str]]]:
    """The rows of each layout and kind, in order of their content."""
    found: dict[str, list[list[str]]] = {}
    for file, _ in world.files:
        key = f"{file.layout}/{file.kind}"
        found[key] = sorted(list(row.values()) for row in world.rows(file.layout, file.kind))
    return found


def finished(world: World) -> dict[str, list[list[str]]]:
    world.settle()
    world.run(later=timedelta(hours=80))
    world.settle()
    return outcome(world)


@pytest.mark.parametrize("seed", range(300))
def test_killed_anywhere_each_event_is_in_exactly_one_file(seed):
    rng = random.Random(seed)
    events = mixture(rng)
    clean = a_world(profile="extended")
    clean.stream.insert(*events)
    expected = finished(clean)

    world = a_world(profile="extended", rotate={"rows": rng.choice([2, 5, 100]), "after": "5m"})
    world.trouble = Trouble(rng, often=0.08)
    shuffled = rng.sample(events, len(events))
    while shuffled or rng.random() < 0.6:
        some = rng.randrange(1, 6)
        world.stream.insert(*shuffled[:some])
        shuffled = shuffled[some:]
        with contextlib.suppress(Killed, TryAgain):
            world.run()
    found = finished(world)
    assert found == expected
    parents: set[str] = set()
    for file, content in world.files:
        rows = [line.split(",") for line in content.decode().splitlines()[1:]]
        if file.layout == "campaign_event_nonrpi" and file.kind == "data":
            parents |= {row[1] for row in rows}
        if file.layout == "response_event" and file.kind == "data":
            assert {row[3] for row in rows} <= parents, "a child before its parent"
    by_series: dict[str, list[int]] = {}
    for file, _ in world.files:
        by_series.setdefault(file.series, []).append(file.sequence)
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in by_series.values())


@given(st.permutations(range(5)), st.lists(st.integers(0, 4), max_size=6))
def test_any_order_and_any_duplicates_give_equal_files(order, again):
    events = braze_events(
        send(id="welcome", dispatch_id="w", campaign_id="welcome"),
        opened(id="welcome-open", dispatch_id="w", campaign_id="welcome"),
        send(id="news", dispatch_id="n", campaign_id="news", time=SENT_AT + 9000),
        opened(id="news-open", dispatch_id="n", campaign_id="news", time=SENT_AT + 9100),
        opened(id="news-again", dispatch_id="n", campaign_id="news", time=SENT_AT + 9200),
    )
    one, other = a_world(), a_world()
    one.stream.insert(*events)
    other.stream.insert(*(events[n] for n in (*order, *again)))
    one.run()
    other.run()
    assert [content for _, content in one.files] == [content for _, content in other.files]


# -- the sequence of seed A: onboarded, welcome and its response, newsletter and its response, onboarded again

ONBOARDING = OnboardingDefinition(
    name="braze-welcome",
    platform="braze",
    endpoint="https://rest.braze.example.com",
    secret="secretsmanager:espial/braze-welcome",
    key="PID",
    columns={"Email": "email"},
    meta={"campaign_code": "WELCOME"},
    output="Welcome output",
)


def onboarded(number: int, at: datetime) -> list[Event]:
    """What an execution with one recipient tells."""
    file = ExportFile(bucket="exports", key=f"onboarding/braze-welcome/{number}.csv", etag="e", size=1, modified_at=at)
    execution = Execution("braze-welcome", file, number, "done", at, Counts(sent=1))
    narrator = Narrator(ONBOARDING, execution)
    who = Recipient(number * 10_000_000 + 1, "P-1001", email="ann.lee@example.com", meta={"campaign_code": "WELCOME"})
    return [made.event for made in (narrator.selected(who), narrator.answered(who, None), narrator.completed())]


def the_sequence() -> list[list[Event]]:
    start = datetime.fromtimestamp(SENT_AT, UTC) - timedelta(hours=1)
    return [
        onboarded(9001, start),
        braze_events(send(id="welcome", dispatch_id="w", campaign_id="welcome")),
        braze_events(opened(id="welcome-open", dispatch_id="w", campaign_id="welcome")),
        braze_events(send(id="news", dispatch_id="n", campaign_id="news", time=SENT_AT + 9000)),
        braze_events(opened(id="news-open", dispatch_id="n", campaign_id="news", time=SENT_AT + 9100)),
        onboarded(9002, start + timedelta(days=1)),
    ]


EVERYTHING = tuple(name for name in built_in() if name != "event_log")


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=6), st.integers(1, 6))
def test_any_permutation_of_the_six_steps_with_duplicates_gives_equal_files(order, again, cut):
    """In one batch byte for byte; in several the same rows, each once."""
    steps = the_sequence()
    one, other, cut_up = (a_world(layouts=EVERYTHING, profile="extended") for _ in range(3))
    one.stream.insert(*(event for step in steps for event in step))
    one.run()
    shuffled = [event for number in (*order, *again) for event in steps[number]]
    other.stream.insert(*shuffled)
    other.run()
    assert [content for _, content in one.files] == [content for _, content in other.files]
    once = list({event.event_id: event for event in shuffled}.values())  # what the table lets in
    for start in range(0, len(once), cut):
        cut_up.stream.insert(*once[start : start + cut])
        cut_up.run()
    assert outcome(one) == outcome(cut_up)


def test_the_six_steps_give_four_campaign_events_and_two_responses():
    world = a_world(layouts=EVERYTHING)
    world.stream.insert(*(event for step in the_sequence() for event in step))
    world.run()
    rows = world.rows("campaign_event_nonrpi")
    assert [(row["sor_name"], row["campaign_code"]) for row in rows] == [
        ("Braze", "welcome"),
        ("Braze", "news"),
        ("RPI", "WELCOME"),
        ("RPI", "WELCOME"),
    ]
    # The golden vector of an onboarding record (seed systems 8.2), with a campaign code of its own.
    assert ",".join(rows[2].values()) == "RPI,rpi-9001-90010000001,2023-11-20 20:25:00,,,WELCOME,,,,,,Welcome output"
    assert [row["event_disposition_code"] for row in world.rows("response_event")] == ["opened", "opened"]
    assert [row["fulfillment_state"] for row in world.rows("offer_history_states")] == ["sent", "sent"]
    assert [row["channel_execution_id"] for row in world.rows("offer_history")] == ["9001", "9002"]
    assert [(row["meta_name"], row["meta_value"]) for row in world.rows("offer_history_meta")] == [
        ("campaign_code", "WELCOME")
    ] * 2
    assert [row["sent"] for row in world.rows("offer_history_details")] == ["1", "1"]


def test_the_ledger_is_told_of_every_event():
    world = fed(
        a_world(), send(), opened(), opened(id="lost", dispatch_id="none", email_address="bo@example.com", person=2)
    )
    verdicts = {
        verdict: len(ids)
        for sheets in world.ledger.kept.values()
        for sheet in sheets.values()
        for entry in sheet.entries
        for verdict, ids in entry.ids.items()
    }
    assert verdicts == {"feed:cdp:fed": 2, "feed:cdp:waiting": 1}
