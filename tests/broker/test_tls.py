"""Delivery over TLS 1.3 on both brokers; who is refused, and with which words."""

import contextlib
import dataclasses
import socket
import ssl
import threading
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from brainforge_edge.cloud.broker.embedded import BrokerKind, EmbeddedBroker
from brainforge_edge.core.errors import TransportError
from brainforge_edge.security.certificates import Role
from brainforge_edge.security.tls import TlsFiles
from brainforge_edge.uplink.client import Connection
from tests.broker.pki import Pki, now, section
from tests.broker.rig import Box, BoxLog, Ingest, assert_stored_once, stream, wait_for
from tests.broker.trusted import Trusted

MAG = stream("opm-mag")
LONG_AGO, LONG_AFTER = timedelta(days=-20), timedelta(days=20)


def test_what_is_recorded_arrives_once_over_tls(trusted: Trusted, tmp_path: Path) -> None:
    log = BoxLog(tmp_path / "box")
    trusted.stack.callback(log.close)
    log.fill(MAG, 30, segment_bytes=250_000)
    log.close()
    ingest = Ingest(
        tmp_path / "cloud",
        trusted.broker.port,
        protocol=trusted.protocol,
        tls=trusted.pki.aggregator,
    )
    trusted.stack.callback(ingest.stop)
    ingest.start()
    box = Box(
        tmp_path / "box", trusted.broker.port, protocol=trusted.protocol, tls=section(trusted.bed_1)
    )
    trusted.stack.callback(box.stop)
    box.start().wait_drained()
    assert_stored_once(tmp_path / "cloud", log)
    negotiated = box.pump.connection._client
    assert negotiated is not None
    sock = negotiated.socket()
    assert isinstance(sock, ssl.SSLSocket)
    assert sock.version() == "TLSv1.3"


@pytest.mark.parametrize(
    ("at", "code"),
    [(LONG_AGO, "certificate_expired"), (LONG_AFTER, "clock_before_certificate")],
)
def test_a_certificate_out_of_its_time_is_refused(
    either: Trusted, at: timedelta, code: str
) -> None:
    late = either.pki.node("bed-3", at=at)
    refusal = either.refusal(late)
    assert refusal.code == f"transport.{code}"
    assert "bed-3" in refusal.why


