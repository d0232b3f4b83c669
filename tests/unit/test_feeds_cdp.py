"""What a user sees before the CDP does: files checked against their manifests, and loaded as a CDP would load them."""

from __future__ import annotations

import csv
import io
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from espial.feeds.cdp import Campaign, Cdp, Loaded, Person
from espial.feeds.checking import Finding, check, folder
from espial.feeds.definition import Column, built_in, extension_of
from espial.feeds.files import FeedFile
from espial.feeds.formats import Format, encode
from tests.builders import NOON

LAYOUTS = dict(built_in())
SENDS, RESPONSES = "campaign_event_nonrpi", "response_event"


class Feed:
    """Files of a feed in a folder, as sinks leave them there."""

    def __init__(self, root: Path, form: Format = "csv", delimiter: str = ",") -> None:
        self.root = root
        self.form = form
        self.delimiter = delimiter
        self.numbers: dict[str, int] = {}
        self.batch = 0

    def put(
        self, layout: str, *rows: dict[str, str], kind: str = "data", profile: str = "extended", **fields: Any
    ) -> Path:
        """The next file of its series."""
        self.batch += 1
        base = LAYOUTS.get(layout) or extension_of(LAYOUTS[layout.removesuffix("_ext")])
        columns: Sequence[Column] = [each for each in base.columns if each.name in base.columns_of(profile)]
        if kind != "data":
            columns = [
                *(Column(name=each.name) for each in columns),
                Column(name="reject_code"),
                Column(name="reject_text"),
            ]
        series = f"{layout}/braze" + ("" if kind == "data" else f"/{kind}")
        self.numbers[series] = fields.pop("sequence", self.numbers.get(series, 0) + 1)
        form: Format = self.form if kind == "data" else "csv"
        lists = [[row.get(column.name, "") for column in columns] for row in rows]
        content = encode(columns, lists, form, self.delimiter)
        ending = form if kind == "data" else f"{kind}.csv"
        name = fields.pop("name", f"{layout}_braze_{self.numbers[series]:04}.{ending}")
        at = NOON + timedelta(minutes=self.batch)
        file = FeedFile(
            **{
                "feed": "cdp",
                "batch": self.batch,
                "name": name,
                "kind": kind,
                "layout": layout,
                "version": 1,
                "profile": profile,
                "system": "Braze",
                "series": series,
                "sequence": self.numbers[series],
                "format": form,
                "columns": tuple(column.name for column in columns),
                "key": base.key,
                "rows": len(rows),
                "size": len(content),
                "sha256": sha256(content).hexdigest(),
                "first": NOON,
                "last": NOON,
                "created_at": at,
                **fields,
            }
        )
        path: Path = self.root / ("" if kind == "data" else kind) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        path.with_name(f"{name}.manifest.json").write_bytes(file.manifest())
        return path

    def findings(self, **options: bool) -> list[Finding]:
        found = folder(self.root, LAYOUTS)
        return [*found.findings, *check(found.present, LAYOUTS, **options)]


def sent(id: str, **fields: str) -> dict[str, str]:
    return {
        "sor_name": "Braze",
        "client_campaign_event_id": id,
        "campaign_event_datetime": "2026-11-20 12:00:00",
        "campaign_code": "c-1",
        "campaign_name": "Welcome",
        "event_origin": "esp_send",
        "client_contact_id": f"cust-{id}",
        "control_ind": "N",
        **fields,
    }


def responded(id: str, send: str, code: str, at: str = "2026-11-20 12:05:00", **fields: str) -> dict[str, str]:
    return {
        "sor_name": "Braze",
        "client_campaign_event_id": send,
        "client_response_event_id": id,
        "response_event_datetime": at,
        "event_disposition_code": code,
        "match_confidence": "0.98",
        **fields,
    }


@pytest.fixture(params=["csv", "pipe", "jsonl", "parquet"])
def feed(request, tmp_path) -> Feed:
    return Feed(tmp_path, "csv", "|") if request.param == "pipe" else Feed(tmp_path, request.param)


