"""Mailchimp Marketing audience webhooks: form posts of one event, its fields in brackets (`data[merges][FNAME]`).

https://mailchimp.com/developer/marketing/guides/sync-audience-data-webhooks/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from espial.deliveries import Arrival, Item, RawDelivery, Reply
from espial.errors import MalformedItem
from espial.sources import Docs, EventFields, Export, Layout, Source
from espial.sources._files import check_times, local_instant, zone_of
from espial.sources._shared import email, form, inner, instant, nested, present, text, texts
from espial.verify import NO_SETTINGS, Scheme, from_hex, whole_seconds
from espial.verify.hmacs import Mac, Shown, hmac_signature
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

HEADER = "x-mailchimp-signature"

EVENT_TYPES: Mapping[str, EventType] = {
    "subscribe": EventType.SUBSCRIBED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "profile": EventType.PROFILE_UPDATED,
    "upemail": EventType.PROFILE_UPDATED,
    "cleaned": EventType.BOUNCED,
    "campaign": EventType.DELIVERY_COMPLETED,
}

ACTIVITY: Mapping[str, EventType] = {
    "sent": EventType.SENT,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "bounce": EventType.BOUNCED,  # or soft, as its kind says
    "abuse": EventType.COMPLAINED,
}
"""What only exports tell."""

CAMPAIGN_STATES: Mapping[str, EventType] = {
    "sent": EventType.DELIVERY_COMPLETED,
    "canceled": EventType.FAILED,
    "cancelled": EventType.FAILED,
}
ABUSE = "abuse"
"""The reason of an unsubscription or a cleaning that was a complaint."""

_TOLD = ("list_id", "id", "new_id", "email", "new_email", "action", "reason", "status")
_FACTS = (
    *("list_id", "action", "reason", "email_type", "web_id", "ip_signup", "merges"),
    *("old_email", "status", "subject"),
)
_MEMBERSHIP = frozenset({"subscribe", "unsubscribe", "cleaned"})
_RECEIVED = ("campaign_id", "campaign_title", "id", "url")


def handshake(delivery: RawDelivery, _secrets: Sequence[bytes]) -> Reply | None:
    """The validator asks by GET or HEAD whether the URL is there, and is told no more."""
    return Reply() if delivery.method in ("GET", "HEAD") else None


def split(delivery: RawDelivery) -> list[Item]:
    """The post's fields, nested by their brackets. Raises MalformedDelivery for what is no form."""
    return [nested(form(delivery))]


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what has no type, no data or no time; `fired_at` is taken for UTC."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "an event is not an object")
    kind, data = text(item.get("type")), inner(item, "data")
    if not kind:
        raise MalformedItem("missing_type", "type is missing or empty", "type")
    if not data:
        raise MalformedItem("missing_data", "there is no data[...]", "data")
    campaign = text(data.get("id" if kind == "campaign" else "campaign_id"))
    fields: EventFields = {
        "type": EVENT_TYPES.get(kind) or ACTIVITY.get(kind, EventType.UNKNOWN),
        "platform_type": kind,
        "channel": "email",
        "occurred_at": instant(item.get("fired_at"), "fired_at"),
        "person": _person(kind, data),
        "properties": present({name: data.get(name) for name in _FACTS}),
    }
    if title := text(data.get("campaign_title")):
        fields["campaign"] = {"id": campaign, "name": title}
    elif campaign:
        fields["campaign"] = {"id": campaign}
    special = _SPECIAL.get(kind)
    if special:
        special(data, fields)
    return fields


def _person(kind: str, data: Mapping[str, Any]) -> dict[str, str | None]:
    """Whom it is about; one whose address changed goes by the new one."""
    if kind == "campaign":
        return {}
    return {
        "email": email(data.get("new_email")) or email(data.get("email")),
        "source_contact_id": text(data.get("new_id")) or text(data.get("id")),
    }


def _chosen(data: Mapping[str, Any], fields: EventFields) -> None:
    ip, audience = text(data.get("ip_opt")), text(data.get("list_id"))
    if ip:
        fields["client"] = {"ip": ip}
    if data.get("reason") == ABUSE:
        fields["type"] = EventType.COMPLAINED
    elif audience:
        fields["topic"] = f"list/{audience}"


