"""An emulated device on a serial port that exists already."""

import os
import threading
import tty
from pathlib import Path

import pytest

from brainforge_edge.core.errors import ConfigError
from brainforge_edge.emulators.device import Switches
from brainforge_edge.emulators.main import run_emulator
from brainforge_edge.emulators.tty import TtyPort


def test_a_board_answers_on_an_existing_port_and_is_unplugged_when_the_other_side_goes(
    tmp_path: Path,
) -> None:
    host, device = os.openpty()
    tty.setraw(device)
    switches, plugged = Switches(), threading.Event()
    thread = threading.Thread(
        target=run_emulator,
        args=("cyton",),
        kwargs={
            "port": Path(os.ttyname(device)),
            "channels": 8,
            "switches": switches,
            "plugged": plugged.set,
        },
    )
    thread.start()
    try:
        assert plugged.wait(20)
        os.close(device)
        os.write(host, b"v")
        said = b""
        while b"$$$" not in said:
            said += os.read(host, 4096)
        assert b"On Board ADS1299" in said
    finally:
        os.close(host)
        switches.stop = True
        thread.join(20)
    assert not thread.is_alive()


def test_a_port_that_hangs_up_counts_as_unplugged() -> None:
    host, device = os.openpty()
    port = TtyPort(Path(os.ttyname(device)))
    port.plug()
    os.close(device)
    try:
        assert port.read() == b""
        assert port.is_plugged
        os.close(host)
        assert port.read() == b""
        assert not port.is_plugged
    finally:
        port.unplug()


@pytest.mark.parametrize("what", ["absent", "file"])
def test_what_is_no_serial_port_is_refused_by_name(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "file":
        path.touch()
    with pytest.raises(ConfigError, match=f"cannot be a device on {path}") as refused:
        run_emulator("cyton", port=path, channels=8)
    assert refused.value.code == "config.unusable_port"


def test_either_a_link_or_a_port_is_needed(tmp_path: Path) -> None:
    for link, port in ((None, None), (tmp_path / "a", tmp_path / "b")):
        with pytest.raises(ConfigError, match="either a link or a port"):
            run_emulator("cyton", channels=8, link=link, port=port)
