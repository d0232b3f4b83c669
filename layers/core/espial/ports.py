"""What the use-cases need of the outside world. `espial.stores` and `espial.senders` implement these.

Every port has one contract suite that its real implementation and its fake in `tests/fakes.py` both pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from espial.deliveries import Connection, RawDelivery
from espial.errors import MalformedItem, TryAgain
from espial.events import Event, PersonKey
from espial.normalise import Recordable

if TYPE_CHECKING:  # the acknowledging path imports this module, and needs none of these
    from espial.catalogue import News, Product
    from espial.messages import Message, Receipt
    from espial.people import Membership, PersonView
    from espial.triggers.decision import Decision
    from espial.triggers.definition import Trigger
    from espial.triggers.run import Run, State


class Connections(Protocol):
    """The published connections and their secrets, cached; a stale copy serves when a refresh fails."""

    def find(self, platform: str, name: str) -> Connection:
        """Raises UnknownConnection; TryAgain when nothing was ever loaded and the store is away."""
        ...

    def of_platform(self, platform: str, *, missed: bool = False) -> Sequence[Connection]:
        """Every enabled connection of a platform; `missed` asks for a newer copy, as none of the last one's fitted."""
        ...

    def secrets(self, connection: Connection) -> Sequence[bytes]:
        """The connection's accepted secrets, newest first. Raises TryAgain when they cannot be read."""
        ...


class DeliveryQueue(Protocol):
    """RawQueue: verified deliveries, durable before the platform is answered."""

    def put(self, delivery: RawDelivery) -> None:
        """Returns once durable; raises TryAgain otherwise. Bodies over the queue's limit travel as S3 pointers."""
        ...


class Requests(Protocol):
    """What callers' request ids came with."""

    def first(self, connection: str, request: str, content: str) -> str:
        """The content that the request id first came with: this one, where it is new. Raises TryAgain."""
        ...


class Outside(Protocol):
    """The little that the receivers ask of the world: a platform's public keys, and confirming a subscription."""

    def fetch(self, url: str) -> bytes:
        """What lies at an https address of a public host, up to 64 KB, kept for a while.

        Raises TryAgain when it cannot be had now, SignatureError when it may not or does not exist.
        """
        ...


class Recorded(StrEnum):
    """What became of one insert."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


Verdict = Recorded | TryAgain | MalformedItem
"""TryAgain: not recorded now. MalformedItem: the store can never take it, as its key or body is too large."""


class Stored(NamedTuple):
    """A recorded event and its lineage: the transports that reported it, and what only the raw archive still holds."""

    event: Event
    via: tuple[str, ...]
    left_out: tuple[str, ...] = ()


class Others(NamedTuple):
    """Other reports of one event: each that says something else, and all that the agreeing ones say together.

    `together` is None where the recorded event says all of it.
    """

    conflicts: list[dict[str, Any]]
    together: dict[str, Any] | None


class EventStore(Protocol):
    """EventsTable: the insert is the dedupe and the outbox."""

    def add(self, records: Sequence[Recordable], *, transport: str, expires_days: int) -> list[Verdict]:
        """One verdict a record, in order.

        A duplicate over another transport adds that transport to the event's lineage. What it says more than the
        reports before it is kept beside the event, which stays as it was published. One that says something else
        (`events.disagree`) is kept as a CONFLICT, and is a DUPLICATE when that very conflict is known already.
        """
        ...

    def events_of(self, key: PersonKey, *, since: datetime | None = None, limit: int = 1000) -> list[Event]:
        """A person's newest `limit` events under one key, oldest first, read consistently."""
        ...

    def history(self, key: PersonKey, *, since: datetime | None = None, limit: int = 1000) -> list[Stored]:
        """As `events_of`, with lineage."""
        ...

    def of_campaign(self, campaign: str) -> Iterator[Stored]:
        """Every event of a campaign or journey, by id or name, in no order. Reads the whole store: for people."""
        ...

    def of_trigger(self, name: str) -> Iterator[Event]:
        """Our own events of a trigger, in no order. Reads the whole store: for people."""
        ...


class RawArchive(Protocol):
    """Every delivery kept whole: one compressed object per recorded batch."""

    def keep(self, deliveries: Sequence[RawDelivery]) -> list[str]:
        """Returns one pointer (`key#index`) a delivery."""
        ...

    def read(self, pointer: str) -> RawDelivery:
        """The delivery a pointer names. Raises KeyError when it is no longer kept."""
        ...


