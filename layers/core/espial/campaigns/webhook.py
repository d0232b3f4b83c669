"""A call of somebody else's API as data: `definitions/webhooks/*.yaml` (C1, C19, C27 to C30)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

from espial.campaigns import placeholders
from espial.definitions.fields import Definition, SecretReference, https_url
from espial.triggers.fields import Duration


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _filled(value: Any) -> Any:
    if wrong := placeholders.problem(value):
        raise ValueError(wrong)
    return value


def _status(value: int | str) -> int | str:
    if isinstance(value, int) and 100 <= value <= 599:
        return value
    if isinstance(value, str) and len(value) == 3 and value[0] in "12345" and value[1:] == "xx":
        return value
    raise ValueError("must be a status such as 202, or a class such as `2xx`")


def _endpoint(value: str) -> str:
    """A host must not depend on what people or events say."""
    parts = urlsplit(_filled(value))
    if value.startswith("/") and not value.startswith("//"):
        return value
    if "{{" in parts.netloc:
        raise ValueError("the host must be fixed; a path (`/v1/send`) is under the provider's `settings.host`")
    https_url(value)
    return value


Filled = Annotated[Any, AfterValidator(_filled)]
"""JSON with placeholders."""
Status = Annotated[StrictInt | str, AfterValidator(_status)]


class Nobody(_Part):
    """The call proves nothing."""

    type: Literal["none"]


class Basic(_Part):
    """RFC 7617."""

    type: Literal["basic"]
    secret: SecretReference = Field(description="Holds `user:password`.")


class Bearer(_Part):
    """RFC 6750."""

    type: Literal["bearer"]
    secret: SecretReference


class ApiKeyHeader(_Part):
    """The key in a header of the platform's own."""

    type: Literal["api_key_header"]
    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,100}$")]
    secret: SecretReference


class ClientCredentials(_Part):
    """RFC 6749, 4.4. The token is kept until it ends, or is refused with 401."""

    type: Literal["oauth2_client_credentials"]
    token_url: Annotated[str, AfterValidator(https_url)]
    secret: SecretReference = Field(description="Holds `client_id:client_secret`.")
    scope: str = ""
    shown: Literal["basic", "body"] = Field(default="basic", description="Where the token's issuer looks for them.")


class Hmac(_Part):
    """`X-Timestamp: <Unix seconds>` and `X-Signature: sha256=<hex HMAC of timestamp, full stop and body>`."""

    type: Literal["hmac"]
    secret: SecretReference
    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,100}$")] = "X-Signature"
    timestamp_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,100}$")] = "X-Timestamp"


Auth = Annotated[Nobody | Basic | Bearer | ApiKeyHeader | ClientCredentials | Hmac, Field(discriminator="type")]


class RateLimit(_Part):
    """At most `requests` in `per`, and `burst` at once. What is too fast waits; every process that sends counts."""

    requests: Annotated[StrictInt, Field(ge=1)]
    per: Duration = timedelta(seconds=1)
    burst: Annotated[StrictInt, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if self.per <= timedelta(0):
            raise ValueError("per: must be some time")
        return self


class ErrorRule(_Part):
    """What an answer means. The first rule that fits counts.

    body_path, equals   what stands in the answer's JSON (`errors.0.code`), and that it is this, if it must be
    action   retry              the message was not taken; it is offered again
             fail, drop         it never will be; `drop` is for what is no fault, such as somebody who opted out there
             refresh_auth       a new token, and one more attempt
             suppress_customer  as fail, and nothing is sent to this address any more
    code     the reason that is recorded
    """

    status: Status
    body_path: str = ""
    equals: str | int | bool | None = None
    action: Literal["retry", "fail", "drop", "refresh_auth", "suppress_customer"]
    code: Annotated[str, Field(pattern=r"^([a-z][a-z0-9_]{0,63})?$")] = ""


class Retry(_Part):
    """Calls that were surely not taken are repeated `after` so long (or what `Retry-After` says), and `for` so long."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    after: Duration = timedelta(seconds=15)
    for_: Duration = Field(default=timedelta(hours=1), alias="for")


class Capture(_Part):
    """Where in the answer the platform's id of the message is: in the JSON (`message.id`), or a header."""

    message_id: str = ""
    header: str = ""


class WebhookDefinition(Definition):
    """One call. A live campaign needs `auth`, `rate_limit` and `error_map` said, `none` and empty among it."""

    provider: str = Field(description="The provider that it calls.")
    method: Literal["POST", "PUT", "PATCH", "GET", "DELETE"] = "POST"
    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = Field(
        default=None, description="An address, or a path under the provider's host; with placeholders."
    )
    headers: Annotated[Mapping[str, str], AfterValidator(_filled)] = Field(default_factory=dict)
    content_type: Literal["application/json", "application/x-www-form-urlencoded"] = "application/json"
    body: Filled = Field(default=None, description="JSON with placeholders, where the variant's payload is not used.")
    auth: Auth | None = None
    rate_limit: RateLimit | None = None
    success: Annotated[tuple[Status, ...], Field(min_length=1)] = ("2xx",)
    error_map: tuple[ErrorRule, ...] | None = None
    retry: Retry = Retry()
    response_capture: Capture = Capture()
    idempotent: StrictBool = Field(
        default=False,
        description="true: the platform takes one Idempotency-Key once, so that a lost answer is repeated.",
    )
    timeout: Annotated[float, Field(gt=0, le=15)] = Field(default=10.0, description="Seconds.")

    @property
    def secret(self) -> tuple[str, bool] | None:
        """The reference of its secret, and whether it holds a name and a password; None where nothing is shown."""
        auth = self.auth
        if auth is None or isinstance(auth, Nobody):
            return None
        return auth.secret, isinstance(auth, Basic | ClientCredentials)

    def lacking(self, *, has_payload: bool) -> list[str]:
        """What it still needs before a live campaign may use it."""
        body = has_payload or self.body is not None or self.method in ("GET", "DELETE")
        said = {
            "endpoint": self.endpoint,
            "body": body or None,
            "auth": self.auth,
            "rate_limit": self.rate_limit,
            "error_map": self.error_map,
        }
        return [name for name, value in said.items() if value is None]

    def call(self, payload: Any = None, **more: Any) -> dict[str, Any]:
        """What the sender reads (`espial.senders.webhook`): the payload is the body where there is one."""
        said = self.model_dump(mode="json", exclude={"name", "description", "provider"}, exclude_none=True)
        return {**said, **({"body": payload} if payload is not None else {}), **more}
