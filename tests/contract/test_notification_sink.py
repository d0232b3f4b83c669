"""`espial sink` as a process of its own, over real HTTP: the receiver that notifications are tried with."""

from __future__ import annotations

import json
import ssl
import urllib.request
from datetime import timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from espial.cli.app import app
from espial.cli.simulators.receiver import Receiver, step
from espial.errors import AnswerLost
from espial.notifications.definition import DestinationDefinition
from espial.notifications.outbox import Attempt
from espial.stores.guarded_http import GuardedHttp
from tests.simulated import Simulator, sink
from tests.unit.test_send_notifications import SECRETS, World, a_destination


class Real(World):
    """Over the network, to this machine."""

    def __init__(self, running: Simulator, count: int) -> None:
        super().__init__(count=count)
        self.receiver: Any = GuardedHttp("loopback")
        self.destination: DestinationDefinition = a_destination(http={"url": f"{running.url}/hook", "timeout": "1s"})

    def tried(self) -> list[Attempt]:
        """The oldest first."""
        return list(self.evidence.of("crm"))[::-1]


def test_each_answer_of_the_script_is_told_and_the_last_one_lasts():
    script = "500,429:30,hang,reset,302,422,200"
    with sink("--script", script, "--secret", SECRETS["secretsmanager:espial/one"].decode()) as running:
        world = Real(running, 2)
        for _ in range(30):
            world.work(world.destination, later=timedelta(minutes=11))
        outcomes = [(one.outcome, one.status, one.reason) for one in world.tried()]
        requests = running.get("requests")["requests"]
    assert sorted(outcomes[:7]) == sorted(
        [
            ("failed", 500, "not_now"),
            ("failed", 429, "slow_down"),
            ("failed", 0, "no_answer"),
            ("failed", 0, "no_answer"),
            ("failed", 302, "redirected"),
            ("refused", 422, "refused"),
            ("delivered", 200, ""),
        ]
    )
    assert len(requests) == 7
    assert {one["webhook-id"] for one in requests} == {one.id for one in world.put}
    assert {one["espial-attempt"] for one in requests} == {one.id for one in world.tried()}
    assert world.states() == {"delivered": 1, "given_up": 1}


def test_what_is_not_proven_is_refused_by_the_sink():
    with sink("--secret", SECRETS["secretsmanager:espial/two"].decode().strip()) as running:
        world = Real(running, 1)
        assert world.work(world.destination)["failed"] == 1
        both = a_destination(
            http={
                "url": running.url,
                "timeout": "1s",
                "secrets": ["secretsmanager:espial/one", "secretsmanager:espial/two"],
            }
        )
        assert world.work(both, later=timedelta(minutes=1))["delivered"] == 1
    assert [one.status for one in world.tried()] == [401, 200]


def test_a_sink_that_is_gone_is_not_reached():
    with sink() as running:
        world = Real(running, 1)
    assert world.work(world.destination)["failed"] == 1
    assert world.tried()[0].reason == "not_reached"


def test_an_answer_that_never_ends_costs_no_more_than_the_time_out():
    with sink("--script", "hang") as running, pytest.raises(AnswerLost):
        GuardedHttp("loopback").request("POST", running.url, {}, b"{}", 0.2)


@pytest.mark.parametrize("words", ["99", "600", "slowly", "429:soon", ""])
def test_a_script_that_is_none_is_refused(words):
    with pytest.raises(ValueError, match="must be a status"):
        step(words)
    assert CliRunner().invoke(app, ["sink", "--script", words or ","]).exit_code == 2
    assert CliRunner().invoke(app, ["sink", "--secret", "s3cret"]).exit_code == 2


def test_slow_is_an_answer():
    assert Receiver([step("slow"), step("204")]).answer("POST", "/", {}, b"")[0::3] == (200, "slow")


@pytest.mark.parametrize("wrong", ["untrusted", "expired", "other-host"])
def test_nothing_is_told_to_who_cannot_prove_their_name(wrong):
    with sink("--tls", wrong) as running:
        assert running.url.startswith("https://127.0.0.1:")
        world = Real(running, 1)
        assert world.work(world.destination)["failed"] == 1
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with urllib.request.urlopen(f"{running.url}/_simulator/requests", timeout=10, context=context) as answer:
            assert json.load(answer) == {"requests": []}
    assert world.tried()[0].reason == "not_reached"
    assert world.states() == {"waiting": 1}
