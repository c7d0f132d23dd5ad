"""The serial door: every cause has its own code and sentence, and close unblocks a read."""

import contextlib
import errno
import os
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import serial

from brainforge_edge.core.errors import DeviceError
from brainforge_edge.devices.link import FdTransport
from brainforge_edge.devices.transport import open_serial
from brainforge_edge.kernels.unpack import BfpScanner
from tests.drivers.emulated import emulated

Read = Callable[[FdTransport, float], object]
READS: list[Read] = [
    lambda port, timeout_s: port.read(timeout_s),
    lambda port, timeout_s: port.fill(BfpScanner(), timeout_s),
]


@pytest.fixture
def pair() -> Iterator[tuple[int, str]]:
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(slave)
    with contextlib.suppress(OSError):  # a test may have pulled this end
        os.close(master)


def code_of(port: str, **arguments: Any) -> DeviceError:
    with pytest.raises(DeviceError) as caught:
        open_serial(port, **arguments)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


def test_a_port_that_is_not_there(tmp_path: Path) -> None:
    error = code_of(str(tmp_path / "nothing"))
    assert error.code == "device.no_such_port"
    assert error.transient


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_port_that_is_no_serial_device(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "text"
    if kind == "file":
        path.write_text("hello")
    else:
        path.mkdir()
    assert code_of(str(path)).code == "device.not_serial"


def test_a_port_that_another_program_uses(pair: tuple[int, str]) -> None:
    first = open_serial(pair[1])
    error = code_of(pair[1])
    first.close()
    assert error.code == "device.port_busy"
    assert error.transient
    open_serial(pair[1]).close()


def test_a_port_that_the_user_may_not_open_names_the_group() -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise serial.SerialException(errno.EACCES, "could not open port: Permission denied")

    error = code_of("/dev/ttyACM0", make=refuse)
    assert error.code == "device.permission"
    assert "dialout" in str(error)


def test_a_speed_that_no_port_knows(pair: tuple[int, str]) -> None:
    assert code_of(pair[1], baud=-5).code == "device.bad_baud"


def test_everything_that_waits_is_read_at_once(pair: tuple[int, str]) -> None:
    port = open_serial(pair[1])
    sent = bytes(range(256)) * 36
    os.write(pair[0], sent)
    got = b""
    reads = 0
    while len(got) < len(sent):
        got += port.read(1.0)
        reads += 1
    assert got == sent
    assert reads <= 3
    assert port.read(0.0) == b""
    port.write(b"\x00\x0a\x0d\x11\x13\xff")
    assert os.read(pair[0], 100) == b"\x00\x0a\x0d\x11\x13\xff"
    port.close()


@pytest.mark.parametrize("read", READS)
def test_a_pulled_cable_ends_the_read(pair: tuple[int, str], read: Read) -> None:
    port = open_serial(pair[1])
    threading.Timer(0.1, os.close, [pair[0]]).start()
    with pytest.raises(DeviceError) as caught:
        read(port, 10.0)
    assert caught.value.code == "device.link_lost"
    assert caught.value.transient
    port.close()


@pytest.mark.parametrize("read", READS)
def test_close_from_another_thread_ends_the_read(pair: tuple[int, str], read: Read) -> None:
    port = open_serial(pair[1])
    threading.Timer(0.1, port.close).start()
    started = time.monotonic()
    with pytest.raises(DeviceError) as caught:
        read(port, 10.0)
    assert caught.value.code == "device.closed"
    assert time.monotonic() - started < 5
    port.close()
    with pytest.raises(DeviceError):
        port.write(b"x")


def test_a_device_that_takes_nothing_does_not_hang_the_writer(pair: tuple[int, str]) -> None:
    port = open_serial(pair[1])
    with pytest.raises(DeviceError) as caught:
        port.write(bytes(200_000))
    assert caught.value.code == "device.link_stuck"
    port.close()


def test_a_port_may_be_closed_twice(tmp_path: Path) -> None:
    with emulated(tmp_path, "cyton") as device:
        transport = open_serial(str(device.link))
        transport.close()
        transport.close()
