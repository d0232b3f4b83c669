"""Published definitions in S3: read by the functions, written by `espial apply`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from espial.errors import TryAgain

ACTIVE = "definitions/active.json"


class DefinitionsBucket:
    """`definitions/` of the store bucket.

    AWS permissions: s3:GetObject and s3:PutObject on `definitions/*`, and s3:ListBucket on the bucket, without
    which S3 answers 403 instead of 404 for an object that is not there.
    """

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def active(self) -> dict[str, Any] | None:
        """The bundle in force, or None before the first `apply`."""
        return self._get(ACTIVE)

    def version(self, version: str) -> dict[str, Any] | None:
        """A bundle applied at any time, or None if there never was such a version."""
        return self._get(f"definitions/versions/{version}.json")

    def template(self, digest: str) -> dict[str, Any] | None:
        """A compiled template by the hash of its contents."""
        return self._get(f"definitions/templates/{digest}.json")

    def put_template(self, digest: str, template: Mapping[str, Any]) -> None:
        """Idempotent: the name is the content's hash."""
        self._put(f"definitions/templates/{digest}.json", template)

    def keep_version(self, bundle: Mapping[str, Any]) -> None:
        """Keep a bundle for what will still be in flight under it when the next one is active."""
        self._put(f"definitions/versions/{bundle['version']}.json", bundle)

    def switch(self, bundle: Mapping[str, Any], *, replaces: str | None) -> None:
        """Make a bundle the active one, in one write.

        Raises TryAgain when the active one is not the version it `replaces`: somebody else applied meanwhile.
        """
        etag, before = self._read(ACTIVE)
        if (before or {}).get("version") != replaces:
            raise TryAgain("other definitions were applied meanwhile")
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        try:
            self._put(ACTIVE, bundle, **condition)
        except ClientError as exc:
            if exc.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"):
                raise TryAgain("other definitions were applied meanwhile") from exc
            raise

    def _get(self, key: str) -> dict[str, Any] | None:
        return self._read(key)[1]

    def _read(self, key: str) -> tuple[str | None, dict[str, Any] | None]:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
        except ClientError as exc:
            if exc.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None, None
            raise
        content: dict[str, Any] = json.loads(answer["Body"].read())
        return answer["ETag"], content

    def _put(self, key: str, content: Mapping[str, Any], **condition: str) -> None:
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType="application/json", **condition)
