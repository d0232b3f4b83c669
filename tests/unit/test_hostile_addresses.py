"""Over 200 addresses that would lead into the private network, as written or once resolved: none is connected to."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from itertools import product
from typing import Any

import pytest
from pydantic import ValidationError

from espial.errors import Refused, TryAgain
from espial.notifications.posted import HttpProcess
from espial.stores.guarded_http import GuardedHttp

pytestmark = pytest.mark.usefixtures("socket_enabled")  # what is written as a number is resolved without a network

PRIVATE = (
    *("127.0.0.1", "127.1.2.3", "10.0.0.1", "10.255.255.254", "172.16.0.1", "172.31.255.1", "192.168.0.1", "0.0.0.0"),
    *("169.254.169.254", "169.254.170.2", "100.64.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1"),
    *("203.0.113.9", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
)
V6 = (
    *("::1", "::", "fc00::1", "fd12:3456::1", "fe80::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1"),
    *("::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::1"),
    *("2002:a9fe:a9fe::1", "2002:a00:1::", "100::1", "5f00::1", "3fff::1", "fec0::1", "::127.0.0.1"),
)


def _numbers(address: str) -> list[str]:
    """The other ways in which C libraries take an IPv4 address."""
    parts = [int(part) for part in address.split(".")]
    whole = int(ip_address(address))
    return [
        str(whole),
        hex(whole),
        f"0{whole:o}",
        ".".join(hex(part) for part in parts),
        ".".join(f"0{part:o}" for part in parts),
        f"{parts[0]}.{(parts[1] << 16) + (parts[2] << 8) + parts[3]}",
    ]


AS_WRITTEN = [
    *(f"https://{address}/" for address in PRIVATE),
    *(f"https://[{address}]/hook" for address in V6),
    *(f"https://{number}/" for address in PRIVATE for number in _numbers(address)),
    *(f"https://{address}:{port}/" for address, port in product(PRIVATE[:3], (22, 80, 6379, 8080))),
]
NAMES = ("localhost", "metadata.google.internal", "instance-data", "db.internal", "127.0.0.1.nip.example")
RESOLVED = [(name, address) for name, address in product(NAMES, (*PRIVATE[:8], *V6[:8]))]
MALFORMED = (
    *("https://user@example.com/", "https://user:word@example.com/", "https://example.com@127.0.0.1/", "https:///a"),
    *("http://example.com/", "ftp://example.com/", "gopher://example.com/", "file:///etc/passwd", "data:,a", "//a"),
    *("https://exa mple.com/", "https://example.com/\r\nX: y", "https://[::1", "https://example.com:99999/", ""),
    *("https://example.com:port/", "HTTPS://\u2460\u2461\u2466.0.0.1/", "https://127。0。0。1/", "https://\x00/"),
)


@pytest.fixture(autouse=True)
def _nobody_is_called(monkeypatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("asked for a connection")

    monkeypatch.setattr(socket, "create_connection", refused)


def test_the_corpus_is_large_enough():
    assert len({*AS_WRITTEN, *MALFORMED}) + len(RESOLVED) >= 200


@pytest.mark.parametrize("url", [*AS_WRITTEN, *MALFORMED])
def test_what_leads_inside_as_it_is_written_is_not_called(url):
    """Some ways of writing mean nothing to this machine's C library: then nobody is found."""
    with pytest.raises((Refused, TryAgain)) as refused:
        GuardedHttp().request("GET", url)
    exc = refused.value
    known = exc.reason in ("bad_address", "address_not_public") if isinstance(exc, Refused) else False
    assert known or isinstance(exc.__cause__, socket.gaierror)


@pytest.mark.parametrize(("name", "address"), RESOLVED)
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a public one"])
def test_a_name_that_leads_inside_is_not_called(name, address, beside, monkeypatch):
    """Every address that a name has must be public: else the second connection would get the other one."""
    answers = [address, *(["8.8.8.8"] if beside else [])]

    def resolved(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 443)) for one in answers[::-1]]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    with pytest.raises(Refused, match="address_not_public"):
        GuardedHttp().request("POST", f"https://{name}/hook", {}, b"{}")


def test_a_name_is_resolved_once_and_called_by_the_address_that_was_checked(monkeypatch):
    """A server of names that answers the second question otherwise is not asked it."""
    asked, called = [], []

    def resolved(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        address = "8.8.8.8" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))]

    def connected(address: tuple[str, int], *_: Any) -> None:
        called.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setattr(socket, "create_connection", connected)
    with pytest.raises(TryAgain):
        GuardedHttp().request("POST", "https://rebinding.example.com/", {}, b"{}")
    assert (asked, called) == (["rebinding.example.com"], [("8.8.8.8", 443)])


@pytest.mark.parametrize("url", [url for url in AS_WRITTEN if "127." not in url and "[::1]" not in url])
def test_most_are_refused_when_they_are_applied_already(url):
    """Loopback is left to the call: a stack on this machine may mean it."""
    address = url.removeprefix("https://").split("/")[0].strip("[]")
    if address.startswith(("0x7f", "0177", "2130", "0::", "::ffff:127")):
        pytest.skip("loopback")
    with pytest.raises(ValidationError, match="address"):
        HttpProcess.model_validate({"url": url, "secrets": ["secretsmanager:espial/x"]})
