"""Which send a response belongs to: the campaign event id of every send and of every response to it (A19, A.c.5).

A platform that ties a response to its send itself (`Source.send_key`) has its ids *computed* from that tie, so it does
not matter which of the two comes first: such a response waits for that very send. All others go up a ladder of what
both name, the safest step first:

    explicit          an id of the sender's own in the custom data of both, and the same recipient  1.0
    send_key          the platform's own tie, such as a message id                                  1.0
    dispatch          same dispatch and same recipient                                          0.98
    send              same send id and same recipient                                           0.95
    campaign_email    same campaign and same address: the latest send not after the response        0.9 (of several 0.7)
    campaign_contact  same campaign and same external id (the address has changed)                  0.6
    synthesised       the platform reports no sends, so the first response stands for one           1.0

Sends are looked up by hashes: an index of them holds no address.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from espial.events import Event
from espial.mail_links import PLATFORM as PAGES
from espial.own_events import PLATFORM as OURS
from espial.sources import Source
from espial.vocabulary import EventType

CLOCKS_DIFFER = timedelta(minutes=5)
"""How much earlier than its send a response may seem, where only campaign and recipient tie the two."""

WINDOW = timedelta(days=30)
"""How long after a send a response to its campaign is held to be one to it."""

EXPLICIT = "client_campaign_event_id"
"""Custom data by which a sender may name each single send; the platform repeats it with every event of the message."""

_SENT = (EventType.SENT, EventType.PROCESSED, EventType.QUEUED)
_CARRIERS = ("message_extras", "custom_args", "metadata", "custom_data")
_CROCKFORD = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ" * 8


class Candidate(msgspec.Struct, frozen=True, array_like=True):
    """A send as the index keeps it: `at` in Unix seconds, `rejected` if no row was made of it.

    token       of the batch that fed it: of a batch that was never committed it does not count.
    computed    its platform ties responses to it, so that one which names another tie is not its.
    who         hash of its recipient; what its campaign event says as `system`.
    """

    id: str
    at: int
    token: str = ""
    computed: bool = False
    dispatch: str = ""
    send: str = ""
    who: str = ""
    system: str = ""
    onboarded: str = ""
    rejected: bool = False


class Match(NamedTuple):
    """A response's send: its campaign event id, by which step it was found, and how sure that is (0 to 1)."""

    id: str
    method: str
    confidence: float
    send: Candidate | None = None


class Ties(NamedTuple):
    """What of an event may tie it to others; empty where it has none.

    computed   the campaign event id that follows from the platform's own tie; `explicit` is the sender's own.
    keys       what to look its send up by: `E` the explicit id, `I` the computed, `A` campaign and address, `C`
               campaign and contact.
    """

    computed: str
    explicit: str
    at: int
    dispatch: str
    send: str
    who: str
    keys: tuple[str, ...]


def send_type(source: Source, channel: str) -> EventType | None:
    """The platform's report that a message went out: `sent`, else the earliest it has; None if it reports no sends."""
    if channel in source.unsent:
        return None
    reported = set(source.event_types.values())
    return next((kind for kind in _SENT if kind in reported), None)


def campaign_code(event: Event) -> str:
    """What groups messages of one kind: the campaign's id, else the next best that the platform tells."""
    campaign = event.campaign
    if campaign is None:
        return ""
    known = campaign.id or campaign.journey_id or campaign.name or campaign.journey_name or campaign.template_id
    return known or (campaign.tags[0] if campaign.tags else "")


def ties(event: Event, account: str) -> Ties:
    """What ties the event to its send, or the send to its responses. `account` scopes ids as it does identity."""
    campaign, person = event.campaign, event.person
    code = campaign_code(event)
    # what readers do on our pages is told of a mail that we tell of ourselves
    scope = f"{OURS}\x1f{OURS}" if event.platform == PAGES else f"{event.platform}\x1f{account}"
    address = person.email or person.phone
    contact = person.external_id or person.source_contact_id
    explicit = _explicit(event)
    computed = _hash(f"{scope}\x1f{event.send_key}") if event.send_key else ""
    keys = [f"E{_hash(f'{scope}E{explicit}')}"] if explicit else []
    if computed:
        keys.append(f"I{computed}")
    if code and address:
        keys.append("A" + _hash(f"{scope}\x1fA{code}\x1f{address}"))
    if code and contact:
        keys.append("C" + _hash(f"{scope}\x1fC{code}\x1f{contact}"))
    return Ties(
        computed=computed,
        explicit=explicit,
        at=int(event.occurred_at.timestamp()),
        dispatch=(campaign.dispatch_id or "") if campaign else "",
        send=(campaign.send_id or "") if campaign else "",
        who=_hash(f"{scope}\x1fW{address or contact or ''}")[:12] if explicit else "",
        keys=tuple(keys),
    )


