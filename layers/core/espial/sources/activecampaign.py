"""ActiveCampaign webhooks: form posts with bracketed names, one event each, neither signed nor numbered nor retried.

https://developers.activecampaign.com/page/webhooks
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedItem
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import (
    email,
    form,
    inner,
    instant,
    known,
    leaves,
    nested,
    others,
    phone,
    present,
    remaining,
    text,
)
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "subscribe": EventType.SUBSCRIBED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "sent": EventType.DELIVERY_STARTED,
    "sent_campaign": EventType.DELIVERY_STARTED,
    "open": EventType.OPENED,
    "read": EventType.OPENED,
    "click": EventType.CLICKED,
    "bounce": EventType.BOUNCED,
    "reply": EventType.REPLIED,
    "forward": EventType.CUSTOM,
    "share": EventType.CUSTOM,
    "update": EventType.PROFILE_UPDATED,
    "contact_add": EventType.PROFILE_UPDATED,
    "contact_tag_added": EventType.TAG_ADDED,
    "contact_tag_removed": EventType.PROFILE_UPDATED,
    "sms_sent": EventType.SENT,
    "sms_reply": EventType.REPLIED,
    "sms_unsub": EventType.UNSUBSCRIBED,
    **dict.fromkeys(
        (
            "subscriber_note",
            "contact_task_add",
            "list_add",
            "deal_add",
            "deal_update",
            "deal_note_add",
            "deal_pipeline_add",
            "deal_stage_add",
            "deal_task_add",
            "deal_task_complete",
            "deal_tasktype_add",
            "account_add",
            "account_update",
            "account_contact_add",
            "account_contact_update",
        ),
        EventType.CUSTOM,
    ),
}

_EMAIL = frozenset(
    {
        "subscribe",
        "unsubscribe",
        "sent",
        "sent_campaign",
        "open",
        "read",
        "click",
        "bounce",
        "reply",
        "forward",
        "share",
    }
)
_NO_TRAITS = frozenset({"id", "email", "phone", "ip4", "fields"})
_NAMED = frozenset({"id", "name"})
_MAPPED = frozenset({"type", "date_time", "contact", "campaign", "link", "bounce", "client_user_agent"})


def split(delivery: RawDelivery) -> list[Item]:
    """The one event of a form. Raises MalformedDelivery for what is no form."""
    return [nested(form(delivery))]


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object or has no type or no time."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "the report is not an object")
    kind = text(item.get("type"))
    if kind is None:
        raise MalformedItem("missing_event", "type is missing or empty", "type")
    contact, campaign, link = inner(item, "contact"), inner(item, "campaign"), present(inner(item, "link"))
    type_ = EVENT_TYPES.get(kind, EventType.UNKNOWN)
    fields: EventFields = {
        "type": type_,
        "platform_type": kind,
        "channel": "email" if kind in _EMAIL else "sms" if kind.startswith("sms_") else "none",
        "occurred_at": instant(item.get("date_time"), "date_time"),
        "person": {
            "email": email(contact.get("email")),
            "phone": phone(contact.get("phone")),
            "source_contact_id": text(contact.get("id")),
        },
        "properties": _properties(item, contact, campaign),
    }
    named = {"id": text(campaign.get("id")), "name": text(campaign.get("name"))}
    if named["id"] not in (None, "0"):
        fields["campaign"] = named
    if link:
        fields["link"] = {"id": text(link.get("id")), "url": text(link.get("url"))}
    if user_agent := text(item.get("client_user_agent")):
        fields["client"] = {"user_agent": user_agent}
    listed = text(item.get("list"))
    if type_ is EventType.BOUNCED:
        _bounced(inner(item, "bounce"), fields)
    elif kind in ("subscribe", "unsubscribe") and listed not in (None, "0"):
        fields["topic"] = f"list/{listed}"
    return fields


def _properties(item: Item, contact: Mapping[str, Any], campaign: Mapping[str, Any]) -> dict[str, Any]:
    """What else is said; the contact's own fields, and its custom ones, are `traits`."""
    properties = remaining(item, _MAPPED)
    own = {name: contact[name] for name in others(tuple(contact), _NO_TRAITS)}
    properties["traits"] = present(inner(contact, "fields") | own)
    if rest := remaining(campaign, _NAMED):
        properties["campaign"] = rest
    return properties


def _bounced(bounce: Mapping[str, Any], fields: EventFields) -> None:
    kind = text(bounce.get("type"))
    if kind and kind.lower() == "soft":
        fields["type"] = EventType.SOFT_BOUNCED
    failure = {"class": kind, "code": text(bounce.get("code")), "reason": text(bounce.get("info"))}
    fields["failure"] = known(failure)


def identity(item: Item) -> list[str]:
    """Nothing numbers an event, and a repetition says the same to the letter: so everything it says."""
    return leaves(item)


def send_key(item: Item) -> str | None:
    """The campaign and the contact's address: no send is reported, so what ties responses together is computed."""
    campaign, recipient = text(inner(item, "campaign").get("id")), email(inner(item, "contact").get("email"))
    return f"{campaign}/{recipient}" if campaign not in (None, "0") and recipient else None


SOURCE = Source(
    name="activecampaign",
    verify=shared_secret(),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("email", "source_contact_id", "phone"),
    send_key=send_key,
    unsent=frozenset({"email"}),  # only a text message is reported when it is sent
    docs=Docs(
        title="ActiveCampaign webhooks",
        url="https://developers.activecampaign.com/page/webhooks",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl, that path, `?key=` and the secret.",
            "In ActiveCampaign: Settings, Developer, Manage Webhooks, Add.",
            "Paste the URL; tick the event types, all of them, and how they may be initiated: all four.",
            "Leave the list at any list and save.",
            "Open a campaign; its events show up with `espial events --person`.",
        ),
        secret="A long random token, safe in a URL; ActiveCampaign can show it nowhere else.",  # noqa: S106
        answers=(
            "Nothing is ever tried again: an event is lost unless the first answer is 2xx. "
            "410 would switch the webhook off for good; it is never answered."
        ),
        notes=(
            "ActiveCampaign signs nothing: whoever knows the URL can post, so treat it as a secret.",
            "No event has an id: reports that say the same to the letter are the same one.",
            "`sent` is a campaign that starts; there is no report of a message sent to one person.",
            "Joining or leaving a list is about that one alone, in `properties.topic` as `list/<id>`; 0 is all.",
            "Contacts' own and custom fields are `properties.traits`.",
            "Not confirmed: the fields of bounces and of SMS events; what is not known is kept as properties.",
        ),
    ),
)
