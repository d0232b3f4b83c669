"""Every kind of sink against real servers: files arrive whole or not at all, whatever breaks off wherever."""

from __future__ import annotations

import asyncio
import os
import socket
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote

import asyncssh
import pytest

from espial import wiring
from espial.answers import Answer
from espial.errors import Refused, TryAgain
from espial.feeds.definition import BucketSink, FtpSink, HttpSink, SftpSink
from espial.feeds.files import Sink
from espial.services.deliver_feed import MARGIN_MS
from espial.settings import DeliverFeedSettings
from espial.sinks.bucket import BucketFolder
from espial.sinks.ftp import FtpDrop
from espial.sinks.http import HttpUpload
from espial.sinks.sftp import PIECE, SftpDrop
from espial.stores.aws_http import LARGE, READ_SECONDS, AwsClient
from espial.stores.guarded_http import GuardedHttp
from espial.stores.sigv4 import Credentials
from local import cloud as local_cloud
from tests.builders import NOON
from tests.cutting import cutting
from tests.ftp import HANG_UP, SILENT, RunningFtp, certificate, ftp_server
from tests.loopback import Canned, loopback
from tests.sftp import PASSWORD, USER, SftpServer, sftp_server
from tests.unit.test_feeds_daily import MONDAY, Daily

NAME = "response_event_braze_20260115100005_0001.csv"
ROWS = b"sor_name,client_campaign_event_id\nBraze,1\n" * 20_000
"""Large enough to be cut in many places: more than three pieces of an SFTP client."""

LOOPBACK = GuardedHttp("loopback")


def ample() -> float:
    return 600.0


@dataclass
class Place:
    """A server and what a reader sees of it. `opened` makes a sink that goes through a port.

    `replaces`: it can put a file in the place of another in one step.
    """

    opened: Callable[[int], Any]
    names: Callable[[], set[str]]
    read: Callable[[str], bytes]
    port: int
    replaces: bool = True

    def files(self) -> dict[str, bytes]:
        return {name: self.read(name) for name in self.names()}


class _Keys:
    def current(self) -> Credentials:
        return Credentials("test", "test", "")

    def renew(self) -> None:
        pass


@pytest.fixture(scope="module")
def transfer(tmp_path_factory) -> Iterator[tuple[Any, int]]:
    """The local cloud with its SFTP service on."""
    port = local_cloud.free_port()
    settings = {"SFTP_ENABLED": "1", "SFTP_PORT": str(port), "SFTP_HOST": "127.0.0.1"}
    if not local_cloud.PYTHON.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no local cloud: `make setup` makes its environment")
    with local_cloud.running(tmp_path_factory.mktemp("transfer"), settings) as cloud:
        yield cloud, port


@pytest.fixture(
    params=[
        pytest.param("bucket", marks=pytest.mark.cloud),
        "http",
        "sftp",
        "plain-sftp",
        "ftp",
        "plain-ftp",
        "ftps",
        "implicit-ftps",
        pytest.param("transfer", marks=pytest.mark.cloud),
    ]
)
def place(request, tmp_path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield PLACES[request.param](request, tmp_path, stack)


def bucket_place(request, _folder, _stack) -> Place:
    cloud = request.getfixturevalue("cloud")
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="feeds", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})

    def opened(port: int) -> Any:
        url = f"http://127.0.0.1:{port}"
        client = AwsClient("s3", "eu-west-1", url, _Keys(), sleep=lambda _seconds: None)
        return closing(_Closing(BucketFolder(client, "feeds", "feeds/cdp/"), client.close))

    return Place(opened, *objects(s3, "feeds", "feeds/cdp/"), cloud.port)


