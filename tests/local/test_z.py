from tests.local.test_killed import *
import pytest
from tests.local import test_killed as k
from tests.local.faults import FaultProxy, Fault
from tests.local.world import LAMP, UNCAPPED


def test_calls(world):
    for f in ("RecordEvents", "PublishEvents", "RunTriggers", "SendMessage"):
        p = FaultProxy(world.stack.cloud.url)
        world.configure(f + "Function", AWS_ENDPOINT_URL=p.url, AWS_ENDPOINT_URL_DYNAMODB=p.url)
        for n in (1, 2):
            name = f"counted-{f}-{n}".lower()
            a = world.shopper(name)
            world.until("known", lambda: world.events_of(name))
            world.until("queues", lambda: world.waiting("RawQueue") + world.waiting("TriggerQueue") == 0)
            with p.faults(lambda _: Fault.NONE) as calls:
                world.cart(name, f"c-{name}", LAMP, currency=UNCAPPED)
                world.until("mail", lambda: world.mails_to(a))
                world.until("over", lambda: "message_requested" in str(world.events_of(name)))
                got = [o for o, _ in calls]
        print("CALLS", f, len(got), got)
