"""Mailchimp Transactional (Mandrill): `POST /api/1.0/messages/send.json`.

Source: Mailchimp's Transactional API reference (messages/send, errors). Errors come with status 500 and a name. There
is no idempotency key. Events of the message carry its metadata back, among them the send key. Merge tags are off.
"""

from __future__ import annotations

from espial.answers import Answer
from espial.errors import Refused
from espial.messages import Message
from espial.senders import ApiSettings, Kind, named
from espial.senders._by_http import JSON, HttpSender, Request, as_json, document, inside

LONGEST_TAG = 50
_TAKEN = frozenset({"sent", "queued", "scheduled"})

_REJECTED = {
    "hard-bounce": "recipient_suppressed",
    "soft-bounce": "recipient_suppressed",
    "spam": "recipient_suppressed",
    "unsub": "recipient_suppressed",
    "custom": "recipient_suppressed",
    "invalid-sender": "from_invalid",
    "invalid": "recipient_invalid",
    "test-mode-limit": "account_suspended",
    "unsigned": "from_not_verified",
    "rule": "content_refused",
}


class MandrillSettings(ApiSettings):
    """`subaccount` is the id of one."""

    subaccount: str = ""
    ip_pool: str = ""


class Mandrill(HttpSender):
    """One account."""

    host = "https://mandrillapp.com"
    settings_model = MandrillSettings
    codes = {  # noqa: RUF012 - a constant
        "Invalid_Key": "unauthorised",
        "PaymentRequired": "account_suspended",
        "Unknown_Subaccount": "subaccount_unknown",
        "ValidationError": "request_invalid",
    }

    def request(self, message: Message) -> Request:
        """A tag has at most 50 characters and no underscore in front. Several recipients see each other."""
        name, sender = named(message.from_)
        mail = {
            "from_email": sender,
            "from_name": name,
            "to": [{"email": one, "type": "to"} for one in (message.to, *message.also_to)],
            "subject": message.subject,
            "text": message.text,
            "html": message.html,
            "headers": {**message.headers, **({"Reply-To": message.reply_to} if message.reply_to else {})},
            "tags": [tag for value in message.tags.values() if (tag := value.lstrip("_")[:LONGEST_TAG])],
            "metadata": {**message.tags, "send_key": message.send_key},
            "subaccount": self.settings.subaccount,
        }
        said = {
            "key": self.secret("api_key"),
            "message": {
                **{name: fact for name, fact in mail.items() if fact},
                "merge": False,
                "preserve_recipients": True,
            },
            "ip_pool": self.settings.ip_pool,
        }
        return Request("/api/1.0/messages/send.json", dict(JSON), as_json(said))

    def taken(self, answer: Answer) -> str | None:
        """One verdict for each recipient; the id of the first that was taken."""
        verdicts = document(answer)
        if not isinstance(verdicts, list) or not all(isinstance(one, dict) for one in verdicts):
            return None
        for one in verdicts:
            if str(one.get("status")) in _TAKEN:
                return str(one.get("_id") or "")
        refused = next((one for one in verdicts if one.get("status") in ("rejected", "invalid")), None)
        if refused is None:
            return None
        reason = "recipient_invalid" if refused["status"] == "invalid" else str(refused.get("reject_reason"))
        raise Refused(_REJECTED.get(reason, reason if reason == "recipient_invalid" else "refused_by_platform"))

    def code(self, answer: Answer) -> str:
        """The error's name."""
        return str(inside(answer, "name") or "")


SENDER = Kind(title="Mailchimp Transactional", open=Mandrill, secrets=("api_key",), settings=MandrillSettings)
