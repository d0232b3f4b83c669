"""The sample library on disk: `<platform>/<case>.body`, the exact bytes, and `<case>.meta.toml`, how they came.

The meta file is described in `tests/samples.py`; a sample without one is a plain signed delivery.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from espial import signing
from espial.definitions.models import TRACKING
from espial.deliveries import RawDelivery


@dataclass(frozen=True)
class Sample:
    """One delivery as a platform posts it; `path` is its body file."""

    platform: str
    name: str
    path: Path

    def __str__(self) -> str:
        return f"{self.platform}/{self.name}"

    @cached_property
    def body(self) -> bytes:
        return self.path.read_bytes()

    @cached_property
    def meta(self) -> dict[str, Any]:
        """Its own notes, none if there is no file. Raises ValueError that names a file which is no TOML."""
        path = self.beside(".meta.toml")
        try:
            return tomllib.loads(path.read_text())
        except FileNotFoundError:
            return {}
        except tomllib.TOMLDecodeError as exc:
            raise ValueError(f"{path}: {exc}") from exc

    @property
    def unsigned(self) -> bool:
        """Whether it is about a delivery without proof."""
        return bool(self.meta.get("unsigned", False))

    @property
    def lag(self) -> timedelta:
        """From receipt to signature: negative where the sample is about a stale one."""
        lag: timedelta = self.meta["signed_at"] - self.meta["received_at"] if "signed_at" in self.meta else timedelta()
        return lag

    def request(self, connection: str, url: str, signer: bytes | None, received_at: datetime) -> RawDelivery:
        """The delivery as it comes to a connection's `url` at `received_at`: signed for that receipt.

        Without a signer it proves nothing. The sample's own query, method and headers win.
        """
        own: dict[str, str] = self.meta.get("headers", {})
        query = self.meta.get("query", "")
        delivery = RawDelivery(
            delivery_id=f"sample-{self.name}",
            platform=self.platform,
            connection=connection,
            transport="tracking" if self.platform == TRACKING else "webhook",
            body=self.body,
            received_at=received_at,
            headers={"content-type": "application/json", **own},
            method=self.meta.get("method", "POST"),
            url=f"{url}?{query}" if query else url,
        )
        if signer is not None and not self.unsigned:
            settings = self.meta.get("settings", {})
            delivery = signing.signed(signer, delivery, received_at + self.lag, settings)
        return replace(delivery, headers={**delivery.headers, **own})

    def beside(self, suffix: str) -> Path:
        """Another file of the same sample."""
        return self.path.with_name(self.name + suffix)


def samples(folder: Path) -> dict[str, Sample]:
    """A platform's samples by name, in order; the folder is named after the platform."""
    names = {path.name.removesuffix(".body"): path for path in sorted(folder.glob("*.body"))}
    return {name: Sample(folder.name, name, path) for name, path in names.items()}