def objects(s3: Any, bucket: str, folder: str = "") -> tuple[Callable[[], set[str]], Callable[[str], bytes]]:
    """Names and contents of what lies in a bucket's folder, but for what is hidden."""

    def names() -> set[str]:
        listed = [item["Key"].removeprefix(folder) for item in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
        return {name for name in listed if not name.startswith(".")}

    return names, lambda name: bytes(s3.get_object(Bucket=bucket, Key=folder + name)["Body"].read())


class _Closing:
    """A sink with an end."""

    def __init__(self, sink: Sink, close: Callable[[], None] = lambda: None) -> None:
        self.put = sink.put
        self.close = close


class Receiver:
    """Takes files by PUT, if all that the request promises is there."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.headers: list[dict[str, str]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                size = int(self.headers["content-length"])
                body = self.rfile.read(size)
                wanted = f"sha-256=:{b64encode(sha256(body).digest()).decode()}:"
                if len(body) == size and wanted == self.headers["content-digest"]:
                    receiver.files[unquote(self.path.rpartition("/")[2])] = body
                    receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
                    self.send_response(201)
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

            def handle(self) -> None:
                with suppress(ConnectionError):
                    super().handle()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.thread = Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def http_place(_request, _folder, stack) -> Place:
    receiver = stack.enter_context(closing(Receiver()))

    def opened(port: int) -> Any:
        to = HttpSink(kind="http", url=f"http://127.0.0.1:{port}/in/{{name}}")
        return closing(_Closing(HttpUpload(to, LOOPBACK, lambda: b"token-1", lambda: NOON, ample)))

    return Place(opened, lambda: set(receiver.files), receiver.files.__getitem__, receiver.port)


def drop(
    port: int,
    host_key: str,
    secret: bytes = PASSWORD.encode(),
    seconds: float = 10,
    seconds_left: Callable[[], float] = ample,
    **fields: Any,
) -> Any:
    to = SftpSink(
        kind="sftp",
        **{"host": "127.0.0.1", "port": port, "user": USER, "directory": "/in", "host_key": host_key, **fields},
        secret="secretsmanager:espial/cdp-sftp",
    )
    return closing(SftpDrop(to, lambda: secret, LOOPBACK.dial, seconds_left, seconds))


def sftp_place(_request, folder, stack, *, extensions: bool = True) -> Place:
    (folder / "in").mkdir()
    server = stack.enter_context(sftp_server(folder, extensions=extensions))

    def names() -> set[str]:
        return {path.name for path in (folder / "in").iterdir() if not path.name.startswith(".")}

    def read(name: str) -> bytes:
        return bytes((folder / "in" / name).read_bytes())

    return Place(lambda port: drop(port, server.host_key), names, read, server.port)


def ftp_drop(
    server: RunningFtp,
    secret: bytes = PASSWORD.encode(),
    seconds: float = 10,
    seconds_left: Callable[[], float] = ample,
    **fields: Any,
) -> Any:
    told = {"host": "localhost", "port": server.port, "user": USER, "directory": "/in", "tls": server.tls, **fields}
    if told["tls"] != "none":
        told = {"certificate": server.certificate, **told}
    to = FtpSink(kind="ftp", **told, secret="secretsmanager:espial/cdp-ftp")
    return closing(FtpDrop(to, lambda: secret, LOOPBACK.dial, seconds_left, seconds))


def ftp_place(_request, folder, stack, *, tls: str = "none", replaces: bool = True) -> Place:
    (folder / "in").mkdir()
    server = stack.enter_context(ftp_server(folder, tls, replaces=replaces))

    def names() -> set[str]:
        return {path.name for path in (folder / "in").iterdir() if not path.name.startswith(".")}

    def read(name: str) -> bytes:
        return bytes((folder / "in" / name).read_bytes())

    return Place(lambda port: ftp_drop(server, port=port), names, read, server.port, replaces)


def transfer_place(request, _folder, _stack) -> Place:
    """AWS Transfer's protocol as the local cloud has it: S3 behind, keys only."""
    cloud, port = request.getfixturevalue("transfer")
    cloud.reset()
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="inbox", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    key = asyncssh.generate_private_key("ssh-ed25519")
    transfer = cloud.client("transfer")
    server = transfer.create_server(Protocols=["SFTP"], IdentityProviderType="SERVICE_MANAGED")["ServerId"]
    transfer.create_user(
        ServerId=server,
        UserName=USER,
        Role="arn:aws:iam::000000000000:role/transfer",
        HomeDirectory="/inbox",
        SshPublicKeyBody=key.export_public_key("openssh").decode(),
    )
    host_key = asyncio.run(asyncssh.get_server_host_key("127.0.0.1", port))
    known = " ".join(host_key.export_public_key("openssh").decode().split()[:2])

    secret = key.export_private_key("openssh")
    return Place(lambda at: drop(at, known, secret, directory="/inbox"), *objects(s3, "inbox"), port)


PLACES: dict[str, Callable[..., Place]] = {
    "bucket": bucket_place,
    "http": http_place,
    "sftp": sftp_place,
    "plain-sftp": lambda *given: sftp_place(*given, extensions=False),
    "ftp": ftp_place,
    "plain-ftp": lambda *given: ftp_place(*given, replaces=False),
    "ftps": lambda *given: ftp_place(*given, tls="explicit"),
    "implicit-ftps": lambda *given: ftp_place(*given, tls="implicit"),
    "transfer": transfer_place,
}


def test_a_file_arrives_whole_under_its_name(place):
    """And nothing else is to be seen."""
    with place.opened(place.port) as sink:
        sink.put(NAME, ROWS)
        sink.put(f"{NAME}.manifest.json", b"{}\n")
    assert {NAME: ROWS, f"{NAME}.manifest.json": b"{}\n"} == place.files()


def test_the_same_file_again_is_no_error(place):
    """Whoever crashed before it was noted puts it again."""
    for _ in range(2):
        with place.opened(place.port) as sink:
            sink.put(NAME, ROWS)
            sink.put(NAME, ROWS)
    assert {NAME: ROWS} == place.files()


@pytest.mark.parametrize("other", [ROWS + b"more", ROWS[:-100], b"x" * len(ROWS), b"one\n"])
def test_another_file_of_that_name_is_replaced(place, other):
    """Longer, shorter, or of the same size: what was there does not shine through."""
    with place.opened(place.port) as sink:
        sink.put(NAME, ROWS)
        sink.put(NAME, other)
    assert {NAME: other} == place.files()


def test_wherever_it_breaks_off_nobody_sees_part_of_a_file(place):
    """The way is cut before and after every piece, in both directions: a reader sees the file before it, or all of it.

    Each time it can be put afterwards, over whatever is left.
    """
    before = b"the file before\n"
    with cutting(place.port) as way, place.opened(place.port) as direct:
        with place.opened(way.port) as sink:
            sink.put("uncut.csv", ROWS)
        for number, cut in enumerate(some(way.edges())):
            way.up, way.down = cut
            name = f"{number}.csv"
            if number % 2:
                direct.put(name, before)
            with place.opened(way.port) as sink, suppress(TryAgain):
                sink.put(name, ROWS)
            there = name in place.names()
            assert there or not number % 2 or not place.replaces
            assert not there or place.read(name) in (before, ROWS), cut
            direct.put(name, ROWS)
            assert ROWS == place.read(name)


def test_a_days_log_arrives_in_one_file(place):
    """From the writer to the server; again, it is the same file."""
    daily = Daily()
    for hour in (1, 12, 23):
        daily.at(hour)
        daily.event()
        daily.write()
    daily.at(0, 5, day=1)
    daily.write()
    given = replace(daily.delivery(), opened=lambda _seconds_left: place.opened(place.port))
    assert 1 == given.run(lambda: 600_000.0).files
    there = place.files()
    assert {MONDAY, f"{MONDAY}.manifest.json"} == {*there}
    assert b"".join(content for _, content in daily.world.files) == there[MONDAY]
    assert 1 == given.resend([MONDAY], lambda: 600_000.0).files
    assert there == place.files()


def some(edges: list[Any], most: int = 64) -> list[Any]:
    """All of them, or so many evenly, first and last included."""
    return edges if len(edges) <= most else [edges[at * (len(edges) - 1) // (most - 1)] for at in range(most)]


# -- SFTP


@pytest.fixture
def server(tmp_path) -> Iterator[SftpServer]:
    (tmp_path / "in").mkdir()
    with sftp_server(tmp_path) as running:
        yield running


def test_a_private_key_opens_it_as_well_as_a_password(server):
    """The secret's value says which it is."""
    with drop(server.port, server.host_key, server.user_key) as sink:
        sink.put("a.csv", b"1\n")
    assert b"1\n" == (server.folder / "in/a.csv").read_bytes()


def test_a_file_that_is_there_is_not_written_again(server):
    """A reader may be at it."""
    with drop(server.port, server.host_key) as sink:
        sink.put("a.csv", ROWS)
        server.operations.clear()
        sink.put("a.csv", ROWS)
    assert not {"write", "rename", "posix_rename"} & set(server.operations)


def test_a_part_that_was_left_is_overwritten(server):
    """However long it is."""
    (server.folder / "in/.a.csv.part").write_bytes(b"x" * 1_000_000)
    with drop(server.port, server.host_key) as sink:
        sink.put("a.csv", ROWS)
    assert [("a.csv", ROWS)] == [(path.name, path.read_bytes()) for path in (server.folder / "in").iterdir()]


def test_many_files_take_one_connection(server):
    """A login costs more than a small file."""
    with cutting(server.port) as way, drop(way.port, server.host_key) as sink:
        for number in range(5):
            sink.put(f"{number}.csv", b"1\n")
        assert 1 == way.connections


def another_key() -> str:
    key = asyncssh.generate_private_key("ssh-ed25519")
    return " ".join(key.export_public_key("openssh").decode().split()[:2])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"host_key": another_key()}, "host_key_differs"),
        ({"secret": b"wrong"}, "not_authorised"),
        ({"secret": asyncssh.generate_private_key("ssh-ed25519").export_private_key("openssh")}, "not_authorised"),
        ({"secret": b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"}, "bad_key"),
        ({"user": "nobody"}, "not_authorised"),
        ({"directory": "/elsewhere"}, "no_such_directory"),
        ({"host": "192.0.2.1"}, "address_not_loopback"),
    ],
)
def test_what_somebody_has_to_mend_is_refused_with_its_reason(server, given, reason):
    """And without the secret."""
    fields = {"host_key": server.host_key, **given}
    with pytest.raises(Refused) as caught, drop(server.port, **fields) as sink:
        sink.put("a.csv", b"1\n")
    assert reason == caught.value.reason
    assert fields.get("secret", PASSWORD.encode()).decode() not in str(caught.value)


@pytest.mark.parametrize(
    ("operation", "raised", "reason"),
    [
        ("open", asyncssh.SFTPPermissionDenied("no"), "permission_denied"),
        ("write", asyncssh.SFTPPermissionDenied("no"), "permission_denied"),
        ("posix_rename", asyncssh.SFTPPermissionDenied("no"), None),  # a plain one will do
        ("write", asyncssh.SFTPFailure("the disk is full"), TryAgain),
        ("write", asyncssh.SFTPQuotaExceeded("no"), TryAgain),
        ("fsync", asyncssh.SFTPOpUnsupported("no"), None),
    ],
)
def test_what_the_server_refuses_may_pass_or_not(server, operation, raised, reason):
    """A full disk is emptied some day, rights are given by somebody."""

    def refuse(name: str, path: str) -> None:
        if name == operation and (name != "open" or not path.endswith("/a.csv")):
            raise raised

    server.before = refuse
    with drop(server.port, server.host_key) as sink:
        if reason is None:
            sink.put("a.csv", b"1\n")
            assert b"1\n" == (server.folder / "in/a.csv").read_bytes()
            return
        with pytest.raises((TryAgain, Refused)) as caught:
            sink.put("a.csv", b"1\n")
    assert not (server.folder / "in/a.csv").exists()
    assert reason == (caught.value.reason if isinstance(caught.value, Refused) else TryAgain)


def test_a_reader_may_not_read_what_is_there(server):
    """Drop boxes let nobody look: the file is written again."""

    def refuse(name: str, path: str) -> None:
        if name in ("stat", "open") and path == "/in/a.csv":
            raise asyncssh.SFTPPermissionDenied("no")

    with drop(server.port, server.host_key) as sink:
        sink.put("a.csv", b"1\n")
        server.before = refuse
        sink.put("a.csv", b"2\n")
    assert b"2\n" == (server.folder / "in/a.csv").read_bytes()


def test_a_server_that_falls_silent_is_left(server):
    """At any of its answers, and whatever it says to what is asked of it afterwards."""
    with drop(server.port, server.host_key) as sink:
        sink.put("there.csv", b"1\n")
    server.before = lambda name, _path: asyncio.sleep(60 if name in ("read", "close") else 0)
    with pytest.raises(TryAgain), drop(server.port, server.host_key, seconds=0.5) as sink:
        sink.put("there.csv", b"1\n")
    (server.folder / "in/there.csv").unlink()
    for operation in ("stat", "open", "write", "fsync", "close", "posix_rename"):
        server.before = lambda name, _path, wanted=operation: asyncio.sleep(60 if name == wanted else 0)
        with pytest.raises(TryAgain), drop(server.port, server.host_key, seconds=0.5) as sink:
            sink.put(f"{operation}.csv", b"1\n")
    assert not [path for path in (server.folder / "in").iterdir() if not path.name.startswith(".")]


def test_a_server_that_is_too_slow_is_left_in_time(server):
    """Each of its answers comes within the limit for one, and yet the file would never be there before the end."""
    server.before = lambda name, _path: asyncio.sleep(0.1 if name == "write" else 0)
    with (
        pytest.raises(TryAgain, match="too slow") as caught,
        drop(server.port, server.host_key, seconds_left=lambda: 1.0) as sink,
    ):
        sink.put("a.csv", ROWS * 10)
    assert f"{len(ROWS * 10)} bytes" in str(caught.value)
    assert not (server.folder / "in/a.csv").exists()


def test_who_does_not_answer_at_all_is_tried_again():
    """Nobody listens, or somebody who says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        for port in (mute.getsockname()[1], local_cloud.free_port()):
            with pytest.raises(TryAgain), drop(port, another_key(), seconds=0.5) as sink:
                sink.put("a.csv", b"1\n")


def test_after_a_failure_the_same_sink_works_again(server):
    """It logs in anew."""
    with cutting(server.port) as way, drop(way.port, server.host_key) as sink:
        sink.put("a.csv", b"1\n")
        way.cut_now()
        with pytest.raises(TryAgain):
            sink.put("b.csv", b"1\n")
        sink.put("b.csv", b"1\n")
    assert {"a.csv", "b.csv"} == {path.name for path in (server.folder / "in").iterdir()}


@pytest.mark.parametrize(
    ("part", "left"),
    [
        (ROWS, 0),
        (ROWS[: PIECE + 7], len(ROWS) - PIECE - 7),
        (ROWS[: PIECE + 7] + b"\0", len(ROWS)),
        (ROWS + b"more", len(ROWS)),
        (b"x", len(ROWS)),
    ],
)
def test_an_sftp_upload_that_was_cut_off_goes_on(tmp_path, part, left):
    """By what is there, if that is how the file begins; else it starts over."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/.a.csv.part").write_bytes(part)
    with sftp_server(tmp_path) as server, drop(server.port, server.host_key) as sink:
        sink.put("a.csv", ROWS)
        assert left == server.written
    assert {"a.csv": ROWS} == {path.name: path.read_bytes() for path in (tmp_path / "in").iterdir()}


