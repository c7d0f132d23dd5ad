"""A broker that accepts and hangs up at once: it is called now and then, not in a storm."""

import threading

from brainforge_edge.cloud.ingest.subscriber import Inbox, Subscriber
from tests.broker.conftest import Site
from tests.broker.rig import Box, assert_stored_once, stream, wait_for
from tests.faults.mqttrelay import MqttRelay, Trouble

HANGS_UP_S = 4.0


def calls_in(relay: MqttRelay, seconds: float) -> int:
    before = len(relay.connects)
    threading.Event().wait(seconds)
    return len(relay.connects) - before


def test_a_box_calls_a_broker_that_hangs_up_less_and_less_often(site: Site) -> None:
    log = site.log()
    log.fill(stream("opm-mag"), 20)
    log.close()
    site.ingest().start()
    relay = MqttRelay(site.broker.port, 1)
    relay.trouble = Trouble(hangs_up=True)
    box = Box(site.root / "box", relay.port).start()
    try:
        assert 1 <= calls_in(relay, HANGS_UP_S) <= 5  # after 0.5, 1.5 and 3.5 s
        relay.trouble = Trouble()
        box.wait_drained()
    finally:
        box.stop()
        relay.close()
    assert_stored_once(site.cloud, log)


def test_an_aggregator_calls_a_broker_that_hangs_up_less_and_less_often(site: Site) -> None:
    relay = MqttRelay(site.broker.port, 1)
    relay.trouble = Trouble(hangs_up=True)
    link = Subscriber(Inbox(), host="127.0.0.1", port=relay.port, client_id="i", keepalive_s=2)
    link.start()
    try:
        assert 1 <= calls_in(relay, HANGS_UP_S) <= 8  # after 0.1, 0.3, 0.7, 1.5 and 3.1 s
        relay.trouble = Trouble()
        wait_for(lambda: link.connected)
    finally:
        link.close()
        relay.close()
