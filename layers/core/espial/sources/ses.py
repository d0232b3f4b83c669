"""Amazon SES: notifications and published events, over SNS, EventBridge or Data Firehose; one event, many recipients.

https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html
https://docs.aws.amazon.com/firehose/latest/dev/httpdeliveryrequestresponse.html
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from espial.compression import inflate
from espial.deliveries import Arrival, Item, RawDelivery, Reply
from espial.errors import MalformedDelivery, MalformedItem, SignatureError, TooLarge
from espial.messages import is_ours
from espial.sources import Docs, EventFields, Export, Layout, Source
from espial.sources._shared import email, inner, instant, mailbox, others, present, text, texts
from espial.sources._sns import SNS, envelope, is_notice, subscribe_url
from espial.verify import NO_SETTINGS, Scheme
from espial.verify.public_keys import public_key
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "Send": EventType.SENT,
    "Reject": EventType.REJECTED,
    "Bounce": EventType.BOUNCED,
    "Complaint": EventType.COMPLAINED,
    "Delivery": EventType.DELIVERED,
    "Open": EventType.OPENED,
    "Click": EventType.CLICKED,
    "Rendering Failure": EventType.REJECTED,
    "DeliveryDelay": EventType.DEFERRED,
    "Subscription": EventType.SUBSCRIBED,
    "Received": EventType.REPLIED,
}


class _Place(NamedTuple):
    """Under which name an event's own facts stand, and which list in there names its recipients, if any does.

    `of_each`: otherwise it happened to all whom the message was sent to. Who opened or clicked is not said.
    """

    facts: str
    recipients: str = ""
    of_each: bool = False


PLACES = {
    "Send": _Place("send", of_each=True),
    "Reject": _Place("reject", of_each=True),
    "Bounce": _Place("bounce", "bouncedRecipients"),
    "Complaint": _Place("complaint", "complainedRecipients"),
    "Delivery": _Place("delivery", "recipients"),
    "Rendering Failure": _Place("failure", of_each=True),
    "DeliveryDelay": _Place("deliveryDelay", "delayedRecipients"),
    "Received": _Place("receipt"),
    "Open": _Place("open"),
    "Click": _Place("click"),
    "Subscription": _Place("subscription"),
}
"""Others would stand under their own name, its first letter small."""

SUPPRESSED = frozenset({"Suppressed", "OnAccountSuppressionList"})
REFUSED = frozenset({"ContentRejected", "AttachmentRejected"})
"""Sub-types of a bounce: SES did not try; the receiver would not have it."""

NOTICES = ("Successfully validated SNS topic", "You have successfully subscribed")
"""How SES's own words begin when a topic is set up: text where an event would stand."""
_TOLD = ("timestamp", "feedbackId", "link", "ipAddress")
SETUP = "AmazonSnsSubscriptionSucceeded"

ACCESS_KEY = "x-amz-firehose-access-key"
REQUEST_ID = "x-amz-firehose-request-id"
LARGEST = 32_000_000
"""Bytes of a Firehose delivery once inflated: five times the default buffer."""

_OWN_TAGS = frozenset({"send_key"})
OWN_HEADER = "x-espial-send-key"
"""A key of `espial.messages`, with which our own mails are tagged: `s-…` a person's message, `n-…` a notification."""


# -- proof

_SHARED = shared_secret()


def _envelope(delivery: RawDelivery) -> dict[str, Any] | None:
    """The SNS message, if the delivery is one. What comes over another way shows a shared secret."""
    return None if ACCESS_KEY in delivery.headers else envelope(delivery)


def verify(
    delivery: RawDelivery, secrets: Sequence[bytes], now: datetime, *, settings: Mapping[str, Any] = NO_SETTINGS
) -> None:
    """SNS: signed, and about a topic of the setting `topics`, since anybody's topic is signed alike. Else a secret.

    Raises SignatureError. A public key among the secrets is no shared one: the whole world may know it.
    """
    notice = _envelope(delivery)
    if notice is None:
        shared = [secret for secret in secrets if b"-----BEGIN" not in secret and public_key("rsa", secret) is None]
        header = {"secret_header": ACCESS_KEY} if ACCESS_KEY in delivery.headers else {}
        _SHARED.verify(delivery, shared, now, settings={**settings, **header})
        return
    topics = settings.get("topics")
    if not isinstance(topics, list | tuple) or notice["TopicArn"] not in topics:
        raise SignatureError("the topic is not listed in the connection's setting `topics`")
    SNS.verify(delivery, secrets, now, settings=settings)


