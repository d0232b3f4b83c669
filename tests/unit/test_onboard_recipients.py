"""A file of recipients to the platform: who is sent, in what order of books, and what stops it."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta

import msgspec
import pytest

from espial.answers import Answer
from espial.errors import Refused, TryAgain
from espial.exports.files import ExportFile, Unavailable
from espial.onboarding.state import Counts, Work
from espial.services import onboard_recipients
from tests.exporting import BUCKET, avro_file, ndjson_file
from tests.onboarding import KEY, NAME, World, a_definition, a_file, a_row


def rows(count: int, **fields: str) -> list[dict[str, str]]:
    return [a_row(number, **fields) for number in range(1, count + 1)]


@pytest.fixture
def world() -> World:
    return World()


def test_new_recipients_are_sent_and_every_step_is_an_event(world):
    """Selected, onboarded, and the sum: with the numbers of the offer history and the file's time."""
    outcome = world.onboard(world.drop(rows(3)))
    assert ("done", 1, Counts(sent=3)) == (outcome.outcome, outcome.execution, outcome.counts)
    assert {"P-1001", "P-1002", "P-1003"} == set(world.braze.users)
    assert 3 == len(world.events("recipient_selected"))
    onboarded = next(e for e in world.events("recipient_onboarded") if e.person.external_id == "P-1002")
    assert ("espial", NAME, "email") == (onboarded.platform, onboarded.connection, onboarded.channel)
    assert ("ONBOARD_WELCOME", None) == (onboarded.campaign.id, onboarded.campaign.name)
    assert {
        "execution": 1,
        "contact": 10_000_002,
        "system": "RPI",
        "mode": "upsert",
        "output": "Welcome output",
        "offer_code": "WELCOME10",
        "resolution_level": "individual",
        "address_key": "person2@example.com",
        "destination": "braze",
        "meta": {"cell_code": "A"},
    } == onboarded.properties
    (completed,) = world.events("onboarding_completed")
    said = {name: completed.properties[name] for name in ("targeted", "sent", "failed", "unchanged", "rejected_rows")}
    assert {"targeted": 3, "sent": 3, "failed": 0, "unchanged": 0, "rejected_rows": 0} == said
    assert KEY == completed.properties["file"]
    assert {event.occurred_at for event in world.events()} == {world.execution().file.modified_at}


def test_a_second_run_without_a_change_sends_nothing_and_writes_no_row(world):
    """Only that it ran is recorded."""
    world.onboard(world.drop(rows(3)))
    before = len(world.events())
    outcome = world.onboard(world.drop(rows(3), etag="e2"))
    assert ("done", 2, Counts(unchanged=3)) == (outcome.outcome, outcome.execution, outcome.counts)
    assert 1 == len(world.http.urls)
    assert before + 1 == len(world.events())


def test_a_changed_city_sends_one_update_under_a_new_execution_and_contact(world):
    """The neighbours are left alone; the arrays grow by one."""
    world.onboard(world.drop(rows(3)))
    world.onboard(world.drop([a_row(1), a_row(2, City="Cadiz"), a_row(3)], etag="e2"))
    assert Counts(sent=1, unchanged=2) == world.counts(etag="e2")
    user = world.braze.users["P-1002"]
    assert ("Cadiz", ["10000002", "20000002"], ["1", "2"]) == (
        user["home_city"],
        user["rpi_contact_ids"],
        user["rpi_channel_exec_ids"],
    )
    assert ["10000001"] == world.braze.users["P-1001"]["rpi_contact_ids"]


def test_a_changed_output_is_a_change_for_everybody(world):
    """It is part of what the platform is told."""
    world.onboard(world.drop(rows(2)))
    world.definitions[NAME] = a_definition(output="Autumn output")
    world.onboard(world.drop(rows(2), etag="e2"))
    assert Counts(sent=2) == world.counts(etag="e2")
    assert ["Welcome output", "Autumn output"] == world.braze.users["P-1001"]["rpi_audience_outputs"]


