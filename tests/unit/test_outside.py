"""Fetching public documents: a real TLS server on loopback, and all the ways into the private network."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from espial.addresses import is_public
from espial.errors import SignatureError, TryAgain
from espial.stores import outside
from espial.stores.guarded_http import LARGEST
from espial.stores.outside import PublicDocuments

pytestmark = pytest.mark.usefixtures("socket_enabled")
HOST = "keys.example.com"
PEM = b"-----BEGIN PUBLIC KEY-----\n"
Answer = bytes | Callable[[ssl.SSLSocket], None]


def answer(body: bytes = PEM, status: str = "200 OK", *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A throw-away authority: the server's side, with a certificate for HOST, and the side of who trusts it."""
    folder: Path = tmp_path_factory.mktemp("authority")
    root_key, host_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root, host = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("a root", HOST))
    day, now = timedelta(days=1), datetime.now(UTC)
    root_builder = x509.CertificateBuilder(root, root, root_key.public_key(), 1, now - day, now + day)
    root_builder = root_builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = x509.CertificateBuilder(root, host, host_key.public_key(), 2, now - day, now + day)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
    issued = builder.sign(root_key, SHA256()).public_bytes(Encoding.PEM)
    chain = folder / "chain.pem"
    chain.write_bytes(issued + host_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(chain)
    trusted = root_builder.sign(root_key, SHA256()).public_bytes(Encoding.PEM).decode()
    return serving, ssl.create_default_context(cadata=trusted)


class Server:
    """Answers one connection after the other as told, the last answer for ever; `asked` are the requests."""

    def __init__(self, context: ssl.SSLContext, answers: tuple[Answer, ...]) -> None:
        self.context = context
        self.answers = list(answers)
        self.asked: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            try:
                with self.context.wrap_socket(plain, server_side=True) as connection:
                    self._answer(connection)
            except OSError:
                continue

    def _answer(self, connection: ssl.SSLSocket) -> None:
        request = b""
        while b"\r\n\r\n" not in request and (part := connection.recv(4096)):
            request += part
        self.asked.append(request)
        given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(given):
            given(connection)
        else:
            connection.sendall(given)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)


class World:
    """A server, the documents fetched from it, and how often HOST was looked up."""

    def __init__(self, server: Server, documents: PublicDocuments) -> None:
        self.server = server
        self.documents = documents
        self.looked_up: list[str] = []

    def fetch(self, path: str = "/key.pem") -> bytes:
        return self.documents.fetch(f"https://{HOST}{path}")


Start = Callable[..., World]