def key_urls(delivery: RawDelivery) -> Sequence[str]:
    """Of an SNS message its certificate."""
    return () if _envelope(delivery) is None else SNS.key_urls(delivery)


def confirm(delivery: RawDelivery, _settings: Mapping[str, Any]) -> str | None:
    """Where a subscription to one of the topics is confirmed."""
    notice = _envelope(delivery)
    return None if notice is None else subscribe_url(notice)


def accepted(delivery: RawDelivery) -> Reply:
    """Firehose takes its own request id, and a time in milliseconds, for an answer, and everything else for a no."""
    told: dict[str, Any] = {"accepted": True}
    if REQUEST_ID in delivery.headers:
        milliseconds = int(delivery.received_at.timestamp() * 1000)
        told = {"requestId": delivery.headers[REQUEST_ID], "timestamp": milliseconds}
    return Reply(body=orjson.dumps(told).decode(), headers={"content-type": "application/json"})


# -- items


def split(delivery: RawDelivery) -> list[Item]:
    """One item a recipient, who stands under `_recipient`, whatever the events came in.

    Raises MalformedDelivery for what is no JSON object, and for what does not inflate.
    """
    try:
        body = inflate(delivery.body, LARGEST) if _is_compressed(delivery) else delivery.body
        found = orjson.loads(body)
    except TooLarge as exc:
        raise MalformedDelivery("too_large", str(exc)) from exc
    except orjson.JSONDecodeError as exc:
        raise MalformedDelivery("not_json", str(exc)) from exc
    if not isinstance(found, dict):
        raise MalformedDelivery("not_an_object", "the body is not a JSON object")
    records = found.get("records")
    if not isinstance(records, list):
        return _items(found)
    return [item for record in records for report in _reports(record) for item in _items(report)]


FAILED = "processing-failed/"
"""Where Firehose puts what a transformation could not take, in a shape of its own."""
_RAW = "rawData"


def from_json(row: Any, _export: Export) -> list[Item]:
    """What Firehose put into a bucket: a report, or one that an HTTP endpoint did not take, in base64."""
    reports = _reports({"data": row[_RAW]}) if isinstance(row, dict) and _RAW in row else [row]
    return [item for report in reports for item in _items(report)]


def layout(key: str, _settings: Mapping[str, Any]) -> Layout:
    """Firehose's own failures are no reports."""
    return Layout(skip=FAILED in key)


def _is_compressed(delivery: RawDelivery) -> bool:
    return delivery.headers.get("content-encoding", "").strip().lower() == "gzip"


def _reports(record: Any) -> Iterable[Any]:
    """A Firehose record's lines; what cannot be read is given as it is, for `normalise` to refuse."""
    try:
        data = b64decode(record["data"], validate=True)
    except (KeyError, TypeError, ValueError):
        return [record]
    return [_loaded(line) for line in data.splitlines() if line.strip()]


def _loaded(document: str | bytes) -> Any:
    try:
        return orjson.loads(document)
    except orjson.JSONDecodeError:
        return document if isinstance(document, str) else document.decode("utf-8", "replace")


def _items(report: Any) -> list[Any]:
    """A report's recipients, out of the envelopes of SNS and EventBridge (the second may lie in the first)."""
    at = id_ = None
    if is_notice(report):
        message, at, id_ = report.get("Message"), report.get("Timestamp"), report.get("MessageId")
        if report["Type"] != "Notification" or (isinstance(message, str) and message.startswith(NOTICES)):
            return []
        report = _loaded(message) if isinstance(message, str) else message
    if isinstance(report, dict) and "detail-type" in report:
        at, id_ = report.get("time"), report.get("id")
        report = {"eventType": report["detail-type"], **inner(report, "detail")}
    if not isinstance(report, dict):
        return [report]
    if report.get("notificationType") == SETUP:
        return []
    recipients = _recipients(report)
    if type(report.get("mail")) is not dict:
        report["_id"], report["_at"] = id_, at
    if len(recipients) == 1:
        report["_recipient"] = recipients[0]
        return [report]
    return [{**report, "_recipient": one} for one in recipients]