def test_a_private_address_is_not_called():
    """A definition must not lead into the stack's own network."""
    to = SftpSink(kind="sftp", host="127.0.0.1", user=USER, secret="ssm:/espial/x", host_key=another_key())
    with closing(SftpDrop(to, lambda: b"x", GuardedHttp().dial, ample)) as sink, pytest.raises(Refused) as caught:
        sink.put("a.csv", b"1\n")
    assert "address_not_public" == caught.value.reason


# -- FTP


@pytest.fixture(params=["none", "explicit", "implicit"])
def ftp(request, tmp_path) -> Iterator[RunningFtp]:
    (tmp_path / "in").mkdir()
    with ftp_server(tmp_path, request.param) as running:
        yield running


def in_folder(server: RunningFtp) -> dict[str, bytes]:
    """What lies there, hidden files too."""
    return {path.name: path.read_bytes() for path in (server.folder / "in").iterdir()}


def test_with_tls_nothing_is_told_before_it(ftp):
    """Neither the password nor a file."""
    with ftp_drop(ftp) as sink:
        sink.put("a.csv", ROWS)
    before = {command for (command, _), secure in zip(ftp.commands, ftp.secure, strict=True) if not secure}
    assert {"explicit": {"AUTH"}, "implicit": set()}.get(ftp.tls, before) == before
    assert {ftp.tls != "none"} == {*ftp.transfers}


