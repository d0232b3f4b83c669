"""What template.yaml promises: the platform's own rules, checked as data (DESIGN 1, 5, 6)."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from espial import settings
from espial.vocabulary import EventType
from tests.template.stack_template import ROOT, folder, template

FUNCTIONS = sorted(template().functions)


def test_every_function_has_a_folder_and_every_folder_a_function():
    """What stands in functions/ is what is deployed."""
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/app.py")}
    assert {folder(name) for name in FUNCTIONS} == folders


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_handler_stays_thin(function: str):
    """Input, one service call, log, answer: 40 lines are enough."""
    source = (ROOT / "functions" / folder(function) / "app.py").read_text()
    code = [line for line in source.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert len(code) <= 40


def test_every_queue_has_a_dead_letter_queue():
    """A message that cannot be processed has a place to wait."""
    queues = template().of_type("AWS::SQS::Queue")
    targets = {
        queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
        for queue in queues.values()
        if "RedrivePolicy" in queue
    }
    assert {name for name in queues if "DeadLetter" in name} - {"StreamDeadLetterQueue"} == targets
    assert [] == [n for n, queue in queues.items() if "DeadLetter" not in n and "RedrivePolicy" not in queue]


def test_a_message_stays_hidden_long_enough_for_its_consumer():
    """Six tries' worth of time, or the queue hands the message out twice."""
    for name, queue, function, _ in template().queue_consumers():
        timeout = template().functions[function]["Timeout"]
        assert queue["VisibilityTimeout"] >= 6 * timeout, f"{name} and {function}"


def test_every_queue_and_stream_mapping_reports_partial_failures():
    """One bad message never takes its batch along."""
    for function in template().functions.values():
        for event in function.get("Events", {}).values():
            if event["Type"] in ("SQS", "DynamoDB"):
                assert ["ReportBatchItemFailures"] == event["Properties"]["FunctionResponseTypes"]


def test_stream_mappings_give_up_into_a_queue():
    """A poison record is bisected out and kept, and never blocks its shard for ever."""
    streams = [
        event["Properties"]
        for function in template().functions.values()
        for event in function.get("Events", {}).values()
        if event["Type"] == "DynamoDB"
    ]
    assert streams
    for stream in streams:
        assert stream["BisectBatchOnFunctionError"]
        assert 0 < stream["MaximumRetryAttempts"] <= 1000
        assert "OnFailure" in stream["DestinationConfig"]


def test_only_inserted_events_reach_the_publisher():
    """Profiles, runs, claims and later changes of an event are no events."""
    stream = template().functions["PublishEventsFunction"]["Events"]["EventsTable"]["Properties"]
    pattern = json.loads(stream["FilterCriteria"]["Filters"][0]["Pattern"])
    assert ["INSERT"] == pattern["eventName"]
    assert {"prefix": "E#"} == pattern["dynamodb"]["Keys"]["sk"]["S"][0]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_permissions_name_what_they_are_for(function: str):
    """No wildcard action and no wildcard resource (least privilege)."""
    for statement in template().statements(function):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert [] == [action for action in actions if "*" in action]
        assert "*" not in _texts(statement["Resource"])


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [text for part in parts for text in _texts(part)]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_environment_is_what_the_function_reads(function: str):
    """Every setting has its variable, and no variable goes unread."""
    stem = function.removesuffix("Function")
    kind = getattr(settings, ("Receiver" if stem.startswith("Receive") else stem) + "Settings")
    wanted = {field.name.upper() for field in fields(kind)}
    given = {name for name in template().environment(function) if not name.startswith("POWERTOOLS_")}
    assert wanted == given


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_function_has_logs_with_an_end_alarms_and_a_name(function: str):
    """Logs expire, failures and throttles are seen, and log lines name their function."""
    group = template().functions[function]["LoggingConfig"]["LogGroup"]["Ref"]
    assert "RetentionInDays" in template().resources[group]["Properties"]
    stem = function.removesuffix("Function")
    assert {f"{stem}ErrorAlarm", f"{stem}ThrottleAlarm"} <= set(template().resources)
    assert folder(function) == template().environment(function)["POWERTOOLS_SERVICE_NAME"]


def test_every_queue_is_watched():
    """Age where work waits, depth where it has failed."""
    alarms = template().of_type("AWS::CloudWatch::Alarm").values()
    watched = {
        (value["Fn::GetAtt"][0], alarm["MetricName"])
        for alarm in alarms
        for dimension in alarm["Dimensions"]
        if "Fn::GetAtt" in (value := dimension["Value"])
    }
    for queue in template().of_type("AWS::SQS::Queue"):
        metric = "ApproximateNumberOfMessagesVisible" if "DeadLetter" in queue else "ApproximateAgeOfOldestMessage"
        assert (queue, metric) in watched


