"""Braze's vocabulary (Currents v10) as tables: event types, fields and what each means here."""

from __future__ import annotations

from collections.abc import Mapping

from espial.vocabulary import EventType

CHANNELS: Mapping[str, str] = {
    "email": "email",
    "sms": "sms",
    "rcs": "sms",
    "pushnotification": "push",
    "push": "push",
    "whatsapp": "whatsapp",
    "webhook": "webhook",
    "contentcard": "inapp",
    "inappmessage": "inapp",
    "banner": "inapp",
    "featureflag": "inapp",
    "line": "none",
}
"""Message family, or the `channel` of a consent change -> ours."""

_COMMON = {"Abort": EventType.DROPPED, "Retry": EventType.QUEUED}
_CHAT = {
    "Send": EventType.SENT,
    "Delivery": EventType.DELIVERED,
    "Read": EventType.OPENED,
    "Click": EventType.CLICKED,
    "Failure": EventType.FAILED,
    "InboundReceive": EventType.REPLIED,
    **_COMMON,
}
_MESSAGES: Mapping[str, Mapping[str, EventType]] = {
    "email": {
        "Send": EventType.SENT,
        "Delivery": EventType.DELIVERED,
        "Deferral": EventType.DEFERRED,
        "Bounce": EventType.BOUNCED,
        "SoftBounce": EventType.SOFT_BOUNCED,
        "MarkAsSpam": EventType.COMPLAINED,
        "Unsubscribe": EventType.UNSUBSCRIBED,
        "Open": EventType.OPENED,
        "Click": EventType.CLICKED,
        **_COMMON,
    },
    "sms": {
        "Send": EventType.QUEUED,  # to Braze's SMS service; the carrier gets it with CarrierSend
        "CarrierSend": EventType.SENT,
        "Delivery": EventType.DELIVERED,
        "DeliveryFailure": EventType.FAILED,
        "Rejection": EventType.FAILED,
        "InboundReceive": EventType.REPLIED,
        "ShortLinkClick": EventType.CLICKED,
        **_COMMON,
    },
    "pushnotification": {
        "Send": EventType.SENT,
        "Open": EventType.OPENED,
        "Bounce": EventType.BOUNCED,
        "IosForeground": EventType.DELIVERED,
        **_COMMON,
    },
    "webhook": {"Send": EventType.SENT, "Failure": EventType.FAILED, **_COMMON},
    "whatsapp": _CHAT,
    "rcs": {**_CHAT, "Rejection": EventType.FAILED},
    "line": _CHAT,
    "contentcard": {
        "Send": EventType.SENT,
        "Impression": EventType.OPENED,
        "Click": EventType.CLICKED,
        "Dismiss": EventType.CUSTOM,
    },
    "inappmessage": {"Impression": EventType.OPENED, "Click": EventType.CLICKED},
    "banner": {"Impression": EventType.OPENED, "Click": EventType.CLICKED},
    "featureflag": {"Impression": EventType.OPENED},
}