def test_a_file_is_stored_measured_and_renamed(ftp):
    """By these commands, and the next over the same connection; one that is there is not written again."""
    with ftp_drop(ftp) as sink:
        sink.put("a.csv", ROWS)
        ftp.commands.clear()
        sink.put("b.csv", ROWS)
        commands = [command for command, _ in ftp.commands if command not in ("TYPE", "PASV")]
        assert ["SIZE", "SIZE", "STOR", "SIZE", "RNFR", "RNTO"] == commands
        ftp.commands.clear()
        sink.put("b.csv", ROWS)
        assert not {"STOR", "RNTO", "USER"} & {command for command, _ in ftp.commands}
    assert {"a.csv": ROWS, "b.csv": ROWS} == in_folder(ftp)


def test_a_part_that_an_attempt_left_is_replaced(ftp):
    """However long it is."""
    (ftp.folder / "in/.a.csv.part").write_bytes(b"x" * 1_000_000)
    with ftp_drop(ftp) as sink:
        sink.put("a.csv", ROWS)
    assert {"a.csv": ROWS} == in_folder(ftp)


@pytest.mark.parametrize("kept", [1, 99, len(ROWS) // 2, len(ROWS) - 1, len(ROWS)])
def test_an_upload_that_was_cut_off_goes_on(ftp, kept):
    """By what is there, if that is how the file begins: nothing is sent twice."""
    part = ftp.folder / "in/.a.csv.part"
    part.write_bytes(ROWS[:kept])
    with ftp_drop(ftp) as sink:
        sink.put("a.csv", ROWS)
    assert {"a.csv": ROWS} == in_folder(ftp)
    assert "STOR" not in {command for command, _ in ftp.commands}
    assert len(ROWS) - kept == ftp.received


def test_wherever_a_transfer_is_cut_the_next_attempt_goes_on(ftp):
    """Nobody sees part of the file meanwhile, and what was there is not sent again."""
    for number, cut in enumerate(range(1, len(ROWS), len(ROWS) // 16)):
        name, part = f"{number}.csv", ftp.folder / f"in/.{number}.csv.part"
        ftp.cut_after = cut
        with pytest.raises(TryAgain), ftp_drop(ftp) as sink:
            sink.put(name, ROWS)
        assert name not in in_folder(ftp)
        kept = part.stat().st_size
        assert ROWS[:kept] == part.read_bytes()
        ftp.cut_after, ftp.received = None, 0
        with ftp_drop(ftp) as sink:
            sink.put(name, ROWS)
        assert ROWS == in_folder(ftp)[name]
        assert len(ROWS) - kept == ftp.received


def test_a_way_that_always_breaks_gets_a_file_there_in_the_end(ftp):
    """Each attempt brings some of it."""
    ftp.cut_after = len(ROWS) // 5
    for _ in range(10):
        with suppress(TryAgain), ftp_drop(ftp) as sink:
            sink.put("a.csv", ROWS)
    assert {"a.csv": ROWS} == in_folder(ftp)


@pytest.mark.parametrize("refused", ["APPE", "RETR"])
def test_where_a_server_cannot_go_on_an_upload_starts_over(ftp, refused):
    """It does not append, or lets nobody read."""
    (ftp.folder / "in/.a.csv.part").write_bytes(ROWS[:1000])
    ftp.before = lambda name, _argument: "550 No." if name == refused else None
    with ftp_drop(ftp) as sink:
        sink.put("a.csv", ROWS)
    assert {"a.csv": ROWS} == in_folder(ftp)
    assert len(ROWS) == ftp.received


def test_another_beginning_is_not_gone_on_from(ftp):
    """A part of another file of this name, or one that a server's crash has damaged."""
    (ftp.folder / "in/.a.csv.part").write_bytes(ROWS[:1000] + b"\0" * 1000)
    with ftp_drop(ftp) as sink:
        sink.put("a.csv", ROWS)
    assert {"a.csv": ROWS} == in_folder(ftp)
    assert len(ROWS) == ftp.received


COMMANDS = ("TYPE", "CWD", "SIZE", "PASV", "STOR", "RNFR", "RNTO", "USER", "PASS", "RETR")


@pytest.mark.parametrize("how", [HANG_UP, SILENT, "421 Going down.", "452 The disk is full.", "nonsense"])
def test_whatever_command_is_not_answered_the_next_attempt_completes(ftp, how):
    """Nobody sees part of a file under its name meanwhile: the one before it, or all of it."""
    before = ROWS[::-1]
    for command in COMMANDS + (("AUTH", "PBSZ", "PROT") if ftp.tls == "explicit" else ()):
        (ftp.folder / "in/a.csv").write_bytes(before)
        ftp.before = lambda name, _argument, wanted=command: how if name == wanted else None
        with pytest.raises(TryAgain), ftp_drop(ftp, seconds=0.3) as sink:
            sink.put("a.csv", ROWS)
        assert before == in_folder(ftp)["a.csv"], command
        ftp.before = lambda _name, _argument: None
        with ftp_drop(ftp) as sink:
            sink.put("a.csv", ROWS)
        assert {"a.csv": ROWS} == in_folder(ftp)


def test_a_transfer_that_loses_its_end_is_seen(ftp):
    """Though the server says that it is complete."""
    ftp.most = len(ROWS) - 1
    with pytest.raises(TryAgain, match="not all of the file arrived"), ftp_drop(ftp) as sink:
        sink.put("a.csv", ROWS)
    assert {".a.csv.part"} == {*in_folder(ftp)}
    ftp.most = None
    with ftp_drop(ftp) as sink:
        sink.put("a.csv", ROWS)
    assert {"a.csv": ROWS} == in_folder(ftp)


def test_a_size_that_is_none_is_asked_for_again(ftp):
    """Whatever a server says, it is not taken for the password's fault."""
    ftp.before = lambda name, _argument: "213 many" if name == "SIZE" else None
    with pytest.raises(TryAgain), ftp_drop(ftp) as sink:
        sink.put("a.csv", ROWS)


def test_a_server_that_tells_no_sizes_is_believed(ftp):
    """SIZE came late to FTP, and some do not have it."""
    ftp.before = lambda name, _argument: "502 No such command." if name == "SIZE" else None
    for content in (ROWS, b"1\n"):
        with ftp_drop(ftp) as sink:
            sink.put("a.csv", content)
        assert {"a.csv": content} == in_folder(ftp)


def test_another_address_for_a_transfer_is_left_aside(ftp):
    """A server must not lead into the stack's own network, and one behind NAT names addresses that lead nowhere."""
    dialled = []

    def dial(host: str, port: int, seconds: float) -> socket.socket:
        dialled.append(host)
        return LOOPBACK.dial(host, port, seconds)

    ftp.handler.masquerade_address = "192.0.2.7"
    to = FtpSink(
        kind="ftp",
        host="localhost",
        port=ftp.port,
        user=USER,
        secret="ssm:/espial/x",
        tls=ftp.tls,
        certificate=None if ftp.tls == "none" else ftp.certificate,
    )
    with closing(FtpDrop(to, PASSWORD.encode, dial, ample)) as sink:
        sink.put("a.csv", ROWS)
    assert ["localhost", "127.0.0.1"] == dialled
    assert ROWS == (ftp.folder / "a.csv").read_bytes()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"secret": b"wrong"}, "not_authorised"),
        ({"secret": b"\xff\xfe"}, "bad_password"),
        ({"secret": b"two\r\nDELE lines"}, "bad_password"),
        ({"user": "nobody"}, "not_authorised"),
        ({"directory": "/elsewhere"}, "no_such_directory"),
        ({"host": "192.0.2.1"}, "address_not_loopback"),
    ],
)
def test_what_somebody_has_to_mend_about_ftp_is_refused_with_its_reason(ftp, given, reason):
    """And without the secret."""
    with pytest.raises(Refused) as caught, ftp_drop(ftp, **given) as sink:
        sink.put("a.csv", b"1\n")
    assert reason == caught.value.reason
    assert given.get("secret", PASSWORD.encode()).decode(errors="replace") not in str(caught.value)