def test_buckets_are_private_and_encrypted():
    """Nothing public, nothing in clear, nothing over plain HTTP."""
    policies = {policy["Bucket"]["Ref"] for policy in template().of_type("AWS::S3::BucketPolicy").values()}
    for name, bucket in template().of_type("AWS::S3::Bucket").items():
        assert all(bucket["PublicAccessBlockConfiguration"].values())
        assert "BucketEncryption" in bucket
        assert name in policies


def test_what_users_keep_outlives_the_stack():
    """Deleting the stack deletes no event, no export and no archive."""
    for name in ("EventsTable", "FeedsTable", "NotificationsTable", "StoreBucket", "ExportsBucket", "FeedsBucket"):
        assert "Retain" == template().resources[name]["DeletionPolicy"]
        assert "Retain" == template().resources[name]["UpdateReplacePolicy"]


def test_the_receivers_never_touch_the_key_store():
    """Losing DynamoDB cannot lose an event (DESIGN 1)."""
    for function in ("ReceiveWebhookFunction", "ReceiveTrackingFunction"):
        actions = json.dumps([statement["Action"] for statement in template().statements(function)])
        assert "dynamodb" not in actions
        assert "EVENTS_TABLE" not in template().environment(function)


def test_the_rule_routes_every_type_but_our_own_outcomes():
    """The deployed pattern, asked with EventBridge's own semantics: triggers see all but what they caused."""
    pattern = template().resources["TriggerRule"]["Properties"]["EventPattern"]
    assert ["espial"] == pattern["source"]
    (detail_type,) = pattern["detail-type"]
    routed = {kind.value for kind in EventType} - set(detail_type["anything-but"])
    assert {kind.value for kind in EventType} - routed == {"message_requested", "message_skipped"}


def test_globals_hold_what_all_functions_share():
    """One runtime, one handler name, traces on, bytecode by our own build."""
    assert "python3.13" == template().globals["Runtime"]
    assert "app.handler" == template().globals["Handler"]
    assert "Active" == template().globals["Tracing"]
    for name in FUNCTIONS:
        assert "makefile" == template().resources[name]["Metadata"]["BuildMethod"]


def test_every_route_of_the_owners_api_asks_who_calls():
    """People's data is for those whom IAM lets ask; platforms and sites have APIs of their own."""
    routes = template().of_type("AWS::ApiGatewayV2::Route").values()
    guarded = [route for route in routes if {"Ref": "AdminApi"} == route["ApiId"]]
    assert guarded
    assert {"AWS_IAM"} == {route["AuthorizationType"] for route in guarded}


def test_feeds_are_delivered_for_as_long_as_a_function_may_live():
    """A file of hundreds of megabytes over a slow link has to arrive within one call."""
    assert 900 == template().functions["DeliverFeedFunction"]["Timeout"]


def test_streams_are_pulled_only_where_a_schedule_is_given():
    """Nobody pays for a function that has nothing to read; each run ends before the next by default."""
    schedule = template().functions["PullEventsFunction"]["Events"]["Regularly"]["Properties"]
    assert {"Fn::If": ["HasPullSchedule", "ENABLED", "DISABLED"]} == schedule["State"]
    assert {"Fn::If": ["HasPullSchedule", {"Ref": "PullSchedule"}, "rate(5 minutes)"]} == schedule["ScheduleExpression"]
    assert "" == template().body["Parameters"]["PullSchedule"]["Default"]
    assert template().functions["PullEventsFunction"]["Timeout"] <= 300


def test_what_calls_others_does_so_from_one_address_where_that_is_wanted():
    """Nothing of it is there, nor paid for, unless somebody asks."""
    those = {name for name in template().functions if "OUTGOING_NETWORK" in template().environment(name)}
    assert those == {name for name, function in template().functions.items() if "VpcConfig" in function}
    for name in those:
        wanted, inside, outside = template().functions[name]["VpcConfig"]["Fn::If"]
        assert ("HasFixedEgress", {"Ref": "AWS::NoValue"}) == (wanted, outside)
        assert inside["SubnetIds"] == [{"Ref": "EgressSubnet"}]
    network = {name: one for name, one in template().resources.items() if one["Type"].startswith("AWS::EC2::")}
    assert {"HasFixedEgress"} == {one.get("Condition") for one in network.values()}
    assert "false" == template().body["Parameters"]["FixedEgress"]["Default"]
    route = network["EgressRoute"]["Properties"]
    assert {"Ref": "EgressNat"} == route["NatGatewayId"]
    assert {"Fn::GetAtt": ["EgressAddress", "AllocationId"]} == network["EgressNat"]["Properties"]["AllocationId"]
    assert "SecurityGroupIngress" not in network["EgressSecurityGroup"]["Properties"]


