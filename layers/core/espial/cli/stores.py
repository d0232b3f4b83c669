"""The stores behind the commands, for one stack: the command line's own composition root."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from botocore.config import Config

from espial.cli.stack import Failed, Stack
from espial.events import PersonKey
from espial.feeds.published import Feeds
from espial.notifications.definition import readable
from espial.ports import Published
from espial.senders import Ways
from espial.services.destinations import Destinations
from espial.services.export_files import ExportFiles
from espial.services.feed_status import FeedStatus
from espial.services.recipient_files import RecipientFiles
from espial.services.replay_quarantine import WaysBack
from espial.simulation.memory import MemoryPublished
from espial.stores.aws_http import AwsClient
from espial.stores.bus import EventBridgeBus
from espial.stores.catalogue_table import CatalogueTable
from espial.stores.conflicts import ConflictsTable
from espial.stores.definitions_bucket import DefinitionsBucket
from espial.stores.delivery_queue import SqsDeliveryQueue
from espial.stores.dropped_files import S3Drops
from espial.stores.events_table import EventsTable
from espial.stores.export_ledger import DynamoExportLedger
from espial.stores.export_objects import S3Objects
from espial.stores.feed_archive import S3FeedArchive
from espial.stores.feeds_table import FeedBookTable
from espial.stores.guarded_http import GuardedHttp
from espial.stores.ledger_table import LedgerTable
from espial.stores.notifications_table import ConditionsTable, EvidenceTable, OutboxTable
from espial.stores.onboarding_queue import SqsOnboardingQueue
from espial.stores.outgoing_queue import SqsOutgoingQueue
from espial.stores.past_events import PastEvents
from espial.stores.people_table import DecisionsTable, PeopleTable
from espial.stores.published_templates import PublishedTemplates
from espial.stores.quarantine import S3Quarantine
from espial.stores.recipients_table import RecipientsTable
from espial.stores.sigv4 import Credentials
from espial.stores.walks_table import WalksTable


def definitions(stack: Stack) -> DefinitionsBucket:
    return DefinitionsBucket(stack.client("s3"), stack.store_bucket)


def events(stack: Stack) -> EventsTable:
    return EventsTable(stack.client("dynamodb"), stack.events_table)


def walks(stack: Stack) -> WalksTable:
    return WalksTable(stack.client("dynamodb"), stack.events_table)


def ways(stack: Stack) -> Ways:
    """The ways out of this machine for a sender, which gets a client that never retries by itself."""

    def client(service: str) -> Any:
        return stack.session.client(service, config=Config(retries={"total_max_attempts": 1}))

    def secret(reference: str) -> bytes:
        store, _, name = reference.partition(":")
        if store == "ssm":
            found = stack.client("ssm").get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
        else:
            found = stack.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"]
        return str(found).encode().strip()

    http = GuardedHttp("loopback" if stack.is_local else "public")
    return Ways(client, http, http.dial, secret, lambda: datetime.now(UTC))


def keys_of(stack: Stack, key: PersonKey) -> tuple[PersonKey, ...]:
    """Every key of the person that `key` names, `key` first."""
    return people(stack).load(key).keys or (key,)


def people(stack: Stack) -> PeopleTable:
    return PeopleTable(stack.client("dynamodb"), stack.events_table)


def published(stack: Stack) -> Published:
    """The triggers in force, and those of earlier versions; none where nothing was applied yet."""
    bucket = definitions(stack)
    return PublishedTemplates(bucket, time.monotonic) if bucket.active() else MemoryPublished([], {}, {})


def decisions(stack: Stack) -> DecisionsTable:
    return DecisionsTable(stack.client("dynamodb"), stack.events_table)


def conflicts(stack: Stack) -> ConflictsTable:
    return ConflictsTable(stack.client("dynamodb"), stack.events_table)


def quarantine(stack: Stack) -> S3Quarantine:
    return S3Quarantine(stack.client("s3"), stack.store_bucket)


def export_ledger(stack: Stack) -> DynamoExportLedger:
    return DynamoExportLedger(stack.client("dynamodb"), stack.events_table)


def ledger(stack: Stack) -> LedgerTable:
    return LedgerTable(stack.client("dynamodb"), stack.events_table)


def catalogues(stack: Stack) -> CatalogueTable:
    return CatalogueTable(stack.client("dynamodb"), stack.catalogue_table)


def export_objects(stack: Stack) -> S3Objects:
    return S3Objects(stack.client("s3"))


def export_files(stack: Stack) -> ExportFiles:
    objects, ledger, tell = export_objects(stack), export_ledger(stack), partial(notify, stack)
    return ExportFiles(stack.exports_bucket, objects, ledger, tell, lambda: datetime.now(UTC))


def recipients(stack: Stack) -> RecipientsTable:
    return RecipientsTable(stack.client("dynamodb"), stack.recipients_table)


def onboarding_queue(stack: Stack) -> SqsOnboardingQueue:
    return SqsOnboardingQueue(stack.client("sqs"), stack.onboarding_queue_url)


def recipient_files(stack: Stack) -> RecipientFiles:
    names = sorted((definitions(stack).active() or {}).get("onboardings", {}))
    return RecipientFiles(tuple(names), recipients(stack), onboarding_queue(stack))


def drops(stack: Stack) -> S3Drops:
    return S3Drops(stack.client("s3"), stack.exports_bucket)


def feeds(stack: Stack) -> Feeds:
    """The feeds that were applied last."""
    return Feeds(definitions(stack).active() or {})


def feed_book(stack: Stack) -> FeedBookTable:
    return FeedBookTable(stack.client("dynamodb"), stack.feeds_table)


def feed_status(stack: Stack) -> FeedStatus:
    return FeedStatus(feeds(stack), feed_book(stack))


def feed_archive(stack: Stack) -> S3FeedArchive:
    return S3FeedArchive(stack.client("s3"), stack.feeds_bucket)


def destinations(stack: Stack) -> Destinations:
    """The destinations that were applied last."""
    found, _ = readable((definitions(stack).active() or {}).get("destinations", {}))
    known = {one.name: one for one in found}

    def poke(names: Iterable[str]) -> None:  # the queue is needed by those who change something only
        outgoing_queue(stack).poke(names)

    return Destinations(known, outbox(stack), conditions(stack), evidence(stack), poke)


def outbox(stack: Stack) -> OutboxTable:
    return OutboxTable(stack.client("dynamodb"), stack.notifications_table)


def evidence(stack: Stack) -> EvidenceTable:
    return EvidenceTable(stack.client("dynamodb"), stack.notifications_table)


def conditions(stack: Stack) -> ConditionsTable:
    return ConditionsTable(stack.client("dynamodb"), stack.notifications_table)


def outgoing_queue(stack: Stack) -> SqsOutgoingQueue:
    return SqsOutgoingQueue(stack.client("sqs"), stack.outgoing_queue_url)


def invoke(stack: Stack, function: str, event: Mapping[str, Any]) -> Any:
    """Run a function now, once, and return its answer. Raises Failed with its error."""
    patient = Config(read_timeout=910, retries={"total_max_attempts": 1})
    answer = stack.session.client("lambda", config=patient).invoke(FunctionName=function, Payload=json.dumps(event))
    said = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise Failed(f"{function} failed: {said.get('errorType')}: {said.get('errorMessage')}")
    return said


def past_events(stack: Stack) -> PastEvents:
    return PastEvents(stack.client("dynamodb"), stack.client("dynamodbstreams"), stack.events_table)


def event_bus(stack: Stack) -> EventBridgeBus:
    return EventBridgeBus(stack.client("events"), stack.event_bus)


@contextmanager
def ways_back(stack: Stack) -> Iterator[WaysBack]:
    """The queues by which quarantine is left, RawQueue by the client the functions use; closed at the end."""
    region = stack.session.region_name
    if not region:
        raise Failed("which region? set AWS_REGION or the profile's region")
    credentials = _SessionCredentials(stack)
    with (
        closing(AwsClient("sqs", region, credentials=credentials)) as sqs,
        closing(AwsClient("s3", region, credentials=credentials)) as s3,
    ):
        queue = SqsDeliveryQueue(sqs, stack.raw_queue_url, s3, stack.store_bucket)
        yield WaysBack(queue, partial(notify, stack), export_ledger(stack))


def notify(stack: Stack, body: str) -> None:
    """Put a notice of a file on NoticeQueue."""
    stack.client("sqs").send_message(QueueUrl=stack.notice_queue_url, MessageBody=body)


class _SessionCredentials:
    """A person's credentials: profiles and single sign-on, which the functions' own client does not know."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def current(self) -> Credentials:
        found = self._stack.session.get_credentials()
        if found is None:
            raise Failed("no AWS credentials: log in, or set AWS_PROFILE")
        key = found.get_frozen_credentials()
        return Credentials(key.access_key, key.secret_key, key.token or "")

    def renew(self) -> None:
        """The session renews its own."""