def test_a_file_that_was_read_is_not_read_again(world):
    """Its notice may come as often as it likes."""
    work = world.drop(rows(2))
    assert ["done", "repeated"] == [world.onboard(work).outcome, world.onboard(work).outcome]
    assert 1 == len(world.http.urls)


def test_requests_hold_as_many_recipients_as_the_definition_says(world):
    """And no more: 50 is what every plan of Braze's takes."""
    world.definitions[NAME] = a_definition(batch_size=3)
    world.onboard(world.drop(rows(8)))
    assert [3, 3, 1, 1] == [len(one["body"]["attributes"]) for one in world.braze.requests]
    assert ["https://rest.braze.example.com/users/track"] * 4 == world.http.urls


def test_the_books_are_kept_around_the_call(world):
    """Selected is recorded before the platform is asked; onboarded, and what it was told, after it has answered."""
    seen = []
    request = world.http.request

    def look(*args, **how):
        seen.append(({event.type.value for event in world.events()}, dict(world.table.recipients)))
        return request(*args, **how)

    world.http.request = look
    world.onboard(world.drop(rows(2)))
    assert [({"recipient_selected"}, {})] == seen
    assert 2 == len(world.table.recipients)


# -- rows


def test_bad_rows_are_refused_with_row_column_and_reason_and_the_others_go_on(world):
    """Each in quarantine; the words hold nobody's address."""
    given = [
        a_row(1),
        a_row(2, PID=""),
        a_row(3, Email="nobody.example.com"),
        a_row(4, Phone="call me"),
        a_row(5, DOB="21.12.1980"),
        a_row(6, PID="P-1001"),
        a_row(7, PID="x" * 1000),
        a_row(8),
    ]
    world.onboard(world.drop(given))
    assert Counts(sent=2, refused=6) == world.counts()
    entries = {entry.reason: entry for entry in world.quarantine.list()}
    assert ("row 3, Email: no e-mail address", "Email") == (entries["bad_email"].detail, entries["bad_email"].path)
    expected = {"missing_key", "bad_email", "bad_phone", "bad_date", "duplicate_row", "key_too_long"}
    assert expected == set(entries)
    assert {2, 3, 4, 5, 6, 7} == {entry.content["row"] for entry in entries.values()}
    assert (NAME, KEY) == (entries["duplicate_row"].connection, entries["duplicate_row"].content["key"])
    assert "@" not in "".join(entry.detail for entry in entries.values())


def test_a_bad_row_does_not_stand_in_for_a_good_one_of_the_same_key(world):
    """The first that can be read counts."""
    world.onboard(world.drop([a_row(1, Email="nobody"), a_row(1), a_row(1, City="Cadiz")]))
    assert Counts(sent=1, refused=2) == world.counts()
    assert "Madrid" == world.braze.users["P-1001"]["home_city"]


def test_what_the_platform_refuses_is_an_event_with_its_reason(world):
    """And is tried again with the next file, as it was never acknowledged."""
    world.braze.trouble({"refuse": ["P-1002"]})
    world.onboard(world.drop(rows(3)))
    assert Counts(sent=2, failed=1) == world.counts()
    (rejected,) = world.events("recipient_rejected")
    assert ("P-1002", "refused_by_platform") == (rejected.person.external_id, rejected.properties["reason"])
    assert "blacklisted" in rejected.properties["detail"]
    world.braze.trouble({"refuse": []})
    world.onboard(world.drop(rows(3), etag="e2"))
    assert Counts(sent=1, unchanged=2) == world.counts(etag="e2")


def test_an_event_that_no_item_can_hold_refuses_its_row_before_it_is_sent(world, monkeypatch):
    """What cannot be recorded is not done."""
    add = world.store.add

    def small(records, **how):
        from espial.errors import MalformedItem

        large = {n for n, one in enumerate(records) if one.event.person.external_id == "P-1002"}
        return [MalformedItem("event_too_large") if n in large else v for n, v in enumerate(add(records, **how))]

    monkeypatch.setattr(world.store, "add", small)
    world.onboard(world.drop(rows(3)))
    assert Counts(sent=2, refused=1) == world.counts()
    assert {"P-1001", "P-1003"} == set(world.braze.users)


