"""A broker with TLS and who is enrolled at it."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from brainforge_edge.cloud.broker.embedded import BrokerKind, EmbeddedBroker
from brainforge_edge.core.errors import TransportError
from brainforge_edge.security.tls import TlsFiles
from brainforge_edge.uplink.client import Connection
from tests.broker.pki import Pki

Heard = list[tuple[str, bytes]]


class Trusted(NamedTuple):
    """A broker with TLS, and the certificates of two boxes."""

    broker: EmbeddedBroker
    protocol: int
    pki: Pki
    bed_1: TlsFiles
    bed_2: TlsFiles
    stack: ExitStack

    def link(self, who: TlsFiles | None, heard: Heard | None = None) -> Connection:
        """A bare connection; not open yet."""
        seen: Heard = [] if heard is None else heard
        link = Connection(
            host="127.0.0.1", port=self.broker.port, client_id=f"t{id(seen)}-{id(who)}",
            on_message=lambda topic, payload: seen.append((topic, payload)),
            on_lost=lambda _reason: None, protocol=self.protocol, tls=who,
        )  # fmt: skip
        self.stack.callback(link.close)
        return link

    def refusal(self, who: TlsFiles | None) -> TransportError:
        with pytest.raises(TransportError) as caught:
            self.link(who).open()
        assert caught.value.transient
        return caught.value


def trusted_site(root: Path, kind: BrokerKind, protocol: int) -> Iterator[Trusted]:
    pki = Pki(root / "pki")
    beds = pki.node("bed-1"), pki.node("bed-2")
    with ExitStack() as stack:
        broker = EmbeddedBroker(root / "broker", kind=kind, trust=pki.trust())
        stack.callback(broker.stop)
        yield Trusted(broker.start(), protocol, pki, *beds, stack)


def said_again(link: Connection, topic: str, heard: Heard) -> bool:
    """Say a word until it is heard: a subscription may come to hold only after our first."""
    link.publish(topic, b"again", qos=1)
    return any(found == (topic, b"again") for found in heard)
