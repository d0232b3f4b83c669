"""The sample library `events/`: what platforms send, and the canonical events promised for it.

A case is three files under `events/sources/<platform>/`: `<case>.body`, the exact bytes; `<case>.meta.toml`, how they
came (below); `<case>.expected.json`, the golden outcome of each item. Goldens are written again, on purpose and
visibly in review, by

    python -m tests.samples --write

Fields of the meta file: `title`, `provenance` (captured, vendor-docs or synthetic), `doc` (the vendor's page),
`received_at`, and optionally `method`, `url` (default: the connection's webhook), `query` (of that URL, as sent), `now`
(when it is verified; default `received_at`), `signed_at` (default `received_at`), `unsigned` (send no proof), `base64`
(arrives base64-encoded from API Gateway), `accepted` (the connection's secrets, for bodies whose signing key is not
ours), `[settings]` of the connection, and `[headers]`, which win over the ones signed here. Bodies are signed when
loaded, with a throw-away secret that is derived, not stored.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from espial import signing, sources
from espial.cli.samples import Sample, samples
from espial.deliveries import Arrival, Connection, Item, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem, SignatureError
from espial.exports import Damage, Mark, Row, open_container
from espial.normalise import Recordable, normalise
from espial.signing import Secret
from espial.sources import Export, Source

EVENTS = Path(__file__).parents[1] / "events"
RANDOMNESS = b"espial sample library, never a real secret"
PUBLIC_URL = "https://hooks.example.com"


def secret(platform: str) -> Secret:
    """The throw-away secret that all samples of a platform are signed with."""
    return signing.new_secret(platform, RANDOMNESS)


def connection(platform: str) -> Connection:
    """The connection that samples arrive on."""
    name = f"{platform}-sample"
    return Connection(name=name, platform=platform, account=name, secrets=("secretsmanager:sample",))


def signed(platform: str, body: bytes, now: datetime) -> dict[str, str]:
    """Fresh request headers for a JSON body, lower-cased, accepted by `secret(platform).accepted`."""
    return signing.sign(platform, secret(platform).signing, body, now)


@dataclass(frozen=True)
class Case(Sample):
    """One sample delivery and everything to replay it with."""

    @property
    def received_at(self) -> datetime:
        found: datetime = self.meta["received_at"]
        return found

    @property
    def now(self) -> datetime:
        """The clock at which verifying must come out as expected."""
        found: datetime = self.meta.get("now", self.received_at)
        return found

    @property
    def base64(self) -> bool:
        """Whether API Gateway hands the body over base64-encoded."""
        return bool(self.meta.get("base64", False))

    @property
    def connection(self) -> Connection:
        return replace(connection(self.platform), settings=self.meta.get("settings", {}))

    @property
    def source(self) -> Source:
        """The platform's, as the sample's settings shape it."""
        return sources.of(self.connection)

    @property
    def keys(self) -> Secret:
        """The throw-away secret of its connection."""
        return signing.new_secret(self.platform, RANDOMNESS, self.connection.settings)

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """What the connection accepts."""
        given = self.meta.get("accepted")
        return tuple(one.encode() for one in given) if given else (self.keys.accepted,)

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.delivery.headers)

    @cached_property
    def delivery(self) -> RawDelivery:
        url = self.meta.get("url", f"{PUBLIC_URL}/in/{self.platform}/{self.connection.name}")
        return self.request(self.connection.name, url, self.keys.signing, self.received_at)

    @property
    def arrival(self) -> Arrival:
        delivery = self.delivery
        return Arrival(connection=self.connection, transport=delivery.transport, received_at=self.received_at)

    @property
    def expected(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.beside(".expected.json").read_text())
        return found

    @property
    def items(self) -> list[Item]:
        """What the delivery splits into; none where it cannot be split."""
        try:
            return self.source.split(self.delivery)
        except MalformedDelivery:
            return []

    @property
    def recordables(self) -> list[Recordable]:
        """The events in it, without its bad items."""
        source = self.source
        found = []
        for item in self.items:
            try:
                found.append(normalise(source, item, self.arrival))
            except MalformedItem:
                continue
        return found

    def outcome(self) -> list[dict[str, Any]]:
        """What comes of it: `refused`, or for each item `home` and `event`, or the reason it is `quarantined`."""
        source = self.source
        try:
            source.verify(self.delivery, self.secrets, self.now, settings=self.connection.settings)
            items = source.split(self.delivery)
        except SignatureError:
            return [{"refused": "SignatureError"}]
        except MalformedDelivery as exc:
            return [{"quarantined": exc.reason}]
        return [self._outcome_of(item) for item in items]

    def _outcome_of(self, item: Item) -> dict[str, Any]:
        try:
            recordable = normalise(self.source, item, self.arrival)
        except MalformedItem as exc:
            return {"quarantined": exc.reason, "path": exc.path}
        return {"home": recordable.home, "event": json.loads(recordable.body)}

    def write(self) -> None:
        """Write the golden anew."""
        text = json.dumps(self.outcome(), ensure_ascii=False, indent=1)
        self.beside(".expected.json").write_text(text + "\n")


def cases(platform: str | None = None) -> list[Case]:
    """Every case, or a platform's, in order of name."""
    folders = sorted((EVENTS / "sources").glob(platform or "*"))
    return [Case(one.platform, one.name, one.path) for folder in folders for one in samples(folder).values()]


