"""The words of the canonical event. Standard library only: source modules name these on the acknowledging path."""

from __future__ import annotations

from enum import StrEnum


class EventType(StrEnum):
    """What happened, in the field's terms. Values are what feeds, rules and triggers see."""

    # message: what became of one message to one recipient
    QUEUED = "queued"
    PROCESSED = "processed"
    SENT = "sent"
    DELIVERED = "delivered"
    DEFERRED = "deferred"
    BOUNCED = "bounced"
    SOFT_BOUNCED = "soft_bounced"
    BLOCKED = "blocked"
    REJECTED = "rejected"
    DROPPED = "dropped"
    FAILED = "failed"
    # recipient: what the person did with it
    OPENED = "opened"
    CLICKED = "clicked"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"
    SUBSCRIBED = "subscribed"
    REPLIED = "replied"
    AUTORESPONDED = "autoresponded"
    # campaign
    DELIVERY_STARTED = "delivery_started"
    DELIVERY_COMPLETED = "delivery_completed"
    # behaviour
    PAGE_VIEWED = "page_viewed"
    PRODUCT_VIEWED = "product_viewed"
    CART_UPDATED = "cart_updated"
    CART_ABANDONED = "cart_abandoned"
    CHECKOUT_STARTED = "checkout_started"
    ORDER_COMPLETED = "order_completed"
    TRANSACTION = "transaction"
    CUSTOM = "custom"
    # contact
    PROFILE_UPDATED = "profile_updated"
    AUTOMATION_TRIGGERED = "automation_triggered"
    GOAL_REACHED = "goal_reached"
    WEBHOOK_TRIGGERED = "webhook_triggered"
    LEAD_SCORE_CHANGED = "lead_score_changed"
    LEAD_STATUS_CHANGED = "lead_status_changed"
    # loyalty
    POINTS_AWARDED = "points_awarded"
    OFFER_ISSUED = "offer_issued"
    TAG_ADDED = "tag_added"
    # ours
    MESSAGE_REQUESTED = "message_requested"
    MESSAGE_SKIPPED = "message_skipped"
    TRIGGER_ENTERED = "trigger_entered"
    # onboarding: what became of a recipient that was to be handed to a platform
    RECIPIENT_SELECTED = "recipient_selected"
    RECIPIENT_ONBOARDED = "recipient_onboarded"
    RECIPIENT_REJECTED = "recipient_rejected"
    ONBOARDING_COMPLETED = "onboarding_completed"
    # verified, kept raw, counted
    UNKNOWN = "unknown"


OWN = "espial"
"""The platform, and the connection, of our own events."""

OWN_TYPES = frozenset(
    {
        EventType.MESSAGE_REQUESTED,
        EventType.MESSAGE_SKIPPED,
        EventType.TRIGGER_ENTERED,
        EventType.RECIPIENT_SELECTED,
        EventType.RECIPIENT_ONBOARDED,
        EventType.RECIPIENT_REJECTED,
        EventType.ONBOARDING_COMPLETED,
    }
)
"""What only Espial itself can say: no platform's report may claim it."""
