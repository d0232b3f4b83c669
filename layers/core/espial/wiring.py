"""The composition root: the one place that knows which implementation stands behind each port.

Everything is made once per process, on first use, and imported late, so that a function pays only for what it uses.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime

    from espial.admin import Reasons
    from espial.exports.files import ChunkQueue, ExportLedger, ExportObjects
    from espial.feeds.definition import Sink as FeedSink
    from espial.feeds.files import Sink
    from espial.ledger import Ledger
    from espial.mail_links import MailLinks
    from espial.onboarding.definition import OnboardingDefinition
    from espial.ports import (
        Claims,
        Connections,
        Decisions,
        DeliveryQueue,
        EventBus,
        EventStore,
        Outside,
        RawArchive,
        Requests,
        Runs,
        Sender,
        Timers,
    )
    from espial.services.deliver import Deliverer
    from espial.services.deliver_feed import Delivery
    from espial.services.destinations import Destinations
    from espial.services.enter_people import Entrance, Segments
    from espial.services.explain import Explanation
    from espial.services.export_files import ExportFiles
    from espial.services.feed_status import FeedStatus
    from espial.services.load_catalogue import Loader
    from espial.services.onboard_recipients import Onboarder
    from espial.services.onboarding import Accepted
    from espial.services.publish_events import Wanted
    from espial.services.pull_events import Puller
    from espial.services.pull_notifications import Pull
    from espial.services.recipient_files import RecipientFiles
    from espial.services.record_export import ChunkRecorder
    from espial.services.replay_quarantine import WaysBack
    from espial.services.route_notifications import Router
    from espial.services.run_triggers import TriggerRunner
    from espial.services.serve_destination import Worker
    from espial.services.serve_pages import Pages
    from espial.services.split_export import Splitter
    from espial.services.write_feed import FeedWriter
    from espial.settings import (
        ChangeStackSettings,
        DeliverFeedSettings,
        EnterPeopleSettings,
        LoadCatalogueSettings,
        OnboardRecipientsSettings,
        PullEventsSettings,
        ReceiverSettings,
        RecordExportSettings,
        RouteNotificationsSettings,
        RunTriggersSettings,
        SendMessageSettings,
        SendNotificationsSettings,
        ServeApiSettings,
        ServeNotificationsSettings,
        ServePagesSettings,
        SplitExportSettings,
        SweepExportsSettings,
        WaitSettings,
        WriteFeedSettings,
    )
    from espial.stores.aws_http import AwsClient
    from espial.stores.conflicts import ConflictsTable
    from espial.stores.definitions_bucket import DefinitionsBucket
    from espial.stores.events_table import EventsTable
    from espial.stores.guarded_http import GuardedHttp
    from espial.stores.outgoing_queue import SqsOutgoingQueue
    from espial.stores.past_events import PastEvents
    from espial.stores.people_table import PeopleTable
    from espial.stores.published_templates import PublishedTemplates
    from espial.stores.quarantine import S3Quarantine


@cache
def client(service: str) -> Any:
    """A boto3 client whose time-outs stay well under the functions' own (DESIGN 6)."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=2,
        read_timeout=10,
        retries={"mode": "standard", "max_attempts": 4},
        parameter_validation=False,
        tcp_keepalive=True,
    )
    return boto3.client(service, config=config)


@cache
def aws(service: str, *, large: bool = False) -> AwsClient:
    """A client of the acknowledging path: no SDK behind it (docs/decisions/0001-receiver-without-sdk.md).

    `large`: for objects of hundreds of megabytes.
    """
    from espial.stores.aws_http import LARGE, AwsClient, Limits

    region = os.environ.get("AWS_REGION") or os.environ["AWS_DEFAULT_REGION"]
    return AwsClient(service, region, limits=LARGE if large else Limits())


@cache
def light(service: str) -> Any:
    """What stands in for a boto3 client where every call counts (docs/decisions/0008-fewer-calls-to-a-mail.md)."""
    from espial.stores.light_sdk import LightClient, LightS3

    return (LightS3 if service == "s3" else LightClient)(aws(service), lambda: client(service))


@cache
def receiver_settings() -> ReceiverSettings:
    """What both receivers read."""
    from espial.settings import ReceiverSettings

    return ReceiverSettings.from_env()


