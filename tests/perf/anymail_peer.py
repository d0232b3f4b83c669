"""django-anymail as a peer: its tracking views as they are, their events serialised field by field with `json`."""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Callable
from typing import Any

from espial.deliveries import RawDelivery

_FIELDS = ("event_type", "event_id", "message_id", "recipient", "reject_reason", "description", "mta_response")
_MORE = ("tags", "metadata", "click_url", "user_agent")


class _Secrets(dict[str, str]):
    """A setting for every secret that a view insists on; nothing is proved here."""

    def __missing__(self, name: str) -> str:
        if name.endswith(("_SECRET", "_KEY", "_TOKEN")) and "VERIFICATION" not in name:
            return "u:p"
        raise KeyError(name)


def view(platform: str) -> Any:
    """Anymail's tracking view of a platform; None if it has none or is not installed."""
    try:
        import django
        from django.conf import settings

        if not settings.configured:
            settings.configure(ANYMAIL=_Secrets(), DEFAULT_CHARSET="utf-8", ALLOWED_HOSTS=["*"])
            django.setup()
        module = importlib.import_module(f"anymail.webhooks.{platform}")
    except ImportError:
        return None
    views = [one for name, one in vars(module).items() if name.endswith("TrackingWebhookView")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some platforms it supports no longer, but still reads
        return next(one() for one in views if one.__module__ == module.__name__)


def reads(tracking: Any, delivery: RawDelivery) -> bool:
    """Whether the view can read it: what some reports are made of it does not know."""
    try:
        return peer(tracking, [delivery])() > 0
    except Exception:  # noqa: BLE001 - whatever it makes of them
        return False


def requests(deliveries: list[RawDelivery]) -> list[Any]:
    """The deliveries as Django's requests, their bodies already received."""
    from django.test import RequestFactory

    factory = RequestFactory()
    made = []
    for delivery in deliveries:
        kind = delivery.headers.get("content-type", "application/json")
        request = factory.generic(delivery.method, delivery.url, delivery.body, kind)
        assert delivery.body == request.body
        made.append(request)
    return made


def peer(tracking: Any, deliveries: list[RawDelivery]) -> Callable[[], int]:
    """Reads them all with a view and returns the bytes of JSON. Raises what the view raises for one it cannot read."""
    received = [(request, dict(vars(request))) for request in requests(deliveries)]

    def run() -> int:
        total = 0
        for request, fresh in received:
            request.__dict__ = dict(fresh)  # it keeps what it has parsed
            for event in tracking.parse_events(request):
                fields = {name: getattr(event, name) for name in _FIELDS + _MORE}
                fields["timestamp"] = event.timestamp and event.timestamp.isoformat()
                total += len(json.dumps(fields, default=str))
        return total

    return run
