"""Which addresses the internet routes, and which are this machine's own."""

from __future__ import annotations

_RESERVED = ("192.0.0.0/24", "3fff::/20")
"""Given out for other uses, which Python's own tables have learnt of in later versions only (RFC 6890, RFC 9637)."""


def is_public(address: str) -> bool:
    """Whether the internet routes it: not private, loopback, link-local, multicast or reserved.

    Of an IPv6 address that leads to an IPv4 one (mapped, 6to4, NAT64) the latter counts. Raises ValueError.
    """
    from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network  # noqa: PLC0415  seldom needed

    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        translated = IPv4Address(int(found) & 0xFFFF_FFFF) if found in IPv6Network("64:ff9b::/96") else None
        found = translated or found.ipv4_mapped or found.sixtofour or found
        if isinstance(found, IPv6Address) and found not in IPv6Network("2000::/3"):
            return False  # nothing else is given out for use (RFC 4291, 2.4)
    return found.is_global and not found.is_multicast and not any(found in ip_network(one) for one in _RESERVED)


def is_loopback(address: str) -> bool:
    """Whether it is this machine's own. Raises ValueError."""
    from ipaddress import ip_address  # noqa: PLC0415  seldom needed

    return ip_address(address.partition("%")[0]).is_loopback
