"""A box that was given its site's keys only after it had begun: it records, sends nothing, and needs no new start."""

from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.cloud.broker.embedded import BrokerKind, EmbeddedBroker
from tests.broker.rig import Ingest
from tests.faults.box import Box, box_in, cli

STREAM = "cyton-eeg"


def uplink(box: Box) -> dict[str, Any]:
    found: dict[str, Any] = box.status()["uplink"]
    return found


def recorded(box: Box, name: str) -> None:
    box.ask("record", name=name)
    box.until(lambda: (box.stream(STREAM).get("recorded") or 0) > 500, 40, f"rows of {name}")
    box.ask("stop", timeout_s=120)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_box_that_is_enrolled_later_records_before_and_delivers_after(tmp_path: Path) -> None:
    site = tmp_path / "site"
    with (
        EmbeddedBroker(tmp_path / "broker", kind=BrokerKind.MOSQUITTO) as broker,
        box_in(tmp_path) as box,
    ):
        box.device("cyton", "openbci")
        box.write_config(
            uplink=f'port = {broker.port}\nsigner = "{site}/signer.pem"\n'
            f'[seal]\naggregator = "{site}/aggregator.pem"\nrecovery = "{site}/recovery.pem"'
        )
        refused = cli("config", "check", box.config)
        assert (refused.returncode, "cannot be read" in refused.stderr) == (14, True)
        assert cli("config", "check", "--start", box.config).returncode == 0
        box.emulate("cyton", "cyton")
        box.start()
        box.until_streaming(STREAM, 30)
        recorded(box, "before")
        assert "cannot be read" in cli("status", "--config", box.config).stdout
        assert box.worker("uplink")["state"] != "running"
        for role in ("aggregator", "recovery", "signer"):
            assert cli("keys", "make", site, "--role", role).returncode == 0
        ingest = Ingest(tmp_path / "cloud", broker.port, signer=site / "signer.key").start()
        try:
            recorded(box, "after")
            box.until(lambda: uplink(box).get("receipted", 0) > 2, 60, "receipts")
            box.until(lambda: uplink(box)["held_back"].get("not_for_aggregator"), 20, "the old one")
            said = cli("keys", "rewrap", box.recordings, "--for", site / "aggregator.pem")
            assert said.returncode == 0, said.stderr
            box.until(
                lambda: uplink(box)["held_back"] == {} and uplink(box)["lag_chunks"] == 0,
                60, "all to be delivered",
            )  # fmt: skip
        finally:
            ingest.stop()
        account = box.verify()
        assert all(account[name][STREAM]["clean"] for name in ("before", "after"))
        assert all(account[name][STREAM]["unopened"] == 0 for name in ("before", "after"))
