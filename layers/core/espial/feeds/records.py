"""What an event is to a feed, and the facts that its rows need besides it (A7, A13, A20; seed systems 7.1)."""

from __future__ import annotations

from typing import NamedTuple

from espial.events import Event
from espial.feeds.correlation import Match, Ties, campaign_code
from espial.feeds.definition import FeedDefinition
from espial.feeds.paths import Facts
from espial.notifications.triggers import trigger_of
from espial.own_events import PLATFORM as OURS
from espial.vocabulary import EventType

SEND, RESPONSE, CONSENT = "send", "response", "consent"
SELECTED, ONBOARDED, REFUSED, COMPLETED = "selected", "onboarded", "refused", "completed"
IGNORED = "ignored"

_ONBOARDING = {
    EventType.RECIPIENT_SELECTED: SELECTED,
    EventType.RECIPIENT_ONBOARDED: ONBOARDED,
    EventType.RECIPIENT_REJECTED: REFUSED,
    EventType.ONBOARDING_COMPLETED: COMPLETED,
}
_AUTHORIZATIONS = {EventType.SUBSCRIBED: "opt_in", EventType.UNSUBSCRIBED: "opt_out"}
_NUMBERED = frozenset({"sms", "whatsapp"})


class Role(NamedTuple):
    """What an event is to a feed; `why` it is ignored."""

    kind: str
    why: str = ""


def role_of(event: Event, tied: Ties, feed: FeedDefinition, send: EventType | None) -> Role:
    """`send` is what its connection reports a send by. What has no tie to any send may still be a consent."""
    kind = event.type
    if event.platform == OURS:
        if found := _ONBOARDING.get(kind):
            return Role(found)
        # The provider reports its own sends, so ours count only where a feed asks for them by name.
        wanted = kind is EventType.MESSAGE_REQUESTED and OURS in feed.connections
        return Role(SEND) if wanted else Role(IGNORED, kind.value)
    if kind is send:
        return Role(SEND)
    if why := _left_out(event, feed):
        return Role(IGNORED, why)
    return Role(RESPONSE) if tied.keys else Role(CONSENT, "no_campaign")


def _left_out(event: Event, feed: FeedDefinition) -> str:
    if feed.machine == "drop" and event.client and event.client.machine:
        return "machine"
    return "" if feed.disposition(event.type) else event.type.value


class Naming(NamedTuple):
    """How a feed calls a connection: its system and business unit."""

    system: str
    business_unit: str


def naming(feed: FeedDefinition, event: Event) -> Naming:
    """An onboarding brings its own system name (A.c.9); a connection has the feed's, else its platform's."""
    own = str(event.properties.get("system") or "") if event.platform == OURS else ""
    return Naming(
        feed.systems.get(event.connection) or own or event.platform, feed.business_units.get(event.connection, "")
    )


def onboarding_id(event: Event) -> str:
    """The campaign event id of an onboarded recipient: `rpi-<execution>-<contact>` for a system called RPI (A.c.9)."""
    said = event.properties
    return f"{str(said.get('system') or OURS).lower()}-{said.get('execution')}-{said.get('contact')}"


def onboarded_contact(event: Event) -> str:
    """The contact id that onboarding gave the recipient, where the message carries it (A.c.6)."""
    said = event.properties
    given = said.get("rp_contact_id")
    if given is None and type(extras := said.get("message_extras")) is dict:
        given = extras.get("rp_contact_id")
    return str(given) if isinstance(given, int | str) and str(given).isdecimal() else ""


def sent(event: Event, feed: FeedDefinition, named: Naming, id: str, *, origin: str) -> Facts:
    """Of a campaign event."""
    campaign = event.campaign
    creative, code = "", campaign_code(event)
    if campaign:
        by_id, by_name = campaign.id or campaign.journey_id or "", campaign.name or campaign.journey_name
        creative = campaign.variation_id or ""
        if feed.campaign_code_from == "name":
            code, creative = by_name or code, by_id
    if event.type is EventType.MESSAGE_REQUESTED:
        code = str(event.properties.get("trigger", ""))
    contact = str(event.properties.get("contact", "")) if origin == ONBOARDING else onboarded_contact(event)
    return Facts(
        system=named.system,
        business_unit=named.business_unit,
        origin=origin,
        campaign_event_id=id,
        campaign_code=code or feed.default_campaign_code,
        creative=creative,
        onboarded_contact=contact,
    )


ONBOARDING, ESP_SEND, SYNTHESISED = "onboarding", "esp_send", "synthesised"
"""Origins of a campaign event."""


def responded(event: Event, feed: FeedDefinition, named: Naming, matched: Match) -> Facts:
    """Of a response event."""
    machine = "Y" if feed.machine == "flag" and event.client and event.client.machine else ""
    return Facts(
        # A response has its send's name of the system: that is part of what ties the two in a CDP.
        system=(matched.send.system if matched.send else "") or named.system,
        business_unit=named.business_unit,
        campaign_event_id=matched.id,
        response_event_id=event.event_id,
        disposition=feed.disposition(event.type) or "",
        method=matched.method,
        confidence=str(matched.confidence),
        onboarded_contact=matched.send.onboarded if matched.send else "",
        machine=machine,
    )


_STATUS = {EventType.DELIVERY_STARTED: "PROCESSING", EventType.DELIVERY_COMPLETED: "COMPLETED"}


def unlogged(event: Event, feed: FeedDefinition) -> str:
    """Why an event has no row in a log of events; empty if it has one."""
    if event.platform == OURS and event.connection not in feed.connections:
        return event.type.value
    return "machine" if feed.machine == "drop" and event.client and event.client.machine else ""


def logged(event: Event, feed: FeedDefinition, named: Naming) -> Facts:
    """Of an event by itself."""
    lists = event.properties.get("lists")
    return Facts(
        system=named.system,
        business_unit=named.business_unit,
        trigger=trigger_of(event) or event.type.value,
        delivery_status=_STATUS.get(event.type, ""),
        lists=",".join(map(str, lists)) if isinstance(lists, list) else "",
        machine="Y" if feed.machine == "flag" and event.client and event.client.machine else "",
    )


def authorized(event: Event, named: Naming) -> Facts | None:
    """Of an opt-in or opt-out; None for every other event, and where nobody's address is known."""
    code = _AUTHORIZATIONS.get(event.type)
    number = event.channel in _NUMBERED
    value = event.person.phone if number else event.person.email
    if code is None or not value:
        return None
    return Facts(
        system=named.system,
        business_unit=named.business_unit,
        contact_level="sms" if number else "email",
        contact_value=value,
        authorization=code,
    )