# -- files


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (a_file(rows(2), ("Email", "City")), "no_key_column"),
        (a_file(rows(2), ("PID", "Email")), "missing_column"),
        (a_file([{**a_row(1), "Shoe": "42"}], (*a_row(1), "Shoe")), "unknown_column"),
        (a_file(rows(2)) + "P-9,j\u00f6rg@example.com,,,,,,\r\n".encode("latin-1"), "not_utf_8"),
        (a_file(rows(2)) + b'P-9,"ada@example.com,,,,,,\r\n', "open_quote"),
        (b"", "empty_file"),
        (b"PK\x03\x04nonsense", "truncated_zip"),
        (ndjson_file(["x"]) + b'{"PID": ', "truncated_json"),
        (avro_file(["x"]), "unsupported_container"),
        (gzip.compress(a_file(rows(2)))[:-12], "truncated_gzip"),
    ],
)
def test_a_file_that_is_not_what_was_to_be_sent_is_refused_wholly(world, content, reason):
    """Before anything of it is sent: with its reason, without a number."""
    outcome = world.onboard(world.drop(content))
    assert ("refused", reason) == (outcome.outcome, outcome.reason)
    assert [reason] == world.reasons()
    assert ("refused", 0) == (world.execution().state, world.execution().number)
    assert [] == world.http.urls
    assert [] == world.events()


def test_a_refused_file_can_be_sent_once_the_definition_is_mended(world):
    """Nothing needs to be dropped again."""
    work = world.drop(a_file([{**a_row(1), "Shoe": "42"}], (*a_row(1), "Shoe")))
    assert "unknown_column" == world.onboard(work).reason
    world.definitions[NAME] = a_definition(unknown_columns="ignore")
    assert "done" == world.onboard(work).outcome
    assert 1 == world.execution().number


@pytest.mark.parametrize("key", ["onboarding/nobody/x.csv", "onboarding/x.csv", "elsewhere/welcome/x.csv"])
def test_a_file_of_no_onboarding_is_refused(world, key):
    """With its reason, where people look."""
    assert ("refused", "unknown_onboarding") == world.onboard(world.drop(rows(1), key))[0:3:2]
    assert ["unknown_onboarding"] == world.reasons()


def test_a_disabled_onboarding_takes_nothing_new_and_stops_what_is_under_way(world):
    """What is under way stands still; it goes on once it is enabled again."""
    world.definitions[NAME] = a_definition(enabled=False)
    work = world.drop(rows(2))
    assert "disabled" == world.onboard(work).reason
    world.definitions[NAME] = a_definition()
    world.braze.trouble({"error": 1})
    assert "handed_back" == world.onboard(work).outcome
    world.definitions[NAME] = a_definition(enabled=False)
    with pytest.raises(Refused, match="disabled"):
        world.onboard(work)
    world.definitions[NAME] = a_definition()
    assert "done" == world.onboard(work).outcome


def test_json_lines_are_read_as_well(world):
    """A line is a recipient; fields may be missing, unknown ones refuse the file."""
    lines = [{"PID": 7, "email": "a@example.com", "Tier": 3}, {"pid": "P-8", "Cell": "B"}, ["no"], {"PID": "P-9"}]
    outcome = world.onboard(world.drop(b"".join(json.dumps(one).encode() + b"\n" for one in lines), KEY + ".ndjson"))
    assert Counts(sent=3, refused=1) == outcome.counts
    assert Counts(unchanged=3, refused=1) == (
        world.onboard(world.drop(gzip.compress(world.bucket.objects[KEY + ".ndjson"][1]), KEY + ".gz")).counts
    )
    assert 3 == world.braze.users["7"]["rpi_cdp_attributes"]["loyalty_tier"]
    assert ["not_an_object"] * 2 == world.reasons()
    assert "unknown_column" == world.onboard(world.drop(b'{"PID": "1", "Shoe": 4}\n', KEY + ".2.ndjson")).reason


