"""Pure360 PureResponse event notifications over HTTP: one form post an event, neither signed nor numbered.

https://apihub.pure360.com/documentation/EventNotification/references/http.html
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from espial.deliveries import Arrival, Item, RawDelivery, Reply
from espial.errors import MalformedDelivery, MalformedItem
from espial.sources import Docs, EventFields, Export, Layout, Source
from espial.sources._pure360_fields import ALIASES, DELIVERIES, LISTS, SPELLINGS, known, plain
from espial.sources._shared import (
    MANY_FIELDS,
    email,
    form,
    inner,
    instant,
    phone,
    present,
    seconds_or_milliseconds,
    text,
)
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "DELIVERYSTART": EventType.DELIVERY_STARTED,
    "DELIVERY": EventType.DELIVERY_COMPLETED,
    "OPEN": EventType.OPENED,
    "CLICK": EventType.CLICKED,
    "BOUNCE": EventType.BOUNCED,
    "BLOCKED": EventType.BLOCKED,
    "OPTIN": EventType.SUBSCRIBED,
    "OPTOUT": EventType.UNSUBSCRIBED,
    "SOFTBOUNCE": EventType.SOFT_BOUNCED,
    "SMSOPTOUT": EventType.UNSUBSCRIBED,
    "SMSFAILED": EventType.FAILED,  # passing or final is not said: no reason to write the number off
}

MOST_EVENTS = 10_000
"""In one post: as many as a batch of the client pull may hold (B19)."""

_TIMES = {
    "DELIVERYSTART": ("deliverystartdate", "deliveryscheduleddate"),
    "DELIVERY": ("deliverycompletedate", "deliverystartdate", "deliveryscheduleddate"),
    "CLICK": ("eventdate", "clickdate"),
}
"""The dates that say when it happened; the first that can be read counts. `eventdate` for all others."""
_FACTS = {
    "profile": "profile",
    "user": "user",
    "messagetype": "message_type",
    "notificationsubject": "notification_subject",
    "emailssentcreditsused": "messages_sent",
}
_DATES = {
    "deliverydate": "delivery_date",
    "deliveryscheduleddate": "scheduled_date",
    "deliverystartdate": "start_date",
    "deliverycompletedate": "complete_date",
}
_DEVICE = {"devicetype": "type", "deviceos": "os", "devicebrowser": "browser"}
_INDEXED = re.compile(r"(.*?[^\[\]])\[(\d{0,9})\](\[\d{0,9}\])?", re.ASCII | re.DOTALL)
_DAY_FIRST = re.compile(r"(\d\d)/(\d\d)/(\d{4}) (\d\d:\d\d(?::\d\d)?)", re.ASCII)


def split(delivery: RawDelivery) -> list[Item]:
    """One event of a post (B24), or one of each place where `type` is an array. Raises MalformedDelivery."""
    fields = [
        (name, _INDEXED.fullmatch(name) if name[-1:] == "]" else None, value)
        for name, value in form(delivery, MANY_FIELDS)
    ]
    if any(indexed and plain(indexed[1]) == "type" for _, indexed, _ in fields):
        return _columns(fields)
    return [report((_named(name, indexed), value) for name, indexed, value in fields)] if fields else []


def _named(name: str, indexed: re.Match[str] | None) -> str:
    """A list's name with empty brackets, whichever index stands in them; any other as it is."""
    return f"{indexed[1]}[]" if indexed and plain(indexed[1]) in LISTS else name


def report(fields: Iterable[tuple[str, str]]) -> Item:
    """One notification as an item, whatever it came in.

    It holds PureResponse's own fields by plain name and, under `custom`, the recipient's by their own names. Of a name
    that is repeated the first counts: PureResponse's fields come before custom ones of the same name. Where two names
    are one when plain, the one that is spelt as published is PureResponse's.
    """
    given: dict[str, Any] = {}
    for name, value in fields:
        if plain(name) in LISTS:
            given.setdefault(name, []).extend([value] if name.endswith("]") else value.split(","))
        else:
            given.setdefault(name, value)
    names = sorted(given, key=lambda name: (name not in SPELLINGS, name))
    trigger = next((given[name].strip().upper() for name in names if plain(name) == "type"), "")
    mine = known(ALIASES.get(trigger, trigger))
    item: Item = {}
    custom: dict[str, Any] = {}
    for name in names:
        told = plain(name)
        if told in mine and told not in item:
            item[told] = given[name]
        else:
            custom[name.removesuffix("[]")] = given[name]
    return {**item, "type": ALIASES.get(trigger, trigger), "custom": custom}


_LINE = "line"
_LOG_LAYOUT = Layout(columns=(_LINE,), delimiter="\x1f", quoted=False)
"""A line is one field: how it is quoted is the reader's below to tell."""
_BETWEEN = re.compile(r'"\s*,\s*"?(?=[^":,]+:)|,\s*"(?=[^":,]+:)')
"""A comma with a quotation mark on one side at least, and a name behind it: one of the two is missing now and then."""
_FTP_NAMES = {"emails sent": "emails sent / credits used"}


