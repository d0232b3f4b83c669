"""Human or machine: who opened or clicked (goal 25). A verdict is true (machine), false (human) or None (unknown).

The platform's own flag decides where there is one. Else rules do, and they lean one way: a human taken for a machine is
the worse error, so whatever people cause as well as machines do stays unknown, with the reason beside it.
`judge` sees one event and is made when it is recorded; `rescore` sees a person's events together and may be asked again
at any time, by better rules too: the raw facts stay in the event.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from espial.events import BY_RULE, Client, Event
from espial.vocabulary import EventType


class Verdict(NamedTuple):
    """`machine`: true, false, or None for unknown; why, as a code. Codes of rules begin with `rule:`."""

    machine: bool | None
    reason: str | None


UNKNOWN = Verdict(None, None)
ENGAGED = frozenset({EventType.OPENED, EventType.CLICKED})

APPLE = ip_network("17.0.0.0/8")
"""Apple's own network (ARIN NET-17-0-0-0-1), from which Mail Privacy Protection and its scanners fetch."""
APPLE_PRIVACY_AGENT = "Mozilla/5.0"
"""The whole user agent of Apple's Mail Privacy Protection; no mail client or browser of people sends it."""

_PROXIES = {"googleimageproxy": "gmail_image_proxy", "yahoomailproxy": "yahoo_image_proxy"}
"""Image proxies that fetch when a person opens, and at times before: they hide who it was."""

_TOOLS = re.compile(
    r"""(?x)
      \b(?:curl|wget|python-requests|python-urllib|python-httpx|aiohttp|go-http-client|libwww-perl|axios|node-fetch
        |apache-httpclient|java|ruby|php|scrapy|postmanruntime)/
    | \b(?:headlesschrome|phantomjs|selenium|puppeteer|playwright)\b
    | (?<!cu)bot(?:\b|[/_-])            # not Cubot, which makes telephones
    | (?:crawler|spider|slurp)\b
    | (?:link|url|bing|skypeuri)preview | facebookexternalhit | google-(?:safety|read-aloud|inspectiontool)
    | \b(?:barracuda|proofpoint|mimecast|forcepoint|fireeye|trendmicro|cloudmark|cisco-?ironport|symantec|sophos)
    """,
    re.IGNORECASE,
)

ALL_AT_ONCE = timedelta(seconds=2)
MANY_LINKS = 3
"""So many links of one message within `ALL_AT_ONCE`: nobody clicks like that."""
CLOCKS_DIFFER = timedelta(seconds=2)
"""How far before its delivery an engagement may seem to lie, and still be a person's."""
ACTS_WITHIN = timedelta(minutes=10)
_BEFORE_DELIVERY = frozenset({EventType.DELIVERED})
_ACTING = frozenset(
    {
        EventType.PRODUCT_VIEWED,
        EventType.CART_UPDATED,
        EventType.CHECKOUT_STARTED,
        EventType.ORDER_COMPLETED,
        EventType.REPLIED,
    }
)
"""What scanners do not do. A page view is not among them: they load pages, and run their scripts."""


def judge(type_: EventType, client: Client) -> Verdict:
    """The verdict on one open or click by what it says itself; UNKNOWN for every other type."""
    if client.machine is not None:
        return Verdict(client.machine, client.machine_reason)
    if type_ not in ENGAGED:
        return UNKNOWN
    return by_rule(type_, client.user_agent or "", client.ip or "")


@lru_cache(maxsize=4096)
def by_rule(type_: EventType, agent: str, ip: str) -> Verdict:
    """What the rules say of an open or click by its client alone. Cached: a campaign's come from few clients."""
    lower = agent.lower()
    for name, reason in _PROXIES.items():
        if name in lower:
            return Verdict(None, BY_RULE + reason)
    if _TOOLS.search(agent):
        return Verdict(True, BY_RULE + "tool_or_scanner")
    if type_ is EventType.OPENED and agent.strip() == APPLE_PRIVACY_AGENT:
        return Verdict(True, BY_RULE + "apple_mail_privacy")
    if type_ is EventType.OPENED and _in_apple(ip):
        return Verdict(True, BY_RULE + "apple_network")
    return UNKNOWN


def _in_apple(ip: str) -> bool:
    try:
        found = ip_address(ip)
    except ValueError:
        return False
    return found.version == APPLE.version and found in APPLE


def rescore(events: Iterable[Event]) -> dict[str, Verdict]:
    """Event id -> the verdict on each open and click of one person, each seen beside the person's other events.

    Rules in order: the platform's flag; before its message was delivered; many links of a message at once; what
    `judge` says; something bought or put in the cart soon after a click. The order of `events` does not matter.
    """
    known = list(events)
    by_message: defaultdict[str, list[Event]] = defaultdict(list)
    for event in known:
        if event.send_key:
            by_message[event.send_key].append(event)
    acted = [event for event in known if event.type in _ACTING]
    found = {}
    for event in known:
        if event.type in ENGAGED:
            beside = by_message[event.send_key] if event.send_key else [event]
            found[event.event_id] = _in_context(event, beside, acted)
    return found


def _in_context(event: Event, beside: Sequence[Event], acted: Sequence[Event]) -> Verdict:
    client = event.client or Client()
    flagged = client.machine is not None and not (client.machine_reason or "").startswith(BY_RULE)
    if flagged:
        return Verdict(client.machine, client.machine_reason)
    if _before_delivery(event, beside):
        return Verdict(True, BY_RULE + "before_delivery")
    if event.type is EventType.CLICKED and _all_at_once(event, beside):
        return Verdict(True, BY_RULE + "many_links_at_once")
    alone = by_rule(event.type, client.user_agent or "", client.ip or "")
    if alone.machine is None and event.type is EventType.CLICKED and _acted_on(event, acted):
        return Verdict(False, BY_RULE + "acted_afterwards")
    return alone


def _before_delivery(event: Event, beside: Sequence[Event]) -> bool:
    delivered = [one.occurred_at for one in beside if one.type in _BEFORE_DELIVERY and not one.time_uncertain]
    return bool(delivered) and not event.time_uncertain and event.occurred_at + CLOCKS_DIFFER < min(delivered)


def _all_at_once(event: Event, beside: Sequence[Event]) -> bool:
    near = {
        one.link.url
        for one in beside
        if one.type is EventType.CLICKED and one.link and abs(one.occurred_at - event.occurred_at) <= ALL_AT_ONCE
    }
    return len(near - {None}) >= MANY_LINKS


def _acted_on(event: Event, acted: Sequence[Event]) -> bool:
    return any(event.occurred_at <= one.occurred_at <= event.occurred_at + ACTS_WITHIN for one in acted)