@cache
def connections(store_bucket: str) -> Connections:
    """The published connections; workers use them too."""
    from espial.stores.connections import PublishedConnections

    return PublishedConnections(aws, store_bucket)


@cache
def raw_queue() -> DeliveryQueue:
    """RawQueue, with S3 for what is too big for it."""
    from espial.stores.delivery_queue import SqsDeliveryQueue

    settings = receiver_settings()
    return SqsDeliveryQueue(aws("sqs"), settings.raw_queue_url, aws("s3"), settings.store_bucket)


@cache
def requests() -> Requests:
    """What request ids came with."""
    from espial.stores.requests import S3Requests

    return S3Requests(aws("s3"), receiver_settings().store_bucket)


@cache
def outside() -> Outside:
    """Keys and confirmations that lie at the platforms."""
    from espial.stores.outside import PublicDocuments

    return PublicDocuments()


@cache
def events_table(table: str) -> EventStore:
    """EventsTable."""
    from espial.stores.events_table import EventsTable

    return EventsTable(light("dynamodb"), table)


@cache
def archive(store_bucket: str) -> RawArchive:
    """The raw archive."""
    from espial.stores.archive import S3Archive

    return S3Archive(light("s3"), store_bucket)


@cache
def quarantine(store_bucket: str) -> S3Quarantine:
    """Everything refused after it was accepted."""
    from espial.stores.quarantine import S3Quarantine

    return S3Quarantine(client("s3"), store_bucket)


@cache
def spilled(store_bucket: str) -> Callable[[str], bytes]:
    """Reads a body that was too big for its queue, by the pointer in its message."""
    s3 = client("s3")
    return lambda key: bytes(s3.get_object(Bucket=store_bucket, Key=key)["Body"].read())


@cache
def event_bus(bus: str) -> EventBus:
    """The bus that rules route from."""
    from espial.stores.bus import EventBridgeBus

    return EventBridgeBus(light("events"), bus)


@cache
def wanted(store_bucket: str) -> Wanted:
    """The event types that the published definitions want on the bus."""
    import time

    from espial.services.publish_events import Wanted
    from espial.stores.definitions_bucket import DefinitionsBucket

    return Wanted(DefinitionsBucket(client("s3"), store_bucket).active, time.monotonic)


@cache
def export_objects() -> ExportObjects:
    """The exports bucket's objects."""
    from espial.stores.export_objects import S3Objects

    return S3Objects(client("s3"))


@cache
def export_ledger(table: str) -> ExportLedger:
    """Which export files and chunks are planned, queued, done or failed."""
    from espial.stores.export_ledger import DynamoExportLedger

    return DynamoExportLedger(client("dynamodb"), table)


@cache
def chunk_queue(queue_url: str) -> ChunkQueue:
    """Work for record_export."""
    from espial.stores.chunk_queue import SqsChunkQueue

    return SqsChunkQueue(client("sqs"), queue_url)


def splitter(settings: SplitExportSettings | SweepExportsSettings, now: datetime) -> Splitter:
    """Plans export files; `now` is this invocation's instant."""
    from espial.services.split_export import Splitter

    return Splitter(
        connections=connections(settings.store_bucket),
        objects=export_objects(),
        ledger=export_ledger(settings.events_table),
        queue=chunk_queue(settings.chunk_queue_url),
        quarantine=quarantine(settings.store_bucket),
        now=now,
    )


def chunk_recorder(settings: RecordExportSettings, now: datetime, time_left: Callable[[], float]) -> ChunkRecorder:
    """Records chunks of export files; `now` and `time_left` (ms) are this invocation's."""
    from espial.services.record_export import ChunkRecorder
    from espial.stores.resumes import S3Resumes

    return ChunkRecorder(
        connections=connections(settings.store_bucket),
        objects=export_objects(),
        ledger=export_ledger(settings.events_table),
        balance=ledger(settings.events_table),
        queue=chunk_queue(settings.chunk_queue_url),
        store=events_table(settings.events_table),
        quarantine=quarantine(settings.store_bucket),
        now=now,
        time_left=time_left,
        resumes=lambda file: S3Resumes(client("s3"), settings.store_bucket, file),
    )


@cache
def definitions(store_bucket: str) -> DefinitionsBucket:
    """What `espial apply` published, as it was put there."""
    from espial.stores.definitions_bucket import DefinitionsBucket

    return DefinitionsBucket(client("s3"), store_bucket)


