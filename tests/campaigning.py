"""A campaign and everything it needs, as files: points for a purchase, told over a webhook."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from espial import senders
from espial.definitions.load import load
from espial.definitions.publish import bundle
from espial.events import Event
from espial.senders import Ways
from espial.services.deliver import Deliverer, Outcome
from espial.services.run_triggers import Tally
from espial.simulation.memory import MemoryClaims
from espial.stores.guarded_http import GuardedHttp
from espial.stores.published_templates import PublishedTemplates
from espial.vocabulary import EventType
from tests import simulation
from tests.builders import NOON

PROVIDER: dict[str, Any] = {
    "sender": "webhook",
    "settings": {"host": "https://api.{{tenant}}.example.com", "variables": {"tenant": "acme"}},
}
WEBHOOK: dict[str, Any] = {
    "provider": "esp",
    "endpoint": "/v3/mail/send",
    "auth": {"type": "bearer", "secret": "secretsmanager:espial/provider/esp"},
    "rate_limit": {"requests": 10, "per": "1s"},
    "error_map": [{"status": 401, "action": "refresh_auth"}],
    "response_capture": {"header": "X-Message-Id"},
}
PAYLOAD: dict[str, Any] = {
    "channel": "email",
    "body": {
        "personalizations": [
            {
                "to": [{"email": "{{user.email}}"}],
                "dynamic_template_data": {
                    "pts": "{{points.amount}}",
                    "line": "Hi {{user.first_name|there}}, +{{points.amount}}",
                },
            }
        ],
        "template_id": "d-1",
    },
}
VARIANT: dict[str, Any] = {"provider": "esp", "template": "thanks", "webhook": "esp-send"}
CAMPAIGN: dict[str, Any] = {
    "type": "promotional",
    "status": "live",
    "start_at": "2026-01-01T00:00:00Z",
    "end_at": "2027-01-01T00:00:00Z",
    "audience": {"all": True},
    "mode": "triggered",
    "behaviours": [
        {
            "name": "bought",
            "rules": [{"events": [{"class": "purchase", "min_value": 5}]}],
            "outcomes": [
                {"kind": "event", "name": "Points Earned", "payload": {"points": "{{points.amount}}"}},
                {"kind": "tag", "tag": "vip;;3600"},
                {"kind": "promo_code", "list_id": "spring", "prefix": "SPRING-"},
                {"kind": "offer", "offer_id": "o-1", "name": "Free coffee"},
                {"kind": "points", "dynamic": {"rate": 1}},
            ],
        }
    ],
    "messages": [{"variants": ["esp-thanks"]}],
}
FILES: Mapping[str, Mapping[str, Any]] = {
    "providers/esp.yaml": PROVIDER,
    "webhooks/esp-send.yaml": WEBHOOK,
    "payloads/thanks.yaml": PAYLOAD,
    "variants/esp-thanks.yaml": VARIANT,
    "campaigns/thanks.yaml": CAMPAIGN,
}


def write(root: Path, changes: Mapping[str, Mapping[str, Any] | None] | None = None) -> Path:
    """The files above, some with other fields (None: left out), or new ones."""
    for name, fields in {**FILES, **(changes or {})}.items():
        if fields is None:
            continue
        whole = {**FILES.get(name, {}), **fields}
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = {field: value for field, value in whole.items() if value is not None}
        path.write_text(yaml.safe_dump(kept, sort_keys=False))
    return root


class Bundles:
    """The active bundle, as `espial apply` would have published it."""

    def __init__(self, root: Path, stage: str | None = None) -> None:
        self._bundle = bundle(load(root, stage))

    def active(self) -> dict[str, Any]:
        return self._bundle.active

    def version(self, version: str) -> dict[str, Any] | None:
        return self._bundle.active if version == self._bundle.version else None

    def template(self, digest: str) -> dict[str, Any] | None:
        return self._bundle.templates.get(digest)


class World(simulation.World):
    """One stack with these definitions and a platform behind them: the real runner, deliverer, stores and sender.

    What the deliverer records is published: the runner gets it too.
    """

    def __init__(self, root: Path, stage: str | None = None, now: datetime = NOON) -> None:
        published = PublishedTemplates(Bundles(root, stage), lambda: 0.0)
        super().__init__(*published.triggers(), now=now)
        self.published = published
        http = GuardedHttp("loopback")
        ways = Ways(lambda _: None, http, http.dial, lambda _: b"s3cret", lambda: self.now)
        opened: dict[str, Any] = {}

        def sender(name: str, settings: Mapping[str, Any]) -> Any:
            if name not in opened:
                opened[name] = senders.load(settings["sender"]).open(name, settings, ways)
            return opened[name]

        self.deliverer = Deliverer(
            people=self.people,
            runs=self.runs,
            decisions=self.decisions,
            timers=self,
            claims=MemoryClaims(),
            events=self.events,
            published=published,
            sender=sender,
            clock=lambda: self.now,
        )
        self.outcomes: list[Outcome] = []

    def handles(self, event: Event) -> Tally:
        """run_triggers gets it from the bus."""
        return self.runner.on_event(event, self.published, self.now)

    def fires(self, message: Mapping[str, Any]) -> None:
        """send_message gets it."""
        before = len(self.events.added)
        self.outcomes.append(self.deliverer.deliver(message))
        for event in list(self.events.added[before:]):
            self.handles(event)

    def lives(self, event: Event, *, minutes: float = 1) -> None:
        """Something happens, and all that comes of it within some time."""
        self.now = max(self.now, event.received_at)
        self.happens(event)
        self.until(self.now + timedelta(minutes=minutes))

    def own(self, *types: EventType) -> list[Event]:
        """What the stack said itself."""
        return [one for one in self.events.added if one.platform == "espial" and (not types or one.type in types)]
