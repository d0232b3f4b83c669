"""Brainstorm Automation contact sync (VBOUT under another name): a contact's whole history in a form, or a GET.

https://brainstorm.freshdesk.com/support/solutions/articles/80000958129-synchronize-user-data-using-automation
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from espial.deliveries import Arrival, Item, RawDelivery, Reply
from espial.errors import MalformedDelivery, MalformedItem
from espial.sources import Docs, EventFields, Source
from espial.sources._brainstorm_shortcodes import fields_of, told, unfilled
from espial.sources._shared import (
    MANY_FIELDS,
    email,
    form,
    inner,
    instant,
    leaves,
    lone_object,
    nested,
    phone,
    present,
    query,
    seconds_or_milliseconds,
    text,
)
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "contact": EventType.PROFILE_UPDATED,
    "campaigns-opened": EventType.OPENED,
    "links-clicked": EventType.CLICKED,
    "pages-visited": EventType.PAGE_VIEWED,
    "automation-triggered": EventType.AUTOMATION_TRIGGERED,
    "goals-reached": EventType.GOAL_REACHED,
    "webhooks-triggered": EventType.WEBHOOK_TRIGGERED,
    "lead-score": EventType.LEAD_SCORE_CHANGED,
    "lead-status": EventType.LEAD_STATUS_CHANGED,
    "parameters": EventType.PROFILE_UPDATED,
}
"""By section of the post (D17): `contact` with its `fields`, then the history; `parameters` is the query of a GET."""

CHANNELS = {"campaigns-opened": "email", "links-clicked": "email", "pages-visited": "web"}
DATES = {
    "campaigns-opened": "open_date",
    "pages-visited": "visit_date",
    "automation-triggered": "trigger_date",
    "goals-reached": "reach_date",
    "webhooks-triggered": "trigger_date",
    "lead-score": "score_date",
}
PLACES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "campaigns-opened": {"id": ("campaign", "id"), "name": ("campaign", "name")},
    "links-clicked": {"url": ("link", "url")},
    "pages-visited": {"page": ("properties", "url")},
    "automation-triggered": {"id": ("campaign", "journey_id"), "name": ("campaign", "journey_name")},
    "goals-reached": {"id": ("properties", "goal_id"), "name": ("properties", "goal_name")},
    "webhooks-triggered": {"id": ("properties", "webhook_id"), "name": ("properties", "webhook_name")},
    "lead-score": {"id": ("properties", "score_id"), "name": ("properties", "score_name")},
}
"""Where what a row says (D21-D28) stands in the event; whatever else it says is among the properties."""
_TOLD_BY = {"links-clicked": ("url",), "pages-visited": ("page",), "lead-status": ("score", "label")}
"""What tells a section's rows apart, besides their date; the id, else the name, for all others."""

MOST_CLICKS = 10_000
"""Clicks told one by one, over all links of a post; of a link with more than its share, the newest."""
UNDATED = datetime(2000, 1, 1, tzinfo=UTC)
"""In the id of what has no date: every sync tells it again, and it must be the same event on every day."""

_PERSON = {
    **dict.fromkeys(("id", "contact-id", "contactid"), "source_contact_id"),
    **dict.fromkeys(("email", "e-mail", "email-address"), "email"),
    **dict.fromkeys(("phone", "mobile", "phone-number"), "phone"),
}
"""Fields that name the person, as parameters of a GET or shortcodes tell them."""
_READERS: Mapping[str, Callable[[Any], str | None]] = {"email": email, "phone": phone}
_SLASHED = re.compile(
    r"(\d{1,2})/(\d{1,2})/(\d{4})(?: (\d{1,2}):(\d\d)(?::(\d\d))?(?: ?([AP])M)?)?", re.ASCII | re.IGNORECASE
)


class Options(NamedTuple):
    """A connection's settings, read.

    fields       parameter of a GET -> the field that the setting `url_template` says it holds.
    external_id  the custom field with the id shared with other systems, as it is told.
    each_click   whether a link's counter becomes that many clicks, or one event whenever it has changed.
    day_first    whether `1/2/2026` is the first of February.
    zone         of dates that name none.
    """

    fields: Mapping[str, str] = MappingProxyType({})
    external_id: str = ""
    each_click: bool = True
    day_first: bool = False
    zone: tzinfo = UTC


DEFAULT = Options()