def test_what_is_no_notice_is_quarantined(world):
    """And a folder's mark is nothing."""
    (outcome,) = world.onboarder().onboard_message("nonsense", "m1")
    assert ("refused", "bad_notice") == (outcome.outcome, outcome.reason)
    assert "ignored" == world.onboard(Work(bucket=BUCKET, key="onboarding/welcome/", etag="")).outcome


def test_a_file_that_goes_away_ends_and_lets_the_next_one_begin(world):
    """What was sent of it was sent; its turn is over."""
    work = world.drop(rows(2))
    world.braze.trouble({"error": 1})
    assert "handed_back" == world.onboard(work).outcome
    later = world.drop(rows(3), "onboarding/welcome/tuesday.csv", "e2")
    assert "waiting" == world.onboard(later).outcome
    world.bucket.problem = Unavailable("object_gone")
    assert ("failed", "object_gone") == world.onboard(work)[0:3:2]
    assert "unavailable" == world.onboard(Work(bucket=BUCKET, key="onboarding/welcome/none", etag="e9")).outcome
    world.bucket.problem = None
    assert ("done", 2) == world.onboard(later)[0:4:3]


# -- the platform


@pytest.mark.parametrize("fault", ["throttle", "error", "timeout", "drop"])
def test_what_passes_is_tried_again_and_ends_as_if_it_had_not_been(world, fault):
    """Throttled, broken, silent, or taken without a word: the same request again does no harm."""
    clean = World()
    clean.onboard(clean.drop(rows(10)))
    world.braze.trouble({fault: 3})
    assert "handed_back" == world.onboard(world.drop(rows(10))).outcome
    assert "done" == world.drain()[-1].outcome
    assert clean.braze.users == world.braze.users
    assert {event.event_id for event in clean.events()} == {event.event_id for event in world.events()}
    assert clean.counts() == world.counts()


def test_a_throttle_s_own_wait_is_kept(world):
    """Retry-After where it is given, else when the window begins anew."""
    answers = [Answer(429, {"retry-after": "77"}), Answer(429, {"x-ratelimit-reset": str(world.now.timestamp() + 200)})]
    world.http.request = lambda *_, **__: answers.pop(0)
    world.onboard(world.drop(rows(1)))
    world.onboarder().onboard(json_work(world))
    assert [77, 200] == world.queue.delays


def json_work(world: World) -> Work:
    return msgspec.json.decode(world.queue.messages.pop(), type=Work)


def test_a_platform_that_never_comes_back_ends_in_the_dead_letter_queue(world):
    """After twenty tries in a row without any progress; nothing is lost."""
    world.braze.trouble({"error": 1000})
    world.onboard(world.drop(rows(1)))
    with pytest.raises(TryAgain):
        world.drain()
    assert 20 == len(world.braze.requests) - 1
    world.braze.trouble({"error": 0})
    assert "done" == world.onboard(world.drop(rows(1))).outcome


@pytest.mark.parametrize(
    ("status", "reason"), [(401, "unauthorised"), (403, "unauthorised"), (404, "endpoint_refused")]
)
def test_a_wrong_key_stops_at_once_and_loses_nothing(world, status, reason):
    """Somebody has to mend it; then it goes on where it stood."""
    request = world.http.request
    world.http.request = lambda *_, **__: Answer(status, {}, b"{}")
    work = world.drop(rows(2))
    with pytest.raises(Refused) as stopped:
        world.onboard(work)
    assert reason == stopped.value.reason == world.execution().reason
    assert [] == world.events("recipient_rejected")
    world.http.request = request
    assert ("done", Counts(sent=2)) == world.onboard(work)[0:5:4]


