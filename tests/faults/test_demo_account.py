"""The whole box by one command; and the account of a box that loses samples must say so.

The mutants at the size that a short run can see; `python -m tests.faults mutants` runs them at theirs.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.cloud.broker.embedded import BrokerKind, find
from tests.faults.mutants import CHANGES_A_BIT, DROPS_BLOCKS, DROPS_FRAMES, READS_SLOWLY, run_demo


def _of_helmet(reply: dict[str, Any]) -> dict[str, Any]:
    assert "streams" in reply, reply
    account: dict[str, Any] = next(s for s in reply["streams"] if s["stream_id"] == "helmet-mag")
    return account


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broker", "protocol"), [("mosquitto", "5"), ("mosquitto", "4"), ("nats", "5"), ("nats", "4")]
)
def test_nothing_is_lost_from_the_wire_to_the_store(
    tmp_path: Path, broker: str, protocol: str
) -> None:
    assert find(BrokerKind.MOSQUITTO), "mosquitto is missing: tests/run installs it"
    status, reply = run_demo(tmp_path, "--seconds", "5", "--broker", broker, "--protocol", protocol)
    assert status == 0, reply
    assert {s["stream_id"] for s in reply["streams"]} == {"helmet-mag", "cyton-eeg", "cyton-acc"}
    for stream in reply["streams"]:
        assert stream["emitted"] == stream["acquired"] == stream["recorded"] == stream["stored"] > 0
        assert stream["digest_equal"]
        assert (stream["gaps"], stream["lost"], stream["duplicates"]) == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [DROPS_FRAMES, DROPS_BLOCKS], ids=["frames", "blocks"])
def test_a_decoder_that_silently_drops_frames_fails_the_account(
    tmp_path: Path, mutant: str
) -> None:
    status, reply = run_demo(tmp_path, "--seconds", "6", mutant=mutant.format(every=400))
    helmet = _of_helmet(reply)
    assert status == 1
    assert helmet["lost"] > 0
    assert "helmet-mag" in reply["verdict"]
    assert "cyton-eeg" not in reply["verdict"]


@pytest.mark.slow
def test_a_single_wrong_bit_fails_the_account(tmp_path: Path) -> None:
    status, reply = run_demo(tmp_path, "--seconds", "4", mutant=CHANGES_A_BIT)
    helmet = _of_helmet(reply)
    assert status == 1
    assert helmet["emitted"] == helmet["stored"]
    assert not helmet["digest_equal"]


@pytest.mark.slow
def test_a_reader_that_is_too_slow_fails_the_account(tmp_path: Path) -> None:
    # 306 channels of 3 bytes at 1 kHz are 918 kB/s and more on the wire; the device holds 1 s.
    mutant = READS_SLOWLY.format(bytes_a_second=650_000)
    status, reply = run_demo(tmp_path, "--seconds", "8", mutant=mutant)
    helmet = _of_helmet(reply)
    assert status == 1
    assert helmet["lost"] > 0
    assert "dropped by the device" in reply["verdict"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_and_no_folder(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "brainforge_edge.cli.main", "demo", "--headless"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "BRAINFORGE_TEST": tmp_path.name}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as demo:
        assert demo.stderr is not None
        assert demo.stdout is not None
        for line in demo.stderr:
            if "] recording" in line:
                break
        assert len(_processes(environment["BRAINFORGE_TEST"])) > 5
        demo.send_signal(number)
        said = demo.stderr.read()
        assert demo.wait(60) == 130
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())
    deadline = time.monotonic() + 5
    while (left := _processes(environment["BRAINFORGE_TEST"])) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def _processes(token: str) -> list[int]:
    """Processes that inherited this test's environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes()
        except OSError:
            continue
        if f"BRAINFORGE_TEST={token}".encode() in environment:
            found.append(int(path.parent.name))
    return found