class Quarantined(NamedTuple):
    """One thing in quarantine. `id` is the same on a retry, so nothing is kept twice.

    `content["kind"]` says how it goes back: `delivery` (headers and base64 `body`) or `item` (`item`, the
    platform's own words, or None where not even that could be read; then `raw` points to it), `export` (a file, or the
    part of one from `place` until `until`) or `notice` (`message`, that was taken for the notice of a file).
    """

    id: str
    reason: str
    detail: str
    path: str
    platform: str
    connection: str
    quarantined_at: datetime
    content: Mapping[str, Any]


class Quarantine(Protocol):
    """Everything refused after it was accepted: a place, a reason and a way back (guarantee 4)."""

    def put(self, entry: Quarantined) -> None: ...

    def list(self, *, reason: str | None = None, limit: int = 100) -> Iterator[Quarantined]:
        """Newest day first."""
        ...

    def get(self, id: str) -> Quarantined:
        """Raises KeyError for an id that is not there."""
        ...

    def remove(self, id: str) -> None:
        """Removing what is gone already is no error."""
        ...


class EventBus(Protocol):
    """EventBridge. Reads every receipt: a 200 can hold failures."""

    def put(self, events: Iterable[Event]) -> list[Event]:
        """Returns the events that were not accepted."""
        ...


class Claim(NamedTuple):
    """The right to send one occasion's message; `attempt` fences off whoever held it before."""

    person: str
    send_key: str
    attempt: int


class AlreadySent(NamedTuple):
    """The provider took it; nothing is left to do but to note it. `at` is when, `message_id` the provider's."""

    provider: str
    message_id: str
    at: datetime


class AlreadyRefused(NamedTuple):
    """Settled without a mail, for this reason."""

    reason: str


class InProgress(NamedTuple):
    """Somebody else holds the claim until then."""

    until: datetime


class Unsettled(NamedTuple):
    """The provider was called at `since` and the answer never noted. `claim` is for whoever settles it."""

    claim: Claim
    since: datetime


Standing = Claim | AlreadySent | AlreadyRefused | InProgress | Unsettled


class Claims(Protocol):
    """Send claims: calling → sent | refused | unknown, or free again; every step a conditional write.

    A claim whose holder dies becomes `Unsettled` once its lease is over.
    Every transition raises TryAgain when the claim is no longer the caller's or the store is away.
    """

    def look(self, person: str, send_key: str, *, now: datetime) -> Standing | None:
        """How things stand, read consistently; None if nobody ever claimed, a Claim if it was given back."""
        ...

    def claim(self, person: str, send_key: str, *, now: datetime, lease: timedelta) -> Standing:
        """Take the claim, or say how things stand.

        Who has it is about to call the provider: from here on silence means unknown. The call ends within `lease`.
        """
        ...

    def sent(self, claim: Claim, receipt: Receipt) -> None:
        """The provider took it, by its answer or by the evidence of its events."""
        ...

    def refused(self, claim: Claim, reason: str) -> None:
        """No mail will come of it."""
        ...

    def unknown(self, claim: Claim) -> None:
        """The call ended without an answer."""
        ...

    def release(self, claim: Claim) -> None:
        """Surely not sent: the next delivery may claim it at once. Changes nothing where the claim has moved on."""
        ...


class Sender(Protocol):
    """One configured provider.

    features     what it can express beyond subject, HTML and text: `headers`, `tags`, `reply_to`, `also_to`. A message
                 that needs more is refused before it is sent.
    idempotent   whether the provider itself takes one idempotency key once; then an unknown outcome is simply
                 repeated with the same key.
    channel      what it sends: `email` or `sms`.
    """

    name: str
    channel: str
    features: frozenset[str]
    idempotent: bool

    def send(self, message: Message, *, idempotency_key: str) -> Receipt:
        """Hand the message over, once.

        Raises TryAgain if it surely was not taken and may be later, Refused if it never will be, OutcomeUnknown
        if nobody can tell; nothing else.
        """
        ...


class Published(Protocol):
    """Triggers, providers and templates as `espial apply` published them; a stale copy serves when a refresh fails.

    Each raises TryAgain when nothing was ever loaded and the store is away. Where a `version` is given, what was
    published under it is meant, for those in flight; what is not to be found there any more is as it is now.
    """

    @property
    def version(self) -> str:
        """What is in force, as whoever asked last was told."""
        ...

    def trigger(self, name: str, version: str = "") -> Trigger | None:
        """None when there is no such trigger (any more). Its status is always the one in force: pausing stops all."""
        ...

    def triggers(self) -> Sequence[Trigger]:
        """Every trigger, whatever its status."""
        ...

    def provider(self, name: str) -> Mapping[str, Any]:
        """A provider's settings (definitions/providers/). Raises Refused("unknown_provider")."""
        ...

    def template(self, name: str, version: str = "") -> Mapping[str, Any]:
        """A compiled template (`espial.templates.compile`). Raises Refused("unknown_template")."""
        ...


