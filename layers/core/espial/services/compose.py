"""A run's mail: who from, who to, what it says, and the way out of the next one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parseaddr
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import msgspec

from espial.errors import Refused
from espial.messages import Message, mailbox
from espial.people import PersonView
from espial.templates.render import render
from espial.triggers.run import Run


def compose(
    run: Run,
    view: PersonView,
    to: str,
    *,
    key: str,
    provider: Mapping[str, Any],
    template: Mapping[str, Any],
    now: datetime,
    channel: str = "email",
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Message:
    """The run's mail or text message under its send key, rendered; the template may print `more` as well.

    Raises Refused with the reason it cannot be made.
    """
    unsubscribe = str(provider.get("unsubscribe_url") or "").replace("{message}", key)
    headers: Mapping[str, str] = {}
    if template["category"] == "marketing" and channel == "email":
        if not unsubscribe:
            raise Refused("no_unsubscribe_url", provider["name"])
        headers = one_click(unsubscribe)
    rendered = render(template, {**more, **context(run, view, unsubscribe_url=unsubscribe, now=now)})
    tags = {"trigger": run.trigger, "template": template["name"], **({"variant": run.variant} if run.variant else {})}
    if channel == "sms":
        text = rendered.text.strip()
        return Message(
            channel=channel, to=to, from_=provider["from"], subject="", html="", text=text, send_key=key, tags=tags
        )
    name, sender = parseaddr(provider["from"])
    return Message(
        to=to,
        from_=mailbox(rendered.from_name or name, sender),
        reply_to=provider.get("reply_to", ""),
        subject=rendered.subject,
        html=rendered.html,
        text=rendered.text,
        send_key=key,
        headers=headers,
        tags=tags,
        external_id=view.external_id or "",
    )


def unrendered(run: Run, to: str, *, key: str, channel: str, variant: str, facts: Mapping[str, Any]) -> Message:
    """What a variant's webhook is to say, which its sender renders."""
    return Message(
        channel=channel,
        to=to,
        from_="",
        subject="",
        html="",
        text="",
        send_key=key,
        tags={"trigger": run.trigger, "template": variant},
        facts=facts,
    )


def one_click(url: str) -> dict[str, str]:
    """RFC 8058: the link that mailbox providers POST to, and the promise that one POST is enough."""
    return {"List-Unsubscribe": f"<{url}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}


def context(run: Run, view: PersonView, *, unsubscribe_url: str, now: datetime) -> dict[str, Any]:
    """What a template may print: person, event, the event's cart, order and product, now, unsubscribe_url.

    Attributes are there under the platform's name and in snake_case (`firstName` is `first_name` too).
    """
    attributes = {_snake(name): value for name, value in view.attributes.items()} | view.attributes
    event = msgspec.to_builtins(run.event)
    return {
        "person": {"external_id": view.external_id, **attributes},
        "event": event,
        **event.get("commerce", {}),
        "now": now,
        "unsubscribe_url": unsubscribe_url,
    }


@lru_cache(maxsize=1024)
def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