def split(delivery: RawDelivery, options: Options = DEFAULT) -> list[Item]:
    """The contact and each row of its history; of a GET, or a form without sections, its parameters.

    A post may have data in its URL as well (D10), of which the body's wins. Sections may be missing or empty (D30).
    Raises MalformedDelivery for what cannot be read, and for a history of nobody.
    """
    given = {_section(name): value for name, value in _given(delivery).items()}
    contact = given.pop("contact", None)
    if not isinstance(contact, dict):
        if delivery.method == "GET" or not given.keys() & {*PLACES, "fields", "lead-status"}:
            return [{"section": "parameters", "row": given}] if given else []
        contact = {}
    named = present({name: text(contact.get(name)) for name in ("id", "email", "phone")})
    if not named:
        raise MalformedDelivery("missing_contact", "the contact has neither id, email nor phone", "contact")
    fields = [one for one in _rows(given.pop("fields", None)) if isinstance(one, dict)]
    if options.external_id:
        found = (text(one.get("value")) for one in fields if told(text(one.get("name")) or "") == options.external_id)
        named["external_id"] = next(found, None)
    status = _rows(given.get("lead-status"))
    profile = {"section": "contact", "row": contact, "fields": fields, "status": status}
    return [{"contact": named, **item} for item in (profile, *_history(given, options))]


def _given(delivery: RawDelivery) -> Item:
    own = nested(query(delivery))
    if delivery.method == "GET":
        return own
    is_json = "json" in delivery.headers.get("content-type", "").lower() and delivery.body.lstrip()[:1] == b"{"
    return {**own, **(lone_object(delivery)[0] if is_json else nested(form(delivery, MANY_FIELDS)))}


def _section(name: str) -> str:
    """A section's name whatever its case, hyphens and underscores; any other as it is."""
    known = told(name)
    return known if known in EVENT_TYPES or known == "fields" else name


def _rows(section: Any) -> list[Any]:
    """A list; a record alone (D28); or records under numbers that are out of order or have gaps."""
    if isinstance(section, dict) and any(isinstance(one, dict) for one in section.values()):
        return [section[name] for name in sorted(section, key=lambda name: (len(name), name))]
    if isinstance(section, dict):
        return [section]
    return section if isinstance(section, list) else [section] if text(section) else []


