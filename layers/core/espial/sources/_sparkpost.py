"""SparkPost's bounce classes, which Airship's e-mail reports use too.

https://support.sparkpost.com/docs/deliverability/bounce-classification-codes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espial.sources._shared import text
from espial.vocabulary import EventType

SUPPRESSED = "25"
"""Admin failure: what SparkPost did not try, as the address is on its suppression list."""

BOUNCE_CLASSES: Mapping[str, EventType] = {
    "1": EventType.SOFT_BOUNCED,  # undetermined: nothing is known against the address
    "10": EventType.BOUNCED,  # invalid recipient
    "20": EventType.SOFT_BOUNCED,
    "21": EventType.SOFT_BOUNCED,  # DNS failure
    "22": EventType.SOFT_BOUNCED,  # mailbox full
    "23": EventType.SOFT_BOUNCED,  # too large
    "24": EventType.SOFT_BOUNCED,  # timeout
    SUPPRESSED: EventType.DROPPED,
    "30": EventType.BOUNCED,  # no recipient
    "40": EventType.SOFT_BOUNCED,  # generic
    "50": EventType.BLOCKED,  # mail block
    "51": EventType.BLOCKED,  # spam block
    "52": EventType.BLOCKED,  # spam content
    "53": EventType.BLOCKED,  # prohibited attachment
    "54": EventType.BLOCKED,  # relaying denied
    "60": EventType.AUTORESPONDED,
    "70": EventType.SOFT_BOUNCED,  # transient
    "80": EventType.SUBSCRIBED,
    "90": EventType.UNSUBSCRIBED,
    "100": EventType.AUTORESPONDED,  # challenge and response
}


def bounced(bounce_class: Any) -> EventType:
    """What a bounce is by its class, a number or its text; a plain one where the class is missing or new."""
    return BOUNCE_CLASSES.get(text(bounce_class) or "", EventType.BOUNCED)