def test_a_revoked_certificate_is_refused_and_its_successor_is_not(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    stolen = pki.node("bed-1")
    pki.authority.revoke("bed-1", now=now())
    successor = pki.node("bed-1", folder="successor")
    with (
        EmbeddedBroker(tmp_path / "broker", kind=BrokerKind.MOSQUITTO, trust=pki.trust()) as broker,
        ExitStack() as stack,
    ):
        site = Trusted(broker, 5, pki, stolen, successor, stack)
        refusal = site.refusal(stolen)
        assert refusal.code == "transport.certificate_refused"
        assert "ca list" in refusal.remedy
        site.link(successor).open()


def test_nats_server_takes_nobody_under_a_name_of_which_a_certificate_was_revoked(
    tmp_path: Path,
) -> None:
    """It reads no revocation list, and knows names alone."""
    pki = Pki(tmp_path / "pki")
    stolen, other = pki.node("bed-1"), pki.node("bed-2")
    pki.authority.revoke("bed-1", now=now())
    successor = pki.node("bed-1", folder="successor")
    with (
        EmbeddedBroker(tmp_path / "broker", kind=BrokerKind.NATS, trust=pki.trust()) as broker,
        ExitStack() as stack,
    ):
        site = Trusted(broker, 5, pki, stolen, successor, stack)
        for files in (stolen, successor):
            refusal = site.refusal(files)
            assert refusal.code == "transport.certificate_refused"
            assert "does not know" in refusal.why
        site.link(other).open()


def test_who_shows_no_certificate_or_a_strangers_is_refused(
    either: Trusted, tmp_path: Path
) -> None:
    stranger = Pki(tmp_path / "other").node("bed-1")
    for name, certificate in (("none", None), ("strange", stranger)):
        said = _raw(either, certificate, ssl.TLSVersion.TLSv1_3)
        assert isinstance(said, ssl.SSLError | ConnectionError), name
    assert isinstance(_raw(either, either.bed_1, ssl.TLSVersion.TLSv1_3), bytes)


def test_older_tls_is_refused_by_the_broker(either: Trusted) -> None:
    said = _raw(either, either.bed_1, ssl.TLSVersion.TLSv1_2)
    assert isinstance(said, ssl.SSLError)
    assert said.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


# CONNECT of MQTT 3.1.1 with the client id "look", clean session, keep-alive 5 s.
_CONNECT = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x05\x00\x04look"


def _raw(site: Trusted, own: TlsFiles | None, version: ssl.TLSVersion) -> bytes | OSError:
    """What a client that is not ours gets: the broker's first words, or the error."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = version
    context.load_verify_locations(site.pki.broker.ca)
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    try:
        with (
            socket.create_connection(("127.0.0.1", site.broker.port), 5) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as link,
        ):
            link.sendall(_CONNECT)
            said = link.recv(4)
    except OSError as error:
        return error
    return said or ConnectionResetError("closed")


@pytest.mark.parametrize(
    ("at", "hosts", "code"),
    [
        (LONG_AGO, ("127.0.0.1",), "broker_expired"),
        (LONG_AFTER, ("127.0.0.1",), "clock_before_broker"),
        (timedelta(), ("broker.example", "127.0.0.2"), "broker_name"),
    ],
)
def test_a_brokers_certificate_out_of_its_time_or_of_another_name_is_not_trusted(
    tmp_path: Path, at: timedelta, hosts: tuple[str, ...], code: str
) -> None:
    pki = Pki(tmp_path / "pki")
    server = pki.issued(Role.BROKER, "wrong", at=at, hosts=hosts)
    assert _refused_by(tmp_path, pki, server, pki.node("bed-1")) == f"transport.{code}"


def test_a_broker_of_another_authority_is_nottrusted_site(tmp_path: Path) -> None:
    pki, other = Pki(tmp_path / "pki"), Pki(tmp_path / "other")
    code = _refused_by(tmp_path, other, other.broker, pki.node("bed-1"))
    assert code == "transport.broker_untrusted"


def test_a_node_that_poses_as_a_broker_is_nottrusted_site(tmp_path: Path) -> None:
    """Its certificate is for clients alone, and names no host."""
    pki = Pki(tmp_path / "pki")
    posing = pki.node("bed-2")
    assert _refused_by(tmp_path, pki, posing, pki.node("bed-1")) == "transport.broker_untrusted"


def _refused_by(root: Path, pki: Pki, server: TlsFiles, box: TlsFiles) -> str:
    trust = pki.trust(server=server)
    with (
        EmbeddedBroker(root / "broker", kind=BrokerKind.MOSQUITTO, trust=trust) as broker,
        ExitStack() as stack,
    ):
        return Trusted(broker, 5, pki, box, box, stack).refusal(box).code


def test_a_broker_that_speaks_older_tls_alone_is_named(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(pki.broker.certificate, pki.broker.key)

    def serve() -> None:
        with (
            contextlib.suppress(OSError),
            server.accept()[0] as plain,
            context.wrap_socket(plain, server_side=True),
        ):
            pass

    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        thread = threading.Thread(target=serve)
        thread.start()
        stack.callback(thread.join)
        box = pki.node("bed-1")
        link = Connection(
            host="127.0.0.1", port=server.getsockname()[1], client_id="old",
            on_message=lambda _t, _p: None, on_lost=lambda _r: None, tls=box,
        )  # fmt: skip
        with pytest.raises(TransportError) as caught:
            link.open()
    assert caught.value.code == "transport.tls_too_old"


def test_a_broker_in_the_clear_is_told_from_one_with_tls(tmp_path: Path, either: Trusted) -> None:
    with EmbeddedBroker(tmp_path / "clear", kind=either.broker.kind) as clear:
        plain = either._replace(broker=clear)
        assert plain.refusal(either.bed_1).code == "transport.not_tls"
    reverse = either.refusal(None)
    assert reverse.code == "transport.broker_absent"
    assert "as one does that wants TLS" in reverse.why


def test_a_box_with_an_expired_certificate_waits_and_goes_on_once_it_is_renewed(
    either: Trusted, tmp_path: Path
) -> None:
    """Nothing is restarted, the broker is not stormed, and what was recorded meanwhile arrives."""
    log = BoxLog(tmp_path / "box", node="bed-3")
    either.stack.callback(log.close)
    late = either.pki.node("bed-3", at=LONG_AGO)
    ingest = Ingest(tmp_path / "cloud", either.broker.port, tls=either.pki.aggregator)
    either.stack.callback(ingest.stop)
    ingest.start()
    box = Box(tmp_path / "box", either.broker.port, node="bed-3", tls=section(late))
    either.stack.callback(box.stop)
    tries: list[float] = []
    opened = box.pump.connection.open

    def counted(timeout_s: float = 5.0) -> None:
        tries.append(time.monotonic())
        opened(timeout_s)

    box.pump.connection.open = counted  # type: ignore[method-assign]
    box.start()
    for message in log.fill(MAG, 20):
        box.pump.inbox.put(message)
    log.close()
    wait_for(lambda: len(tries) >= 4)
    assert box.pump.stats["state"] == "broker absent"
    assert "the certificate of bed-3 expired" in box.pump.stats["why"]
    assert tries[3] - tries[0] >= 3.4  # 0.5 + 1 + 2 s
    good = either.pki.node("bed-3", folder="renewed")
    either.broker.kill()  # nats-server learns names at its start
    either.broker.trust = either.pki.trust()
    either.broker.start()
    for old, new in ((late.certificate, good.certificate), (late.key, good.key)):
        new.replace(old)
    box.wait_receipted(21)
    wait_for(lambda: box.pump.stats["why"] == "")
    assert_stored_once(tmp_path / "cloud", log)


def test_files_that_cannot_be_used_cost_the_link_alone(either: Trusted, tmp_path: Path) -> None:
    bad = tmp_path / "bad.key"
    bad.write_bytes(either.bed_1.key.read_bytes())
    bad.chmod(0o644)
    cases = {
        "no_certificate": dataclasses.replace(either.bed_1, certificate=tmp_path / "none.pem"),
        "private_key": dataclasses.replace(either.bed_1, key=bad),
        "key_mismatch": dataclasses.replace(either.bed_1, key=either.bed_2.key),
        "not_a_certificate": dataclasses.replace(either.bed_1, ca=either.bed_1.key),
    }
    for code, files in cases.items():
        assert either.refusal(files).code == f"transport.{code}"