@cache
def published(store_bucket: str) -> PublishedTemplates:
    """Triggers, providers, templates and onboardings as they were last applied."""
    import time

    from espial.stores.definitions_bucket import DefinitionsBucket
    from espial.stores.published_templates import PublishedTemplates

    return PublishedTemplates(DefinitionsBucket(client("s3"), store_bucket), time.monotonic)


@cache
def people(table: str) -> PeopleTable:
    """Who is who and what is known of them."""
    from espial.stores.people_table import PeopleTable

    return PeopleTable(light("dynamodb"), table)


@cache
def runs(table: str) -> Runs:
    """The runs of triggers."""
    from espial.stores.people_table import RunsTable

    return RunsTable(light("dynamodb"), table)


@cache
def decisions(table: str) -> Decisions:
    """Why each message was or was not sent."""
    from espial.stores.people_table import DecisionsTable

    return DecisionsTable(light("dynamodb"), table)


@cache
def timers(settings: WaitSettings) -> Timers:
    """Waits that end on the SendQueue; the scheduler's client is made for the first long one."""
    from espial.stores.timers import SqsAndSchedulerTimers

    return SqsAndSchedulerTimers(
        lambda: light("sqs"),
        lambda: client("scheduler"),
        queue_url=settings.send_queue_url,
        queue_arn=settings.send_queue_arn,
        group=settings.schedule_group,
        role_arn=settings.schedule_role_arn,
        dead_letter_arn=settings.send_dead_letter_arn,
        short_wait_seconds=int(settings.short_wait_seconds),
    )


@cache
def trigger_runner(settings: RunTriggersSettings) -> TriggerRunner:
    """Acts on one event for every trigger."""
    from espial.services.run_triggers import TriggerRunner

    return TriggerRunner(
        people=people(settings.events_table),
        runs=runs(settings.events_table),
        decisions=decisions(settings.events_table),
        timers=timers(settings),
        events=events_table(settings.events_table),
        segments=segments(settings.events_table),
    )


def segments(events_table_name: str) -> Segments:
    """Who is in the segments of triggers."""
    from espial.services.enter_people import Segments
    from espial.stores.walks_table import WalksTable

    return Segments(
        people=people(events_table_name),
        members=people(events_table_name),
        walks=WalksTable(light("dynamodb"), events_table_name),
        events=events_table(events_table_name),
    )


def entrance(settings: EnterPeopleSettings, clock: Callable[[], datetime], time_left: Callable[[], float]) -> Entrance:
    """Walks over all people; `time_left` (seconds) is this invocation's."""
    from espial.services.enter_people import Entrance
    from espial.stores.catalogue_table import CatalogueTable

    return Entrance(
        segments=segments(settings.events_table),
        catalogues=CatalogueTable(light("dynamodb"), settings.catalogue_table),
        runner=trigger_runner(settings),
        clock=clock,
        time_left=time_left,
    )


@cache
def router(settings: RouteNotificationsSettings) -> Router:
    """Has events wait for the destinations that want them."""
    from espial.services.route_notifications import Router
    from espial.stores.notifications_table import FirstsTable, OutboxTable

    table = light("dynamodb"), settings.notifications_table
    poke = outgoing_queue(settings.outgoing_queue_url).poke
    return Router(outbox=OutboxTable(*table), firsts=FirstsTable(*table), poke=poke)


@cache
def outgoing_queue(queue_url: str) -> SqsOutgoingQueue:
    """Tells who posts that something waits."""
    from espial.stores.outgoing_queue import SqsOutgoingQueue

    return SqsOutgoingQueue(light("sqs"), queue_url)


