"""Errors that a running daemon meets: ports, devices, broker, socket, requests that do not fit."""

import fcntl
import json
import os
import pty
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.cloud.broker.ports import free_port
from brainforge_edge.core.config import SOCKET_NAME
from tests.faults.box import Box, box_in, check_refusal, cli, is_root

CONFIG, STORAGE, SESSION = 10, 12, 15


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A helmet and a Cyton at their ports, nothing recorded; a broker that is not there."""
    with box_in(tmp_path_factory.mktemp("box")) as box:
        box.device("helmet", "opm")
        box.device("cyton", "openbci")
        box.write_config(uplink=f"port = {free_port()}")
        box.emulate("helmet", "opm")
        box.emulate("cyton", "cyton")
        box.start()
        box.until(lambda: box.is_streaming("helmet-mag"), 20, "samples of the helmet")
        box.until(lambda: box.is_streaming("cyton-eeg"), 20, "samples of the Cyton")
        yield box


@contextmanager
def connected(box: Box) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10.0)
        sock.connect(str(box.run / SOCKET_NAME))
        yield sock


def reply(sock: socket.socket) -> dict[str, Any]:
    with sock.makefile("rb") as lines:
        answer: dict[str, Any] = json.loads(lines.readline())
    return answer


def test_requests_that_do_not_fit_are_refused_and_change_nothing(running: Box) -> None:
    at = ("--config", running.config)
    check_refusal(cli("stop", *at), SESSION, "no recording is open", "brainforge-edge record")
    check_refusal(cli("mark", "now", *at), SESSION, "no recording is open")
    for name in ("a/b", "Ä", "-x", "x" * 65, ".."):
        check_refusal(cli("record", "--name", name, *at), CONFIG, "a-z")
    assert cli("record", "--name", "first", *at).returncode == 0
    check_refusal(cli("record", "--name", "second", *at), SESSION, "first is open", "Stop")
    check_refusal(cli("mark", "x" * 1001, *at), CONFIG, "1000 characters")
    for nothing in ("", "  "):
        check_refusal(cli("mark", nothing, *at), CONFIG, "description is empty")
    assert cli("mark", "eyes closed", *at).returncode == 0
    check_refusal(
        cli("export", running.recordings / "first", "--format", "csv", "--output", running.root),
        SESSION,
        "first",
        "brainforge-edge stop",
    )
    check_refusal(cli("repair", running.recordings / "first"), SESSION, "Stop the recording")
    assert cli("stop", *at).returncode == 0
    check_refusal(cli("record", "--name", "first", *at), SESSION, "first", "another name")
    account = running.verify()
    assert "second" not in account
    assert account["first"]["helmet-mag"]["clean"]


def test_a_second_daemon_on_the_run_folder_is_refused(running: Box) -> None:
    result = cli("run", "--config", running.config, timeout_s=20)
    check_refusal(result, SESSION, "another one answers", str(running.run))
    assert running.status()["streams"]


def test_an_absent_broker_is_shown_and_recording_goes_on(running: Box) -> None:
    running.until(lambda: running.status()["uplink"], 20, "the uplink's figures")
    uplink = running.status()["uplink"]
    assert uplink["connected"] is False
    assert "127.0.0.1" in json.dumps(uplink)
    assert cli("record", "--name", "no-broker", "--config", running.config).returncode == 0
    running.until(lambda: running.stream("helmet-mag")["recorded"] > 500, 10, "recorded rows")
    assert cli("stop", "--config", running.config).returncode == 0
    assert running.verify(running.recordings / "no-broker")["no-broker"]["helmet-mag"]["clean"]


GARBAGE = {
    "no json": b"hello\n",
    "bytes": b"\xff\xfe\x00\n",
    "no object": b"[1, 2]\n",
    "no verb": b"{}\n",
    "verb is a number": b'{"verb": 7}\n',
    "unknown verb": b'{"verb": "shutdown"}\n',
    "deep": b'{"verb": "status", "x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}\n",
    "empty line": b"\n",
    "wrong types": b'{"verb": "record", "name": {"a": 1}}\n',
    "preroll": b'{"verb": "record", "preroll": -1}\n',
    "not a number": b'{"verb": "record", "preroll": true}\n',
    "too long": b"x" * 200_000 + b"\n",
}


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_on_the_control_socket_gets_an_error_with_a_remedy(case: str, running: Box) -> None:
    with connected(running) as sock:
        sock.sendall(GARBAGE[case])
        answer = reply(sock)
    assert answer["ok"] is False
    assert answer["error"]["why"]
    assert answer["error"]["remedy"]
    assert running.status()["recording"] is None


def test_a_crowd_of_silent_clients_does_not_lock_people_out_for_long(running: Box) -> None:
    crowd: list[socket.socket] = []

    def is_full() -> bool:
        """Whoever had just left may have held a place at first: another one of the crowd takes it."""
        crowd.append(socket.socket(socket.AF_UNIX))
        crowd[-1].connect(str(running.run / SOCKET_NAME))
        return len(crowd) >= 40 and running.worker("agent") == {}  # refused too, not kept waiting

    try:
        running.until(is_full, 20, "a refusal of status")
        last = socket.socket(socket.AF_UNIX)
        crowd.append(last)
        last.settimeout(10.0)
        last.connect(str(running.run / SOCKET_NAME))
        assert reply(last)["error"]["code"] == "session.busy"
    finally:
        for sock in crowd:
            sock.close()
    running.until(lambda: bool(running.status()), 5, "an answer after the crowd left")


def test_a_client_that_leaves_in_the_middle_harms_nobody(running: Box) -> None:
    for part in (b"", b'{"verb": "sta', b'{"verb": "status"}\n'):
        with connected(running) as sock:
            sock.sendall(part)
    assert running.status()["node"] == "box"


def at_port(box: Box, driver: str, port: Path) -> dict[str, Any]:
    """Start a daemon with one device at `port`: the error that status shows within seconds."""
    box.device("dut", driver, port=port)
    box.write_config()
    box.start()
    box.until(lambda: box.worker("acquire:dut").get("error"), 15, "an error of the device")
    error: dict[str, Any] = box.worker("acquire:dut")["error"]
    assert error["what"]
    assert error["why"]
    assert error["remedy"]
    shown = cli("status", "--config", box.config).stdout
    assert f"acquire:dut: {error['what']}: {error['why']}. {error['remedy']}." in shown
    return error


def test_no_such_port(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        error = at_port(box, "opm", box.run / "dev" / "none")
        assert error["code"] == "device.no_such_port"
        box.emulate("dut", "opm")
        (box.run / "dev" / "none").symlink_to(box.link("dut").readlink())
        box.until(lambda: box.is_streaming("dut-mag"), 8, "samples after it was plugged in")
        assert box.worker("acquire:dut")["error"] is None
        assert box.worker("acquire:dut")["restarts"] == 0


def test_a_port_that_is_no_serial_device(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        port = box.run / "dev" / "file"
        port.write_text("no port")
        assert at_port(box, "opm", port)["code"] == "device.not_serial"


def test_a_busy_port(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        box.emulate("dut", "opm")
        holder = os.open(box.link("dut"), os.O_RDWR | os.O_NOCTTY)
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            error = at_port(box, "opm", box.link("dut"))
        finally:
            os.close(holder)
        assert error["code"] == "device.port_busy"
        box.until(lambda: box.is_streaming("dut-mag"), 8, "samples once the port is free")


@pytest.mark.parametrize(("emulator", "driver"), [("cyton", "opm"), ("opm", "openbci")])
def test_another_device_than_the_configured_one_is_named(
    emulator: str, driver: str, tmp_path: Path
) -> None:
    with box_in(tmp_path) as box:
        box.emulate("dut", emulator)
        error = at_port(box, driver, box.link("dut"))
        assert error["code"].startswith("device.")
        assert error["code"] not in {"device.link_lost", "device.no_such_port"}
        assert box.worker("acquire:dut")["restarts"] == 0
        assert not box.stream("dut-mag").get("head")
        assert not box.stream("dut-eeg").get("head")


def test_a_silent_port_is_told_from_a_wrong_device(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        master, slave = pty.openpty()
        try:
            error = at_port(box, "openbci", Path(os.ttyname(slave)))
        finally:
            os.close(master)
            os.close(slave)
        assert error["code"].startswith("device.")


def test_permission_refused_is_told_with_the_group(tmp_path: Path) -> None:
    if is_root():
        pytest.skip("root may open every port; tests/drivers/test_serial_port.py has the sentence")
    with box_in(tmp_path) as box:
        box.emulate("dut", "opm")
        Path(os.path.realpath(box.link("dut"))).chmod(0)
        error = at_port(box, "opm", box.link("dut"))
        assert error["code"] == "device.permission"
        assert "dialout" in error["remedy"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 80 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not is_root():
        pytest.skip("only root can mount a small file system; ioerr_test.py simulates ENOSPC")
    mount = ["mount", "-t", "tmpfs", "-o", "size=80m,mode=755", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no mount is possible here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all space that is left."""
    hog = folder / "hog"
    with hog.open("wb", buffering=0) as out:
        for size in (1024 * 1024, 4096, 1):
            with suppress(OSError):
                while True:
                    out.write(bytes(size))
    return hog