Shelf = Mapping[str, Sequence[Candidate]]
"""Key -> the sends that are known under it."""


def campaign_event_id(event: Event, tied: Ties, shelf: Shelf) -> str:
    """The id of a send: the sender's own unless another recipient has it, the computed one, else its own event id."""
    taken = any(send.who != tied.who for send in shelf.get(tied.keys[0], ())) if tied.explicit else True
    return tied.computed or event.event_id if taken else tied.explicit


def candidate(
    id: str, tied: Ties, *, token: str = "", system: str = "", onboarded: str = "", rejected: bool = False
) -> Candidate:
    """A send as others find it."""
    return Candidate(
        id=id,
        at=tied.at,
        token=token,
        computed=bool(tied.computed),
        dispatch=tied.dispatch,
        send=tied.send,
        who=tied.who,
        system=system,
        onboarded=onboarded,
        rejected=rejected,
    )


def stand_in(tied: Ties) -> tuple[str, str] | None:
    """Id and key of a send that nobody reports: of the message, else one for each campaign and recipient (A.c.4)."""
    if tied.computed:
        return tied.computed, f"I{tied.computed}"
    by_campaign = next((key for key in tied.keys if key[0] in "AC"), None)
    return (_hash(by_campaign), f"S{by_campaign}") if by_campaign else None


def match(tied: Ties, shelf: Shelf, *, window: timedelta = WINDOW) -> Match | None:
    """The send of a response, by the first step of the ladder that finds one; None if none does.

    What is tied by an id needs no look at the clock.
    """
    found = {key[0]: shelf.get(key, ()) for key in tied.keys}
    for send in found.get("E", ()):
        if send.who == tied.who:
            return Match(send.id, "explicit", 1.0, send)
    for send in found.get("I", ()):
        return Match(send.id, "send_key", 1.0, send)
    by_address, by_contact = (_eligible(found.get(kind, ()), tied, window) for kind in "AC")
    either = list({send.id: send for send in (*by_contact, *by_address)}.values())
    steps = (
        ("dispatch", [send for send in either if tied.dispatch and send.dispatch == tied.dispatch], 0.98, 0.98),
        ("send", [send for send in by_address if tied.send and send.send == tied.send], 0.95, 0.95),
        ("campaign_email", by_address, 0.9, 0.7),
        ("campaign_contact", by_contact, 0.6, 0.6),
    )
    for method, sends, one, several in steps:
        if sends:
            last = max(sends, key=lambda send: (send.at <= tied.at, send.at, send.id))
            return Match(last.id, method, one if len(sends) == 1 else several, last)
    return None


def _eligible(sends: Sequence[Candidate], tied: Ties, window: timedelta) -> list[Candidate]:
    """Those that the response can be to: in time, and not tied to responses of their own when it names its send."""
    earliest, latest = tied.at - int(window.total_seconds()), tied.at + int(CLOCKS_DIFFER.total_seconds())
    return [send for send in sends if earliest <= send.at <= latest and not (tied.computed and send.computed)]


def correlate(events: Iterable[tuple[Event, str]], send: Callable[[Event], EventType | None]) -> dict[str, Match]:
    """Event id -> the send it belongs to, over events that are all at hand: a person's timeline, a test.

    `events` come with their account; `send` says what an event's platform reports its sends by. A send belongs to
    itself. Responses whose send is not among the events are left out, but for those of platforms that report none.
    """
    shelf: defaultdict[str, list[Candidate]] = defaultdict(list)
    found: dict[str, Match] = {}
    responses: list[tuple[Event, Ties]] = []
    for event, account in events:
        tied = ties(event, account)
        if event.type is send(event):
            sent = candidate(campaign_event_id(event, tied, shelf), tied)
            for key in tied.keys:
                shelf[key].append(sent)
            found[event.event_id] = Match(sent.id, "own", 1.0, sent)
        else:
            responses.append((event, tied))
    for event, tied in responses:
        if send(event) is None:
            if made_up := stand_in(tied):
                found[event.event_id] = Match(made_up[0], "synthesised", 1.0)
        elif matched := match(tied, shelf):
            found[event.event_id] = matched
    return found


def _explicit(event: Event) -> str:
    """The sender's own id of the send, in the event's custom data."""
    said = event.properties
    for place in (said, *(said[name] for name in _CARRIERS if name in said)):
        given = place.get(EXPLICIT) if type(place) is dict else None
        if isinstance(given, str) and 0 < len(given) <= 150:  # the layout's longest
            return given
    return ""


def _hash(text: str) -> str:
    """26 characters, as an event id has."""
    return blake2b(text.encode(), digest_size=26).digest().translate(_CROCKFORD).decode()
