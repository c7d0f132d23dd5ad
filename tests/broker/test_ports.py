"""Ports for servers that are started again: no outgoing connection is given them meanwhile."""

import random
import socket
from pathlib import Path

from brainforge_edge.cloud.broker.ports import free_port, is_free


def test_a_port_is_free_and_below_those_of_outgoing_connections() -> None:
    outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        port = free_port(kind)
        assert is_free("127.0.0.1", port, kind)
        assert 10_000 <= port < outgoing


def test_one_that_is_taken_is_passed_over() -> None:
    port = free_port(chance=random.Random(5))
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free("127.0.0.1", port)
        assert free_port(chance=random.Random(5)) != port
