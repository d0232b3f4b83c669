"""Events that were recorded while the bus could not be reached, and given up (guarantee 4)."""

from __future__ import annotations

from tests.local.world import LAMP, UNCAPPED, World

NOWHERE = "http://127.0.0.1:9"


def test_what_was_given_up_is_published_and_acted_on_once(world: World):
    """A cart that never reached a trigger becomes one mail; another `espial republish` adds none."""

    def ids() -> set[str]:
        return {event["event_id"] for event in world.events_of("given-up")} or {"not recorded yet"}

    lambdas = world.stack.cloud.client("lambda")
    function = world.resources["PublishEventsFunction"]
    (mapping,) = lambdas.list_event_source_mappings(FunctionName=function)["EventSourceMappings"]
    given_up = "StreamDeadLetterQueue"
    address = world.shopper("given-up")
    world.until("the shopper is published", lambda: set(world.published()) >= ids())
    # The local cloud gives up by age alone, and only what the function fails at: here it cannot read what is wanted.
    lambdas.update_event_source_mapping(UUID=mapping["UUID"], MaximumRecordAgeInSeconds=1)
    world.configure("PublishEventsFunction", AWS_ENDPOINT_URL=NOWHERE, PUBLISH_EVERYTHING="false")
    try:
        world.cart("given-up", "gu", LAMP, currency=UNCAPPED)
        world.until("given up", lambda: world.waiting(given_up) > 0)
    finally:
        world.configure("PublishEventsFunction", AWS_ENDPOINT_URL=world.stack.cloud.url, PUBLISH_EVERYTHING="true")
        lambdas.update_event_source_mapping(UUID=mapping["UUID"], MaximumRecordAgeInSeconds=82_800)
    assert [] == world.mails_to(address)
    world.stack.espial("republish")
    world.becomes(1, lambda: len(world.mails_to(address)))
    assert 0 == world.waiting(given_up)
    world.stack.espial("republish", "--person", "id:given-up")
    world.until("handled", lambda: world.waiting("TriggerQueue") + world.waiting("SendQueue") == 0)
    assert 1 == len(world.mails_to(address))
