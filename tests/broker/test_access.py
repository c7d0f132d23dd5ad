"""Who may say what to whom at a broker with TLS: proven by what arrives, on both brokers."""

import contextlib
import re
import socket
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec

from brainforge_edge.cloud.broker.embedded import BrokerKind
from brainforge_edge.core import topics, wire
from brainforge_edge.core.errors import TransportError
from brainforge_edge.security.tls import TlsFiles
from tests.broker.rig import wait_for
from tests.broker.trusted import Heard, Trusted, said_again, trusted_site


def test_a_node_is_heard_below_its_own_name_alone(trusted: Trusted) -> None:
    """What it says elsewhere arrives nowhere: proven by the word that follows it on the same link."""
    at_aggregator: Heard = []
    aggregator = trusted.link(trusted.pki.aggregator, at_aggregator)
    intruder = trusted.link(trusted.bed_2)
    for link in (aggregator, intruder):
        link.open()
    for said in (topics.chunk("+", "+"), topics.hello("+"), topics.keys("+"), topics.claim("+")):
        aggregator.subscribe(said, 1)
    at = {
        topic: intruder.publish(topic, b"forged", qos=1)
        for topic in (
            topics.chunk("bed-1", "opm"), topics.hello("bed-1"), topics.keys("bed-1"),
            topics.claim("bed-1"),
        )
    }  # fmt: skip
    assert all(at.values())
    wait_for(lambda: said_again(intruder, topics.hello("bed-2"), at_aggregator))
    wait_for(lambda: said_again(intruder, topics.claim("bed-2"), at_aggregator))
    assert {topic for topic, _ in at_aggregator} == {topics.hello("bed-2"), topics.claim("bed-2")}
    assert intruder.connected


def test_a_last_will_below_another_name_is_not_carried_out(trusted: Trusted) -> None:
    """A forged goodbye would end another box's conversation."""
    at_aggregator: Heard = []
    aggregator = trusted.link(trusted.pki.aggregator, at_aggregator)
    aggregator.open()
    aggregator.subscribe(topics.hello("+"), 1)
    probe = trusted.link(trusted.bed_2)
    probe.open()
    wait_for(lambda: said_again(probe, topics.hello("bed-2"), at_aggregator))
    for node in ("bed-1", "bed-2"):
        dying = trusted.link(trusted.bed_2)
        dying.will = (topics.hello(node), b"will")
        with contextlib.suppress(TransportError):  # a broker may refuse such a Will at once
            dying.open()
        dying.close()  # without a DISCONNECT
    wait_for(lambda: (topics.hello("bed-2"), b"will") in at_aggregator)
    assert topics.hello("bed-1") not in {topic for topic, _ in at_aggregator}


def test_receipts_come_from_the_aggregator_alone(trusted: Trusted) -> None:
    at_bed_1: Heard = []
    at_aggregator: Heard = []
    box, other = trusted.link(trusted.bed_1, at_bed_1), trusted.link(trusted.bed_2)
    aggregator = trusted.link(trusted.pki.aggregator, at_aggregator)
    for link in (box, other, aggregator):
        link.open()
    box.subscribe(topics.ack("bed-1", "+"), 1)
    aggregator.subscribe(topics.hello("+"), 1)
    wait_for(lambda: said_again(aggregator, topics.ack("bed-1", "opm"), at_bed_1))
    forged = msgspec.msgpack.encode(
        wire.Receipt(b"l" * 16, 0, "opm", (wire.Range(0, 0, 10**9),), (), 64, 0)
    )
    assert other.publish(topics.ack("bed-1", "opm"), forged, qos=1)
    assert box.publish(topics.ack("bed-1", "opm"), forged, qos=1)
    # What follows on the same link is heard: the forged one was dealt with, and so was all before the last.
    wait_for(lambda: said_again(other, topics.hello("bed-2"), at_aggregator))
    wait_for(lambda: said_again(box, topics.hello("bed-1"), at_aggregator))
    assert aggregator.publish(topics.ack("bed-1", "opm"), b"last", qos=1)
    wait_for(lambda: (topics.ack("bed-1", "opm"), b"last") in at_bed_1)
    assert {payload for _, payload in at_bed_1} == {b"again", b"last"}


def test_desired_states_and_jobs_come_from_the_aggregator_alone(trusted: Trusted) -> None:
    """Signatures are looked at by the box; a broker with access lists does not even bring it forged ones."""
    at_bed_1: Heard = []
    at_aggregator: Heard = []
    box, other = trusted.link(trusted.bed_1, at_bed_1), trusted.link(trusted.bed_2)
    aggregator = trusted.link(trusted.pki.aggregator, at_aggregator)
    for link in (box, other, aggregator):
        link.open()
    said = (topics.desired("bed-1"), topics.job("bed-1", "a1"))
    box.subscribe(topics.desired("bed-1"), 1)
    box.subscribe(topics.job("bed-1", "+"), 1)
    aggregator.subscribe(topics.hello("+"), 1)
    for topic in said:
        wait_for(partial(said_again, aggregator, topic, at_bed_1))
        for forger in (other, box):
            assert forger.publish(topic, b"forged", qos=1, retain=True)
    wait_for(lambda: said_again(other, topics.hello("bed-2"), at_aggregator))
    wait_for(lambda: said_again(box, topics.hello("bed-1"), at_aggregator))
    for topic in said:
        assert aggregator.publish(topic, b"last", qos=1, retain=True)
        wait_for(partial(is_heard, at_bed_1, topic, b"last"))
    assert {payload for _, payload in at_bed_1} == {b"again", b"last"}
    later: Heard = []
    again = trusted.link(trusted.bed_1, later)
    again.open()
    again.subscribe(topics.desired("bed-1"), 1)
    again.subscribe(topics.job("bed-1", "+"), 1)
    wait_for(lambda: len(later) == len(said))
    assert set(later) == {(topic, b"last") for topic in said}