def _recipients(report: Item) -> Sequence[Any]:
    """As the report names them: text, or objects with an `emailAddress`. One None where nobody is named, or any."""
    event = _event_of(report)
    place = _place(event)
    if place.recipients:
        named = inner(report, place.facts).get(place.recipients)
        return named if isinstance(named, list) and named else (None,)
    sent_to = inner(report, "mail").get("destination")
    if not isinstance(sent_to, list) or not sent_to or event == "Received":
        return (None,)
    return sent_to if len(sent_to) == 1 or place.of_each else (None,)


# -- events


def _event_of(item: Item) -> Any:
    return item.get("eventType", item.get("notificationType"))


def _place(event: Any) -> _Place:
    name = event if type(event) is str else ""
    return PLACES.get(name) or _Place(name[:1].lower() + name[1:])


def _facts(item: Item) -> Mapping[str, Any]:
    """What the event says besides its message."""
    return inner(item, _place(_event_of(item)).facts)


def _address(item: Item) -> str | None:
    recipient = item.get("_recipient")
    return email(recipient.get("emailAddress") if isinstance(recipient, dict) else recipient)


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event to one recipient. Raises MalformedItem without a type, a time or, for all but accounts', a message."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "a report is not a JSON object")
    event = _event_of(item)
    if type(event) is not str:
        raise MalformedItem("missing_event", "eventType is missing or not text", "eventType")
    mail, facts = inner(item, "mail"), _facts(item)
    message = text(mail.get("messageId"))
    if message is None and event in EVENT_TYPES:
        raise MalformedItem("missing_message", "mail.messageId is missing", "mail.messageId")
    recipient = item.get("_recipient")
    address = _address(item)
    if recipient is not None and address is None:
        raise MalformedItem("bad_recipient", "a recipient is not an address", "_recipient")
    fields: EventFields = {
        "type": EVENT_TYPES.get(event, EventType.UNKNOWN),
        "platform_type": event,
        "channel": "email" if mail else "none",
        "occurred_at": _time(item, facts, mail),
        "person": {"email": address},
        "message_id": message,
        "properties": _tags(mail),
    }
    reader = _READERS.get(event)
    if reader is not None:
        reader(item, facts, fields)
    return fields


def _time(item: Item, facts: Mapping[str, Any], mail: Mapping[str, Any]) -> datetime:
    """The event's own, else the message's: of SNS, EventBridge and Firehose each would put its own in its place."""
    if facts.get("timestamp") is not None:
        return instant(facts["timestamp"], f"{_place(_event_of(item)).facts}.timestamp")
    if mail:
        return instant(mail.get("timestamp"), "mail.timestamp")
    return instant(item.get("_at"), "timestamp")


def _tags(mail: Mapping[str, Any]) -> dict[str, Any]:
    """Message tags, name to value; of SES's own only the configuration set."""
    tags = inner(mail, "tags")
    found = {}
    for name in others(tuple(tags), _OWN_TAGS):
        if name[:4] != "ses:" and (tag := _first(tags[name])):
            found[name] = tag
    if used := _first(tags.get("ses:configuration-set")):
        found["configuration_set"] = used
    return found


def _first(values: Any) -> str | None:
    return text(values[0] if type(values) is list and values else values)


def _bounced(item: Item, facts: Mapping[str, Any], fields: EventFields) -> None:
    kind, sub_type = text(facts.get("bounceType")), text(facts.get("bounceSubType"))
    recipient = inner(item, "_recipient")
    if sub_type in SUPPRESSED:
        fields["type"] = EventType.DROPPED
    elif kind in ("Transient", "Undetermined"):
        fields["type"] = EventType.BLOCKED if sub_type in REFUSED else EventType.SOFT_BOUNCED
    fields["failure"] = {
        "class": "/".join(filter(None, (kind, sub_type))) or None,
        "code": text(recipient.get("status")),
        "reason": text(recipient.get("diagnosticCode")),
    }


def _complained(_item: Item, facts: Mapping[str, Any], fields: EventFields) -> None:
    kind, sub_type = text(facts.get("complaintFeedbackType")), text(facts.get("complaintSubType"))
    if sub_type in SUPPRESSED:
        fields["type"] = EventType.DROPPED
        fields["failure"] = {"class": sub_type}
    elif kind == "not-spam":
        fields["type"] = EventType.UNKNOWN
    named = facts.get("complainedRecipients")
    several = len(named) if isinstance(named, list) and len(named) > 1 else None
    fields["properties"] |= present({"complaintFeedbackType": kind, "possible_complainers": several})


