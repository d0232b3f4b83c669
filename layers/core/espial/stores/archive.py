"""The raw archive in S3: every delivery kept whole, one compressed NDJSON object per recorded batch (DESIGN 3).

`raw/<yyyy>/<mm>/<dd>/<hh>/<batch>.ndjson.gz`, one line a delivery: its arrival facts and its exact body in base64.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from isal import igzip, isal_zlib

from espial.deliveries import RawDelivery
from espial.errors import TryAgain

_GZIP = 31


class S3Archive:
    """The bucket behind `ports.RawArchive`."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    def keep(self, deliveries: Sequence[RawDelivery]) -> list[str]:
        """See `ports.RawArchive.keep`. The key is made of the deliveries' ids, so a retry of the batch overwrites it.

        Raises TryAgain when the bucket cannot be written.
        """
        if not deliveries:
            return []
        ids = "\n".join(delivery.delivery_id for delivery in deliveries)
        name = blake2b(ids.encode(), digest_size=12).hexdigest()
        key = f"raw/{min(delivery.received_at for delivery in deliveries):%Y/%m/%d/%H}/{name}.ndjson.gz"
        lines = b"\n".join(msgspec.json.encode(delivery.plain()) for delivery in deliveries)
        try:
            self._s3.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=igzip.compress(lines, compresslevel=2, mtime=0),
                ContentType="application/x-ndjson",
                ContentEncoding="gzip",
            )
        except (ClientError, BotoCoreError) as exc:
            raise TryAgain(f"the raw archive cannot be written: {type(exc).__name__}") from exc
        return [f"{key}#{index}" for index in range(len(deliveries))]

    def read(self, pointer: str) -> RawDelivery:
        """See `ports.RawArchive.read`."""
        key, _, index = pointer.rpartition("#")
        try:
            body = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except self._s3.exceptions.NoSuchKey as exc:
            raise KeyError(pointer) from exc
        lines = isal_zlib.decompress(body, wbits=_GZIP).split(b"\n")
        if not index.isdecimal() or int(index) >= len(lines):
            raise KeyError(pointer)
        return RawDelivery.from_plain(msgspec.json.decode(lines[int(index)]))
