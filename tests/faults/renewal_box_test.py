"""A whole box that renews its certificate by itself while it records: the link comes back under the new one, and no sample is lost."""

import os
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from brainforge_edge.cloud.broker.embedded import BrokerKind, EmbeddedBroker
from brainforge_edge.security.certificates import read_certificate
from brainforge_edge.security.keystore import make_pair
from brainforge_edge.security.tls import TlsFiles
from brainforge_edge.storage.files import SystemDisk
from tests.broker.pki import Pki, now
from tests.broker.rig import Ingest
from tests.broker.served import Served
from tests.faults.box import Box, box_in, cli

LATE = timedelta(days=-5.5)  # issued so long ago, a certificate of a week is due
SHORT_DAYS = 90 / 86_400  # … one of the server's lives a minute and a half


def serial(files: TlsFiles) -> int:
    return read_certificate(files.certificate.read_bytes(), "of the box").serial_number


def certificate(box: Box) -> dict[str, object]:
    found: dict[str, object] = box.status().get("certificate") or {}
    return found


def write_config(box: Box, files: TlsFiles, broker: int, authority: int) -> None:
    """It seals for the aggregator: without its key it would send nothing."""
    folder = box.root / "sealing"
    folder.mkdir()
    make_pair(folder, "aggregator", SystemDisk().write_new)
    box.write_config(
        uplink=f'port = {broker}\nkeepalive_s = 2\n[uplink.tls]\nca = "{files.ca}"\n'
        f'certificate = "{files.certificate}"\nkey = "{files.key}"\n'
        f'enrol = "http://127.0.0.1:{authority}"\n[seal]\naggregator = "{folder}/aggregator.pem"'
    )


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_it_renews_twice_while_it_records_and_the_link_comes_back(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    files = pki.node("box", at=LATE)
    old = serial(files)
    served = Served(pki.root, days=SHORT_DAYS)
    ingest: Ingest | None = None
    broker = EmbeddedBroker(tmp_path / "broker", kind=BrokerKind.MOSQUITTO, trust=pki.trust())
    try:
        with broker, box_in(tmp_path) as box:
            box.device("helmet", "opm")
            write_config(box, files, broker.port, served.port)
            box.emulate("helmet", "opm")
            box.start()
            box.until(lambda: box.is_streaming("helmet-mag"), 40, "samples of the helmet")
            assert cli("record", "--name", "night", "--config", box.config).returncode == 0
            ingest = Ingest(tmp_path / "cloud", broker.port, tls=pki.aggregator).start()
            box.until(lambda: box.status()["uplink"].get("receipted", 0) > 0, 40, "receipts")
            box.until(lambda: certificate(box).get("error"), 40, "the absent authority in status")
            assert "did not answer" in cli("status", "--config", box.config).stdout

            served.start()
            box.until(lambda: serial(files) != old, 120, "a first renewal")
            first = serial(files)
            box.until(lambda: certificate(box).get("error") is None, 20, "no error any more")
            said = cli("status", "--config", box.config).stdout
            assert "certificate: until " in said
            assert ", by itself" in said
            box.until(lambda: serial(files) not in {old, first}, 120, "a second renewal")

            pki.authority.revoke(f"{old:x}", now=now())
            broker.stop()
            broker.trust = pki.trust()  # the first certificate would be refused from now on
            broker.start()
            before = box.status()["uplink"]["receipted"]
            box.until(
                lambda: box.status()["uplink"].get("receipted", 0) > before + 3,
                60,
                "the link again",
            )
            assert cli("stop", "--config", box.config).returncode == 0
            account = box.verify(box.recordings / "night")["night"]["helmet-mag"]
            assert account["clean"]
            assert account["gaps"] == []
            assert all(w["restarts"] == 0 for w in box.status()["workers"])
            assert box.daemon is not None
            log = box.daemon.log.read_text(encoding="utf-8")
            assert log.count('"event_type": "certificate.renewed"') >= 2
    finally:
        served.stop()
        if ingest is not None:
            ingest.stop()


@pytest.mark.timeout(400)
def test_a_daemon_is_not_kept_from_ending_by_an_authority_that_says_nothing(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    files = pki.node("box", at=LATE)
    served = Served(pki.root).start()
    try:
        with box_in(tmp_path) as box:
            os.kill(served.pid, signal.SIGSTOP)  # its kernel accepts, and nobody reads
            write_config(box, files, 1, served.port)
            box.start()
            box.until(lambda: (files.key.with_name("own.key.request")).exists(), 40, "a request")
            assert box.daemon is not None
            assert box.end(box.daemon) == 0
            os.kill(served.pid, signal.SIGCONT)
            # What was left unanswered is asked again, and answered.
            old = serial(files)
            box.start()
            box.until(lambda: serial(files) != old, 60, "a renewal after the restart")
            made = [each for each in pki.authority.ledger().issued if each.name == "box"]
            assert len(made) == 2
    finally:
        os.kill(served.pid, signal.SIGCONT)
        served.stop()
