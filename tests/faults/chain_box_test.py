"""A real daemon: the chain grows beside a recording, goes on after a killed agent, and is complete at the end."""

import json
import os
import signal
from pathlib import Path

from brainforge_edge.recorder.chain import CHAIN_FILE, ChainEntry, is_chained, read_lines
from brainforge_edge.storage.files import SystemDisk
from tests.faults.box import box_in, cli

MARKS = 30  # of 4000 bytes each: a segment of markers holds about 14


def test_the_chain_grows_while_recording_goes_on_and_after_a_killed_agent(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        box.device("cyton", "openbci")
        box.write_config(recording="segment_mib = 16")
        box.emulate("cyton", "cyton")
        box.start()
        box.until_streaming("cyton-eeg", 30)
        box.ask("record", name="night")
        folder = box.recordings / "night"

        def chain() -> list[ChainEntry]:
            return read_lines(folder / CHAIN_FILE, SystemDisk(), ChainEntry)

        def mark() -> None:
            for _ in range(MARKS):
                box.ask("mark", description="🧠" * 1000, duration=0)

        mark()
        box.until(chain, 20, "a line in the chain of an open recording")
        first = chain()
        rows = int(box.stream("cyton-eeg")["durable"])
        pid = box.worker("agent")["pid"]
        os.kill(pid, signal.SIGKILL)
        box.until(
            lambda: (
                box.worker("agent").get("state") == "running" and box.worker("agent")["pid"] != pid
            ),
            20,
            "a new agent",
        )
        mark()
        box.until(lambda: len(chain()) > len(first), 20, "more lines after the agent was killed")
        assert chain()[: len(first)] == first
        box.until(
            lambda: int(box.stream("cyton-eeg")["durable"]) > rows,
            10,
            "rows that went on meanwhile",
        )
        box.ask("stop", timeout_s=120)
        segments = {f"{path.parent.name}/{path.name}" for path in folder.glob("*/*.seg")}
        assert len(segments) >= 4
        box.until(lambda: len(chain()) == len(segments), 20, "the rest of the chain")
        assert is_chained(chain())
        assert {f"{entry.stream_id}/{entry.segment}" for entry in chain()} == segments
        result = cli("verify", folder, "--json")
        assert result.returncode == 0, result.stdout
        said = json.loads(result.stdout)["recordings"][0]["chain"]
        assert said["head"] == chain()[-1].head.hex()
        assert said["unchained"] == []