def fill(feed: Feed) -> None:
    feed.put(
        SENDS, sent("1"), sent("2", campaign_name='Say "hi", all\n'), sent("3", campaign_code="c-2", rp_contact_id="70")
    )
    feed.put(
        RESPONSES,
        responded("r1", "1", "delivered"),
        responded("r2", "1", "opened"),
        responded("r3", "1", "opened", "2026-11-20 13:00:00"),
        responded("r4", "1", "click_through", "2026-11-20 13:01:00"),
        responded("r5", "2", "hard_bounce"),
        responded("r6", "3", "unsubscribed"),
    )
    feed.put(
        f"{SENDS}_ext",
        {"sor_name": "Braze", "client_campaign_event_id": "1", "custom_field_name": "a", "custom_field_value": "b"},
    )
    feed.put(
        SENDS, sent("9", campaign_code="") | {"reject_code": "missing", "reject_text": "campaign_code"}, kind="rejects"
    )


def load(
    feed: Feed, database: str = ":memory:", **options: Any
) -> tuple[Loaded, list[Campaign], list[Person], dict[str, int]]:
    with closing(Cdp(database, LAYOUTS, **options)) as cdp:
        return cdp.load(feed.root), cdp.campaigns(), cdp.people(10), cdp.counts()


def test_a_sound_feed_is_found_sound(feed):
    """In every format, whatever the delimiter."""
    fill(feed)
    assert [] == feed.findings()


def test_a_sound_feed_is_loaded_with_its_aggregates(feed):
    """What a CDP would know: who got, opened and clicked what when, and what became of each campaign."""
    fill(feed)
    loaded, campaigns, people, counts = load(feed)
    assert [] == loaded.findings
    assert {"data": 3, "rejects": 1} == loaded.files
    assert {"data": 10, "rejects": 1} == loaded.rows
    assert [
        Campaign("c-1", "Welcome", 2, 1, 1, 2, 1, 1, 1, 0),
        Campaign("c-2", "Welcome", 1, 0, 0, 0, 0, 0, 0, 1),
    ] == [campaign._replace(name="Welcome") for campaign in campaigns]
    assert Person("cust-1", "2026-11-20 12:00:00", "2026-11-20 13:00:00", "2026-11-20 13:01:00") == people[0]
    assert Person("cust-2", "2026-11-20 12:00:00", "", "") == people[1]
    assert {
        "campaign_event": 3,
        "response_event": 6,
        "campaign_event_ext": 1,
        "loaded_file": 4,
    }.items() <= counts.items()


def test_loading_again_changes_nothing(feed):
    """Nor does a row that comes again in another file: the key decides, and the last one stands."""
    database = str(feed.root.parent / f"{feed.root.name}.sqlite")
    fill(feed)
    first = load(feed, database)
    again = load(feed, database)
    assert first[1:] == again[1:]
    assert ({"known": 4}, []) == (again[0].files, again[0].findings)
    feed.put(SENDS, sent("1", campaign_name="Renamed"), corrects="2026-11-18")
    loaded, _, _, counts = load(feed, database)
    assert (1, 3) == (loaded.corrections, counts["campaign_event"])
    assert ["doubled"] == [finding.code for finding in loaded.findings]
    with closing(sqlite3.connect(database)) as db:
        one = "SELECT campaign_name FROM campaign_event WHERE client_campaign_event_id = '1'"
        assert ("Renamed",) == db.execute(one).fetchone()


def test_tables_are_typed_and_empty_is_null(feed):
    """Numbers can be compared, and a missing value is no text."""
    database = str(feed.root.parent / f"{feed.root.name}.sqlite")
    fill(feed)
    load(feed, database)
    with closing(sqlite3.connect(database)) as db:
        rows = db.execute(
            "SELECT rp_contact_id, offer_code, typeof(rp_contact_id) FROM campaign_event ORDER BY 1"
        ).fetchall()
        (confidence,) = db.execute("SELECT DISTINCT match_confidence FROM response_event").fetchone()
    assert [(None, None, "null"), (None, None, "null"), (70, None, "integer")] == rows
    assert 0.98 == confidence


def test_narrow_files_fill_part_of_their_table(feed):
    """`strict12` has the first twelve columns."""
    feed.put(SENDS, sent("1"), profile="strict12")
    loaded, campaigns, people, _ = load(feed)
    assert ([], 1, []) == (loaded.findings, campaigns[0].sends, people)