@pytest.mark.parametrize(
    ("command", "answer", "reason"),
    [
        ("PASS", "430 Wrong.", "not_authorised"),
        ("PASS", "421 Too many.", TryAgain),
        ("USER", "534 TLS is needed.", "not_authorised"),
        ("STOR", "553 Not allowed.", "permission_denied"),
        ("STOR", "552 The disk is full.", TryAgain),
        ("RNFR", "550 No.", "permission_denied"),
        ("PASV", "425 No port.", TryAgain),
    ],
)
def test_what_an_ftp_server_refuses_may_pass_or_not(ftp, command, answer, reason):
    """A full disk is emptied some day, rights are given by somebody."""
    ftp.before = lambda name, _argument: answer if name == command else None
    with pytest.raises((TryAgain, Refused)) as caught, ftp_drop(ftp) as sink:
        sink.put("a.csv", b"1\n")
    assert reason == (caught.value.reason if isinstance(caught.value, Refused) else TryAgain)
    assert "a.csv" not in in_folder(ftp)


def test_a_directory_that_may_only_be_read_is_refused(ftp):
    """Somebody has to give the right. What is there stays there."""
    (ftp.folder / "in/a.csv").write_bytes(b"before\n")
    for permissions in ("elr", "elrw", "elrwd"):  # to read; and to write; and to delete, but not to rename
        ftp.may(permissions)
        with pytest.raises(Refused) as caught, ftp_drop(ftp) as sink:
            sink.put("a.csv", b"1\n")
        assert "permission_denied" == caught.value.reason
        assert b"before\n" == in_folder(ftp)["a.csv"]