def _history(given: Item, options: Options) -> Iterator[Item]:
    """Every row but the contact's; sections that are not known yet are kept too, if they hold records."""
    for section, value in given.items():
        rows = _rows(value)
        if section == "links-clicked":
            for row in rows:
                yield from _clicks(row, MOST_CLICKS // len(rows) or 1, options)
        elif section == "lead-status":
            scores = [one for one in _rows(given.get("lead-score")) if isinstance(one, dict)]
            since = max(filter(None, (_date(one.get("score_date"), options) for one in scores)), default=None)
            yield from ({"section": section, "row": row, "since": since and since.isoformat()} for row in rows)
        else:
            yield from ({"section": section, "row": row} for row in rows if section in PLACES or isinstance(row, dict))


def _clicks(row: Any, share: int, options: Options) -> Iterator[Item]:
    """The counter says how often, not when (D22): its first click, its second … are events, the same in every sync."""
    given = text(row.get("clicks", 1)) if isinstance(row, dict) else None
    if given is None or not (given.isascii() and given.isdigit() and len(given) < 10):
        yield {"section": "links-clicked", "row": row}
        return
    clicks = int(given)
    first = max(1, clicks - share + 1) if options.each_click else max(1, clicks)
    yield from ({"section": "links-clicked", "row": row, "click": click} for click in range(first, clicks + 1))


def normalise(item: Item, arrival: Arrival, options: Options = DEFAULT) -> EventFields:
    """One event. Raises MalformedItem for a row that is no record, says nothing, or counts what is no number."""
    section, row = _read(item)
    fields: EventFields = {
        "type": EVENT_TYPES.get(section, EventType.UNKNOWN),
        "platform_type": section,
        "channel": CHANNELS.get(section, "none"),
        **_times(section, row, arrival.received_at, options),
    }
    if section == "parameters":
        return {**fields, **_parameters(row, options)}
    contact = inner(item, "contact")
    fields["person"] = {
        "external_id": text(contact.get("external_id")),
        "email": email(contact.get("email")),
        "phone": phone(contact.get("phone")),
        "source_contact_id": text(contact.get("id")),
    }
    if section == "contact":
        return {**fields, "properties": _profile(item, row)}
    if section in EVENT_TYPES and not any(_told_by(section, row)):
        raise MalformedItem("empty_row", f"nothing tells a row of {section} from others", section)
    if section == "links-clicked" and type(item.get("click")) is not int:
        raise MalformedItem("bad_count", "clicks is not a whole number", section)
    return {**fields, **_row(section, row, item.get("click"), options)}


def _read(item: Item) -> tuple[str, Mapping[str, Any]]:
    """The section and the row. Raises MalformedItem."""
    if not isinstance(item, dict):
        raise MalformedItem("not_an_object", "an item is not an object")
    section, row = text(item.get("section")), item.get("row")
    if section is None:
        raise MalformedItem("missing_section", "section is missing or empty", "section")
    if not isinstance(row, dict):
        raise MalformedItem("not_an_object", f"a row of {section} is not an object", section)
    return section, row


def _row(section: str, row: Mapping[str, Any], click: Any, options: Options) -> EventFields:
    places = PLACES.get(section, {})
    mapped = {*places, DATES.get(section), "clicks" if section == "links-clicked" else None}
    parts: dict[str, dict[str, Any]] = {
        "campaign": {},
        "link": {},
        "properties": {name: row[name] for name in sorted(row) if name not in mapped},
    }
    for name, (part, place) in places.items():
        parts[part][place] = text(row.get(name))
    if section == "links-clicked":
        parts["properties"]["click" if options.each_click else "clicks"] = click
    if "score" in row:
        parts["properties"]["score"] = _number(row["score"])
    return {part: said for part, found in parts.items() if (said := present(found))}


def _profile(item: Item, contact: Mapping[str, Any]) -> dict[str, Any]:
    """The custom fields by name and, as they are now, score and label: a status that returns is no change (D28)."""
    rows = item.get("fields")
    fields = [one for one in rows if isinstance(one, dict)] if isinstance(rows, list) else []
    named = {text(one.get("name")) or f"field {text(one.get('id'))}": one for one in fields}
    statuses = item.get("status")
    status = statuses[0] if isinstance(statuses, list) and statuses and isinstance(statuses[0], dict) else {}
    traits = {
        **{name: one.get("value") for name, one in named.items()},
        "lead_score": _number(status.get("score")),
        "lead_label": text(status.get("label")),
    }
    ids = present({name: text(one.get("id")) for name, one in named.items()})
    facts = {"field_ids": ids, "profile_url": text(contact.get("profile_url"))}
    return {"traits": present(traits), **present(facts)}


def _parameters(row: Mapping[str, Any], options: Options) -> EventFields:
    """A GET's parameters as the person and traits (D12, D13). Raises MalformedItem if they name nobody."""
    person: dict[str, str | None] = {}
    traits: dict[str, Any] = {}
    for name in sorted(row):
        value = row[name]
        field = options.fields.get(name, told(name))
        if isinstance(value, str) and unfilled(value):
            continue
        if options.external_id and field == options.external_id:
            person["external_id"] = text(value)
        elif field in _PERSON:
            person.setdefault(_PERSON[field], _READERS.get(_PERSON[field], text)(value))
        else:
            traits[field.replace("-", "_") if name in options.fields else name] = value
    if not any(person.values()):
        raise MalformedItem("missing_person", "no parameter holds an id, email or phone", "email")
    return {"person": person, "properties": {"traits": present(traits)}}


def _times(section: str, row: Mapping[str, Any], received_at: datetime, options: Options) -> dict[str, Any]:
    """When a row says it happened, else its receipt.

    A contact without change, or a GET with the same parameters, is the same event for a day.
    """
    found = _date(row.get(DATES[section]), options) if section in DATES else None
    if found:
        return {"occurred_at": found}
    uncertain = {"occurred_at": received_at, "time_uncertain": True}
    return uncertain if section in ("contact", "parameters") else {**uncertain, "identified_at": UNDATED}


def _date(given: Any, options: Options) -> datetime | None:
    """Unix time, ISO 8601 or `12/31/2025 11:59 PM`, in the connection's zone where it names none; None for the rest."""
    written = text(given) or ""
    found = _SLASHED.fullmatch(written)
    if found:
        month, day, year, hour, minute, second, half = found.groups("")
        if options.day_first:
            day, month = month, day
        hours = int(hour or 0) % 12 + (12 if half in "Pp" else 0) if half else int(hour or 0)
        written = f"{year}-{month:>02}-{day:>02}T{hours:02}:{minute or '00'}:{second or '00'}"
    try:
        if written.isdigit():
            return seconds_or_milliseconds(written, "")
        local = datetime.fromisoformat(written)
        return instant((local if local.tzinfo else local.replace(tzinfo=options.zone)).isoformat(), "")
    except (MalformedItem, ValueError, OverflowError):
        return None


def _number(given: Any) -> int | float | str | None:
    """A score as a number where it is one, so that conditions can compare it."""
    written = text(given)
    try:
        number = float(written or "")
    except ValueError:
        return written
    if not abs(number) < 2**53:
        return written
    return int(number) if number.is_integer() else number


def _told_by(section: str, row: Mapping[str, Any]) -> list[str]:
    if section in _TOLD_BY:
        return [text(row.get(name)) or "" for name in _TOLD_BY[section]]
    return [text(row.get("id")) or text(row.get("name")) or ""]


def identity(item: Item) -> list[str]:
    """Every post tells the whole history again, so never its transaction: the contact, the row and the row's date.

    A contact with its fields, a GET, and rows of a section that is not known, by all that they say.
    """
    section, row = _read(item)
    contact = inner(item, "contact")
    who = text(contact.get("id")) or email(contact.get("email")) or text(contact.get("phone")) or ""
    if section == "contact":
        return [section, who, *leaves([row, item.get("fields"), item.get("status")])]
    if section == "parameters" or section not in EVENT_TYPES:
        return [section, who, *leaves(row)]
    date = text(row.get(DATES[section])) if section in DATES else None
    rest = (date, text(item.get("click")), text(item.get("since")))
    return [section, who, *_told_by(section, row), *(one or "" for one in rest)]


def accepted(_delivery: RawDelivery) -> Reply:
    """A plain OK; what the automation makes of it is not published."""
    return Reply(body="OK", headers={"content-type": "text/plain"})


def configured(settings: Mapping[str, Any]) -> Source:
    """The source as the settings shape it. Raises ValueError for settings that do not do."""
    options = _options(settings)
    return replace(SOURCE, split=partial(split, options=options), normalise=partial(normalise, options=options))


def _options(settings: Mapping[str, Any]) -> Options:
    template, zone = settings.get("url_template"), settings.get("time_zone")
    clicks, day_first = settings.get("clicks", "each"), settings.get("day_first", False)
    if template is not None and not isinstance(template, str):
        raise ValueError("url_template: must be the URL of the automation's GET")
    if clicks not in ("each", "aggregate"):
        raise ValueError("clicks: must be `each` or `aggregate`")
    if not isinstance(day_first, bool):
        raise ValueError("day_first: must be true or false")  # noqa: TRY004 - as for every wrong setting
    return Options(
        fields=fields_of(template) if template else {},
        external_id=told(text(settings.get("external_id_field")) or ""),
        each_click=clicks == "each",
        day_first=day_first,
        zone=UTC if zone is None else _zone(zone),
    )


def _zone(name: Any) -> tzinfo:
    from zoneinfo import ZoneInfo  # noqa: PLC0415  few connections have a zone, and every receiver imports this

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, TypeError, OSError) as exc:
        raise ValueError("time_zone: must be a name such as Europe/Berlin") from exc