def _cleaned(data: Mapping[str, Any], fields: EventFields) -> None:
    reason = text(data.get("reason"))
    fields["type"] = EventType.COMPLAINED if reason == ABUSE else EventType.BOUNCED
    if reason:
        fields["failure"] = {"class": reason}


def _sent(data: Mapping[str, Any], fields: EventFields) -> None:
    fields["type"] = CAMPAIGN_STATES.get(text(data.get("status")) or "", EventType.UNKNOWN)


def _received(data: Mapping[str, Any], fields: EventFields) -> None:
    """What became of a campaign's message."""
    url, ip, bounce = text(data.get("url")), text(data.get("ip")), text(data.get("bounce_type"))
    if url:
        fields["link"] = {"url": url}
    if ip:
        fields["client"] = {"ip": ip}
    if bounce:
        fields["failure"] = {"class": bounce.lower(), "reason": text(data.get("reason"))}
        if bounce.lower() == "soft":
            fields["type"] = EventType.SOFT_BOUNCED


_SPECIAL: Mapping[str, Callable[[Mapping[str, Any], EventFields], None]] = {
    "subscribe": _chosen,
    "unsubscribe": _chosen,
    "cleaned": _cleaned,
    "campaign": _sent,
    **dict.fromkeys(ACTIVITY, _received),
}


def identity(item: Item) -> tuple[str, ...]:
    """Mailchimp numbers nothing: what fired, when, in which audience, about whom and why.

    Of membership only what an export says too; its second is in every event id.
    """
    data = inner(item, "data")
    kind = text(item.get("type")) or ""
    if kind in _MEMBERSHIP:
        return (kind, *texts(data, ("list_id", "action")), email(data.get("email")) or "")
    if kind in ACTIVITY:
        return (kind, *texts(data, _RECEIVED), email(data.get("email")) or "")
    return (*texts(item, ("type", "fired_at")), *texts(data, _TOLD))


# --- exports

_MEMBERS: Mapping[str, str] = {"subscribed": "subscribe", "unsubscribed": "unsubscribe", "cleaned": "cleaned"}
"""A file of an audience's members -> what they have in common; of those never subscribed nothing is reported."""
_ACTIONS: Mapping[str, str] = {
    **{name: name for name in ACTIVITY},
    "opens": "open",
    "clicks": "click",
    "bounces": "bounce",
    "complaints": "abuse",
    **dict.fromkeys(("unsub", "unsubs", "unsubscribe", "unsubscribes", "unsubscribed"), "unsubscribe"),
}
"""A file of a campaign's activity, or the action in its rows -> the webhook's word, or the one for what it lacks."""
_AUDIENCES = ("lists", "audiences")
_NO_REPORTS = frozenset({"templates", "gallery_files", "campaigns", "aggregate_activity", "reports"})
_WORDS = re.compile(r"[A-Za-z]+")
_CAMPAIGN_ID = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{10}(?![0-9A-Za-z])")
_TIMES = {
    "subscribe": ("confirmtime", "optintime"),
    "unsubscribe": ("unsubtime",),
    "cleaned": ("cleantime",),
}
_ANY_TIMES = ("timestamp", "time", "datetime", "date")
_COLUMNS = {
    "email": ("emailaddress", "email"),
    "id": ("memberid",),
    "campaign_id": ("campaignid",),
    "campaign_title": ("unsubcampaigntitle", "cleancampaigntitle", "campaigntitle"),
    "url": ("url",),
    "ip": ("ip",),
    "ip_opt": ("confirmip", "optinip"),
    "bounce_type": ("bouncetype",),
    "reason": ("unsubreason", "reason"),
}
_OWN = frozenset(
    (
        *_ANY_TIMES,
        "lastchanged",
        "action",
        "listid",
        *(one for names in (*_TIMES.values(), *_COLUMNS.values()) for one in names),
    )
)


