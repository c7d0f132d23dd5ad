"""The daemon driven as a person drives it: one Cyton, every verb, from `run` to `export`."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import edfio
import pytest

from brainforge_edge.core.errors import ExitStatus

CLI = [sys.executable, "-m", "brainforge_edge.cli.main"]
CONFIG = """
[node]
id = "box"
root = "{root}/box"
run = "{root}/run"

[uplink]
enabled = false

[[device]]
name = "cyton"
kind = "openbci"
settings = {{ port = "{root}/cyton" }}
"""


class Bedside:
    """A daemon and an emulated Cyton; `ask` runs a verb with `--json`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "edge.toml"
        self.config.write_text(CONFIG.format(root=root), encoding="utf-8")
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        with (self.root / f"{arguments[0]}.log").open("wb") as log:
            process = subprocess.Popen([*CLI, *arguments], stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def ask(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        result = subprocess.run(
            [*CLI, *arguments, "--json"], capture_output=True, text=True, timeout=60, check=False
        )
        assert result.stdout, result.stderr
        reply: dict[str, Any] = json.loads(result.stdout)
        return result.returncode, reply

    def daemon(self, verb: str, *arguments: str) -> tuple[int, dict[str, Any]]:
        return self.ask(verb, *arguments, "--config", str(self.config))

    def until_streaming(self) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            _, reply = self.daemon("status")
            if any(stream.get("head") for stream in reply.get("streams", [])):
                return reply
            time.sleep(0.2)
        raise AssertionError((self.root / "run.log").read_text(encoding="utf-8"))


@pytest.fixture
def bedside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bedside]:
    made = Bedside(tmp_path_factory.mktemp("bed"))
    made.start("emulate", "cyton", "--link", str(made.root / "cyton"))
    made.start("run", "--config", str(made.config))
    yield made
    for process in reversed(made.processes):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _of_eeg(exported: dict[str, Any]) -> str:
    name: str = next(name for name in exported["files"] if "eeg" in Path(name).name)
    return name


@pytest.mark.slow
def test_a_recording_is_started_marked_stopped_verified_and_exported(bedside: Bedside) -> None:
    status = bedside.until_streaming()
    assert (status["node"], status["recording"]) == ("box", None)
    assert {worker["name"] for worker in status["workers"]} >= {"agent", "acquire:cyton"}
    _, streams = bedside.daemon("streams")
    assert [s["stream_id"] for s in streams["streams"]] == ["cyton-acc", "cyton-eeg"]

    code, refused = bedside.daemon("stop")
    assert (code, refused["error"]["code"]) == (ExitStatus.SESSION, "session.not_recording")
    code, refused = bedside.daemon("mark", "too early")
    assert code == ExitStatus.SESSION

    assert bedside.daemon("record", "--name", "night-3")[1]["recording"] == "night-3"
    code, refused = bedside.daemon("record")
    assert (code, refused["error"]["code"]) == (ExitStatus.SESSION, "session.recording_open")
    time.sleep(2.0)
    assert bedside.daemon("mark", "eyes closed", "--duration", "1.5")[0] == 0
    recording = bedside.root / "box" / "recordings" / "night-3"
    code, refused = bedside.ask("repair", str(recording))
    assert (code, refused["error"]["code"]) == (ExitStatus.SESSION, "session.in_use")
    code, refused = bedside.ask("export", str(recording), "--format", "csv", "--output", "out")
    assert code != 0
    code, stopped = bedside.daemon("stop")
    assert (code, stopped["devices"]) == (0, {"cyton": "closed"})

    code, verified = bedside.ask("verify", str(recording))
    assert code == 0, verified
    rows = {s["stream_id"]: s["rows"] for s in verified["recordings"][0]["streams"]}
    assert rows["cyton-eeg"] > 200
    folder = bedside.root / "out"
    code, exported = bedside.ask(
        "export", str(recording), "--format", "csv", "--output", str(folder)
    )
    assert code == 0, exported
    lines = Path(_of_eeg(exported)).read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line[:1].isdigit()]) == rows["cyton-eeg"]
    _, exported = bedside.ask("export", str(recording), "--format", "bdf", "--output", str(folder))
    (marker,) = [a for a in edfio.read_bdf(_of_eeg(exported)).annotations if a.text[0] == "e"]
    assert (marker.text, marker.duration) == ("eyes closed", 1.5)
    assert marker.onset > 1.5


@pytest.mark.slow
def test_a_second_daemon_on_the_same_folder_is_refused_and_the_first_goes_on(
    bedside: Bedside,
) -> None:
    bedside.until_streaming()
    second = subprocess.run(
        [*CLI, "run", "--config", str(bedside.config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == ExitStatus.SESSION
    assert "another one answers at" in second.stderr
    assert "Traceback" not in second.stderr
    assert bedside.daemon("status")[0] == 0


@pytest.mark.slow
def test_a_stopped_daemon_exits_zero_and_is_then_absent(bedside: Bedside) -> None:
    bedside.until_streaming()
    daemon = bedside.processes[1]
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    code, reply = bedside.daemon("status")
    assert (code, reply["error"]["code"]) == (ExitStatus.NO_DAEMON, "daemon.not_running")
