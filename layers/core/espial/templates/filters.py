"""Espial's own Liquid filters: money, dates and safe links. Pure: no clock, no locale of the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlsplit

from liquid.exceptions import FilterArgumentError
from liquid.undefined import is_undefined

SYMBOLS = {
    "AUD": "A$", "BRL": "R$", "CAD": "CA$", "CNY": "CN¥", "EUR": "€", "GBP": "£", "HKD": "HK$", "ILS": "₪", "INR": "₹",
    "JPY": "¥", "KRW": "₩", "MXN": "MX$", "NZD": "NZ$", "PHP": "₱", "TWD": "NT$", "USD": "$", "VND": "₫",
}  # fmt: skip
"""Currencies with a sign that cannot be mistaken; every other shows its code: `CHF 12.00` (CLDR, English)."""

NO_MINOR_UNIT = frozenset(
    ["BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"]
)
"""ISO 4217 currencies without minor unit."""

THREE_DECIMALS = frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"})
"""ISO 4217 currencies whose minor unit is a thousandth."""


def money(amount: object, currency: object) -> str:
    """`12.5 | money: "EUR"` → `€12.50`: the currency's own decimals, halves rounded up, thousands set apart.

    Raises FilterArgumentError for what is no amount or no ISO 4217 code: a price is never shown half.
    """
    if is_undefined(amount) or is_undefined(currency):
        str(amount if is_undefined(amount) else currency)  # raises UndefinedError with the variable's name
    return _money(str(amount), str(currency))


@lru_cache(maxsize=4096)
def _money(amount: str, currency: str) -> str:
    code = currency.upper()
    if len(code) != 3 or not code.isalpha() or not code.isascii():
        raise FilterArgumentError("money needs an ISO 4217 currency code", token=None)
    digits = 0 if code in NO_MINOR_UNIT else 3 if code in THREE_DECIMALS else 2
    try:
        value = Decimal(amount)
        rounded = abs(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    except InvalidOperation as exc:
        raise FilterArgumentError("money needs an amount", token=None) from exc
    sign = "-" if value < 0 and rounded else ""
    return f"{sign}{SYMBOLS.get(code, f'{code} ')}{rounded:,}"


def date(value: object, pattern: object, zone: object = "UTC") -> str:
    """`when | date: "%d %B %Y", "Europe/Berlin"`: an instant (RFC 3339 text or datetime) as strftime writes it.

    Raises FilterArgumentError for anything else; "now" is not known here, the context's `now` is.
    """
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415  few templates show a date

    if is_undefined(value):
        str(value)
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        local = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(ZoneInfo(str(zone)))
        return local.strftime(str(pattern))
    except (ValueError, OverflowError, ZoneInfoNotFoundError) as exc:
        raise FilterArgumentError("date needs an RFC 3339 instant, a pattern and an IANA zone", token=None) from exc


def url(value: object) -> str:
    """A link or image address from data: only absolute http(s) without user name; nothing else leaves in a mail.

    What a shop page reports is written by a browser, so a `javascript:` link may lie in a cart. Escaped for an
    attribute. Raises FilterArgumentError for any other scheme.
    """
    return _url(str(value).strip())


@lru_cache(maxsize=4096)
def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        acceptable = parts.scheme in ("http", "https") and parts.hostname and not parts.username and not parts.password
    except ValueError:
        acceptable = False
    if not acceptable:
        raise FilterArgumentError("not an http(s) address", token=None)
    return quote(text, safe="!#$%&'()*+,/:;=?@[]~-._")


FILTERS: Mapping[str, Callable[..., Any]] = {"money": money, "date": date, "url": url}
"""By name in a template."""
