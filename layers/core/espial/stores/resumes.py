"""What containers keep to go on from, in S3: `resume/<etag>/<name>`; the bucket's lifecycle removes it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from espial.exports.files import ExportFile

PREFIX = "resume/"


class S3Resumes:
    """The bucket behind `exports.files.Resumes`, for one file. S3 being away only costs the help."""

    def __init__(self, s3: Any, bucket: str, file: ExportFile) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._prefix = f"{PREFIX}{file.etag}/"

    def save(self, name: str, state: bytes, /) -> None:
        """See `Resumes`."""
        with suppress(ClientError, BotoCoreError):
            self._s3.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=state)

    def load(self, name: str, /) -> bytes | None:
        """See `Resumes`."""
        try:
            return bytes(self._s3.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read())
        except (ClientError, BotoCoreError, OSError):
            return None