def worker(process: str, settings: SendNotificationsSettings, time_left: Callable[[], float]) -> Worker:
    """Hands over what waits for a destination of this process; `time_left` (ms) is this invocation's."""
    import random
    from datetime import UTC, datetime
    from functools import partial
    from secrets import token_hex

    from espial.deliveries import Connection
    from espial.stores.notifications_table import ConditionsTable, EvidenceTable, OutboxTable

    def secret(reference: str) -> bytes:
        holder = Connection(name="destination", platform="", secrets=(reference,))
        return connections(settings.store_bucket).secrets(holder)[0]

    table = light("dynamodb"), settings.notifications_table
    ports: dict[str, Any] = {
        "outbox": OutboxTable(*table),
        "evidence": EvidenceTable(*table),
        "conditions": ConditionsTable(*table),
        "clock": partial(datetime.now, UTC),
        "time_left": lambda: time_left() / 1000,
        "chance": random.random,
        "token": partial(token_hex, 8),
        "wake": outgoing_queue(settings.outgoing_queue_url).poke,
    }
    if process == "email":
        from espial.services.mail_notifications import Mailer

        provider = published(settings.store_bucket).provider
        return Mailer(provider=provider, sender=_senders(settings.store_bucket, settings.outgoing_network), **ports)
    from espial.services.send_notifications import Poster

    return Poster(http=http(settings.outgoing_network), secret=secret, **ports)


@cache
def sending_client(service: str) -> Any:
    """A boto3 client for senders: never retried by itself, since a repeated call could be a second mail."""
    import boto3
    from botocore.config import Config

    return boto3.client(service, config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}))


@cache
def sender(name: str, published: str, store_bucket: str, network: str) -> Sender:
    """The sender behind a provider, by its published settings (JSON, so that a change makes a new one)."""
    import json
    from datetime import UTC, datetime

    from espial import senders
    from espial.deliveries import Connection

    def secret(reference: str) -> bytes:
        holder = Connection(name=name, platform="", secrets=(reference,))
        return connections(store_bucket).secrets(holder)[0]

    found, way = json.loads(published), http(network)
    ways = senders.Ways(sending_client, way, way.dial, secret, lambda: datetime.now(UTC))
    return senders.load(found["sender"]).open(name, found, ways)


def _senders(store_bucket: str, network: str) -> Callable[[str, Mapping[str, Any]], Sender]:
    import json

    return lambda name, found: sender(name, json.dumps(found, sort_keys=True), store_bucket, network)


@cache
def deliverer(settings: SendMessageSettings) -> Deliverer:
    """Sends each message once."""
    from datetime import UTC, datetime

    from espial.services.deliver import Deliverer
    from espial.services.recommend_products import Recommender
    from espial.stores.catalogue_table import CatalogueTable

    return Deliverer(
        people=people(settings.events_table),
        runs=runs(settings.events_table),
        decisions=decisions(settings.events_table),
        timers=timers(settings),
        claims=claims(settings.events_table),
        events=events_table(settings.events_table),
        published=published(settings.store_bucket),
        sender=_senders(settings.store_bucket, settings.outgoing_network),
        clock=lambda: datetime.now(UTC),
        links=lambda: mail_links(settings.store_bucket, settings.pages_url),
        recommender=Recommender(CatalogueTable(light("dynamodb"), settings.catalogue_table)),
    )


def explanation(settings: ServeApiSettings) -> Callable[[Reasons, datetime], Explanation]:
    """Why a trigger sent a person something or did not."""
    from espial.services.explain import explain

    def explained(asked: Reasons, now: datetime) -> Explanation:
        return explain(
            asked.trigger,
            asked.person,
            people=people(settings.events_table),
            decisions=decisions(settings.events_table),
            published=published(settings.store_bucket),
            now=now,
            key=asked.key,
            limit=asked.limit,
        )

    return explained


def mail_links(store_bucket: str, pages_url: str) -> MailLinks | None:
    """Makes links to our own pages; None where no connection holds a secret to sign them with. Raises TryAgain."""
    from espial.mail_links import PLATFORM, MailLinks

    known = connections(store_bucket)
    for connection in known.of_platform(PLATFORM):
        hosts = frozenset(connection.settings.get("hosts", ()))
        for secret in known.secrets(connection):
            return MailLinks((connection.public_url or pages_url).rstrip("/"), secret, hosts=hosts)
    return None


@cache
def pages(settings: ServePagesSettings) -> Pages:
    """What readers of our mails ask for."""
    from datetime import UTC, datetime

    from espial.services.serve_pages import Pages
    from espial.stores.delivery_queue import SqsDeliveryQueue

    return Pages(
        connections=connections(settings.store_bucket),
        queue=SqsDeliveryQueue(aws("sqs"), settings.raw_queue_url, aws("s3"), settings.store_bucket),
        people=people(settings.events_table),
        clock=lambda: datetime.now(UTC),
    )