def layout(_key: str, settings: Mapping[str, Any]) -> Layout:
    """Of the log of the FTP process: a notification a line."""
    return replace(_LOG_LAYOUT, encoding=settings.get("encoding", ""))


def from_log(row: Mapping[str, str], _export: Export) -> Item | None:
    """A line of the FTP process, `"type:OPEN","event date:1700519196"`, as the notification that is posted.

    None for a blank one. Raises MalformedItem for a line without a type. A missing quotation mark harms nothing.
    """
    line = row.get(_LINE, "").strip()
    if not line:
        return None
    pairs = [pair.partition(":") for pair in _BETWEEN.split(line.removeprefix('"'))]
    fields = [(_FTP_NAMES.get(name.strip().lower(), name.strip()), _unquoted(value)) for name, _, value in pairs]
    item = report(fields)
    if not item["type"]:
        raise MalformedItem("missing_event", "the line has no type", "type")
    if item["type"] in DELIVERIES:
        item["custom"].pop("delivery status", None)  # which the type says
    return item


def _unquoted(value: str) -> str:
    """Without the quotation mark at its end; doubled ones are one, and nothing but marks is nothing."""
    marks = len(value) - len(value.rstrip('"'))
    if marks == len(value):
        return ""
    return (value[:-1] if marks % 2 else value).replace('""', '"')


def _columns(fields: Iterable[tuple[str, re.Match[str] | None, str]]) -> list[Item]:
    """Arrays side by side, a place for each event; what is no array, and a list of lists' names, holds for all of them.

    Not documented of PureResponse, but how a form says several of something. Raises MalformedDelivery where arrays
    without indexes are of unequal length: whose click or opt-out one would be is never guessed.
    """
    common: list[tuple[str, str]] = []
    events: dict[int, list[tuple[str, str]]] = defaultdict(list)
    counts: dict[str, int] = defaultdict(int)
    numbered = []
    for name, indexed, value in fields:
        if indexed is None or (plain(indexed[1]) in LISTS and indexed[3] is None):
            common.append((_named(name, indexed), value))
            continue
        column = indexed[1]
        numbered.append(indexed[2] != "")
        events[int(indexed[2] or counts[column])].append((_named(column, indexed), value))
        counts[column] += 1
    if not all(numbered) and (any(numbered) or len(set(counts.values())) > 1):
        shortest, longest = min(counts.values()), max(counts.values())
        raise MalformedDelivery("unequal_arrays", f"arrays of {shortest} to {longest} values do not fit together")
    if len(events) > MOST_EVENTS or len(common) * len(events) > MANY_FIELDS:
        raise MalformedDelivery("too_many_fields", f"{len(events)} events, each with {len(common)} fields in common")
    return [report(events[place] + common) for place in sorted(events)]


