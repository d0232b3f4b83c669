"""Amazon SES, version 2 (`SendEmail` with simple content).

Source: SES API v2 reference (SendEmail, Message, MessageHeader, MessageTag); RFC 8058 for one-click unsubscribe.
SES has no idempotency key, so an unknown outcome stays unknown here and is settled by SES's own events.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

from botocore import exceptions as aws

from espial.errors import OutcomeUnknown, Refused, TryAgain
from espial.messages import Message, Receipt
from espial.senders import Kind, Ways

_NEVER_SENT = (
    aws.ConnectTimeoutError,
    aws.EndpointConnectionError,
    aws.ProxyConnectionError,
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.NoRegionError,
)
"""Raised before the first byte left."""

_REFUSALS = frozenset(
    {
        "MessageRejected",
        "MailFromDomainNotVerifiedException",
        "BadRequestException",
        "AccountSuspendedException",
        "NotFoundException",
    }
)
"""This message, or any from this account, will never be taken as it is."""

_AFTER = {"SendingPausedException": 300.0, "LimitExceededException": 60.0, "TooManyRequestsException": 2.0}
"""Seconds until it is worth asking again; other passing refusals wait `_DEFAULT_AFTER`."""
_DEFAULT_AFTER = 15.0

_UNSAFE_IN_TAG = re.compile(r"[^A-Za-z0-9_-]")


class SesSender:
    """One SES account and identity. `client` must not retry by itself: a repeated SendEmail is a second mail."""

    features = frozenset({"headers", "tags", "reply_to", "also_to"})
    idempotent = False
    channel = "email"

    def __init__(self, client: Any, *, name: str = "ses", configuration_set: str = "") -> None:
        self.name = name
        self._client = client
        self._configuration_set = configuration_set

    def send(self, message: Message, *, idempotency_key: str) -> Receipt:
        """See `espial.ports.Sender.send`. AWS permission: ses:SendEmail on the identity and configuration set."""
        try:
            answer = self._client.send_email(**self.request(message))
            return Receipt(provider=self.name, provider_message_id=answer["MessageId"], at=_answered_at(answer))
        except aws.ClientError as exc:
            _explain(exc, idempotency_key)
        except aws.ParamValidationError as exc:
            raise Refused("request_invalid") from exc
        except _NEVER_SENT as exc:
            raise TryAgain(f"SES cannot be reached: {type(exc).__name__}", after=_DEFAULT_AFTER) from exc
        except Exception as exc:  # whatever else went wrong, the request may have arrived
            raise OutcomeUnknown(f"{idempotency_key}: {type(exc).__name__}") from exc

    def request(self, message: Message) -> dict[str, Any]:
        """The parameters of SendEmail."""
        headers = {**message.headers, "X-Espial-Send-Key": message.send_key}
        tags = {**message.tags, "send_key": message.send_key}
        request: dict[str, Any] = {
            "FromEmailAddress": message.from_,
            "Destination": {"ToAddresses": [message.to, *message.also_to]},
            "Content": {
                "Simple": {
                    "Subject": {"Data": message.subject, "Charset": "UTF-8"},
                    "Body": {
                        kind: {"Data": content, "Charset": "UTF-8"}
                        for kind, content in (("Html", message.html), ("Text", message.text))
                        if content or kind == "Text"
                    },
                    "Headers": [{"Name": name, "Value": value} for name, value in headers.items()],
                }
            },
            "EmailTags": [
                {"Name": name, "Value": _UNSAFE_IN_TAG.sub("_", value)[:256]} for name, value in tags.items() if value
            ],
        }
        if message.reply_to:
            request["ReplyToAddresses"] = [message.reply_to]
        if self._configuration_set:
            request["ConfigurationSetName"] = self._configuration_set
        return request


def _explain(exc: aws.ClientError, key: str) -> NoReturn:
    """An answer of SES as one of ours. The words of the answer stay out: they may hold the address."""
    code = exc.response["Error"]["Code"]
    status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _REFUSALS:
        raise Refused(_snake(code.removesuffix("Exception"))) from exc
    if status >= 500 and status != 503:
        raise OutcomeUnknown(f"{key}: SES answered {status} {code}") from exc
    raise TryAgain(f"SES answered {code}", after=_AFTER.get(code, _DEFAULT_AFTER)) from exc


def _snake(code: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", code).lower()


def _answered_at(answer: Mapping[str, Any]) -> datetime:
    """When SES answered, by its own clock; ours where a proxy leaves the header out."""
    from email.utils import parsedate_to_datetime  # noqa: PLC0415

    said = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(said) if said else datetime.now(UTC)


def _open(name: str, provider: Mapping[str, Any], ways: Ways) -> SesSender:
    return SesSender(ways.client("sesv2"), name=name, configuration_set=provider.get("configuration_set") or "")


SENDER = Kind(title="Amazon SES", open=_open)
