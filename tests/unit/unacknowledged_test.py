"""A broker that acknowledges nothing costs a bounded number of bytes."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from brainforge_edge.uplink.client import MOST_UNACKNOWLEDGED, MQTT_311, Connection

PAYLOAD = bytes(512 * 1024)  # as the status of a job is
_CONNACK, _PUBACK = b"\x20\x02\x00\x00", b"\x40\x02"


class Broker:
    """Takes one connection, reads all, and acknowledges what it is let."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._peer: socket.socket | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            self._peer, _ = self._listening.accept()
            self._peer.recv(1024)
            self._peer.sendall(_CONNACK)
            while self._peer.recv(1 << 20):
                pass

    def acknowledge(self, mid: int) -> None:
        assert self._peer is not None
        self._peer.sendall(_PUBACK + mid.to_bytes(2, "big"))

    def close(self) -> None:
        self._listening.close()
        self._thread.join()
        if self._peer is not None:
            self._peer.close()


@pytest.fixture
def broker() -> Iterator[Broker]:
    made = Broker()
    yield made
    made.close()


def test_what_no_broker_acknowledges_is_kept_up_to_a_bound_and_goes_on_behind_it(
    broker: Broker,
) -> None:
    written = threading.Event()
    connection = Connection(
        host="127.0.0.1", port=broker.port, client_id="bed-1", protocol=MQTT_311,
        on_message=lambda *_: None, on_lost=lambda _: None, on_written=lambda _: written.set(),
    )  # fmt: skip
    connection.open()
    try:
        sent = [connection.publish("bf/v1/bed-1/job/x/status", PAYLOAD, qos=1) for _ in range(100)]
        taken = [each for each in sent if each is not None]
        assert 0 < len(taken) <= MOST_UNACKNOWLEDGED // len(PAYLOAD)
        assert connection.publish("bf/v1/bed-1/live/eeg", b"x") is not None
        written.clear()
        broker.acknowledge(taken[0].mid)
        for _ in range(600):
            if taken[0].is_published():
                break
            written.wait(0.1)
        assert connection.publish("bf/v1/bed-1/job/x/status", PAYLOAD, qos=1) is not None
        assert connection.publish("bf/v1/bed-1/job/x/status", PAYLOAD, qos=1) is None
    finally:
        connection.close()