def test_a_response_without_its_campaign_event_is_found(feed):
    """A CDP would refuse it, or attribute it to nothing."""
    feed.put(SENDS, sent("1"))
    path = feed.put(RESPONSES, responded("r1", "1", "opened"), responded("r2", "2", "opened"))
    (finding,) = feed.findings()
    assert ("orphans", path.name, "2") == (finding.code, finding.about, finding.detail[-1])
    assert [] == feed.findings(parents=False)
    assert ["orphans"] == [finding.code for finding in load(feed)[0].findings]


def test_a_response_that_comes_before_its_campaign_event_is_found(feed):
    """Whoever loads in order would refuse it. A load later it does no harm any more."""
    database = str(feed.root.parent / f"{feed.root.name}.sqlite")
    path = feed.put(RESPONSES, responded("r1", "1", "opened"))
    feed.put(SENDS, sent("1"))
    (finding,) = feed.findings()
    assert ("orphans", path.name) == (finding.code, finding.about)
    assert ["orphans"] == [finding.code for finding in load(feed, database)[0].findings]
    assert [] == load(feed, database)[0].findings


def test_in_one_batch_campaign_events_come_first(feed):
    """Whatever their files are called and in whatever order they lie there."""
    feed.put(RESPONSES, responded("r1", "1", "opened"), batch=7, created_at=NOON)
    feed.put(SENDS, sent("1"), batch=7, created_at=NOON)
    assert [] == [*feed.findings(), *load(feed)[0].findings]


def test_a_response_belongs_to_a_campaign_event_of_its_system(feed):
    """Ids are those of a system: nothing is counted for the other's."""
    feed.put(SENDS, sent("1", sor_name="Klaviyo"), sent("2"))
    feed.put(RESPONSES, responded("r1", "1", "opened"), responded("r2", "2", "opened"))
    (finding,) = feed.findings()
    assert ("orphans", "1") == (finding.code, finding.detail[-1])
    loaded, campaigns, people, _ = load(feed)
    assert ["orphans"] == [finding.code for finding in loaded.findings]
    assert (2, 1, 1) == (campaigns[0].sends, campaigns[0].opens_unique, campaigns[0].opens)
    assert {"cust-1": "", "cust-2": "2026-11-20 12:05:00"} == {one.person: one.last_open for one in people}
    feed.put(SENDS, sent("1"))
    feed.put(RESPONSES, responded("r3", "1", "opened"))
    assert (3, 2, 3) == load(feed)[1][0][2:3] + load(feed)[1][0][4:6]


def test_an_event_that_is_in_two_files_is_found(feed):
    """The feed promises each once; the upsert of a CDP would hide it."""
    feed.put(SENDS, sent("1"), sent("2"))
    feed.put(RESPONSES, responded("r1", "1", "opened"))
    sends = feed.put(SENDS, sent("3"), sent("1"), sent("2", sor_name="Klaviyo"))
    responses = feed.put(RESPONSES, responded("r1", "1", "opened"), responded("r2", "1", "opened"))
    assert [
        Finding("doubled", sends.name, "1 rows that came before, such as Braze 1"),
        Finding("doubled", responses.name, "1 rows that came before, such as Braze 1 r1"),
    ] == feed.findings()
    assert [
        Finding("doubled", sends.name, "1 rows that came before"),
        Finding("doubled", responses.name, "1 rows that came before"),
    ] == load(feed)[0].findings


def test_an_event_of_two_feeds_is_not_doubled(feed):
    """Each has its own files of it."""
    feed.put(SENDS, sent("1"))
    feed.put(SENDS, sent("1"), feed="other", name="other.csv", sequence=1)
    assert [] == [*feed.findings(), *load(feed)[0].findings]


def test_a_state_may_come_again(feed):
    """Of a recipient there is one row, which every onboarding has its own of."""
    for name in ("a", "b"):
        feed.put("offer_history", {"rp_contact_id": "70", "offer_code": name})
    assert [] == [*feed.findings(), *load(feed)[0].findings]


@pytest.mark.parametrize("left_out", ["campaign_code", "campaign_name", "campaign_event_datetime", "email_address"])
def test_a_layout_of_ones_own_may_lack_columns(tmp_path, monkeypatch, left_out):
    """What follows from the rows is empty where they do not say."""
    without(monkeypatch, SENDS, left_out)
    feed = Feed(tmp_path)
    fill(feed)
    loaded, campaigns, people, _ = load(feed)
    assert [] == [*feed.findings(), *loaded.findings]
    assert 3 == sum(campaign.sends for campaign in campaigns)
    assert 3 == sum(campaign.opens + campaign.unsubscribes for campaign in campaigns)
    assert ([""] if left_out == "campaign_code" else ["c-1", "c-2"]) == [campaign.code for campaign in campaigns]
    assert {"cust-1", "cust-2", "cust-3"} == {one.person for one in people}