def _delivered(_item: Item, facts: Mapping[str, Any], fields: EventFields) -> None:
    names = ("smtpResponse", "processingTimeMillis")
    fields["properties"] |= present({name: facts.get(name) for name in names})


def _engaged(_item: Item, facts: Mapping[str, Any], fields: EventFields) -> None:
    fields["client"] = {"ip": text(facts.get("ipAddress")), "user_agent": text(facts.get("userAgent"))}
    if link := text(facts.get("link")):
        fields["link"] = {"url": link}
    tags = {name: _first(values) for name, values in inner(facts, "linkTags").items()}
    fields["properties"] |= present({"linkTags": tags})


def _rejected(_item: Item, facts: Mapping[str, Any], fields: EventFields) -> None:
    fields["failure"] = {"class": "content", "reason": text(facts.get("reason"))}


def _not_rendered(_item: Item, facts: Mapping[str, Any], fields: EventFields) -> None:
    fields["failure"] = {"class": "rendering", "reason": text(facts.get("errorMessage"))}
    if template := text(facts.get("templateName")):
        fields["campaign"] = {"template_id": template}


def _delayed(item: Item, facts: Mapping[str, Any], fields: EventFields) -> None:
    recipient = inner(item, "_recipient")
    fields["failure"] = {
        "class": text(facts.get("delayType")),
        "code": text(recipient.get("status")),
        "reason": text(recipient.get("diagnosticCode")),
    }
    fields["properties"] |= present({"expirationTime": facts.get("expirationTime")})


def _subscribed(_item: Item, facts: Mapping[str, Any], fields: EventFields) -> None:
    """About all topics, or about those that changed: the one named in `topic` if it is one."""
    before, after = _topics(facts, "oldTopicPreferences"), _topics(facts, "newTopicPreferences")
    changed = {name: status for name, status in after.items() if before.get(name) != status}
    everything = inner(facts, "newTopicPreferences").get("unsubscribeAll") is True
    if everything or (changed and all(status == "OptOut" for status in changed.values())):
        fields["type"] = EventType.UNSUBSCRIBED
    lone = next(iter(changed)) if len(changed) == 1 and not everything else None
    fields["topic"] = lone
    said = {"topics": after, "contactList": facts.get("contactList"), "source": facts.get("source")}
    fields["properties"] |= present(said)


def _topics(facts: Mapping[str, Any], name: str) -> dict[str, str]:
    listed = inner(facts, name).get("topicSubscriptionStatus")
    given = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    topics = {text(one.get("topicName")): text(one.get("subscriptionStatus")) for one in given}
    return {topic: status for topic, status in topics.items() if topic and status}


def _received(item: Item, facts: Mapping[str, Any], fields: EventFields) -> None:
    """A mail to us: the person is who wrote it."""
    mail = inner(item, "mail")
    said = inner(mail, "commonHeaders")
    wrote = said.get("from")
    fields["person"] = {"email": mailbox(_first(wrote)) or mailbox(mail.get("source"))}
    verdicts = {name: text(inner(facts, name).get("status")) for name in ("spamVerdict", "virusVerdict")}
    fields["properties"] |= present(
        {"recipients": facts.get("recipients"), "subject": text(said.get("subject")), **verdicts}
    )


_READERS = {
    "Reject": _rejected,
    "Bounce": _bounced,
    "Complaint": _complained,
    "Delivery": _delivered,
    "Open": _engaged,
    "Click": _engaged,
    "Rendering Failure": _not_rendered,
    "DeliveryDelay": _delayed,
    "Subscription": _subscribed,
    "Received": _received,
}


def identity(item: Item) -> tuple[str, ...]:
    """What the event itself says: each way it may come by, each topic and each retry has ids of its own."""
    facts, mail = _facts(item), inner(item, "mail")
    message = text(mail.get("messageId")) or text(item.get("_id")) or ""
    return (_event_of(item), message, _address(item) or "", *texts(facts, _TOLD))


def send_key(item: Item) -> str | None:
    """Of our own mails the key they were sent under, which they carry as tag and header; else message and recipient."""
    mail, address = inner(item, "mail"), _address(item)
    message = text(mail.get("messageId"))
    return _own_key(mail) or (f"{message}/{address}" if message and address else None)


