"""A whole box and an aggregator that signs: what was delivered and attested is freed, and nothing else ever is."""

import json
from pathlib import Path

import pytest

from brainforge_edge.cloud.broker.embedded import BrokerKind, EmbeddedBroker
from tests.broker.rig import Ingest
from tests.faults.box import box_in, cli

FREE_S = 60.0  # the agent looks once a minute
STREAM = "cyton-eeg"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_night_is_freed_once_it_is_attested_and_the_next_goes_on(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    for role in ("signer", "aggregator"):
        assert cli("keys", "make", keys, "--role", role).returncode == 0
    with (
        EmbeddedBroker(tmp_path / "broker", kind=BrokerKind.MOSQUITTO) as broker,
        box_in(tmp_path) as box,
    ):
        box.device("cyton", "openbci")
        box.write_config(
            uplink=f'port = {broker.port}\nsigner = "{keys}/signer.pem"\n'
            f'[seal]\naggregator = "{keys}/aggregator.pem"\n'
            "[retention]\nenabled = true\nkeep_days = 0"
        )
        box.emulate("cyton", "cyton")
        box.start()
        box.until_streaming(STREAM, 30)
        box.ask("record", name="night-1")
        box.ask("mark", description="eyes closed", duration=0)
        box.until(lambda: (box.stream(STREAM).get("recorded") or 0) > 1000, 30, "rows")
        box.ask("stop", timeout_s=120)
        box.ask("record", name="night-2")
        first, second = box.recordings / "night-1", box.recordings / "night-2"
        whole = box.verify(first)["night-1"][STREAM]

        box.until(lambda: len(list(first.glob("chain"))) == 1, 20, "a chain")
        said = cli("retention", "--config", box.config, "--json")
        (waiting,) = [r for r in json.loads(said.stdout)["recordings"] if r["recording"] == "night-1"]  # fmt: skip
        assert {each["why"] for each in waiting["waits"]} <= {"not delivered", "not in the chain yet"}  # fmt: skip
        ingest = Ingest(tmp_path / "cloud", broker.port, signer=keys / "signer.key").start()
        try:
            box.until((first / "attested").exists, 60, "attestations")
            box.until(lambda: not list(first.glob("*/*.seg")), FREE_S + 30, "the end of night-1")
        finally:
            ingest.stop()
        assert list(second.glob("*/*.seg"))
        account = box.verify(first)["night-1"]
        freed = [rows for line in account[STREAM]["freed"] for rows in line["rows"]]
        assert freed == whole["spans"]
        assert not account[STREAM]["missing"]
        rows = box.stream(STREAM)["recorded"]
        box.until(lambda: box.stream(STREAM)["recorded"] > rows, 10, "rows of night-2")
        assert box.worker("agent")["restarts"] == 0
        assert not box.worker("agent")["error"]
        assert (
            "that lie at the aggregator were freed" in cli("status", "--config", box.config).stdout
        )
        box.ask("stop", timeout_s=120)
        box.verify(box.root / "box")