def case(platform: str, name: str) -> Case:
    """One case by name."""
    return Case(platform, name, EVENTS / "sources" / platform / f"{name}.body")


EXPORT_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "broadlog_20260115.csv": {"encoding": "latin-1", "day_first": True},
    "trackinglog_20260115.csv": {
        "delimiter": ",",
        "header": ["Log", "When", "Kind", "Address", "Delivery", "Link"],
        "columns": {"id": "Log", "at": "When", "url_type": "Kind", "delivery_id": "Delivery", "url": "Link"},
    },
}
"""Name of an export sample -> the settings of the connection it is about, where it needs any."""


def exports(platform: str) -> list[Path]:
    """A platform's export files in its own key layout, whole ones only (`edge/` holds the damaged and odd ones)."""
    root = EVENTS / "exports" / platform
    return sorted(path for path in root.rglob("*") if path.is_file() and "edge" not in path.relative_to(root).parts)


def export_key(path: Path) -> str:
    """The key under which a sample file lies in the exports bucket."""
    platform, *rest = path.relative_to(EVENTS / "exports").parts
    return "/".join(["exports", platform, connection(platform).name, *rest])


class _Local(NamedTuple):
    """A sample file as containers read it."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, end: int) -> bytes:
        return self.data[start:end]


def rows(path: Path, settings: Mapping[str, Any] | None = None) -> Iterator[tuple[str, Row | Damage, Export]]:
    """Row kind, row and file of each row (or damage) of an export sample; none where its platform skips it."""
    given, key = settings or {}, export_key(path)
    source = sources.of(replace(connection(path.relative_to(EVENTS / "exports").parts[0]), settings=given))
    layout = sources.layout_of(source, key, given)
    if layout.skip:
        return
    container = open_container(_Local(path.read_bytes()), key, layout)
    for start, end in container.plan(1 << 20):
        for step in container.rows(start, end):
            if not isinstance(step, Mark):
                file = Export(
                    bucket="exports",
                    key=key,
                    etag="sample",
                    record_name=container.record_name,
                    columns=container.columns,
                    settings=given,
                )
                yield container.kind, step, file


def export_items(path: Path, settings: Mapping[str, Any] | None = None) -> Iterator[Item]:
    """The rows of an export sample as items of its platform. Raises ValueError at one that is damaged."""
    platform = path.relative_to(EVENTS / "exports").parts[0]
    source = sources.of(replace(connection(platform), settings=settings or {}))
    for kind, row, file in rows(path, settings):
        if isinstance(row, Damage):
            raise ValueError(f"{path.name}: {row.reason}")  # noqa: TRY004 - of the file, not of the argument
        found = source.exports[kind](row.data, file)
        yield from found if isinstance(found, list) else [] if found is None else [found]


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.samples --write")
    for one in cases():
        one.write()
        print(f"written {one}")
