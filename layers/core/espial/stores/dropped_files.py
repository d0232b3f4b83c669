"""Files of our own making in the exports bucket."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from espial.errors import TryAgain


class S3Drops:
    """The bucket behind `onboarding.state.Drops`. AWS permission: s3:PutObject on its prefix `onboarding/`."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    def put(self, key: str, body: bytes) -> None:
        """See `Drops.put`."""
        try:
            self._s3.put_object(Bucket=self._bucket, Key=key, Body=body)
        except (ClientError, BotoCoreError) as exc:
            raise TryAgain(f"the exports bucket cannot be written: {type(exc).__name__}") from exc