def _own_key(mail: Mapping[str, Any]) -> str | None:
    """Published events carry tags, and notifications headers where that is switched on."""
    tags, headers = mail.get("tags"), mail.get("headers")
    if type(tags) is dict:
        key = _first(tags.get("send_key"))
        return key if is_ours(key) else None
    listed = [one for one in headers if isinstance(one, dict)] if type(headers) is list else []
    named = [text(one.get("value")) for one in listed if str(one.get("name")).lower() == OWN_HEADER]
    return next((key for key in named if is_ours(key)), None)


SOURCE = Source(
    name="ses",
    verify=Scheme(verify=verify, sign=SNS.sign, new_secret=SNS.new_secret, key_urls=key_urls),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("email",),
    send_key=send_key,
    confirm=confirm,
    accepted=accepted,
    exports={"ndjson": from_json},
    layout=layout,
    docs=Docs(
        title="Amazon SES",
        url="https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html",
        setup=(
            (
                "Put a connection file under definitions/connections/: for SNS with `secrets: []` and the ARNs of your "
                "topics in the setting `topics`; for EventBridge and Firehose with the reference of a secret. `espial "
                "validate` prints the webhook's path."
            ),
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In Amazon SES: Configuration sets, your set, Event destinations, Add destination; select all event types.",
            (
                "For SNS: choose Amazon SNS and the topic; then in Amazon SNS: Topics, the topic, Create subscription, "
                "protocol HTTPS, the URL as endpoint, raw message delivery off. It confirms itself within a minute."
            ),
            (
                "For Firehose: choose Amazon Data Firehose and a stream whose destination is HTTP Endpoint: the URL, "
                "the secret as access key, content encoding GZIP, buffer size 1 MiB."
            ),
            (
                "For EventBridge: choose Amazon EventBridge; in Amazon EventBridge create an API destination with the "
                "URL, POST, and a connection that shows the secret by Basic (`user:password`) or by an API key named "
                "`Authorization`; and a rule on the default bus for the source aws.ses with that target."
            ),
            "Send a message with the configuration set; its events show up with `espial events --person`.",
        ),
        secret=(  # noqa: S106
            "SNS: none; the certificates are fetched from SNS itself. A public key or certificate, PEM, pins it "
            "instead. EventBridge and Firehose: a text of your choice."
        ),
        keyless=True,
        settings={"topics": ["arn:aws:sns:eu-west-1:111122223333:ses-events"]},
        answers=(
            "SNS tries again for whatever is no answer, 429 or 5xx (three times, 20 seconds apart, unless the topic's "
            "delivery policy says more, an hour at most), but takes other 4xx for final: attach a dead-letter queue to "
            "the subscription. EventBridge waits 5 seconds and tries again for a day; Firehose waits 3 minutes and "
            "then keeps what was not taken in its backup bucket."
        ),
        notes=(
            (
                "Firehose may also write to a bucket: with the prefix exports/ses/<connection>/, GZIP or not. The "
                "events are the same as over SNS. What an HTTP endpoint did not take (http-endpoint-failed/) is read, "
                "what a transformation did not (processing-failed/) is left alone."
            ),
            (
                "Messages of topics that `topics` does not list are refused, and their subscriptions never confirmed: "
                "anybody can point a topic of theirs at the URL, and it is signed as rightly as yours."
            ),
            "A connection is for SNS or for EventBridge and Firehose, unless its secrets hold a pinned key as well.",
            "An event of several recipients is one event each; opens and clicks of a mail to several name nobody.",
            "A complaint may name everybody at the complainer's provider; `possible_complainers` says how many.",
            "The time of a sent, rejected or unrendered message is that of the message.",
            (
                "Identity is the content, so that the same event over two ways counts once; notification and published "
                "event of one bounce count once too, and what either says more is kept."
            ),
            "Message tags become `properties`; the configuration set becomes `configuration_set`.",
            "Mails that Espial sends through SES carry their send key, and their events settle an unknown outcome.",
            "The setting `max_age_seconds` narrows how old a signed message may be (a day by default).",
            "Hosts of SNS outside the partitions amazonaws.com and amazonaws.com.cn are not accepted.",
        ),
    ),
)