def in_journals(box: Box) -> int:
    """Rows of all recordings that are in no segment yet."""
    account = box.verify(status=None).values()
    return sum(stream["in_journal"] for streams in account for stream in streams.values())


def test_a_full_disk_is_named_and_recording_goes_on_when_there_is_room(
    small_disk: Path, tmp_path: Path
) -> None:
    with box_in(tmp_path) as box:
        box.device("helmet", "opm")
        box.write_config(recording="segment_mib = 16\njournal_s = 10", root=small_disk / "box")
        box.emulate("helmet", "opm")
        box.start()
        box.until(lambda: box.is_streaming("helmet-mag"), 20, "samples")
        hog = fill(small_disk)
        result = cli("record", "--name", "full", "--config", box.config)
        check_refusal(result, STORAGE, "% full, and from 95 % on none begins", "Free space")
        assert box.status()["recording"] is None
        hog.unlink()
        assert cli("record", "--name", "room", "--config", box.config).returncode == 0
        box.until(lambda: box.stream("helmet-mag").get("archived_rows", 0) > 1000, 10, "a chunk")
        hog = fill(small_disk)
        box.until(lambda: box.status()["recording"] is None, 20, "the end of the recording")
        hog.unlink()
        box.until(lambda: box.status()["recording"], 20, "a recording that begins by itself")
        box.until(lambda: box.stream("helmet-mag").get("recorded"), 20, "rows of it")
        box.signal("helmet", signal.SIGUSR1)
        box.until(lambda: box.stream("helmet-mag")["state"] == "lost", 5, "the link's end")
        head = box.stream("helmet-mag")["head"]
        assert cli("stop", "--config", box.config).returncode == 0
        box.until(lambda: not in_journals(box), 20, "the end of what waited for room")
        account = box.verify()
        assert len(account) == 2
        streams = [account.pop("room")["helmet-mag"], *(r["helmet-mag"] for r in account.values())]
        assert all(stream["clean"] for stream in streams)
        for one, two in pairwise(streams):
            assert one["spans"][-1][2] == two["spans"][0][1], f"a hole between two: {streams}"
        # On a busy machine 248 frames were once lost on the terminal, 0.3 s after the recording had begun; why
        # nobody read them is not known. Such a gap is named and exact; of the box's own there is none.
        gaps = [gap for stream in streams for gap in stream["gaps"]]
        assert {gap["cause"] for gap in gaps} <= {"link"}, gaps
        assert head >= sum(stream["rows"] for stream in streams)