def test_a_directory_that_may_not_be_read_takes_files(ftp):
    """Drop boxes let nobody look: the file is written again."""
    ftp.before = lambda name, argument: "550 No." if name in ("RETR", "SIZE") and "part" not in argument else None
    for content in (b"1\n", b"2\n"):
        with ftp_drop(ftp) as sink:
            sink.put("a.csv", content)
    assert {"a.csv": b"2\n"} == in_folder(ftp)


@pytest.mark.parametrize("tls", ["explicit", "implicit"])
@pytest.mark.parametrize(
    "given", [{"certificate": None}, {"certificate": certificate("other")[0]}, {"host": "127.0.0.1"}]
)
def test_a_certificate_that_is_not_trusted_ends_it_before_the_password(tmp_path, tls, given):
    """Nobody's, another server's, or one for another name."""
    with ftp_server(tmp_path, tls) as server:
        with pytest.raises(Refused) as caught, ftp_drop(server, directory=".", **given) as sink:
            sink.put("a.csv", b"1\n")
        assert "certificate_not_trusted" == caught.value.reason
        assert not {"USER", "PASS"} & {command for command, _ in server.commands}


def test_a_server_without_tls_gets_no_password(tmp_path):
    """Only who wrote `tls: none` sends it in the clear."""
    with ftp_server(tmp_path) as server:
        with pytest.raises(Refused) as caught, ftp_drop(server, tls="explicit", directory=".") as sink:
            sink.put("a.csv", b"1\n")
        assert "no_tls" == caught.value.reason
        assert "PASS" not in {command for command, _ in server.commands}


