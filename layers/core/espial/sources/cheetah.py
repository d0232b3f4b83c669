"""Marigold (Cheetah Digital): delivery webhooks of Engage, whose field names a mapping has to give.

https://getstarted.meetmarigold.com/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from espial.deliveries import Arrival, Item, RawDelivery
from espial.sources import Docs, EventFields, Export, Layout, Source
from espial.sources._mapping import Mapped, at, configured, paths, put, read
from espial.sources._shared import form, json_object
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "send": EventType.SENT,
    "sent": EventType.SENT,
    "delivered": EventType.DELIVERED,
    "softbounce": EventType.SOFT_BOUNCED,
    "soft_bounce": EventType.SOFT_BOUNCED,
    "bounced.soft": EventType.SOFT_BOUNCED,
    "hardbounce": EventType.BOUNCED,
    "bounce": EventType.BOUNCED,
    "bounced": EventType.BOUNCED,
    "bounced.hard": EventType.BOUNCED,
    "block": EventType.BLOCKED,
    "open": EventType.OPENED,
    "view": EventType.OPENED,
    "click": EventType.CLICKED,
    "complaint": EventType.COMPLAINED,
    "spam": EventType.COMPLAINED,
    "optout": EventType.UNSUBSCRIBED,
    "unsub": EventType.UNSUBSCRIBED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "optin": EventType.SUBSCRIBED,
    "skip": EventType.DROPPED,
    "suppressed": EventType.DROPPED,
}
"""Words of all of the vendor's products, whatever their case."""

DEFAULT = Mapped(
    items=(),
    channel="email",
    fields=paths(
        {
            "type": ("eventType", "bounce.type"),
            "id": "eventId",
            "occurred_at": "timestamp",
            "message_id": "messageId",
            "person.email": "recipient",
            "person.external_id": "customerId",
            "campaign.id": "campaignId",
            "campaign.name": "campaignName",
            "link.url": "url",
            "link.id": "linkId",
            "failure.class": ("bounce.type", "bounceType"),
            "failure.code": "bounce.code",
            "failure.reason": "bounce.reason",
            "properties": "metadata",
        }
    ),
    types=EVENT_TYPES,
)
"""Without settings. The names are a guess at the usual ones: they are to be configured."""

WORDS: Mapping[str, str] = {
    **{word: word for word in EVENT_TYPES if word.isalpha()},
    "sends": "send",
    "opens": "open",
    "clicks": "click",
    "bounces": "bounced",
    "bounce": "bounced",
    "hardbounces": "hardbounce",
    "softbounces": "softbounce",
    "unsubs": "unsub",
    "unsubscribes": "unsubscribe",
    "optouts": "optout",
    "complaints": "complaint",
}
"""In the name of a file or table -> what its lines report."""
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "type": ("event", "activity", "activitytype"),
    "id": ("eventid",),
    "occurred_at": (
        *("eventdt", "eventdate", "eventtime", "eventdatetime", "eventts", "timestamp", "datetime", "date"),
        *("senddt", "senddate", "opendt", "opendate", "clickdt", "clickdate", "bouncedt", "bouncedate"),
        *("unsubdt", "unsubdate", "sendtime", "opentime", "clicktime"),
    ),
    "message_id": ("messageid", "msgid"),
    "person.email": ("email", "emailaddress", "emailaddr"),
    "person.external_id": ("customerid", "custid", "profileid"),
    "campaign.id": ("campaignid", "blastid", "issueid", "cellid"),
    "campaign.name": ("campaignname", "issuename", "blastname"),
    "link.url": ("url", "linkurl"),
    "link.id": ("linkid",),
    "failure.code": ("bouncecode", "smtpcode"),
    "failure.reason": ("bouncereason", "reason"),
}
"""Columns, `folded`, that are taken for a field that the mapping's own are not there for."""
_BOUNCE_TYPES = ("bouncetype", "bouncecategory", "bounceclass")
_BOUNCED = frozenset({"bounced", "bounce"})
_LETTERS = re.compile(r"[A-Za-z]+")
_TABLE = re.compile(r"([^/]+)/dt=\d{8}/")
"""Of Sailthru's event stream: a folder an event, another a day."""

_PROOF = ("api_key", "sig", "format")
"""What stands beside the event in a postback of Engage by Sailthru."""


def _flat(delivery: RawDelivery) -> list[Item]:
    """A form's fields, or what its field `json` holds. Raises MalformedDelivery."""
    fields: Item = dict(form(delivery))
    return [json_object(fields.get("json")) or {name: one for name, one in fields.items() if name not in _PROOF}]


def layout(key: str, settings: Mapping[str, Any]) -> Layout:
    """Files have pipes and no quotation, Sailthru's commas and both, unless the settings say otherwise."""
    delimiter = settings.get("delimiter", "," if _TABLE.search(key) else "|")
    return Layout(
        encoding=settings.get("encoding", ""),
        delimiter=delimiter,
        columns=tuple(settings.get("header", ())),
        quoted=settings.get("quoted", delimiter != "|"),
    )


def _row(mapped: Mapped, row: Mapping[str, str], export: Export) -> Item:
    """A line as the webhook's report: the mapping's columns, then the usual ones, the type last."""
    item = mapped.from_csv(row, export)
    for target, columns in COLUMNS.items():
        places = mapped.fields.get(target, ())
        value = next((found for one in columns if (found := row.get(one))), None)
        if value and places and all(at(item, path) is None for path in places):
            put(item, places[0], value)
    _say_type(item, mapped, row, export)
    return item