@pytest.mark.long
@pytest.mark.timeout(150)
def test_a_disk_that_is_full_for_longer_than_the_journal_costs_nothing(
    small_disk: Path, tmp_path: Path
) -> None:
    """Segments, then the journal find no room: the ring holds the rows until there is some."""
    with box_in(tmp_path) as box:
        box.device("helmet", "opm")
        box.write_config(recording="segment_mib = 16\njournal_s = 10", root=small_disk / "box")
        box.emulate("helmet", "opm", channels=306)
        box.start()
        box.until_streaming("helmet-mag", 20)
        assert cli("record", "--name", "long", "--config", box.config).returncode == 0
        box.until(lambda: box.stream("helmet-mag").get("archived_rows", 0) > 1000, 10, "a chunk")
        hog = fill(small_disk)

        def is_held() -> bool:
            figures = box.stream("helmet-mag")
            return bool(figures["head"] - figures["written"] > 2000)

        box.until(is_held, 60, "a journal without room")
        fault = box.worker("acquire:helmet")["recording"]["fault"]
        assert fault["code"] == "storage.full"
        durable = box.stream("helmet-mag")["durable"]
        restarts = box.worker("acquire:helmet")["restarts"]
        time.sleep(3.0)
        hog.unlink()
        box.until(lambda: not is_held(), 15, "rows on the disk again")
        assert box.worker("acquire:helmet")["recording"]["fault"] is None
        assert box.worker("acquire:helmet")["restarts"] == restarts == 0
        head = box.quiet("helmet-mag")
        assert cli("stop", "--config", box.config).returncode == 0
        stream = box.verify()["long"]["helmet-mag"]
        assert stream["clean"]
        assert not stream["gaps"]
        assert stream["spans"][-1][2] == head > durable