class Catalogues(Protocol):
    """Products that mails recommend, as the shop's last file had them. Each raises TryAgain when the store is away."""

    def loaded_at(self, name: str) -> datetime | None:
        """When a file was last taken over whole; None for a catalogue that never was."""
        ...

    def products(self, name: str, ids: Iterable[str]) -> Mapping[str, Product]:
        """Those of the ids that are sold, as they are now."""
        ...

    def news(self, name: str, since: datetime) -> Sequence[News]:
        """What files since then said that people may have waited for, oldest first."""
        ...

    def best(self, name: str, categories: Iterable[str]) -> Mapping[str, Sequence[str]]:
        """Category -> ids of its best sellers, the best first; "" is the whole shop."""
        ...


class People(Protocol):
    """Who is who and what is known of them."""

    def load(self, key: PersonKey) -> PersonView:
        """The person behind the key: every joined key's profile, runs and unexpired events, read consistently.

        A key that would join two people is a conflict and is not followed (see `PersonView.conflicts`).
        """
        ...

    def merge(self, event: Event) -> None:
        """Take over what the event says of its person, and that its keys belong together. Repeating it is harmless.

        Raises TryAgain when another writer keeps getting in between.
        """
        ...

    def meet(self, event: Event, key: PersonKey) -> PersonView:
        """`merge`, and then the person behind the key as `load` gives it, with the event."""
        ...


class Members(Protocol):
    """Who there is, and who is in which segment."""

    def everybody(self, part: int, after: str, limit: int) -> list[PersonKey]:
        """The next keys with a profile in one of the 16 parts, sorted, behind the key `after`. Raises TryAgain."""
        ...

    def place(self, key: PersonKey, segment: str, before: Membership | None, after: Membership) -> bool:
        """Note whether the person is in a segment; False if that is no longer as it was before."""
        ...


class Walk(NamedTuple):
    """Where a walk over all people is: the part it is in, and the key behind which it goes on; over when `done`."""

    part: int = 0
    after: str = ""
    done: bool = False


class Walks(Protocol):
    """How far each walk over all people has come."""

    def go_on(self, trigger: str, occasion: str, *, now: datetime, until: datetime) -> Walk | None:
        """Be the one who walks until then, from there on; None while somebody else does, or when it is done."""
        ...

    def reach(self, trigger: str, occasion: str, walk: Walk, *, until: datetime) -> None:
        """Note how far it has come; the right ends when it is `done`, or then."""
        ...

    def is_done(self, trigger: str, occasion: str) -> bool: ...

    def remember(self, trigger: str, request: str, content: str, *, now: datetime) -> tuple[datetime, str]:
        """When, and with what content, a request of this id came first. Known for 60 days."""
        ...


class Runs(Protocol):
    """The runs of triggers, one per person, trigger and key."""

    def get(self, person: str, trigger: str, key: str) -> Run | None:
        """The run as last written, read consistently."""
        ...

    def put(self, run: Run, previous: Run | None) -> bool:
        """Write the run in the place of `previous`; False when that is no longer what is stored."""
        ...

    def finish(self, run: Run, state: State, *, closed_at: datetime, reason: str = "", ended_by: str = "") -> bool:
        """End a waiting run; False when it has moved on to another version or stage, or has already ended otherwise."""
        ...


class Decided(NamedTuple):
    """A decision as it was stored."""

    id: str
    decided_at: datetime
    trigger: str
    key: str
    version: str
    decision: Decision


class Decisions(Protocol):
    """Why each message was or was not sent, with every rule's value."""

    def record(self, person: str, decision: Decision, run: Run, *, now: datetime) -> str:
        """Returns its id, the same for the same run version, outcome and reason."""
        ...

    def of_person(self, person: str, *, trigger: str | None = None, limit: int = 100) -> list[Decided]:
        """Newest first."""
        ...


class Timers(Protocol):
    """Something to look at later, durable: it comes back on the SendQueue."""

    def at(self, due_at: datetime, message: Mapping[str, Any], key: str, *, now: datetime) -> None:
        """Put the message on the SendQueue at `due_at` (at once if that has passed), at least once.

        `key` names the timer: asking again with the same key and time is the same timer. Raises TryAgain.
        """
        ...
