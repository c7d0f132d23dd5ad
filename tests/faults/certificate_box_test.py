"""A whole box whose certificate is no good: recorded is recorded, status says why nothing is sent, renewal mends it."""

from datetime import timedelta
from pathlib import Path

from brainforge_edge.cloud.broker.embedded import BrokerKind, EmbeddedBroker
from tests.broker.pki import Pki
from tests.broker.rig import Ingest
from tests.faults.box import box_in, cli


def test_an_expired_certificate_costs_the_link_and_no_sample(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    assert cli("keys", "make", keys, "--role", "aggregator").returncode == 0
    pki = Pki(tmp_path / "pki")
    late = pki.node("box", at=timedelta(days=-20))
    ingest: Ingest | None = None
    with (
        EmbeddedBroker(tmp_path / "broker", kind=BrokerKind.MOSQUITTO, trust=pki.trust()) as broker,
        box_in(tmp_path) as box,
    ):
        box.device("helmet", "opm")
        box.write_config(
            uplink=f'port = {broker.port}\n[uplink.tls]\nca = "{late.ca}"\n'
            f'certificate = "{late.certificate}"\nkey = "{late.key}"\n'
            f'[seal]\naggregator = "{keys}/aggregator.pem"'
        )
        assert cli("config", "check", box.config).returncode == 0  # dates are the broker's to judge
        box.emulate("helmet", "opm")
        box.start()
        box.until(lambda: box.is_streaming("helmet-mag"), 20, "samples of the helmet")
        assert cli("record", "--name", "late", "--config", box.config).returncode == 0
        box.until(lambda: "expired" in str(box.status()["uplink"].get("why")), 20, "the reason")
        said = cli("status", "--config", box.config).stdout
        assert "no broker (the certificate of box expired on" in said
        box.until(lambda: box.stream("helmet-mag")["recorded"] > 1000, 20, "recorded rows")
        assert box.worker("uplink")["restarts"] == 0
        good = pki.node("box", folder="renewed")
        good.certificate.replace(late.certificate)
        good.key.replace(late.key)
        try:
            ingest = Ingest(tmp_path / "cloud", broker.port, tls=pki.aggregator).start()
            box.until(lambda: box.status()["uplink"].get("receipted", 0) > 5, 30, "receipts")
            assert box.status()["uplink"]["held_back"] == {}
        finally:
            if ingest is not None:
                ingest.stop()
        assert cli("stop", "--config", box.config).returncode == 0
        account = box.verify(box.recordings / "late")["late"]["helmet-mag"]
        assert account["clean"]
        assert account["gaps"] == []
        assert box.worker("uplink")["restarts"] == 0