def test_a_batch_refused_for_nobody_knows_whose_sake_is_cut_in_halves(world):
    """The bad one is found, its neighbours are sent."""
    request = world.http.request

    def picky(method, url, headers=None, body=b"", seconds=1.0):
        if b"P-1003" in body:
            return Answer(400, {}, b'{"message": "something is wrong with person3@example.com"}')
        return request(method, url, headers, body)

    world.http.request = picky
    world.onboard(world.drop(rows(5)))
    assert Counts(sent=4, failed=1) == world.counts()
    (rejected,) = world.events("recipient_rejected")
    assert "something is wrong with …" == rejected.properties["detail"]


def test_the_pace_is_kept(world):
    """Sixty a minute is one a second; where one an hour would mean to wait for long, the work is handed back."""
    world.definitions[NAME] = a_definition(rate_limit=60, batch_size=1)
    world.onboard(world.drop(rows(4)))
    assert [1.0] * 3 == world.slept
    world.definitions[NAME] = a_definition(rate_limit=2, batch_size=1)
    outcome = world.onboard(world.drop(rows(2, City="Cadiz"), etag="e2"))
    assert ("handed_back", [30]) == (outcome.outcome, world.queue.delays)
    assert "done" == world.drain()[-1].outcome


def test_who_runs_out_of_time_hands_back_and_another_goes_on(world):
    """At once, and where it stood."""
    left = iter([300_000.0, 300_000.0, 0.0])
    world.time_left = lambda: next(left, 300_000.0)
    world.definitions[NAME] = a_definition(batch_size=5)
    outcome = world.onboard(world.drop(rows(20)))
    assert ("handed_back", [0]) == (outcome.outcome, world.queue.delays)
    assert 7 == outcome.counts.rows
    assert "done" == world.drain()[-1].outcome
    assert Counts(sent=20) == world.counts()


def test_a_notice_without_a_version_means_the_one_that_is_there(world):
    """What is handed back names it: were it replaced meanwhile, its execution would never end."""
    work = world.drop(rows(2))
    size = len(world.bucket.objects[KEY][1])
    world.bucket.head = lambda notice: ExportFile(
        bucket=BUCKET, key=notice.key, etag=notice.etag or "e1", size=size, modified_at=world.now
    )
    world.braze.trouble({"error": 1})
    assert "handed_back" == world.onboard(msgspec.structs.replace(work, etag="")).outcome
    assert "e1" == json_work(world).etag


# -- turns


def test_files_have_their_turn_one_after_the_other(world):
    """An older file must not undo a newer one."""
    first = world.drop(rows(3))
    world.braze.trouble({"error": 1})
    assert "handed_back" == world.onboard(first).outcome
    second = world.drop(rows(3, City="Cadiz"), "onboarding/welcome/tuesday.csv", "e2")
    assert "waiting" == world.onboard(second).outcome
    assert ["done", "done"] == [one.outcome for one in world.drain()]
    assert "Cadiz" == world.braze.users["P-1001"]["home_city"]


def test_two_workers_on_one_file_are_one(world):
    """Until the first one's lease is over."""
    work = world.drop(rows(3))
    seen: list[str] = []
    request = world.http.request

    def meanwhile(*args, **how):
        if not seen:
            seen.append(world.onboard(work).outcome)
        return request(*args, **how)

    world.http.request = meanwhile
    assert "done" == world.onboard(work).outcome
    assert ["waiting"] == seen
    assert ["repeated"] == [one.outcome for one in world.drain()]


def test_who_was_too_slow_stops(world):
    """Another worker has taken over and is done: nothing more is sent by the first."""
    work = world.drop(rows(20))
    world.definitions[NAME] = a_definition(batch_size=5)
    request = world.http.request
    seen: list[int] = []

    def asleep(*args, **how):
        if not seen:
            seen.append(1)
            world.now += onboard_recipients.LEASE + timedelta(seconds=1)
            assert "done" == world.onboard(work).outcome
        return request(*args, **how)

    world.http.request = asleep
    outcome = world.onboard(work)
    assert ("handed_back", "another worker has taken over") == (outcome.outcome, outcome.reason)
    assert Counts(sent=20) == world.counts()
    assert 7 == len(world.http.urls)