def normalise(item: Item, arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object, has no type, or is about a recipient without address.

    The setting `external_id_field` names the custom field that holds the id shared with other systems;
    `international_phones` says that numbers begin with their country code, without a plus.
    """
    if not isinstance(item, dict):
        raise MalformedItem("not_an_object", "a notification is not an object")
    get, trigger = item.get, text(item.get("type"))
    if trigger is None:
        raise MalformedItem("missing_event", "type is missing or empty", "type")
    url, code, reason = text(get("clickurl")), text(get("bouncecode")), text(get("bouncereason"))
    failure = {"code": code or text(get("failurecode")), "reason": reason or text(get("failurereason"))}
    return {
        "type": EVENT_TYPES.get(trigger, EventType.UNKNOWN),
        "platform_type": trigger,
        "channel": _channel(item, trigger),
        "person": _person(item, trigger, arrival.connection.settings),
        "campaign": present({"id": text(get("deliveryid")), "name": text(get("messagename"))}) or None,
        "link": {"url": url} if url else None,
        "failure": present(failure) or None,
        "properties": _properties(item),
        **_times(item, trigger, arrival.received_at),
    }


def _channel(item: Item, trigger: str) -> str:
    if trigger in DELIVERIES:
        return "sms" if text(item.get("messagetype")) in ("SMS", "sms") else "email"
    return "sms" if _by_sms(item) or (text(item.get("mobile")) and not email(item.get("email"))) else "email"


def _person(item: Item, trigger: str, settings: Mapping[str, Any]) -> dict[str, str | None]:
    number = phone(item.get("mobile"))
    if number and settings.get("international_phones") is True and number[0] not in "+0":
        number = phone(f"+{number}")
    person = {"email": email(item.get("email")), "phone": number}
    if trigger in EVENT_TYPES and trigger not in DELIVERIES and not any(person.values()):
        raise MalformedItem("missing_person", "neither email nor mobile is there", "email")
    wanted, custom = text(settings.get("external_id_field")), inner(item, "custom")
    if wanted:  # whatever the case: lines of an FTP log write all names in lower case
        person["external_id"] = next((text(custom[one]) for one in custom if one.lower() == wanted.lower()), None)
    return person


def _properties(item: Item) -> dict[str, Any]:
    get, custom = item.get, inner(item, "custom")
    properties: dict[str, Any] = {name: text(get(field)) for field, name in _FACTS.items()}
    for field, name in _DATES.items():
        at = _date(get(field))
        properties[name] = at.isoformat() if at else text(get(field))
    properties["lists"] = _names(get("listnames"))
    properties["device"] = present({name: text(get(field)) for field, name in _DEVICE.items()})
    properties["traits"] = present({name: custom[name] for name in sorted(custom)})
    return present(properties)


def _names(given: Any) -> list[str]:
    return [name for name in map(text, given) if name] if isinstance(given, list) else []


def _times(item: Item, trigger: str, received_at: datetime) -> dict[str, Any]:
    """The first date that can be read, or the receipt: the client pull lists no event date for an OPEN at all."""
    for field in _TIMES.get(trigger, ("eventdate",)):
        if at := _date(item.get(field)):
            return {"occurred_at": at}
    return {"occurred_at": received_at, "time_uncertain": True}


def _date(given: Any) -> datetime | None:
    """Unix seconds or milliseconds, or `31/12/2025 23:59` as the SOAP interface writes it."""
    try:
        found = _DAY_FIRST.fullmatch(given) if isinstance(given, str) and "/" in given else None
        if found:
            day, month, year, time = found.groups()
            return instant(f"{year}-{month}-{day}T{time}", "")
        return seconds_or_milliseconds(given, "")
    except MalformedItem:
        return None


def _by_sms(item: Item) -> bool:
    return str(item.get("type")).startswith("SMS")


def _recipient(item: Item) -> str:
    address, number = email(item.get("email")) or "", phone(item.get("mobile")) or ""
    return number or address if _by_sms(item) else address or number


def identity(item: Item) -> list[str]:
    """There is no event id: trigger, profile, delivery, link and recipient, with the second that every event id holds.

    One sign-up form may join several lists at once.
    """
    parts = [text(item.get(name)) or "" for name in ("type", "profile", "deliveryid", "clickurl")]
    return [*parts, _recipient(item), *(sorted(_names(item.get("listnames"))) if parts[0] == "OPTIN" else ())]


def send_key(item: Item) -> str | None:
    """The delivery and the recipient: PureResponse reports no send, so what ties responses together is computed."""
    delivery, recipient = text(item.get("deliveryid")), _recipient(item)
    return f"{delivery}/{recipient}" if delivery and recipient else None


def person_order(item: Item) -> tuple[str, ...]:
    """The address that the trigger is about."""
    return ("phone", "email") if _by_sms(item) else ("email", "phone")


def accepted(_delivery: RawDelivery) -> Reply:
    """A plain OK, as PureResponse's own interfaces answer."""
    return Reply(body="OK", headers={"content-type": "text/plain"})


SOURCE = Source(
    name="pure360",
    verify=shared_secret(),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=person_order,
    send_key=send_key,
    exports={"csv": from_log},
    layout=layout,
    accepted=accepted,
    docs=Docs(
        title="Pure360 PureResponse event notifications",
        url="https://apihub.pure360.com/documentation/EventNotification/references/http.html",
        setup=(
            "Put a connection file for each profile under definitions/connections/; `espial validate` prints its path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl, that path, `?key=` and the secret.",
            "Have event notifications enabled on the profile; opens and clicks need tracking in the email as well.",
            "For each of the eleven triggers choose HTTP (POST) as its process and give the URL.",
            "Send a campaign; its events show up with `espial events --person` and `espial events --campaign`.",
        ),
        secret="A long random token, safe in a URL; PureResponse can show it nowhere else.",  # noqa: S106
        answers="200 and `OK` once it is durable. Whether and how often PureResponse tries again is not published.",
        notes=(
            "PureResponse signs nothing and posts from one fixed address: treat the URL as a secret.",
            "A trigger has one process at a time: those that go by email, FTP or client pull do not come here.",
            "Published are the fields of DELIVERYSTART, DELIVERY and OPEN; those of the other eight are not confirmed.",
            "Names are read whatever their case and punctuation; what is not known is taken for a custom field.",
            "The recipient's custom fields are `properties.traits`.",
            "The setting `external_id_field` names the custom field that holds your own customer id.",
            "DELIVERY says that a campaign goes out, not that sending is complete; sends are not reported by person.",
            "`campaign.id` is the Delivery_ID.",
            "A date that is missing or cut short leaves the time of receipt, marked `time_uncertain`.",
            "An OPTOUT is for the whole channel, of whichever profile: it suppresses the address.",
            "Numbers are kept as given; `international_phones: true` says that they begin with their country code.",
            (
                "Logs of the process FTP, moved to exports/pure360/<connection>/, are read line by line, whatever "
                "quotation marks are missing; a line and a post of one notification are one event. Their names of "
                "custom fields are in small letters."
            ),
            "Several events in one post are not documented, but read: arrays with indexes or of equal length.",
            "Arrays that do not fit together are quarantined whole, never guessed.",
        ),
    ),
)
