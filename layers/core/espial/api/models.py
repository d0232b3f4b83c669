"""What the API takes and answers, as its OpenAPI document shows it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=PRINTABLE)]
Key = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=PRINTABLE)]


def _of_this_age(at: datetime) -> datetime:
    if not 2000 <= at.year < 2100:
        raise ValueError("must lie between 2000 and 2099")
    return at


Instant = Annotated[AwareDatetime, AfterValidator(_of_this_age)]


class _Asked(BaseModel):
    """Base of what is taken: a field that nobody knows is an error."""

    model_config = ConfigDict(extra="forbid")


# -- definitions


class PutDefinitions(_Asked):
    """A whole folder of definitions, to be put in force all or nothing."""

    files: dict[Key, str] = Field(
        description="Path under `definitions/` -> the file's text.",
        max_length=2000,
        examples=[
            {"connections/sendgrid-main.yaml": "platform: sendgrid\nsecrets: [secretsmanager:espial/sendgrid]\n"}
        ],
    )
    stage: Name | None = Field(default=None, description="Lay `stages/<stage>.yaml` over them.", examples=[None])
    dry_run: bool = Field(default=False, description="Only say what would change.", examples=[True])


class Applied(BaseModel):
    """What applying changed, or would change, one plain sentence a line."""

    version: str
    changes: list[str]
    applied: bool


class InForce(BaseModel):
    """The definitions in force: their version, since when, and the names of each kind."""

    version: str
    applied_at: datetime | None = None
    names: dict[str, list[str]]


class Connection(BaseModel):
    """One account of one platform, and where it posts to and drops its files."""

    name: str
    platform: str
    account: str | None = None
    enabled: bool
    mode: str
    post: str
    exports: str


# -- destinations


class Destination(BaseModel):
    """A system that learns of events: what waits for it, and how it is."""

    destination: str
    process: str
    on: list[str]
    waiting: int
    state: Literal["open", "probing", "off", "disabled"]
    failures: int
    failing_since: datetime | None
    probe_at: datetime | None
    why: str


class Attempt(BaseModel):
    """One hand-over, as evidence."""

    id: str
    destination: str
    notifications: list[str]
    at: datetime
    milliseconds: int
    outcome: str
    status: int = 0
    reason: str = ""
    answer: str = ""
    again_at: datetime | None = None
    replay: bool = False


class Switch(_Asked):
    """`false`: post nothing, what happens waits. `true`: serve it again at once."""

    enabled: bool = Field(examples=[True])


class ReplayNotifications(_Asked):
    """Notifications by id, or all that were put in a time, or what a trigger fired of it."""

    ids: list[Name] | None = Field(default=None, min_length=1, max_length=100, examples=[None])
    since: Instant | None = Field(default=None, examples=["2026-01-15T00:00:00Z"])
    until: Instant | None = Field(default=None, examples=["2026-01-16T00:00:00Z"])
    trigger: str = Field(default="", max_length=100, examples=["OPEN"])
    cursor: str = Field(default="", max_length=4000, description="`next` of the answer before.", examples=[""])

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.ids is None) == (self.since is None):
            raise ValueError("give either ids or since")
        return self


class Replayed(BaseModel):
    """How many wait again. Ask again with `next` as `cursor` until it is null: a call stops in time."""

    waiting: int
    next: str | None = None


# -- triggers


class Enter(_Asked):
    """Who enters, and with what. The id is the caller's: the same again changes nothing."""

    person: str = Field(max_length=1024, examples=["email:ada@example.com"])
    request_id: str = Field(max_length=100, examples=["import-2026-11-30.17"])
    properties: dict[str, Any] = Field(default={}, description="`event.properties` of the event.", examples=[{}])


class Entered(BaseModel):
    """The event by which the person entered, and whether it is new."""

    event_id: str
    is_new: bool


# -- exports


class Export(BaseModel):
    """An object in the exports bucket, and what became of it. Of one that has no ledger entry little is known."""

    key: str
    state: str
    reason: str | None
    at: datetime | None = None
    chunks: int = 0
    chunks_done: int = 0
    bytes: int
    bytes_read: int
    rows: int = 0
    events: int = 0
    duplicates: int = 0
    conflicts: int = 0
    refused: int = 0
    ignored: int = 0
    damaged: int = 0
    reasons: dict[str, int] = {}
    rows_a_second: float | None = None
    seconds_left: int | None = None


class ByKey(_Asked):
    """An object by its key, with or without the folder that all of its kind lie in."""

    key: Key = Field(examples=["braze/braze-main/2026/01/15/events.avro"])