SOURCE = Source(
    name="brainstorm",
    verify=shared_secret(),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("source_contact_id", "email", "phone", "external_id"),
    methods=frozenset({"GET", "POST"}),
    accepted=accepted,
    configured=configured,
    docs=Docs(
        title="Brainstorm Automation contact sync",
        url="https://brainstorm.freshdesk.com/support/solutions/articles/80000958129-synchronize-user-data-using-automation",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl, that path, `?key=` and the secret.",
            "In Brainstorm Automation: open the automation, add the action Synch Contact to Third Party.",
            "Choose which marketing data to synchronize, all of it, and insert the URL.",
            "Choose POST (a form, or JSON where it is offered), or GET with shortcodes: `&e=[#EMAIL#]&c=[#City#]`.",
            "For a GET whose parameters have names of your own, copy its URL into the setting `url_template`.",
            "Let a contact reach the action; its history shows up with `espial events --person`.",
        ),
        secret="A long random token, safe in a URL; the action can show it nowhere else.",  # noqa: S106
        answers="200 and `OK` once it is durable. Whether a failed call is made again is not published.",
        notes=(
            "Brainstorm Automation is VBOUT under another name; its own webhook action posts the same.",
            "Nothing is signed: the URL with its key is the secret.",
            "Every post tells the contact's whole history; what was told before counts once, for `dedupe_days`.",
            "Set `dedupe_days: 366` where automations come back to contacts after more than two months.",
            "A link has a counter and no dates: each click becomes an event, dated by receipt and `time_uncertain`.",
            "`clicks: aggregate` makes one event of a counter that has changed, with `properties.clicks`.",
            "Of a counter beyond 10,000 over all links of a post, the newest clicks are told.",
            "A contact's custom fields are `properties.traits`; the same contact again on the same day is no event.",
            "The lead's status is an event when score or label changed; as it is now it is among the traits.",
            "The setting `external_id_field` names the custom field that holds your own customer id.",
            "Dates are UTC unless `time_zone` names a zone, month first unless `day_first: true`; not confirmed.",
            "The same GET on the same day is a repetition; a shortcode left unfilled is no value.",
            "Not confirmed: the names of sections in JSON, one or several records of lead-status; both are read.",
        ),
    ),
)
