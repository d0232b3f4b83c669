"""What a response is called in the feeds: event type -> disposition code."""

from __future__ import annotations

from collections.abc import Mapping

DISPOSITIONS: Mapping[str, str] = {
    "delivered": "delivered",
    "opened": "opened",
    "clicked": "click_through",
    "bounced": "hard_bounce",
    "soft_bounced": "soft_bounce",
    "blocked": "blocked",
    "unsubscribed": "unsubscribed",
    "complained": "spam_complaint",
    "subscribed": "opted_in",
    "failed": "undeliverable",
    "rejected": "undeliverable",
}
"""Event type -> disposition code (A.c.7). Only `opened` is known to the letter, so a feed may say others."""
