"""Brokers, aggregators and boxes that end with their test."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from brainforge_edge.cloud.broker.embedded import BrokerKind, EmbeddedBroker
from tests.broker.rig import Box, BoxLog, Ingest, LocalIngest
from tests.broker.trusted import Trusted, trusted_site

LINKS = [(BrokerKind.MOSQUITTO, 5), (BrokerKind.MOSQUITTO, 4), (BrokerKind.NATS, 5)]


class Site(NamedTuple):
    """Everything between a box's log and the store, made on demand."""

    root: Path
    broker: EmbeddedBroker
    protocol: int
    stack: ExitStack

    @property
    def cloud(self) -> Path:
        return self.root / "cloud"

    def log(self, name: str = "box", **options: Any) -> BoxLog:
        log = BoxLog(self.root / name, **options)
        self.stack.callback(log.close)
        return log

    def box(self, name: str = "box", **options: Any) -> Box:
        box = Box(self.root / name, self.broker.port, protocol=self.protocol, **options)
        self.stack.callback(box.stop)
        return box

    def ingest(self, **options: Any) -> Ingest:
        ingest = Ingest(self.cloud, self.broker.port, protocol=self.protocol, **options)
        self.stack.callback(ingest.stop)
        return ingest

    def local_ingest(self, **options: Any) -> LocalIngest:
        ingest = LocalIngest(self.cloud, self.broker.port, **options)
        self.stack.callback(ingest.stop)
        return ingest


def _site(root: Path, kind: BrokerKind, protocol: int, **options: Any) -> Iterator[Site]:
    with ExitStack() as stack:
        broker = EmbeddedBroker(root / "broker", kind=kind, **options)
        stack.callback(broker.stop)
        yield Site(root, broker.start(), protocol, stack)


@pytest.fixture(params=LINKS, ids=lambda link: f"{link[0]}-{link[1]}")
def any_site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """On every broker and protocol."""
    yield from _site(tmp_path, *request.param)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """On mosquitto with MQTT 5."""
    yield from _site(tmp_path, BrokerKind.MOSQUITTO, 5)


@pytest.fixture
def small_site(tmp_path: Path) -> Iterator[Site]:
    """On a mosquitto that takes packets of at most 20 kB."""
    yield from _site(tmp_path, BrokerKind.MOSQUITTO, 5, max_packet=20_000)


@pytest.fixture
def raw(request: pytest.FixtureRequest) -> Callable[[int], Any]:
    """A bare MQTT connection to a port."""
    from brainforge_edge.uplink.client import Connection  # noqa: PLC0415

    numbers = itertools.count()  # two of one client id would throw each other out

    def make(port: int, **callbacks: Any) -> Connection:
        ignore = {"on_message": lambda _t, _p: None, "on_lost": lambda _r: None}
        connection = Connection(
            host="127.0.0.1", port=port, client_id=f"raw-{next(numbers)}", **(ignore | callbacks)
        )
        connection.open()
        request.addfinalizer(connection.close)
        return connection

    return make


@pytest.fixture(params=LINKS, ids=lambda link: f"{link[0]}-{link[1]}")
def trusted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trusted]:
    """On every broker and protocol."""
    yield from trusted_site(tmp_path, *request.param)


@pytest.fixture(params=list(BrokerKind))
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trusted]:
    """On each broker."""
    yield from trusted_site(tmp_path, request.param, 5)