def _say_type(item: Item, mapped: Mapped, row: Mapping[str, str], export: Export) -> None:
    """What the line says, else its file; of a bounce with its kind where that is one of the usual two."""
    places = mapped.fields["type"]
    said = at(item, places[0])
    word = said if type(said) is str else _file_type(export)
    class_ = next((found for one in _BOUNCE_TYPES if (found := row.get(one))), "")
    if word.lower() in _BOUNCED:
        kind = next((one for one in ("hard", "soft") if one in class_.lower()), "")
        word = f"{kind}bounce" if kind else "bounced"
    put(item, places[0], word)
    for path in places[1:]:  # would be joined to it
        put(item, path, None)
    place = mapped.fields.get("failure.class", ())[-1:]
    if class_ and place and place[0] not in mapped.fields["type"]:
        put(item, place[0], class_)


def _file_type(export: Export) -> str:
    table = _TABLE.search(export.key)
    name = table[1] if table else export.record_name or export.key.rpartition("/")[2]
    return next((found for pattern, found in _patterns(export.settings) if pattern.search(name)), "") or _word(name)


def _patterns(settings: Mapping[str, Any]) -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(pattern), word) for pattern, word in settings.get("file_types", {}).items()]


@lru_cache(maxsize=256)
def _word(name: str) -> str:
    return next((WORDS[one] for one in reversed(_LETTERS.findall(name.lower())) if one in WORDS), "")


def _shaped(source: Source, mapped: Mapped = DEFAULT) -> Source:
    """The mapping's source, for which the case of a word says nothing and a form is an event too."""

    def from_csv(row: Mapping[str, str], export: Export) -> Item:
        return _row(mapped, row, export)

    def split(delivery: RawDelivery) -> list[Item]:
        a_form = delivery.headers.get("content-type", "").lower().startswith("application/x-www-form-urlencoded")
        return _flat(delivery) if a_form else source.split(delivery)

    def normalise(item: Item, arrival: Arrival) -> EventFields:
        fields = source.normalise(item, arrival)
        word = fields["platform_type"].lower()
        if fields["type"] is EventType.UNKNOWN and word in source.event_types:
            fields |= {"type": source.event_types[word], "platform_type": word}
        return fields

    exports: Mapping[str, Callable[..., Any]] = {"csv": from_csv, "ndjson": mapped.from_value}
    return replace(source, split=split, normalise=normalise, exports=exports, layout=layout)


def _configured(settings: Mapping[str, Any]) -> Source:
    if not settings:
        return SOURCE
    given = settings.get("file_types", {})
    if not isinstance(given, dict) or not all(isinstance(word, str) for word in given.values()):
        raise ValueError("file_types: must be patterns of file names with words")
    try:
        _patterns(settings)
    except re.error as exc:
        raise ValueError(f"file_types: {exc.pattern!r} is no regular expression") from exc
    return _shaped(_mapped(settings), read(settings, DEFAULT))


_PLAIN: Source = Source(
    name="cheetah",
    verify=shared_secret(),
    split=DEFAULT.split,
    event_types=DEFAULT.types,
    normalise=DEFAULT.normalise,
    identity=DEFAULT.identity,
    person_order=DEFAULT.person_order,
    send_key=DEFAULT.send_key,
    configured=_configured,
    docs=Docs(
        title="Cheetah Digital / Marigold Engage",
        url="https://getstarted.meetmarigold.com/",
        setup=(
            "Put a connection file under definitions/connections/; make up a long random secret.",
            (
                "In Marigold's Delivery Cloud add a webhook for deliveries and bounces: the stack's output ApiUrl with "
                "the path that `espial validate` prints; Basic, Bearer or a header of your own shows the secret."
            ),
            (
                "Look at the first report with `espial quarantine show` or in the raw archive, and map its fields "
                "under settings as for custom_json."
            ),
            "For Engage by Sailthru: put the URL with `?key=<the secret>` into the postback of each event.",
        ),
        secret="`user:password` of Basic Auth, a token, or the value of the header that the setting "  # noqa: S106
        "`secret_header` names.",
        answers="Up to five attempts within 24 hours, the first again after a second; what fails in between is lost.",
        notes=(
            (
                "Find out which of the vendor's products you have: Engage+ (Cheetah Messaging) and CheetahMail post no "
                "events; they drop activity files."
            ),
            (
                "Activity files of Engage+ and CheetahMail go to exports/cheetah/<connection>/: pipes, no quotation; "
                "the settings `delimiter`, `quoted`, `encoding` and `header` (names, where the file has none) say "
                "otherwise, `time_zone` and `day_first` how times are meant. A word of the file's name says what its "
                "lines report (`acme__send_20260115.csv`), or the setting `file_types`: patterns with words."
            ),
            (
                "Sailthru's event stream goes there in its own folders, `<table>/dt=<day>/client_id=<id>/`; the table "
                "says what it reports."
            ),
            (
                "Columns are the mapping's, else usual names such as EMAIL, CUSTOMER_ID, EVENT_DT. A line and a "
                "webhook's report are one event if both have the id that the mapping names."
            ),
            "Not confirmed: the columns of activity files and of the event stream.",
            (
                "Not confirmed: the field names of the Delivery Cloud and whether it signs. The mapping can be changed "
                "by settings, and a signature chosen by `signature`, as for custom_json."
            ),
            (
                "Not confirmed either: how Sailthru signs its postbacks (an MD5 in the field `sig`). It is not "
                "checked; the secret in the URL is."
            ),
        ),
    ),
)
SOURCE = _shaped(_PLAIN)
_mapped = configured(lambda: _PLAIN, DEFAULT)