@cache
def catalogue_loader(settings: LoadCatalogueSettings) -> Loader:
    """Loads catalogues from files."""
    from espial.services.load_catalogue import Loader
    from espial.stores.catalogue_table import CatalogueTable

    return Loader(export_objects(), CatalogueTable(client("dynamodb"), settings.catalogue_table))


@cache
def claims(table: str) -> Claims:
    """The right to send an occasion's message."""
    from espial.stores.claims_table import ClaimsTable

    return ClaimsTable(light("dynamodb"), table)


@cache
def puller(settings: PullEventsSettings) -> Puller:
    """Reads what a platform does not post."""
    from espial.services.pull_events import Puller
    from espial.stores.airship_stream import AirshipStream
    from espial.stores.delivery_queue import SqsDeliveryQueue
    from espial.stores.stream_positions import StreamPositions

    return Puller(
        connections=connections(settings.store_bucket),
        stream=AirshipStream(),
        positions=StreamPositions(client("dynamodb"), settings.events_table),
        queue=SqsDeliveryQueue(aws("sqs"), settings.raw_queue_url, aws("s3"), settings.store_bucket),
    )


@cache
def ledger(table: str) -> Ledger:
    """What came in and what became of it: noting is an everyday call, reading goes through the SDK."""
    from espial.stores.ledger_table import LedgerTable

    return LedgerTable(light("dynamodb"), table)


def feed_writers(
    settings: WriteFeedSettings, clock: Callable[[], datetime], *, feed: str | None = None
) -> Iterator[FeedWriter]:
    """A writer for each feed in force, or the one named; `clock` tells the time."""
    from functools import partial
    from secrets import token_hex

    from espial.feeds.published import Feeds
    from espial.services.write_feed import FeedWriter
    from espial.stores.feed_archive import S3FeedArchive
    from espial.stores.feeds_table import FeedBookTable, SendIndexTable
    from espial.stores.light_sdk import LightS3
    from espial.stores.table_stream import DynamoStream

    found = Feeds(definitions(settings.store_bucket).active() or {})
    table, book = light("dynamodb"), FeedBookTable(light("dynamodb"), settings.feeds_table)
    for chosen, layouts in found.feeds():
        if feed not in (None, chosen.name):
            continue
        kept = chosen.attribution_window + 2 * chosen.wait
        yield FeedWriter(
            feed=chosen,
            layouts=layouts,
            account=found.account,
            send=found.send_of(chosen),
            stream=DynamoStream(client("dynamodbstreams"), settings.events_stream),
            index=SendIndexTable(table, settings.feeds_table, chosen.name, kept=kept, now=clock()),
            book=book,
            archive=S3FeedArchive(LightS3(aws("s3", large=True), lambda: client("s3")), settings.feeds_bucket),
            ledger=ledger(settings.events_table),
            clock=clock,
            token=partial(token_hex, 8),
        )


def deliveries(settings: DeliverFeedSettings, *, feed: str | None, sink: str | None) -> list[Delivery]:
    """Every sink of every feed in force, or those that are named."""
    import random
    from datetime import UTC, datetime
    from functools import partial

    from espial.feeds.published import Feeds
    from espial.services.deliver_feed import Delivery
    from espial.stores.feed_archive import S3FeedArchive
    from espial.stores.feeds_table import FeedBookTable

    found = Feeds(definitions(settings.store_bucket).active() or {})
    return [
        Delivery(
            feed=one.name,
            sink=to.name,
            takes_refused=to.kind == "bucket",
            opened=partial(opened_sink, settings, one.name, to),
            book=FeedBookTable(light("dynamodb"), settings.feeds_table),
            archive=S3FeedArchive(light("s3"), settings.feeds_bucket),
            clock=lambda: datetime.now(UTC),
            jitter=random.random,
            by_day=to.collect == "day",
            schedule=to.schedule,
        )
        for one, _ in found.feeds()
        for to in one.sinks
        if feed in (None, one.name) and sink in (None, to.name)
    ]