@pytest.mark.parametrize("whose", [SENDS, RESPONSES])
def test_where_a_layout_names_no_system_any_will_do(tmp_path, monkeypatch, whose):
    """Nothing says that it is another one."""
    without(monkeypatch, whose, "sor_name")
    feed = Feed(tmp_path)
    fill(feed)
    path = feed.put(RESPONSES, responded("r9", "no", "opened"))
    assert [("orphans", path.name)] == [(finding.code, finding.about) for finding in feed.findings()]
    loaded, campaigns, _, _ = load(feed)
    assert ["orphans"] == [finding.code for finding in loaded.findings]
    assert 2 == campaigns[0].opens


def without(monkeypatch: pytest.MonkeyPatch, layout: str, column: str) -> None:
    """The layout's place is taken by one that lacks a column."""
    columns = tuple(one for one in LAYOUTS[layout].columns if one.name != column)
    mine = LAYOUTS[layout].model_copy(update={"columns": columns, "profiles": {}})
    monkeypatch.setitem(LAYOUTS, layout, mine)


def test_a_layout_of_ones_own_with_another_key_is_loaded(tmp_path, monkeypatch):
    """Its table is made for it, not for the one that ships beside it."""
    columns = (Column(name="response_id"), Column(name="what"))
    mine = LAYOUTS[RESPONSES].model_copy(
        update={"name": "mine", "key": ("response_id",), "columns": columns, "profiles": {}}
    )
    monkeypatch.setitem(LAYOUTS, "mine", mine)
    feed = Feed(tmp_path)
    feed.put(SENDS, sent("1"))
    feed.put("mine", {"response_id": "r1", "what": "opened"})
    loaded, _, _, counts = load(feed)
    assert ([], 1) == (loaded.findings, counts["response_event"])


def test_an_unknown_disposition_code_is_found(feed):
    """Unless the CDP's own table has it."""
    feed.put(SENDS, sent("1"))
    feed.put(RESPONSES, responded("r1", "1", "telepathy"))
    assert [Finding("unknown_code", "telepathy", "1 responses have it")] == load(feed)[0].findings
    assert [] == load(feed, codes=["telepathy"])[0].findings


def test_gaps_and_doubles_of_a_series_are_found(feed):
    """Within the first and the last number that are there."""
    for number in (3, 4, 7, 9):
        feed.put(SENDS, sent(str(number)), sequence=number)
    feed.put(SENDS, sent("10"), sequence=9, name="another.file")
    wanted = ["numbers 5 to 6 missing", "number 8 missing"]
    details = [finding.detail for finding in feed.findings() if finding.code == "gap"]
    assert wanted == details
    assert ["gap", "gap", "twice"] == sorted(finding.code for finding in feed.findings())
    assert {"gap", "twice"} <= {finding.code for finding in load(feed)[0].findings}


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "damaged"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"Welcome", b"Welcom3")), "damaged"),
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.with_name(f"{path.name}.manifest.json").unlink(), "no_manifest"),
        (lambda path: path.with_name(f"{path.name}.manifest.json").write_bytes(b"{}"), "bad_manifest"),
        (lambda path: path.with_name(f"{path.name}.manifest.json").write_bytes(b"{"), "bad_manifest"),
        (lambda path: said(path, layout="of_somebody_else"), "unknown_layout"),
        (lambda path: said(path, rows=2), "wrong_count"),
        (lambda path: said(path, columns=("a", "b")), "unreadable"),
        (lambda path: said(path, name="other.csv"), "bad_manifest"),
    ],
)
def test_a_file_that_is_not_as_its_manifest_says_is_named_and_not_loaded(tmp_path, damage, code):
    """With what is wrong; the others are loaded."""
    feed = Feed(tmp_path)
    path = feed.put(SENDS, sent("1"))
    feed.put(SENDS, sent("2"))
    damage(path)
    (finding,) = feed.findings()
    assert (code, True) == (finding.code, finding.about.startswith(path.name))
    loaded, campaigns, _, _ = load(feed)
    assert ([code], {"data": 1}, 1) == ([found.code for found in loaded.findings], loaded.files, campaigns[0].sends)


