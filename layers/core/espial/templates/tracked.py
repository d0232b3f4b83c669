"""Links and opens of a rendered mail, tracked: each link becomes one of ours that holds where it leads.

Only what stands in the rendered mail can be a destination, and only on hosts that the template itself or the connection
names: a value from outside (a cart's link, told by a site) must not get our signature on any address it likes. So there
is no open redirect. Left as they are: other links, the one to unsubscribe, `mailto:` and `tel:`, what is too long for a
token, and the text part, which people read with its links spelled out.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from html import escape, unescape
from urllib.parse import urlsplit

from espial.mail_links import LONGEST_DESTINATION, MailLinks
from espial.people import PersonView
from espial.templates.hidden import TAG

_HREF = re.compile(r"(?<![\w-])(href\s*=\s*)(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))", re.IGNORECASE)
_LITERAL = re.compile(r"href\s*=\s*[\"']?\s*https?://([\w.:-]+)(?=[/?#\"'\s>])", re.IGNORECASE)
_NEVER = frozenset(" \\<>")
"""Browsers read a backslash as a slash, so that the host would be another."""
_BODY_END = re.compile(r"</body\s*>", re.IGNORECASE)


def may_track(view: PersonView) -> bool:
    """Whether the person lets us: no refusal of `tracking` (by a trait `consent`), no attribute `do_not_track`."""
    return view.consent.get("tracking/") is not False and not view.attributes.get("do_not_track")


@lru_cache(maxsize=128)
def hosts_in(template: str) -> frozenset[str]:
    """Hosts of the links that a template (HTML with Liquid) spells out."""
    return frozenset(host.lower() for host in _LITERAL.findall(template))


def tracked(
    html: str, links: MailLinks, *, what: Collection[str], hosts: Collection[str], keep: Collection[str] = ()
) -> str:
    """The mail with `what` (`links`, `opens`) tracked: its links to `hosts`, but for those in `keep`."""

    def rewritten(href: re.Match[str]) -> str:
        destination = unescape(next((found for found in href.groups()[1:] if found is not None), "")).strip()
        if destination in keep or not _can_lead(destination, hosts):
            return href[0]
        return f'{href[1]}"{escape(links.click(destination))}"'

    def within(tag: re.Match[str]) -> str:
        anchor = tag[2].lower() in ("a", "area") and not tag[1]
        return _HREF.sub(rewritten, tag[0], count=1) if anchor else tag[0]

    if "links" in what:
        html = TAG.sub(within, html)
    return _with_pixel(html, links.pixel()) if "opens" in what else html


def _can_lead(destination: str, hosts: Collection[str]) -> bool:
    """Whether a redirect may go there: a web address on one of the hosts, that a header may hold."""
    if not destination.isascii() or not destination.isprintable() or set(destination) & _NEVER:
        return False
    if len(destination) > LONGEST_DESTINATION:
        return False
    try:
        parts = urlsplit(destination)
    except ValueError:
        return False
    return parts.scheme in ("https", "http") and parts.netloc.lower() in hosts


def _with_pixel(html: str, url: str) -> str:
    picture = f'<img src="{escape(url)}" width="1" height="1" alt="" style="display:block;border:0">'
    ends = [end.start() for end in _BODY_END.finditer(html)] or [len(html)]
    return html[: ends[-1]] + picture + html[ends[-1] :]