def from_archive(row: Mapping[str, str], export: Export) -> Item | None:
    """A row of an account's export as the webhook that tells the same; None for what is no report or has no time.

    Raises MalformedItem for a time that is none.
    """
    get = row.get
    path = export.record_name or export.key
    kind = _ACTIONS.get(get("action", "").lower()) or _kind(path)
    times = [name for name in (*_TIMES.get(kind, ()), *_ANY_TIMES) if name in row]
    when = next((name for name in times if get(name)), "" if kind in _TIMES else next(iter(times), ""))
    if not kind or not when:
        return None
    data: Item = {}
    for ours, theirs in _COLUMNS.items():
        found = next((value for name in theirs if (value := get(name))), None)
        if found:
            data[ours] = found
    if "campaign_id" not in data and (campaign := _campaign_id(path)):
        data["campaign_id"] = campaign
    if kind in _MEMBERSHIP:
        data["list_id"] = get("listid") or _audience(path, export.settings)
        data["merges"] = {
            export.columns.get(name, name): value for name, value in row.items() if value and name not in _OWN
        }
    if kind == "unsubscribe":
        data["action"] = "unsub"
    return _item(kind, get(when), export.columns.get(when, when), data, export.settings)


def from_activity(row: Any, export: Export) -> list[Item]:
    """A line of the former Export API's campaign activity: `{address: [{action, timestamp, url, ip}]}`.

    Raises MalformedItem for an error that Mailchimp wrote into the file, for any other form and for a bad time.
    """
    if not isinstance(row, dict) or not all(isinstance(one, list) for one in row.values()):
        failed = isinstance(row, dict) and "error" in row
        said = f"Mailchimp says: {row['error']}" if failed else "a line is not an address with its activities"
        raise MalformedItem("vendor_error" if failed else "not_an_activity", said)
    campaign = text(export.settings.get("campaign_id")) or _campaign_id(export.record_name or export.key)
    items = []
    for address, activities in row.items():
        for one in activities:
            if not isinstance(one, dict):
                raise MalformedItem("not_an_activity", "an activity is not an object")
            word = text(one.get("action")) or ""
            kind = _ACTIONS.get(word, word)
            data = {name: value for name, value in one.items() if name not in ("action", "timestamp") and value}
            data |= {"email": address, "campaign_id": campaign}
            if kind == "unsubscribe":
                data |= {"list_id": _audience("", export.settings), "action": "unsub"}
            items.append(_item(kind, one.get("timestamp"), "timestamp", data, export.settings))
    return items


def _item(kind: str, when: Any, path: str, data: Item, settings: Mapping[str, Any]) -> Item:
    day_first = settings.get("day_first") is True
    at = local_instant(when, path, zone_of(settings), day_first=day_first)
    return {"type": kind, "fired_at": at.isoformat(), "data": data}


@lru_cache(maxsize=1024)
def _kind(path: str) -> str:
    """What a file reports, by its folders or its name."""
    *folders, name = path.lower().split("/")
    if not _NO_REPORTS.isdisjoint(folders):
        return ""
    words = _WORDS.findall(name)
    if not {*_AUDIENCES}.isdisjoint(folders):
        return next((_MEMBERS[word] for word in words if word in _MEMBERS), "")
    found = next((_ACTIONS[one] for one in reversed(folders) if one in _ACTIONS), "")
    found = found or next((_ACTIONS[word] for word in reversed(words) if word in _ACTIONS), "")
    return found or next((_MEMBERS[word] for word in words if word in _MEMBERS), "")


@lru_cache(maxsize=1024)
def _campaign_id(path: str) -> str | None:
    found = _CAMPAIGN_ID.search(path)
    return found[0] if found else None


def _audience(path: str, settings: Mapping[str, Any]) -> str:
    """Its id, which no export names, as the setting says; else its folder's name."""
    given = text(settings.get("list_id"))
    folders = path.split("/")[:-1]
    inside = next((folders[place + 1 :] for place, one in enumerate(folders) if one.lower() in _AUDIENCES), [])
    return given or (inside[0] if inside else "unnamed")


def layout(key: str, _settings: Mapping[str, Any]) -> Layout:
    """Templates, pictures and sums of activities report nothing."""
    return Layout(skip=not _NO_REPORTS.isdisjoint(key.lower().split("/")[:-1]))


