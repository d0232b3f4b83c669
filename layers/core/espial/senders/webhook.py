"""Somebody else's API by a definition: what a variant of a campaign says, where and how its webhook says (C1, C27-C30).

Source of the token's request: RFC 6749, 4.4; of Basic and Bearer: RFC 7617 and 6750. The send key goes along as
`Idempotency-Key`, and a repeat of a call has the same UUIDs.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Self
from urllib.parse import quote, urlencode

import orjson
from pydantic import Field, ValidationError, model_validator

from espial.answers import Answer, wait
from espial.campaigns import webhook as defined
from espial.campaigns.placeholders import Facts, guids, inside, resolved
from espial.campaigns.webhook import ErrorRule, RateLimit, WebhookDefinition
from espial.definitions.fields import https_url
from espial.errors import AnswerLost, OutcomeUnknown, Refused, Suppressed, TryAgain
from espial.messages import Message, Receipt
from espial.senders import Kind, Settings, Ways
from espial.senders._by_http import document

_NOT_TAKEN = frozenset({408, 425, 429, 503})
"""Statuses by which an API says that it did not take the call, where the definition says nothing else."""

_TOKEN_MARGIN = 30.0
"""Seconds before its end from which a token is not used any more."""
_TOKEN_LIFE = 3600.0
"""Where its issuer does not say."""


class WebhookSettings(Settings):
    """A provider that is called by webhooks alone."""

    host: str = Field(default="", description="Where its API is, perhaps with a path and variables (`{{tenant}}`).")
    variables: Mapping[str, Annotated[str, Field(max_length=200)]] = Field(
        default_factory=dict, description="What `{{name}}` in `host` stands for; a stage may say something else."
    )

    @model_validator(mode="after")
    def _an_address(self) -> Self:
        if self.host:
            self.address()
        return self

    def address(self) -> str:
        """The host with its variables. Raises ValueError."""
        return https_url(resolved(self.host, self.variables, guids("host"))).rstrip("/")


class Bucket:
    """So many calls in so long a time, and a few at once."""

    def __init__(self, limit: RateLimit) -> None:
        self._pace = limit.requests / limit.per.total_seconds()
        self._size = float(limit.burst or limit.requests)
        self._left = self._size
        self._at = float("-inf")

    def take(self, now: float) -> float:
        """0 where a call may go now, else the seconds until one may."""
        if self._at > float("-inf"):
            self._left = min(self._size, self._left + max(0.0, now - self._at) * self._pace)
        self._at = max(self._at, now)
        if self._left < 1:
            return (1 - self._left) / self._pace
        self._left -= 1
        return 0.0


class Webhook:
    """One variant's way out. `published` is what `espial.campaigns.compiling` makes of it."""

    features = frozenset({"headers", "tags", "reply_to", "also_to"})

    def __init__(self, name: str, published: Mapping[str, Any], ways: Ways) -> None:
        said = published.get("settings") or {}
        try:
            self._call = WebhookDefinition.model_validate({"name": name, "provider": name, **said["call"]})
        except (KeyError, ValidationError) as exc:
            raise Refused("provider_invalid", name) from exc
        self.name = name
        self.channel: str = said.get("channel", "email")
        self.idempotent = self._call.idempotent
        self._host: str = said.get("host", "")
        self._static: Mapping[str, Any] = said.get("static_values", {})
        self._missing: str = said.get("missing", "fail")
        self._ways = ways
        self._bucket = Bucket(self._call.rate_limit) if self._call.rate_limit else None
        self._token = ""
        self._token_until = 0.0

    def send(self, message: Message, *, idempotency_key: str) -> Receipt:
        """See `espial.ports.Sender.send`; raises `Suppressed` where the definition says so."""
        url, headers, body = self.request(message, idempotency_key)
        for last in (False, True):
            self._pace()
            answer = self._answer(url, {**headers, **self._proof(body)}, body, idempotency_key)
            rule = self._rule(answer)
            renews = rule.action == "refresh_auth" if rule else self._renews(answer)
            if not renews or last:
                break
            self._token = ""
        if rule is None and self._is_among(answer.status, self._call.success):
            if answer.is_cut:
                raise OutcomeUnknown(f"{idempotency_key}: half an answer")
            captured = self._captured(answer)
            return Receipt(provider=self.name, provider_message_id=captured, at=self._ways.clock())
        raise self._explained(answer, rule, idempotency_key)

    def request(self, message: Message, key: str) -> tuple[str, dict[str, str], bytes]:
        """Address, headers and body, rendered. Raises Refused("missing_attribute")."""
        call = self._call
        facts = Facts(message.facts, self._static, guid=guids(key), missing=self._missing)
        endpoint = str(facts.rendered(call.endpoint or "", _segment))
        headers = {name: str(facts.rendered(value)) for name, value in call.headers.items()}
        body = b""
        if call.body is not None:
            body = _written(facts.rendered(call.body), call.content_type)
            headers = {"Content-Type": call.content_type, **headers}
        url = self._host + endpoint if endpoint.startswith("/") else endpoint
        return url, {"Accept": "application/json", **headers, "Idempotency-Key": key}, body

    def _pace(self) -> None:
        seconds = self._bucket.take(self._ways.clock().timestamp()) if self._bucket else 0.0
        if seconds:
            raise TryAgain(f"{self.name}: as many calls as may be", after=seconds)

    def _answer(self, url: str, headers: Mapping[str, str], body: bytes, key: str) -> Answer:
        try:
            return self._ways.http.request(self._call.method, url, headers, body, self._call.timeout)
        except AnswerLost as exc:
            raise OutcomeUnknown(f"{key}: {exc}") from exc

    # -- who we are

    def _proof(self, body: bytes) -> dict[str, str]:
        match self._call.auth:
            case defined.Basic(secret=secret):
                return {"Authorization": f"Basic {b64encode(self._ways.secret(secret)).decode()}"}
            case defined.Bearer(secret=secret):
                return {"Authorization": f"Bearer {self._secret(secret)}"}
            case defined.ApiKeyHeader(header=header, secret=secret):
                return {header: self._secret(secret)}
            case defined.ClientCredentials() as auth:
                return {"Authorization": f"Bearer {self._granted(auth)}"}
            case defined.Hmac(secret=secret, header=header, timestamp_header=timestamp_header):
                at = str(int(self._ways.clock().timestamp()))
                digest = hmac.new(self._ways.secret(secret), f"{at}.".encode() + body, sha256).hexdigest()
                return {timestamp_header: at, header: f"sha256={digest}"}
        return {}

    def _secret(self, reference: str) -> str:
        try:
            return self._ways.secret(reference).decode("ascii")
        except UnicodeDecodeError:
            raise Refused("unauthorised", "a secret that cannot stand in a header") from None

    def _granted(self, auth: defined.ClientCredentials) -> str:
        """The token, a new one where there is none or it ends. Nothing was handed over where this fails."""
        now = self._ways.clock().timestamp()
        if not self._token or now >= self._token_until:
            user, _, password = self._secret(auth.secret).partition(":")
            form = {"grant_type": "client_credentials", **({"scope": auth.scope} if auth.scope else {})}
            headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
            if auth.shown == "basic":
                pair = f"{quote(user, safe='')}:{quote(password, safe='')}"
                headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
            else:
                form |= {"client_id": user, "client_secret": password}
            try:
                answer = self._ways.http.request(
                    "POST", auth.token_url, headers, urlencode(form).encode(), self._call.timeout
                )
            except AnswerLost as exc:  # asking for a token twice harms nobody
                raise TryAgain(f"no token: {exc}", after=self._least()) from exc
            if answer.status in _NOT_TAKEN or answer.status >= 500:
                raise TryAgain(f"no token: HTTP {answer.status}", after=wait(answer, self._ways.clock(), self._least()))
            said = document(answer)
            token = said.get("access_token") if isinstance(said, dict) else None
            if answer.status != 200 or not isinstance(token, str) or not token:
                raise Refused("unauthorised", f"no token: HTTP {answer.status}")
            life = said.get("expires_in")
            self._token = token
            self._token_until = now + (life if isinstance(life, int) else _TOKEN_LIFE) - _TOKEN_MARGIN
        return self._token

    def _renews(self, answer: Answer) -> bool:
        return answer.status == 401 and isinstance(self._call.auth, defined.ClientCredentials)

    # -- what an answer means

    def _rule(self, answer: Answer) -> ErrorRule | None:
        for rule in self._call.error_map or ():
            if self._is_among(answer.status, (rule.status,)) and _says(answer, rule):
                return rule
        return None

    @staticmethod
    def _is_among(status: int, given: tuple[int | str, ...]) -> bool:
        return any(one in (status, f"{status // 100}xx") for one in given)

    def _captured(self, answer: Answer) -> str:
        capture = self._call.response_capture
        value = answer.headers.get(capture.header.lower()) if capture.header else None
        if value is None and capture.message_id:
            value = inside(document(answer), capture.message_id)
        return str(value) if isinstance(value, str | int) else ""

    def _explained(self, answer: Answer, rule: ErrorRule | None, key: str) -> Exception:
        """An answer that is no success, as an error of ours. Its words stay out: they may hold the address."""
        status, words = answer.status, f"HTTP {answer.status}"
        action, code = (rule.action, rule.code) if rule else ("", "")
        if action == "retry" or (not rule and status in _NOT_TAKEN):
            return TryAgain(words, after=wait(answer, self._ways.clock(), self._least()))
        if not rule and status >= 500:
            return OutcomeUnknown(f"{key}: {words}")
        if action == "suppress_customer":
            return Suppressed(code or "suppressed_by_platform", words)
        return Refused(code or ("dropped" if action == "drop" else _reason(status)), words)

    def _least(self) -> float:
        return self._call.retry.after.total_seconds()


def _segment(value: str) -> str:
    """A value in an address, where it can neither leave its place nor go up the path."""
    if value and not value.strip("."):
        raise Refused("bad_address", "a value of dots alone in the address")
    return quote(value, safe="")


def _reason(status: int) -> str:
    return {401: "unauthorised", 403: "forbidden", 413: "message_too_large"}.get(status, "refused_by_platform")


def _says(answer: Answer, rule: ErrorRule) -> bool:
    if not rule.body_path:
        return True
    value = inside(document(answer), rule.body_path)
    return value is not None and (rule.equals is None or value == rule.equals)


def _written(body: Any, content_type: str) -> bytes:
    if content_type == "application/json":
        return orjson.dumps(body)
    fields = body.items() if isinstance(body, dict) else ()
    return urlencode(
        [(name, value if isinstance(value, str) else orjson.dumps(value).decode()) for name, value in fields]
    ).encode()


SENDER = Kind(title="Webhook", open=Webhook, settings=WebhookSettings, channel="any")