def test_an_ftp_server_that_is_too_slow_is_left_in_time(ftp):
    """However slowly it says what it says."""
    ftp.before = lambda name, _argument: SILENT if name == "RNFR" else None
    with pytest.raises(TryAgain, match="too slow") as caught, ftp_drop(ftp, seconds_left=lambda: 0.5) as sink:
        sink.put("a.csv", ROWS)
    assert f"{len(ROWS)} bytes" in str(caught.value)
    with pytest.raises(TryAgain, match="too slow"), ftp_drop(ftp, seconds_left=lambda: -1.0) as sink:
        sink.put("b.csv", ROWS)
    assert {".a.csv.part"} == {*in_folder(ftp)}


def test_who_does_not_answer_ftp_at_all_is_tried_again(ftp):
    """Nobody listens, or somebody who says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        for port in (mute.getsockname()[1], local_cloud.free_port()):
            with pytest.raises(TryAgain), ftp_drop(ftp, port=port, seconds=0.3) as sink:
                sink.put("a.csv", b"1\n")


def test_after_a_failure_the_same_ftp_sink_works_again(ftp):
    """It logs in anew."""
    with cutting(ftp.port) as way, ftp_drop(ftp, port=way.port) as sink:
        sink.put("a.csv", b"1\n")
        way.cut_now()
        with pytest.raises(TryAgain):
            sink.put("b.csv", b"1\n")
        sink.put("b.csv", b"1\n")
        assert 2 == way.connections
    assert {"a.csv", "b.csv"} == {*in_folder(ftp)}


def test_a_private_ftp_server_is_not_called(ftp):
    """A definition must not lead into the stack's own network."""
    to = FtpSink(kind="ftp", host="127.0.0.1", user=USER, secret="ssm:/espial/x")
    with closing(FtpDrop(to, lambda: b"x", GuardedHttp().dial, ample)) as sink, pytest.raises(Refused) as caught:
        sink.put("a.csv", b"1\n")
    assert "address_not_public" == caught.value.reason