def _configured(settings: Mapping[str, Any]) -> Source:
    check_times(settings)
    return SOURCE


def _read(delivery: RawDelivery) -> Shown:
    """`t=<seconds>,v1=<hexadecimal>` over `<seconds>.<body>`."""
    given = [part.partition("=") for part in delivery.headers.get(HEADER, "").replace(" ", "").split(",")]
    stamp = next((value for name, _, value in given if name == "t"), "")
    codes = [from_hex(value) for name, _, value in given if name == "v1"]
    return Shown(codes, (f"{stamp}.".encode("utf-8", "surrogatepass"), delivery.body), whole_seconds(stamp))


def _write(delivery: RawDelivery, now: datetime, mac: Mac) -> RawDelivery:
    stamp = str(int(now.timestamp()))
    code = mac((f"{stamp}.".encode(), delivery.body)).hex()
    return replace(delivery, headers={**delivery.headers, HEADER: f"t={stamp},v1={code}"})


SIGNED = hmac_signature(read=_read, write=_write)
SHOWN = shared_secret()


def _verify(
    delivery: RawDelivery,
    secrets: Sequence[bytes],
    now: datetime,
    *,
    settings: Mapping[str, Any] = NO_SETTINGS,
) -> None:
    """A signature where there is one, else the secret shown: older webhooks do not sign. Each needs the secret."""
    if HEADER in delivery.headers:
        SIGNED.verify(delivery, secrets, now, settings=settings)
    else:
        SHOWN.verify(delivery, secrets, now, settings=settings)


SOURCE = Source(
    name="mailchimp",
    verify=Scheme(verify=_verify, sign=SIGNED.sign, new_secret=SIGNED.new_secret),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("email", "source_contact_id"),
    exports={"csv": from_archive, "ndjson": from_activity},
    layout=layout,
    configured=_configured,
    handshake=handshake,
    docs=Docs(
        title="Mailchimp Marketing",
        url="https://mailchimp.com/developer/marketing/guides/sync-audience-data-webhooks/",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Make up a long random key (letters and digits) as the connection's secret.",
            "Apply it; the webhook's URL is the stack's output ApiUrl, that path, and `?key=` with the key.",
            "In Mailchimp: Audience, Settings, Webhooks, Create New Webhook; paste the URL, choose events and sources.",
            "Or create it by API (POST /lists/{list_id}/webhooks) and store the `signing_secret` of the answer.",
            "Change a test contact; its events show up with `espial events --person`.",
        ),
        secret="The key in the URL, or the webhook's signing secret, which Mailchimp shows once.",  # noqa: S106
        answers="An answer is awaited for ten seconds; failures are retried for about 75 minutes, each signed anew. "
        "Five hundred may be waiting. Saving a webhook asks for the URL by GET, which is answered 200.",
        notes=(
            "Where a post is signed the signature alone counts; where it is not, the key in the URL.",
            "`fired_at` says no time zone: it is taken for UTC, which is not confirmed.",
            "An unsubscription or cleaning for `abuse` is a complaint, a cleaning else a bounce.",
            "Joining or leaving an audience is about that one alone: `properties.topic` is `list/<its id>`.",
            "`upemail` is about the new address, with `properties.old_email`; mostly a `profile` comes with it.",
            "A `campaign` sent is `delivery_completed`; sends, opens and clicks do not come by webhook.",
            (
                "Account exports (the ZIP, or single files of it) and files of the former Export API's campaign "
                "activity go to exports/mailchimp/<connection>/: sends, opens, clicks, bounces, unsubscriptions and "
                "complaints by campaign, and members with the time they joined, left or were cleaned."
            ),
            (
                "An export does not name the audience's id. With the setting `list_id`, for a connection an audience, "
                "joining and leaving are the webhook's events. Without it they are events of their own, whose topic is "
                "the audience's folder."
            ),
            "Times of exports are taken for UTC unless the setting `time_zone` says otherwise; rows without are left.",
            "Not confirmed: names of files and columns of account exports; they are read by the words in them.",
            "Fields of `cleaned`, `upemail` and `campaign` are known from use, not from the manual.",
        ),
    ),
)