def test_a_box_answers_below_its_own_name_and_hears_nothing_for_another(trusted: Trusted) -> None:
    at_bed_2: Heard = []
    at_aggregator: Heard = []
    intruder = trusted.link(trusted.bed_2, at_bed_2)
    aggregator = trusted.link(trusted.pki.aggregator, at_aggregator)
    for link in (intruder, aggregator):
        link.open()
    aggregator.subscribe(topics.reported("+"), 1)
    aggregator.subscribe(topics.job_status("+", "+"), 1)
    for topic in (
        topics.desired("bed-1"), topics.job("bed-1", "+"), "bf/v1/+/desired", "bf/v1/+/job/#",
        topics.desired("bed-2"), topics.job("bed-2", "+"),
    ):  # fmt: skip
        intruder.subscribe(topic, 1)
    wait_for(lambda: said_again(aggregator, topics.job("bed-2", "a1"), at_bed_2))
    for topic in (topics.desired("bed-1"), topics.job("bed-1", "a1")):
        assert aggregator.publish(topic, b"for another", qos=1, retain=True)
    for topic in (topics.reported("bed-1"), topics.job_status("bed-1", "a1")):
        assert intruder.publish(topic, b"forged", qos=1)
    for topic in (topics.reported("bed-2"), topics.job_status("bed-2", "a1")):
        wait_for(partial(said_again, intruder, topic, at_aggregator))
    wait_for(lambda: said_again(aggregator, topics.desired("bed-2"), at_bed_2))
    assert b"forged" not in {payload for _, payload in at_aggregator}
    assert b"for another" not in {payload for _, payload in at_bed_2}


def is_heard(heard: Heard, topic: str, payload: bytes) -> bool:
    return (topic, payload) in heard


def test_a_node_hears_no_receipts_and_no_rows_of_another(trusted: Trusted) -> None:
    at_bed_1: Heard = []
    at_bed_2: Heard = []
    box, listener = trusted.link(trusted.bed_1, at_bed_1), trusted.link(trusted.bed_2, at_bed_2)
    aggregator = trusted.link(trusted.pki.aggregator)
    for link in (box, listener, aggregator):
        link.open()
    box.subscribe(topics.ack("bed-1", "+"), 1)
    for topic in (
        topics.ack("bed-1", "+"),
        topics.chunk("bed-1", "+"),
        "#",
        "$MQTT/sub/#",  # where nats-server hands out what is sent with QoS 1
        topics.ack("bed-2", "+"),
    ):
        listener.subscribe(topic, 1)
    wait_for(lambda: said_again(aggregator, topics.ack("bed-2", "opm"), at_bed_2))
    wait_for(lambda: said_again(aggregator, topics.ack("bed-1", "opm"), at_bed_1))
    assert box.publish(topics.chunk("bed-1", "opm"), b"rows", qos=1)
    at_bed_2.clear()
    wait_for(lambda: said_again(aggregator, topics.ack("bed-2", "opm"), at_bed_2))
    assert {topic for topic, _ in at_bed_2} == {topics.ack("bed-2", "opm")}


def test_nats_servers_own_protocol_is_open_to_nobody(tmp_path: Path) -> None:
    """Its listener cannot be left out; there a box could ask for more than its topics."""
    for site in trusted_site(tmp_path, BrokerKind.NATS, 5):
        said = (tmp_path / "broker" / "nats-server.log").read_text(encoding="utf-8")
        found = re.search(r"Listening for client connections on 127.0.0.1:(\d+)", said)
        assert found is not None
        for own in (site.bed_1, None):
            assert b"PONG" not in _native(int(found[1]), own)
        assert b"INFO" in _native(int(found[1]), None)  # it is that listener


def _native(port: int, own: TlsFiles | None) -> bytes:
    """All that nats-server says to who speaks its protocol, with TLS if it has a certificate."""
    said = bytearray()
    with socket.create_connection(("127.0.0.1", port), 5) as plain, ExitStack() as stack:
        said += plain.recv(65_536)
        link = plain
        if own is not None:
            link = stack.enter_context(
                own.context().wrap_socket(plain, server_hostname="127.0.0.1")
            )
        with contextlib.suppress(OSError):
            link.sendall(b'CONNECT {"user": "CN=bed-1", "verbose": false}\r\nPING\r\n')
            while data := link.recv(65_536):
                said += data
    return bytes(said)
