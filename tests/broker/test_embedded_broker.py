"""The broker we start ourselves."""

import socket
from pathlib import Path

import pytest

from brainforge_edge.cloud.broker import embedded
from brainforge_edge.cloud.broker.embedded import BrokerKind, EmbeddedBroker
from brainforge_edge.core.errors import CloudError, TransportError
from brainforge_edge.uplink.client import Connection


def connection(port: int) -> Connection:
    return Connection(
        host="127.0.0.1", port=port, client_id="t", on_message=lambda _t, _p: None,
        on_lost=lambda _r: None,
    )  # fmt: skip


@pytest.mark.parametrize("kind", list(BrokerKind))
def test_a_link_speaks_the_best_protocol_of_the_broker_and_remembers_it(
    tmp_path: Path, kind: BrokerKind
) -> None:
    with EmbeddedBroker(tmp_path, kind=kind) as broker:
        link = connection(broker.port)
        for _ in range(2):
            link.open()
            assert link.protocol == (5 if kind is BrokerKind.MOSQUITTO else 4)
            assert link.fits("bf/v1/bed-1/chunk/opm-mag", 1024 * 1024 + 64 * 1024 + 200)
            link.close()


def test_nagle_is_off_on_every_connection(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path, kind=BrokerKind.MOSQUITTO) as broker:
        link = connection(broker.port)
        for _ in range(2):
            link.open()
            assert link._client is not None
            sock = link._client.socket()
            assert isinstance(sock, socket.socket)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        link.close()


def test_a_broker_comes_back_on_its_port(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path) as broker:
        port = broker.port
        first = broker.pid
        broker.kill()
        assert broker.start().port == port
        assert broker.pid != first


def test_no_broker_program_is_said_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "find", lambda _kind: None)
    with pytest.raises(CloudError, match="apt-get install mosquitto"):
        EmbeddedBroker(tmp_path)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        broker = EmbeddedBroker(tmp_path, kind=BrokerKind.MOSQUITTO, port=taken.getsockname()[1])
        with pytest.raises(CloudError, match="is in use"):
            broker.start()
        broker.stop()


def test_an_absent_broker_is_one_clear_sentence() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(TransportError, match="connection refused") as caught:
            connection(free.getsockname()[1]).open()
    assert caught.value.transient