TABLE_CALLS = {
    "PullEventsFunction": {"UpdateItem"},  # the offset and the right to read
    "RecordEventsFunction": {"BatchGetItem", "PartiQLInsert", "PartiQLUpdate", "PutItem"},  # the last for the ledger
    "PublishEventsFunction": {"PutItem"},
    "SplitExportFunction": {"GetItem", "PutItem", "UpdateItem", "BatchGetItem"},
    "SweepExportsFunction": {"GetItem", "PutItem", "UpdateItem", "BatchGetItem", "Query"},  # the last for the ledger
    "RecordExportFunction": {
        *("BatchGetItem", "PartiQLInsert", "PartiQLUpdate"),  # the events
        *("GetItem", "PutItem", "UpdateItem"),  # the ledger
    },
    "ServeApiFunction": {"Query", "BatchGetItem", "GetItem", "Scan"},  # the last for a campaign's events
    "ServePagesFunction": {"Query"},  # what a reader agreed to
    "ChangeStackFunction": {
        *("Query", "Scan", "BatchGetItem", "UpdateItem"),  # events to publish again; files to read again
        *("GetItem", "PutItem", "PartiQLUpdate"),  # NotificationsTable: switched, sent again
        "PartiQLInsert",  # who enters a trigger by a call
    },
    "ServeNotificationsFunction": {  # all of NotificationsTable
        *("BatchGetItem", "BatchWriteItem", "PartiQLUpdate", "PutItem", "Query", "UpdateItem"),  # what waits; evidence
        *("DeleteItem", "GetItem"),  # logins, and batches that are out
    },
    "WriteFeedFunction": {
        *("BatchGetItem", "BatchWriteItem", "PutItem", "Query", "UpdateItem"),  # FeedsTable; PutItem for the ledger too
        *("DescribeStream", "GetRecords", "GetShardIterator"),
    },
    "DeliverFeedFunction": {"BatchGetItem", "PutItem", "Query"},  # batches, and how far sinks are
    "OnboardRecipientsFunction": {
        *("BatchGetItem", "PartiQLInsert", "PartiQLUpdate"),  # our own events
        *("GetItem", "UpdateItem", "Query", "BatchWriteItem"),  # executions and recipients, in a table of their own
    },
    "LoadCatalogueFunction": {"BatchWriteItem", "GetItem", "Query", "UpdateItem"},  # the last for its lease
    "RouteNotificationsFunction": {"BatchGetItem", "PartiQLInsert", "PutItem"},  # what waits; PutItem for the ledger
    "SendNotificationsFunction": {  # all of NotificationsTable
        *("BatchGetItem", "PartiQLUpdate", "PutItem", "Query", "UpdateItem"),  # what waits, and leases
        *("BatchWriteItem", "GetItem"),  # evidence, and how destinations are
    },
    "RunTriggersFunction": {
        *("BatchGetItem", "PartiQLInsert", "PartiQLUpdate"),  # our own events
        *("GetItem", "PutItem", "Query"),  # people, runs, decisions
        "UpdateItem",  # shared with the sender, which claims
    },
    "EnterPeopleFunction": {
        *("BatchGetItem", "PartiQLInsert", "PartiQLUpdate"),  # our own events
        *("GetItem", "PutItem", "Query", "UpdateItem"),  # people, runs, segments, and how far walks are
    },
    "SendMessageFunction": {
        *("BatchGetItem", "PartiQLInsert", "PartiQLUpdate"),
        *("GetItem", "PutItem", "Query", "UpdateItem"),  # and GetItem, BatchGetItem of CatalogueTable
    },
}
"""What the stores behind each function ask of the table; the local cloud grants everything and would not notice."""


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_table_is_granted_what_the_stores_call(function: str):
    """No less, which would fail on AWS alone, and no more."""
    granted: set[str] = set()
    for statement in template().statements(function):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        granted |= {action.partition(":")[2] for action in actions if action.startswith("dynamodb:")}
    assert TABLE_CALLS.get(function, set()) == granted