EVENT_TYPES: Mapping[str, EventType] = {
    **{
        f"users.messages.{family}.{action}": type_
        for family, actions in _MESSAGES.items()
        for action, type_ in actions.items()
    },
    "users.behaviors.subscription.GlobalStateChange": EventType.SUBSCRIBED,
    "users.behaviors.subscriptiongroup.StateChange": EventType.SUBSCRIBED,
    "users.behaviors.CustomEvent": EventType.CUSTOM,
    "users.behaviors.Purchase": EventType.TRANSACTION,
    "users.behaviors.InstallAttribution": EventType.CUSTOM,
    "users.behaviors.Location": EventType.CUSTOM,
    "users.behaviors.Uninstall": EventType.CUSTOM,
    "users.behaviors.app.FirstSession": EventType.CUSTOM,
    "users.behaviors.app.SessionStart": EventType.CUSTOM,
    "users.behaviors.app.SessionEnd": EventType.CUSTOM,
    "users.behaviors.liveactivity.PushToStartTokenChange": EventType.CUSTOM,
    "users.behaviors.liveactivity.UpdateTokenChange": EventType.CUSTOM,
    "users.behaviors.pushnotification.TokenStateChange": EventType.PROFILE_UPDATED,
    "users.campaigns.Conversion": EventType.GOAL_REACHED,
    "users.campaigns.EnrollInControl": EventType.CUSTOM,
    "users.canvas.Conversion": EventType.GOAL_REACHED,
    "users.canvas.Entry": EventType.AUTOMATION_TRIGGERED,
    "users.canvas.costep.Send": EventType.CUSTOM,
    "users.canvas.exit.MatchedAudience": EventType.CUSTOM,
    "users.canvas.exit.PerformedEvent": EventType.CUSTOM,
    "users.canvas.experimentstep.Conversion": EventType.GOAL_REACHED,
    "users.canvas.experimentstep.SplitEntry": EventType.CUSTOM,
    "users.canvasstep.Progression": EventType.CUSTOM,
    "users.RandomBucketNumberUpdate": EventType.PROFILE_UPDATED,
    "users.UserDeleteRequest": EventType.PROFILE_UPDATED,
    "users.UserOrphan": EventType.PROFILE_UPDATED,
    "users.profile.Update": EventType.PROFILE_UPDATED,
    "agentconsole.AgentExecuted": EventType.CUSTOM,
    "agentconsole.ToolInvocation": EventType.CUSTOM,
}
"""Every documented type; consent changes, inbound messages and drops are refined by what they say."""

CAMPAIGN: Mapping[str, str] = {
    "campaign_id": "id",
    "campaign_name": "name",
    "message_variation_id": "variation_id",
    "message_variation_name": "variation_name",
    "canvas_id": "journey_id",
    "canvas_name": "journey_name",
    "canvas_step_id": "step_id",
    "canvas_step_name": "step_name",
    "send_id": "send_id",
    "dispatch_id": "dispatch_id",
}
"""Braze field -> field of the canonical campaign."""

MAPPED = frozenset(CAMPAIGN) | frozenset(
    [
        "user_id",
        "external_user_id",
        "email_address",
        "to_phone_number",
        "user_phone_number",
        "phone_number",
        "user_agent",
        "machine_open",
        "is_suspected_bot_click",
        "suspected_bot_click_reason",
        "app_group_id",
        "ip_pool",
        "sending_ip",
        "esp",
        "from_domain",
    ]
)
"""What has a canonical field, or is the same for a whole workspace; the rest is kept under its own name."""

LINK_FIELDS = frozenset({"url", "link_id", "link_alias"})
FAILURE_FIELDS = frozenset(
    [
        "bounce_reason",
        "deferral_reason",
        "abort_log",
        "abort_type",
        "retry_log",
        "retry_type",
        "error",
        "provider_error_code",
        "http_status_code",
        "raw_response",
    ]
)
"""Mapped too, in clicks and in failures."""

JSON_TEXTS = frozenset({"properties", "message_extras", "custom_attributes"})
"""Fields that hold JSON as text."""

SINGLES = frozenset({"price", "latitude", "longitude", "altitude", "ll_accuracy", "alt_accuracy", "duration"})
"""Fields that are 32-bit floats in Avro (`duration` in app.SessionEnd)."""

FAILED_TYPES = frozenset(
    {
        EventType.BOUNCED,
        EventType.SOFT_BOUNCED,
        EventType.DROPPED,
        EventType.DEFERRED,
        EventType.FAILED,
        EventType.QUEUED,
    }
)

_NO_MINOR = frozenset(
    [
        "BIF",
        "CLP",
        "DJF",
        "GNF",
        "ISK",
        "JPY",
        "KMF",
        "KRW",
        "PYG",
        "RWF",
        "UGX",
        "UYI",
        "VND",
        "VUV",
        "XAF",
        "XOF",
        "XPF",
    ]
)
_THREE = frozenset(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"])


def minor_units(currency: str | None) -> int:
    """Decimal places of a currency (ISO 4217), two if unknown."""
    code = (currency or "").upper()
    return 0 if code in _NO_MINOR else 3 if code in _THREE else 2
