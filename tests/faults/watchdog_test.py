"""A supervisor that stands still, with the part of systemd played by the test: the unit's own rules."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from brainforge_edge.cli.demo.children import python
from tests.faults.box import box_in

WATCHDOG_S = 5.0  # as in systemd/brainforge-edge.service, like the next
RESTART_S = 0.5


@pytest.mark.slow
def test_a_recording_goes_on_ten_seconds_after_the_supervisor_stood_still(tmp_path: Path) -> None:
    with (
        box_in(tmp_path) as box,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices,
    ):
        place = box.run / "notify"
        notices.bind(str(place))
        notices.settimeout(WATCHDOG_S)
        environment = {"NOTIFY_SOCKET": str(place), "WATCHDOG_USEC": str(round(WATCHDOG_S * 1e6))}
        box.device("helmet", "opm")
        box.emulate("helmet", "opm")
        box.write_config(recording="auto_record = true")
        command = python("brainforge_edge.cli.main", "run", "--config", str(box.config))
        daemon = box.children.start("daemon-1", command, environment)
        box.until(lambda: box.stream("helmet-mag").get("recorded"), 30, "a recording")
        recording = box.status()["recording"]
        workers = [worker["pid"] for worker in box.status()["workers"]]

        stopped = time.monotonic()
        daemon.process.send_signal(signal.SIGSTOP)
        with pytest.raises(TimeoutError):  # noqa: PT012  what was said before still lies there
            while True:
                notices.recv(4096)
        for pid in (daemon.process.pid, *workers):
            os.kill(pid, signal.SIGKILL)
        daemon.process.wait()
        box.children.release([daemon])
        time.sleep(RESTART_S)
        notices.close()
        second = box.children.start("daemon-2", command, {})
        box.until(lambda: box.stream("helmet-mag").get("recorded"), 30, "a recording that goes on")
        resumed_s = time.monotonic() - stopped
        assert box.status()["recording"] == recording
        assert box.end(second) == 0
        spans = box.verify()[recording]["helmet-mag"]["spans"]
        assert {incarnation for incarnation, _, _ in spans} == {1}
    assert resumed_s <= 10.0, f"{resumed_s:.1f} s"