# -- HTTP


def test_a_request_says_what_it_holds():
    """Name, kind, length, hash and who sends it."""
    with loopback(Canned(204)) as server:
        to = HttpSink(kind="http", url=f"{server.url}/in/{{name}}?full=1", method="POST")
        HttpUpload(to, LOOPBACK, lambda: b"token-1", lambda: NOON, ample).put("a b.csv", b"1\n")
        HttpUpload(to, LOOPBACK, None, lambda: NOON, ample).put("a.parquet", b"1\n")
    first, second = server.seen
    assert ("POST", "/in/a%20b.csv?full=1", b"1\n") == (first.method, first.path, first.body)
    assert {
        "content-type": "text/csv; charset=utf-8",
        "content-length": "2",
        "content-disposition": 'attachment; filename="a b.csv"',
        "content-digest": "sha-256=:Q1WkaxnTSNwvV8BG+O9j1FOOu5NgAPPJ7pVKJ0YN2GU=:",
        "authorization": "Bearer token-1",
    }.items() <= first.headers.items()
    assert "authorization" not in second.headers
    assert "application/vnd.apache.parquet" == second.headers["content-type"]


@pytest.mark.parametrize(
    ("size", "left", "seconds"),
    [(0, 900.0, 60.0), (10_000_000, 900.0, 160.0), (200_000_000, 900.0, 300.0), (2, 90.0, 30.0), (2, -1.0, 1.0)],
)
def test_a_large_file_may_take_longer_but_not_longer_than_there_is_time(size, left, seconds):
    """Connecting, sending and the answer may each take that long."""
    given = []

    class Way:
        def request(
            self, method: str, url: str, headers: Any = None, body: bytes = b"", seconds: float = 10.0
        ) -> Answer:
            given.append(seconds)
            return Answer(201)

    to = HttpSink(kind="http", url="http://127.0.0.1/{name}")
    HttpUpload(to, Way(), None, lambda: NOON, lambda: left).put("a.csv", bytes(size))
    assert [seconds] == given


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 507])
@pytest.mark.parametrize(
    ("asked", "after"), [(None, 1), ("7", 7), ("Fri, 20 Nov 2026 12:00:30 GMT", 30), ("soon", 1), ("999999", 900)]
)
def test_what_may_pass_is_tried_again_when_the_receiver_says(status, asked, after):
    """Retry-After in seconds or as a date, within reason."""
    with loopback(Canned(status, headers={"retry-after": asked} if asked else {})) as server:
        to = HttpSink(kind="http", url=f"{server.url}/{{name}}")
        with pytest.raises(TryAgain) as caught:
            HttpUpload(to, LOOPBACK, None, lambda: NOON, ample).put("a.csv", b"1\n")
    assert after == caught.value.after


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 409, 413, 422])
def test_what_will_not_pass_is_refused_with_its_status(status):
    """Somebody has to mend it; a redirect is not followed."""
    with loopback(Canned(status, headers={"location": "http://127.0.0.1:1/"})) as server:
        to = HttpSink(kind="http", url=f"{server.url}/{{name}}")
        with pytest.raises(Refused) as caught:
            HttpUpload(to, LOOPBACK, None, lambda: NOON, ample).put("a.csv", b"1\n")
    assert f"http_{status}" == caught.value.reason


# -- bucket


def test_a_bucket_has_more_time_for_a_file_than_for_a_small_call(monkeypatch):
    """The receivers' limit of 5 seconds covers the whole of a body: a large file would never be there."""
    settings, asked = DeliverFeedSettings("table", "feeds", "store", "public"), []
    monkeypatch.setattr(wiring, "aws", lambda service, **said: asked.append((service, said)))
    with wiring.opened_sink(settings, "cdp", BucketSink(kind="bucket"), ample):
        assert [("s3", {"large": True})] == asked
    assert READ_SECONDS < LARGE.read
    assert LARGE.call + LARGE.read <= MARGIN_MS / 1000


@pytest.mark.cloud
def test_a_bucket_that_is_not_there_is_refused(cloud):
    """Nobody makes it by waiting."""
    client = AwsClient("s3", "eu-west-1", cloud.url, _Keys(), sleep=lambda _seconds: None)
    with closing(client), pytest.raises(Refused) as caught:
        BucketFolder(client, "absent", "feeds/cdp/").put("a.csv", b"1\n")
    assert ("bucket_refuses", True) == (caught.value.reason, "NoSuchBucket" in str(caught.value))
