"""What each function reads from its environment: one frozen dataclass a function, every missing name at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True, slots=True)
class Settings:
    """Base: a field `events_table` is the variable EVENTS_TABLE; all are text, and each is required."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Raises RuntimeError naming every variable that is missing."""
        env = os.environ if env is None else env
        names = {field.name: field.name.upper() for field in fields(cls)}
        missing = [name for name in names.values() if not env.get(name)]
        if missing:
            raise RuntimeError(f"{cls.__name__}: missing environment variables: {', '.join(missing)}")
        return cls(**{field: env[name] for field, name in names.items()})


@dataclass(frozen=True, slots=True)
class ReceiverSettings(Settings):
    """What receive_webhook, receive_tracking and receive_socket read."""

    raw_queue_url: str
    store_bucket: str
    public_url: str


@dataclass(frozen=True, slots=True)
class RecordEventsSettings(Settings):
    """What record_events reads."""

    events_table: str
    store_bucket: str


@dataclass(frozen=True, slots=True)
class PublishEventsSettings(Settings):
    """What publish_events reads; `publish_everything` is `true` or `false`."""

    events_table: str
    event_bus: str
    store_bucket: str
    publish_everything: str


@dataclass(frozen=True, slots=True)
class SplitExportSettings(Settings):
    """What split_export reads."""

    events_table: str
    store_bucket: str
    chunk_queue_url: str


@dataclass(frozen=True, slots=True)
class RecordExportSettings(Settings):
    """What record_export reads."""

    events_table: str
    store_bucket: str
    chunk_queue_url: str


@dataclass(frozen=True, slots=True)
class SweepExportsSettings(Settings):
    """What sweep_exports reads."""

    events_table: str
    store_bucket: str
    exports_bucket: str
    chunk_queue_url: str


@dataclass(frozen=True, slots=True)
class PullEventsSettings(Settings):
    """What pull_events reads."""

    events_table: str
    store_bucket: str
    raw_queue_url: str


@dataclass(frozen=True, slots=True)
class OnboardRecipientsSettings(Settings):
    """What onboard_recipients reads; `outgoing_network` is `public` or `loopback`."""

    events_table: str
    recipients_table: str
    store_bucket: str
    onboarding_queue_url: str
    outgoing_network: str


@dataclass(frozen=True, slots=True)
class RouteNotificationsSettings(Settings):
    """What route_notifications reads."""

    events_table: str
    notifications_table: str
    outgoing_queue_url: str
    store_bucket: str


@dataclass(frozen=True, slots=True)
class SendNotificationsSettings(Settings):
    """What send_notifications reads; `outgoing_network` is `public` or `loopback`."""

    notifications_table: str
    outgoing_queue_url: str
    store_bucket: str
    outgoing_network: str


@dataclass(frozen=True, slots=True)
class WriteFeedSettings(Settings):
    """What write_feed reads; `events_stream` is the ARN of EventsTable's stream."""

    events_table: str
    events_stream: str
    feeds_table: str
    feeds_bucket: str
    store_bucket: str


@dataclass(frozen=True, slots=True)
class ServeApiSettings(Settings):
    """What serve_api reads."""

    events_table: str
    feeds_table: str
    notifications_table: str
    recipients_table: str
    store_bucket: str
    exports_bucket: str


@dataclass(frozen=True, slots=True)
class ChangeStackSettings(ServeApiSettings):
    """What change_stack reads; the two functions are the names of those that it has run."""

    event_bus: str
    raw_queue_url: str
    notice_queue_url: str
    outgoing_queue_url: str
    onboarding_queue_url: str
    write_feed_function: str
    deliver_feed_function: str


@dataclass(frozen=True, slots=True)
class ServeNotificationsSettings(Settings):
    """What serve_notifications reads."""

    notifications_table: str
    store_bucket: str
    public_url: str


@dataclass(frozen=True, slots=True)
class ServePagesSettings(Settings):
    """What serve_pages reads."""

    events_table: str
    raw_queue_url: str
    store_bucket: str


@dataclass(frozen=True, slots=True)
class LoadCatalogueSettings(Settings):
    """What load_catalogue reads."""

    catalogue_table: str
    store_bucket: str


@dataclass(frozen=True, slots=True)
class DeliverFeedSettings(Settings):
    """What deliver_feed reads; `outgoing_network` is `public` or `loopback`."""

    feeds_table: str
    feeds_bucket: str
    store_bucket: str
    outgoing_network: str


@dataclass(frozen=True, slots=True)
class WaitSettings(Settings):
    """What makes timers: waits of up to `short_wait_seconds` are SQS delays, longer ones schedules."""

    send_queue_url: str
    send_queue_arn: str
    schedule_group: str
    schedule_role_arn: str
    send_dead_letter_arn: str
    short_wait_seconds: str


@dataclass(frozen=True, slots=True)
class RunTriggersSettings(WaitSettings):
    """What run_triggers reads."""

    events_table: str
    store_bucket: str


@dataclass(frozen=True, slots=True)
class EnterPeopleSettings(RunTriggersSettings):
    """What enter_people reads."""

    catalogue_table: str


@dataclass(frozen=True, slots=True)
class SendMessageSettings(WaitSettings):
    """What send_message reads; `pages_url` is where serve_pages answers."""

    events_table: str
    store_bucket: str
    outgoing_network: str
    pages_url: str
    catalogue_table: str