def opened_sink(
    settings: DeliverFeedSettings, feed: str, to: FeedSink, seconds_left: Callable[[], float]
) -> AbstractContextManager[Sink]:
    """The sink behind a definition; nobody is called before its first file, nor when no time is left."""
    from contextlib import closing, nullcontext
    from datetime import UTC, datetime

    from espial.deliveries import Connection

    if to.kind == "bucket":
        from espial.sinks.bucket import BucketFolder

        folder = f"feeds/{to.prefix or f'{feed}/'}"
        return nullcontext(BucketFolder(aws("s3", large=True), settings.feeds_bucket, folder))

    def secret() -> bytes:
        holder = Connection(name=f"{feed}/{to.name}", platform="", secrets=(to.secret or "",))
        return connections(settings.store_bucket).secrets(holder)[0]

    if to.kind == "http":
        from espial.sinks.http import HttpUpload

        token = secret if to.secret else None
        way = http(settings.outgoing_network)
        return nullcontext(HttpUpload(to, way, token, lambda: datetime.now(UTC), seconds_left))
    dial = http(settings.outgoing_network).dial
    if to.kind == "ftp":
        from espial.sinks.ftp import FtpDrop

        return closing(FtpDrop(to, secret, dial, seconds_left))
    from espial.sinks.sftp import SftpDrop

    return closing(SftpDrop(to, secret, dial, seconds_left))


@cache
def http(network: str) -> GuardedHttp:
    """The way to addresses that definitions name."""
    from espial.stores.guarded_http import GuardedHttp

    return GuardedHttp(network)


@cache
def pull(settings: ServeNotificationsSettings) -> Pull:
    """What clients collect their events from."""
    import secrets
    import string
    import time
    from datetime import UTC, datetime

    from espial.deliveries import Connection
    from espial.notifications.pulled import in_force
    from espial.services.pull_notifications import Pull
    from espial.stores.notifications_table import EvidenceTable, OutboxTable
    from espial.stores.pull_contexts import PullContexts

    def secret(reference: str) -> bytes:
        holder = Connection(name="pull", platform="", secrets=(reference,))
        return connections(settings.store_bucket).secrets(holder)[0]

    def token() -> str:
        letters = string.ascii_letters + string.digits
        rest = "".join(secrets.choice(letters) for _ in range(23))
        return f"{secrets.choice(string.ascii_uppercase)}-{rest}"

    table = light("dynamodb")
    return Pull(
        destinations=lambda: in_force(published(settings.store_bucket).destinations()),
        outbox=OutboxTable(table, settings.notifications_table),
        contexts=PullContexts(table, settings.notifications_table),
        evidence=EvidenceTable(table, settings.notifications_table),
        secret=secret,
        clock=lambda: datetime.now(UTC),
        sleep=time.sleep,
        token=token,
    )


def _onboardings(store_bucket: str) -> Callable[[str], OnboardingDefinition | None]:
    """Finds an onboarding in force by its name."""
    from espial.onboarding.definition import OnboardingDefinition

    def find(name: str) -> OnboardingDefinition | None:
        found = published(store_bucket).onboarding(name)
        return OnboardingDefinition.model_validate(found) if found else None

    return find


def reception(settings: ChangeStackSettings) -> Callable[..., Accepted]:
    """Takes recipients that come by a call."""
    from functools import partial

    from espial.services.onboarding import accept
    from espial.stores.dropped_files import S3Drops

    drops = S3Drops(client("s3"), settings.exports_bucket)
    return partial(accept, definition=_onboardings(settings.store_bucket), drops=drops)


def onboarder(
    settings: OnboardRecipientsSettings, clock: Callable[[], datetime], time_left: Callable[[], float]
) -> Onboarder:
    """Hands files of recipients to platforms; `time_left` (ms) is this invocation's."""
    import time

    from espial.deliveries import Connection
    from espial.errors import Refused
    from espial.services.onboard_recipients import Onboarder
    from espial.stores.onboarding_queue import SqsOnboardingQueue
    from espial.stores.recipients_table import RecipientsTable

    def secret(of: OnboardingDefinition) -> str:
        holder = Connection(name=of.name, platform=of.platform, secrets=(of.secret,))
        try:
            return connections(settings.store_bucket).secrets(holder)[0].decode("ascii")
        except UnicodeDecodeError:
            raise Refused("unauthorised", "the secret cannot stand in a header") from None

    recipients = RecipientsTable(client("dynamodb"), settings.recipients_table)
    return Onboarder(
        definition=_onboardings(settings.store_bucket),
        secret=secret,
        objects=export_objects(),
        executions=recipients,
        recipients=recipients,
        queue=SqsOnboardingQueue(client("sqs"), settings.onboarding_queue_url),
        store=events_table(settings.events_table),
        quarantine=quarantine(settings.store_bucket),
        http=http(settings.outgoing_network),
        clock=clock,
        time_left=time_left,
        sleep=time.sleep,
    )