class Again(BaseModel):
    """What will be read again: `chunks` are those that are not finished; 0: the file is planned anew."""

    key: str
    chunks: int


# -- quarantine


class Entry(BaseModel):
    """What was refused after it was accepted, and why."""

    id: str
    reason: str
    detail: str
    path: str
    platform: str
    connection: str
    quarantined_at: datetime


class WholeEntry(Entry):
    """With everything that is known of it."""

    content: dict[str, Any]


class Choose(_Asked):
    """Entries by id, or the newest of a reason."""

    ids: list[Key] | None = Field(
        default=None, min_length=1, max_length=100, examples=[["2026-01-15/missing_event/0a1b2c3d"]]
    )
    reason: Name | None = Field(default=None, examples=[None])
    limit: int = Field(default=100, ge=1, le=100, description="Of a reason, at most this many.", examples=[100])

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.ids is None) == (self.reason is None):
            raise ValueError("give ids or reason, one of the two")
        return self


class Replay(Choose):
    """`mode` replaces the mode that a delivery arrived in: `backfill` records it and triggers nothing."""

    mode: Literal["live", "backfill", "replay"] | None = Field(default=None, examples=["backfill"])


class Outcome(BaseModel):
    """What became of one entry: `done`, or the reason why it stays."""

    id: str
    outcome: str
    detail: str = ""


class Outcomes(BaseModel):
    """Each entry's, in the order asked."""

    items: list[Outcome]


# -- feeds


class Sink(BaseModel):
    """How far a sink is."""

    sink: str
    kind: str
    batch: int
    lacks: int
    failures: int
    reason: str | None
    failed_at: datetime | None
    again_at: datetime | None


class Feed(BaseModel):
    """A feed, what its last batch brought, and how far its sinks are."""

    feed: str
    batch: int
    closed_at: datetime | None
    files: int
    rows: int
    newly_waiting: int
    sinks: list[Sink]


class FeedFile(BaseModel):
    """A file of a batch."""

    name: str
    kind: str
    rows: int
    size: int
    sha256: str


class FeedBatch(BaseModel):
    """One run of a feed's writer: what became of its events, and its files in the order that sinks get them."""

    number: int
    closed_at: datetime
    gap: bool
    counts: dict[str, int]
    files: list[FeedFile]


class Resend(_Asked):
    """Files by name, or batches by number, to one sink or to all."""

    names: list[Name] = Field(min_length=1, max_length=1000, examples=[["1"]])
    sink: Name | None = Field(default=None, examples=["warehouse"])


class Asked(BaseModel):
    """It was handed to the function named; the feed's page shows what comes of it."""

    function: str


# -- recipients


class RecipientFile(BaseModel):
    """A file of recipients and what came of its rows."""

    key: str
    state: str
    reason: str | None
    execution: int | None
    updated_at: datetime
    rows: int
    sent: int
    failed: int
    unchanged: int
    refused: int


class Accepted(BaseModel):
    """Recipients are durable: the call's id, the file that they are in, and how many they are."""

    id: str
    key: str
    recipients: int


# -- events


class Recorded(BaseModel):
    """Events, oldest first: the canonical event, `via`, what other reports say, and the verdict human or machine."""

    events: list[dict[str, Any]]


class Message(BaseModel):
    """What became of a message, and since when."""

    send_key: str
    status: str | None
    since: datetime | None
    engagement: dict[str, datetime]


class Messages(BaseModel):
    """A person's."""

    messages: list[Message]


class Balances(BaseModel):
    """An hour of a source each; `next` is the cursor of the next page, null on the last."""

    items: list[dict[str, Any]]
    next: str | None = None


class Republish(_Asked):
    """A person's events, or those received between two times; `everything`: also what no trigger wants."""

    person: Key | None = Field(default=None, examples=["email:ada@example.com"])
    since: Instant | None = Field(default=None, examples=[None])
    until: Instant | None = Field(default=None, examples=[None])
    everything: bool = Field(default=False, examples=[False])
    cursor: str = Field(default="", max_length=4000, description="`next` of the answer before.", examples=[""])

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if self.person is None and self.since is None:
            raise ValueError("give person or since")
        return self


class Republished(BaseModel):
    """Verdict -> events. Ask again with `next` as `cursor` until it is null: a call stops in time."""

    published: int = 0
    unwanted: int = 0
    backfill: int = 0
    failed: int = 0
    next: str | None = None