@pytest.fixture
def start(authority: tuple[ssl.SSLContext, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """(answers, addresses of HOST at each look-up) -> a world in which loopback alone is allowed."""
    serving, trusting = authority
    servers: list[Server] = []
    real = socket.getaddrinfo

    def begin(*answers: Answer, resolved: tuple[tuple[str, ...], ...] = (("127.0.0.1",),), **options: Any) -> World:
        server = Server(serving, answers or (answer(),))
        servers.append(server)
        options = {"allowed": lambda address: address == "127.0.0.1", "context": trusting, **options}
        world = World(server, PublicDocuments(port=server.port, **options))

        def looked_up(host: Any, port: Any, *args: Any, **named: Any) -> Any:
            if host != HOST:
                return real(host, port, *args, **named)
            found = resolved[min(len(world.looked_up), len(resolved) - 1)]
            world.looked_up.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

        monkeypatch.setattr(socket, "getaddrinfo", looked_up)
        return world

    yield begin
    for server in servers:
        server.close()


# -- what is fetched


def test_a_document_is_fetched_over_tls_with_path_and_query(start: Start) -> None:
    """One GET, with the name of the host and nothing of ours."""
    world = start()
    assert PEM == world.fetch("/a/key.pem?x=1&y=%20")
    (request,) = world.server.asked
    assert request.startswith(b"GET /a/key.pem?x=1&y=%20 HTTP/1.1\r\n")
    assert f"Host: {HOST}".encode() in request
    assert b"cookie" not in request.lower()


def test_a_document_is_kept_for_a_while_by_its_whole_address(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm receiver fetches no key; another address is another document; after an hour it is asked for again."""
    world = start(answer(b"one"), answer(b"two"), answer(b"three"))
    assert [b"one", b"one", b"two", b"one"] == [world.fetch(path) for path in ("/a", "/a", "/a?b", "/a")]
    later = time.monotonic() + outside.KEPT_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert b"three" == world.fetch("/a")


def test_what_is_kept_does_not_grow_without_end(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who names many addresses fills no memory."""
    monkeypatch.setattr(outside, "MOST_KEPT", 2)
    world = start()
    for path in ("/a", "/b", "/c", "/d", "/e"):
        world.fetch(path)
        assert len(world.documents._kept) <= 2


def test_failures_are_not_kept(start: Start) -> None:
    """The next delivery asks again."""
    world = start(answer(b"", "503 Service Unavailable"), answer(b"", "404 Not Found"), answer())
    with pytest.raises(TryAgain):
        world.fetch()
    with pytest.raises(SignatureError):
        world.fetch()
    assert PEM == world.fetch()


@pytest.mark.parametrize("status", ["400 Bad Request", "403 Forbidden", "404 Not Found", "204 No Content"])
def test_what_is_not_there_is_the_deliverys_fault(start: Start, status: str) -> None:
    """It named what does not exist."""
    with pytest.raises(SignatureError, match=status[:3]):
        start(answer(b"", status)).fetch()


@pytest.mark.parametrize("status", ["500 Internal Server Error", "502 Bad Gateway", "503 Slow Down", "429 Too Many"])
def test_what_cannot_be_had_now_is_tried_again(start: Start, status: str) -> None:
    """A refusal would lose the delivery for a fault of the platform's."""
    with pytest.raises(TryAgain):
        start(answer(b"", status)).fetch()


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"])
def test_redirects_are_not_followed(start: Start, status: str) -> None:
    """They could lead anywhere, past every check of the address."""
    world = start(answer(b"", status, f"Location: https://{HOST}/elsewhere"))
    with pytest.raises(SignatureError):
        world.fetch()
    assert 1 == len(world.server.asked)


def test_64_kilobytes_are_read_and_one_byte_more_is_refused(start: Start) -> None:
    """Also where the length is not told; no more than that is ever read."""
    most = b"x" * LARGEST
    assert most == start(answer(most)).fetch()
    with pytest.raises(SignatureError):
        start(answer(most + b"x")).fetch()
    with pytest.raises(SignatureError):
        start(b"HTTP/1.0 200 OK\r\n\r\n" + most * 20).fetch()


# -- what goes wrong on the way


def test_half_a_document_is_tried_again(start: Start) -> None:
    """A key that breaks off would refuse every delivery for an hour."""
    with pytest.raises(TryAgain):
        start(answer()[:-5]).fetch()


@pytest.mark.parametrize(
    "given",
    [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n"],
    ids=["nothing", "not http", "no status", "too many headers"],
)
def test_what_is_no_answer_is_tried_again(start: Start, given: bytes) -> None:
    """Connections break, and middle boxes talk."""
    with pytest.raises(TryAgain):
        start(given).fetch()


def _silent(_connection: ssl.SSLSocket) -> None:
    time.sleep(0.6)


def _trickling(connection: ssl.SSLSocket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    for _ in range(12):
        time.sleep(0.1)
        connection.sendall(b"x")


@pytest.mark.parametrize("slow", [_silent, _trickling])
def test_a_slow_answer_is_given_up(start: Start, monkeypatch: pytest.MonkeyPatch, slow: Answer) -> None:
    """The platform waits for ours meanwhile, so a byte now and then does not help."""
    monkeypatch.setattr(outside, "SECONDS", 0.3)
    world = start(slow)
    before = time.monotonic()
    with pytest.raises(TryAgain):
        world.fetch()
    assert time.monotonic() - before < 1.0


def test_nobody_listening_is_tried_again(start: Start) -> None:
    """Refused connections among them."""
    world = start()
    world.documents._http._port = _unused_port()
    with pytest.raises(TryAgain, match="ConnectionRefused"):
        world.fetch()


def _unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_a_name_that_does_not_resolve_is_tried_again(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver may be what is away."""

    def away(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "away")

    world = start()
    monkeypatch.setattr(socket, "getaddrinfo", away)
    with pytest.raises(TryAgain):
        world.fetch()


def test_an_address_that_leads_nowhere_does_not_hide_the_next(start: Start) -> None:
    """A host's first address may be of a kind that has no way out from a function."""
    world = start(resolved=(("127.0.0.2", "127.0.0.1"),), allowed=lambda address: address in ("127.0.0.1", "127.0.0.2"))
    assert PEM == world.fetch()


# -- who it may be


def test_a_certificate_of_another_host_is_not_trusted(start: Start) -> None:
    """Nor one of an authority that nobody knows."""
    world = start()
    with pytest.raises(TryAgain, match="SSLCertVerificationError"):
        world.documents.fetch("https://localhost/key.pem")
    with pytest.raises(TryAgain, match="SSLCertVerificationError"):
        start(context=ssl.create_default_context()).fetch()
    assert [] == world.server.asked


@pytest.mark.parametrize("address", ["https://localhost/x", "https://127.0.0.1/x", "https://[::1]/x", "https://0/x"])
def test_the_private_network_is_not_asked(start: Start, address: str) -> None:
    """By name or by number, with the check that is used in earnest."""
    world = start(allowed=is_public)
    with pytest.raises(SignatureError, match="public"):
        world.documents.fetch(address)
    assert [] == world.server.asked


@pytest.mark.parametrize("addresses", [("10.0.0.1",), ("127.0.0.1", "10.0.0.1"), ("10.0.0.1", "127.0.0.1")])
def test_one_private_address_among_others_is_enough_to_refuse(start: Start, addresses: tuple[str, ...]) -> None:
    """Whoever controls the name controls which of them is tried."""
    world = start(resolved=(addresses,))
    with pytest.raises(SignatureError, match="public"):
        world.fetch()
    assert [] == world.server.asked


def test_the_connection_goes_to_the_address_that_was_checked(start: Start) -> None:
    """The name is looked up once: a second answer, private this time, is never asked for (DNS rebinding)."""
    world = start(resolved=(("127.0.0.1",), ("10.0.0.1",)))
    assert PEM == world.fetch()
    assert [HOST] == world.looked_up


@pytest.mark.parametrize(
    "url",
    [
        f"http://{HOST}/key.pem",
        f"ftp://{HOST}/key.pem",
        "file:///etc/hostname",
        f"//{HOST}/key.pem",
        f"https://user@{HOST}/key.pem",
        f"https://user:word@{HOST}/key.pem",
        f"https://{HOST}:22/key.pem",
        f"https://{HOST}:99999/key.pem",
        f"https://{HOST}:abc/key.pem",
        f"https://{HOST}/key pem",
        f"https://{HOST}/key\r\nX: y",
        f"https://{HOST}/k\u00e9y",
        f"https://{HOST}/\x00",
        "https:///key.pem",
        "https://[::1/key.pem",
        "https://a..example.com/key.pem",
        f"https://{'a' * 70}.example.com/key.pem",
        "key.pem",
        "",
    ],
)
def test_only_plain_https_addresses_are_fetched(start: Start, url: str) -> None:
    """Whatever else a delivery names is refused, not tried again."""
    world = start()
    with pytest.raises(SignatureError):
        world.documents.fetch(url)
    assert [] == world.server.asked


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("169.254.170.2", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("240.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b:1::a00:1", False),
        ("2002:a00:1::", False),
        ("2001:db8::1", False),
        ("2001:0:a00:1::", False),
    ],
)
def test_what_counts_as_public(address: str, expected: bool) -> None:
    """Metadata services, carriers' networks, tunnels into them, and the addresses of nothing are not."""
    assert expected is is_public(address)


@contextmanager
def _no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("asked for a connection")

    with monkeypatch.context() as patched:
        patched.setattr(socket, "create_connection", refused)
        yield


def test_a_refused_address_is_not_even_connected_to(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection alone tells an attacker which ports are open."""
    world = start(resolved=(("10.0.0.1",),))
    with _no_network(monkeypatch), pytest.raises(SignatureError):
        world.fetch()