def said(path: Path, **fields: Any) -> None:
    manifest = path.with_name(f"{path.name}.manifest.json")
    file = msgspec.structs.replace(msgspec.json.decode(manifest.read_bytes(), type=FeedFile), **fields)
    manifest.write_bytes(file.manifest())


def test_a_row_without_its_key_takes_no_row_of_its_file_along(tmp_path):
    """The whole file or nothing of it."""
    feed = Feed(tmp_path)
    feed.put(SENDS, sent("1"), sent(""))
    feed.put(SENDS, sent("2"))
    loaded, campaigns, _, _ = load(feed)
    assert (["refused_by_table"], 1) == ([finding.code for finding in loaded.findings], campaigns[0].sends)


def test_another_file_under_a_name_that_was_loaded_is_found(tmp_path):
    """A sent file never changes."""
    feed = Feed(tmp_path / "in")
    feed.root.mkdir()
    feed.put(SENDS, sent("1"))
    load(feed, str(tmp_path / "cdp.sqlite"))
    feed.put(SENDS, sent("2"), sequence=1)
    assert ["changed"] == [finding.code for finding in load(feed, str(tmp_path / "cdp.sqlite"))[0].findings]


def test_files_of_an_earlier_folder_count_for_the_gaps(tmp_path):
    """CDPs move away what they have loaded."""
    feed = Feed(tmp_path / "in")
    feed.root.mkdir()
    database = str(tmp_path / "cdp.sqlite")
    for number in (1, 2, 4):
        path = feed.put(SENDS, sent(str(number)), sequence=number)
        found = load(feed, database)[0].findings
        path.unlink()
        path.with_name(f"{path.name}.manifest.json").unlink()
    assert [Finding("gap", f"cdp {SENDS}/braze", "number 3 missing")] == found


def test_hidden_files_are_work_in_progress(tmp_path):
    """An SFTP server's folder may hold one."""
    feed = Feed(tmp_path)
    fill(feed)
    (tmp_path / ".a.csv.part").write_bytes(b"half")
    assert [] == feed.findings()


def test_what_is_no_folder_is_told():
    with pytest.raises(NotADirectoryError, match="no folder"):
        folder(Path("absent"), LAYOUTS)


def test_another_layout_of_the_same_kind_widens_its_table(tmp_path):
    """A layout of one's own beside the one that ships."""
    mine = LAYOUTS[SENDS].model_copy(
        update={"name": "mine", "columns": (*LAYOUTS[SENDS].columns, Column(name="region"))}
    )
    feed = Feed(tmp_path)
    path = feed.put(SENDS, sent("1"))
    content = encode(mine.columns, [[{**sent("2"), "region": "north"}.get(c.name, "") for c in mine.columns]], "csv")
    file = msgspec.json.decode(path.with_name(f"{path.name}.manifest.json").read_bytes(), type=FeedFile)
    other = msgspec.structs.replace(
        file,
        name="mine.csv",
        layout="mine",
        series="mine/braze",
        columns=tuple(c.name for c in mine.columns),
        size=len(content),
        sha256=sha256(content).hexdigest(),
    )
    (tmp_path / "mine.csv").write_bytes(content)
    (tmp_path / "mine.csv.manifest.json").write_bytes(other.manifest())
    with closing(Cdp(str(tmp_path / ".cdp.sqlite"), {**LAYOUTS, "mine": mine})) as cdp:
        assert ([], 2) == (cdp.load(tmp_path).findings, cdp.counts()["campaign_event"])


def test_csv_of_the_loader_is_what_any_reader_sees(tmp_path):
    """The loader has no eyes of its own."""
    feed = Feed(tmp_path)
    path = feed.put(SENDS, sent("1", campaign_name='a "b", c\r\n'))
    (row,) = csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""))
    load(feed, str(tmp_path / ".cdp.sqlite"))
    with closing(sqlite3.connect(tmp_path / ".cdp.sqlite")) as db:
        assert (row["campaign_name"],) == db.execute("SELECT campaign_name FROM campaign_event").fetchone()