# -- the owner's API: its queues are named by those who change something only


def conflicts(table: str) -> ConflictsTable:
    """What other reports of recorded events say."""
    from espial.stores.conflicts import ConflictsTable

    return ConflictsTable(client("dynamodb"), table)


def every_event(table: str) -> EventsTable:
    """EventsTable, to be gone through from end to end."""
    from espial.stores.events_table import EventsTable

    return EventsTable(client("dynamodb"), table)


def past_events(table: str) -> PastEvents:
    """Events as they were recorded."""
    from espial.stores.past_events import PastEvents

    return PastEvents(client("dynamodb"), client("dynamodbstreams"), table)


def _send(queue_url: str, body: str) -> None:
    client("sqs").send_message(QueueUrl=queue_url, MessageBody=body)


def export_files(settings: ServeApiSettings, notice_queue_url: str = "") -> ExportFiles:
    """Export files, and with a queue having them read again."""
    from datetime import UTC, datetime
    from functools import partial

    from espial.services.export_files import ExportFiles
    from espial.stores.export_ledger import DynamoExportLedger

    return ExportFiles(
        bucket=settings.exports_bucket,
        objects=export_objects(),
        ledger=DynamoExportLedger(client("dynamodb"), settings.events_table),
        notify=partial(_send, notice_queue_url),
        clock=lambda: datetime.now(UTC),
    )


def ways_back(settings: ChangeStackSettings) -> WaysBack:
    """The queues by which quarantine is left."""
    from functools import partial

    from espial.services.replay_quarantine import WaysBack
    from espial.stores.delivery_queue import SqsDeliveryQueue

    queue = SqsDeliveryQueue(aws("sqs"), settings.raw_queue_url, aws("s3"), settings.store_bucket)
    return WaysBack(queue, partial(_send, settings.notice_queue_url), export_ledger(settings.events_table))


def destinations(settings: ServeApiSettings, outgoing_queue_url: str = "") -> Destinations:
    """The destinations that were applied last; with a queue they can be switched on and replayed."""
    from espial.notifications.definition import readable
    from espial.services.destinations import Destinations
    from espial.stores.notifications_table import ConditionsTable, EvidenceTable, OutboxTable
    from espial.stores.outgoing_queue import SqsOutgoingQueue

    found, _ = readable((definitions(settings.store_bucket).active() or {}).get("destinations", {}))
    table, name = client("dynamodb"), settings.notifications_table
    return Destinations(
        known={one.name: one for one in found},
        outbox=OutboxTable(table, name),
        conditions=ConditionsTable(table, name),
        evidence=EvidenceTable(table, name),
        poke=SqsOutgoingQueue(client("sqs"), outgoing_queue_url).poke,
    )


def feed_status(settings: ServeApiSettings) -> FeedStatus:
    """What was written of each feed in force, and how far its sinks are."""
    from espial.feeds.published import Feeds
    from espial.services.feed_status import FeedStatus
    from espial.stores.feeds_table import FeedBookTable

    found = Feeds(definitions(settings.store_bucket).active() or {})
    return FeedStatus(found, FeedBookTable(client("dynamodb"), settings.feeds_table))


def recipient_files(settings: ServeApiSettings, onboarding_queue_url: str = "") -> RecipientFiles:
    """Files of recipients, and with a queue having them looked at again."""
    from espial.services.recipient_files import RecipientFiles
    from espial.stores.onboarding_queue import SqsOnboardingQueue
    from espial.stores.recipients_table import RecipientsTable

    names = sorted((definitions(settings.store_bucket).active() or {}).get("onboardings", {}))
    queue = SqsOnboardingQueue(client("sqs"), onboarding_queue_url)
    return RecipientFiles(tuple(names), RecipientsTable(client("dynamodb"), settings.recipients_table), queue)


def begin(function: str, event: dict[str, Any]) -> None:
    """Have a function run once, without waiting for it."""
    import json

    client("lambda").invoke(FunctionName=function, InvocationType="Event", Payload=json.dumps(event))
